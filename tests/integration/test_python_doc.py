"""docs/python.md and README.md: every Python program in them runs, and prints what stands behind its `print`s."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import TestSpool

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [(REPOSITORY / name).read_text(encoding="utf-8") for name in ("docs/python.md", "README.md")]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", "".join(PAGES), re.MULTILINE | re.DOTALL)
OPTIONAL = ("joblib", "sklearn")


def name_of(block: str) -> str | None:
    """`# words.py` in the first line: other blocks import that file."""
    found = re.match(r"# (\w+\.py)\n", block)
    return found[1] if found else None


def title(block: str) -> str:
    """Something to call it by: its name, or what it first uses of QM."""
    found = re.search(r"qm\.(\w+)", block)
    return name_of(block) or f"{BLOCKS.index(block)}-{found[1] if found else ''}"


@pytest.fixture
def here(spool: TestSpool) -> Iterator[TestSpool]:
    """A spool with a daemon, and beside it the files that blocks import."""
    for block in BLOCKS:
        if name := name_of(block):
            (spool.root / name).write_text(block)
    yield spool


@pytest.mark.parametrize("block", BLOCKS, ids=title)
def test_a_program_of_the_page_prints_what_it_says(here: TestSpool, block: str) -> None:
    for package in OPTIONAL:
        if re.search(rf"^(import|from) {package}\b", block, re.MULTILINE) and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    program = here.root / (name_of(block) or "program.py")
    program.write_text(block)
    run = subprocess.run(
        [sys.executable, program],
        cwd=here.root,
        env={**os.environ, "QM_CONFIG": str(here.config), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    expected = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)
    printed = run.stdout.splitlines()
    assert [line for line in printed if line in expected] == expected, run.stdout


def test_there_are_programs_on_the_page() -> None:
    assert len(BLOCKS) > 11
