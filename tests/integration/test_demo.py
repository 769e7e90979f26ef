"""`make demo`, as a new user sees it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not Path(sysconfig.get_path("scripts"), "qm").exists(), reason="QM is not installed here")
def test_the_demo_runs_every_example_and_says_where_the_results_are() -> None:
    demo = subprocess.run(
        [sys.executable, REPOSITORY / "tools" / "demo.py"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    spool = re.search(r"rm -r (\S+)", demo.stdout)
    if spool:
        shutil.rmtree(spool[1])
    assert (demo.returncode, demo.stderr) == (0, "")
    results = ("mandelbrot/mandelbrot.png", "qm04_count/results.txt", "sweep/results.csv", "primes_job/result.json")
    for result in results:
        assert f"/QM_dJobs/{result}\n" in demo.stdout
