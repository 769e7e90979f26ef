"""Colours, carriage returns and other escape sequences in the live log: the script itself, run by node."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
STATIC = HERE.parent.parent / "web" / "static"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_log_shows_what_a_terminal_would(tmp_path: Path) -> None:
    for name in ("ansi.js", "sgr.js"):
        shutil.copy(STATIC / name, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')  # browsers know by the page that they are modules
    result = subprocess.run(
        ["node", "--test", str(HERE / "ansi.test.mjs")],
        env={**os.environ, "ANSI_JS": (tmp_path / "ansi.js").as_uri()},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
