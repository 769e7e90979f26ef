"""ARCHITECTURE.md says what is: its diagram is the table's, its list of modules is that of the files."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from qm.vocabulary.states import diagram

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")


def modules() -> dict[str, set[str]]:
    """The modules of each package that is installed."""
    found: dict[str, set[str]] = {}
    for folder, package in (("qm", "qm"), ("web", "qm_web")):
        for file in (REPOSITORY / folder).rglob("*.py"):
            inside = file.relative_to(REPOSITORY / folder).parent.parts
            if file.stem != "__init__":
                found.setdefault(".".join((package, *inside)), set()).add(file.stem)
    return found


def test_the_diagram_is_the_one_that_the_table_of_states_gives() -> None:
    found = re.search(r"<!-- states -->\n```mermaid\n(.*?)```\n<!-- /states -->", TEXT, re.DOTALL)
    assert found is not None
    assert found[1] == diagram(), "make it anew: python -m qm.vocabulary.states"


@pytest.mark.parametrize("package", sorted(modules()))
def test_every_module_is_named_on_its_floor_and_no_other(package: str) -> None:
    row = re.search(rf"^\| `{re.escape(package)}` \|(.*)\|$", TEXT, re.MULTILINE)
    assert row is not None, f"{package} has no row"
    named = {word for word in re.findall(r"`(\w+)`", row[1]) if word.islower()}
    assert named == modules()[package]


def test_the_floors_stand_in_the_order_that_the_linter_holds() -> None:
    config = ConfigParser(interpolation=None)
    config.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    layers = re.findall(r"[\w.]+", config["importlinter:contract:floors"]["layers"])
    named = re.findall(r"^\| `([\w.]+)` \|", TEXT.partition("## The way")[0], re.MULTILINE)
    assert [name for name in named if name in layers] == layers


def test_every_dependency_has_its_reason() -> None:
    config = ConfigParser(interpolation=None)
    config.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    needed = set(re.findall(r"^[\w-]+", config["options"]["install_requires"].strip(), re.MULTILINE))
    reasons = TEXT.partition("## Dependencies")[2]
    named = {name for row in re.findall(r"^\| ([\w, -]+) \|", reasons, re.MULTILINE) for name in row.split(", ")}
    assert needed == named - {"package", "---"}
