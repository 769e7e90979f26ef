# `make help` lists what there is to make. Python 3.10 or later and its venv module are all that is needed:
# everything else goes into .venv. PYTHON=/path/to/python chooses the Python.

VENV   := .venv
PYTEST := $(VENV)/bin/python -m pytest
# Made anew when one of these changes.
SETUP  := setup.cfg pyproject.toml tools/setup

.DEFAULT_GOAL := help
.PHONY: help demo start test test-browser test-crash check format bench clean

help:           ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

demo: $(VENV)/.installed            ## run the examples on a throw-away spool and show where the results are
	@$(VENV)/bin/python tools/demo.py

start: $(VENV)/.installed           ## daemon and dashboard on QMserv.cfg; Ctrl-C stops both, jobs go on
	@$(VENV)/bin/python tools/start.py

test: $(VENV)/.installed-test       ## the tests, in parallel; ARGS="-k arrival" chooses some
	$(PYTEST) -n auto $(ARGS)

test-crash: $(VENV)/.installed-test ## the long crash test: the daemon killed QM_KILLS times, 500 by default
	QM_KILLS=$${QM_KILLS:-500} $(PYTEST) -n auto -m crash --timeout 3600 $(ARGS)

test-browser: $(VENV)/.installed-browser ## the dashboard in a real browser (needs Debian's package chromium)
	$(PYTEST) -n 2 tests/browser $(ARGS)

check: $(VENV)/.installed-dev       ## lint, format, types, and the floors that imports keep to
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.installed-dev      ## mend what can be mended by a tool
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(VENV)/.installed           ## speed and scale, against peers where they are installed
	$(VENV)/bin/python benchmarks/run.py $(ARGS)

clean:          ## all that was made here, but not the spool
	rm -rf $(VENV) build dist *.egg-info .coverage* htmlcov
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# Stamps: installed as a user has it, with the tests, with the linters too.

$(VENV)/.installed: $(SETUP)
	@PYTHON="$(PYTHON)" tools/setup
	@touch $@

$(VENV)/.installed-test: $(SETUP)
	@PYTHON="$(PYTHON)" tools/setup test
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-browser: $(SETUP)
	@PYTHON="$(PYTHON)" tools/setup browser
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-dev: $(SETUP)
	@PYTHON="$(PYTHON)" tools/setup dev
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test
