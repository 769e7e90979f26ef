"""What is installed is whole, and what stands at two places agrees."""

from __future__ import annotations

import re
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

import qm

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(folder for folder in (REPOSITORY / "examples").iterdir() if folder.is_dir())


def metadata() -> ConfigParser:
    config = ConfigParser(interpolation=None)
    config.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    return config


def test_every_folder_with_a_module_is_a_package_that_is_installed() -> None:
    installed = set(metadata()["options"]["packages"].split())
    folders = {file.parent.relative_to(REPOSITORY) for file in (REPOSITORY / "qm").rglob("*.py")}
    folders |= {file.parent.relative_to(REPOSITORY) for file in (REPOSITORY / "web").rglob("*.py")}
    names = {".".join(folder.parts).replace("web", "qm_web", 1) for folder in folders}
    assert names == installed


def test_every_package_has_its_init() -> None:
    for name in metadata()["options"]["packages"].split():
        folder = REPOSITORY / name.replace("qm_web", "web").replace(".", "/")
        assert (folder / "__init__.py").is_file(), name


def test_every_other_file_of_the_packages_is_package_data() -> None:
    data = metadata()["options.package_data"]
    wanted = {
        *(file for pattern in data["qm"].split() for file in (REPOSITORY / "qm").glob(pattern)),
        *(file for pattern in data["qm_web"].split() for file in (REPOSITORY / "web").glob(pattern)),
    }
    wanted = {file for file in wanted if file.is_file()}
    there = {
        file
        for folder in ("qm", "web")
        for file in (REPOSITORY / folder).rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    }
    assert there == wanted


def test_the_changelog_knows_the_version() -> None:
    number = re.match(r"\d+\.\d+\.\d+", qm.__version__)
    assert number
    assert f"## {number[0]} " in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_every_example_stands_in_their_readme(folder: Path) -> None:
    readme = (REPOSITORY / "examples" / "README.md").read_text(encoding="utf-8")
    assert f"| `{folder.name}` |" in readme


def test_the_zip_of_the_example_holds_one_readable_package() -> None:
    with zipfile.ZipFile(REPOSITORY / "examples" / "qm04_count" / "collatz.zip") as packed:
        assert packed.namelist() == ["collatz/", "collatz/__init__.py"]
        compile(packed.read("collatz/__init__.py"), "collatz", "exec")
