"""What `import qm` offers, and what it costs."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qm
from qm.vocabulary.errors import QMError

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")
NAMES = [name for name in qm.__all__ if name not in ("joblib", "__version__")]


def in_a_fresh_python(program: str) -> str:
    """What it prints."""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, cwd=REPOSITORY
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(qm, name)
    assert found.__name__ == name
    assert inspect.getdoc(found)
    assert re.search(rf"`qm\.{name}\b", PAGE) or name in ("QMError", "RemoteTraceback", "Handle"), (
        "not in docs/python.md"
    )


def test_all_names_are_listed() -> None:
    assert set(qm.__all__) <= set(dir(qm))
    assert {"Executor", "Pool", "Job", "attach", "enqueue", "execute", "submit", "jobs", "job", "joblib"} <= set(
        dir(qm)
    )


def test_a_type_checker_is_told_the_same_names() -> None:
    source = (REPOSITORY / "qm" / "__init__.py").read_text(encoding="utf-8")
    told = set(re.findall(r"^    from \S+ import \w+ as (\w+)$", source, re.MULTILINE))
    assert {"joblib", *NAMES} == told | {"joblib"}
    assert "from qm import joblib as joblib" in source


def test_errors_of_a_kind_can_be_caught_together() -> None:
    errors = [getattr(qm, name) for name in NAMES if inspect.isclass(getattr(qm, name))]
    errors = [error for error in errors if issubclass(error, Exception)]
    others = [error.__name__ for error in errors if not issubclass(error, QMError)]
    assert others == ["RemoteError", "RemoteTraceback"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'qm' has no attribute 'Pol'"):
        _ = qm.Pol  # type: ignore[attr-defined]


def test_importing_qm_imports_next_to_nothing() -> None:
    loaded = in_a_fresh_python(
        "import sys; before = set(sys.modules); import qm; print(*sorted(set(sys.modules) - before))"
    )
    assert {"qm"} <= set(loaded.split()) <= {"__future__", "qm"}


def test_the_command_line_does_not_load_the_python_api() -> None:
    loaded = in_a_fresh_python("import sys, qm.cli.main; print([name for name in sys.modules if 'qm.api' in name])")
    assert loaded == "[]\n"


def test_submitting_and_looking_loads_no_pickling() -> None:
    loaded = in_a_fresh_python("import sys, qm; qm.submit, qm.Job; print('cloudpickle' in sys.modules)")
    assert loaded == "False\n"


@pytest.mark.skipif(importlib.util.find_spec("joblib") is None, reason="joblib is not installed")
@pytest.mark.parametrize("words", ["import qm.joblib", "import qm; qm.joblib", "from qm import joblib as _"])
def test_joblibs_backend_is_registered_by_its_public_name(words: str) -> None:
    said = in_a_fresh_python(f"{words}\nimport joblib.parallel\nprint('qm' in joblib.parallel.BACKENDS)")
    assert said == "True\n"


def test_without_joblib_everything_else_is_there() -> None:
    said = in_a_fresh_python("import sys; sys.modules['joblib'] = None; import qm; print(qm.Pool.__name__)")
    assert said == "Pool\n"
