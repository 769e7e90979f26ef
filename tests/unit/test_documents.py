"""The documents say what the code does: tables are those of the code, links lead somewhere, verbs are all named."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from qm.cli.main import parser
from qm.vocabulary.config import KEYS as CONFIG_KEYS
from qm.vocabulary.config import SERVER, WEB
from qm.vocabulary.options import KEYS as JOB_KEYS
from qm.vocabulary.states import ENDED

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "examples" / "README.md"]
)


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def rows_between(text: str, name: str) -> list[str]:
    """The rows of the table between the markers of that name, without its two lines of headings."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    assert found is not None, f"no markers <!-- {name} --> … <!-- /{name} -->"
    return found[1].splitlines()[2:]


def test_the_table_of_job_keys_is_that_of_the_code() -> None:
    wanted = [
        f"| `{key.name}` | {key.default} | {key.meaning} | {'yes' if key.obeyed else 'later'} |" for key in JOB_KEYS
    ]
    assert rows_between(text_of("docs/job-files.md"), "keys") == wanted


@pytest.mark.parametrize("section", [SERVER, WEB])
def test_the_tables_of_configuration_keys_are_those_of_the_code(section: str) -> None:
    wanted = [
        f"| `{key.name}` | `{key.default}` | {key.accepted} | {key.meaning} |"
        for key in CONFIG_KEYS
        if key.section == section
    ]
    assert rows_between(text_of("docs/configuration.md"), section) == wanted


def test_every_state_in_which_a_job_can_end_is_explained() -> None:
    text = text_of("docs/job-files.md")
    assert [state for state in sorted(ENDED) if f"`{state}`" not in text] == []


def test_every_verb_stands_in_the_readme() -> None:
    (verbs,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    table = text_of("README.md").partition("## Commands")[2].partition("\n## ")[0]
    assert [verb for verb in verbs.choices if not re.search(rf"`qm {verb}\b", table)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_to_a_file_leads_there(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_make_target_that_is_named_is_there(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE))
    assert {name for pair in named for name in pair if name} <= targets
