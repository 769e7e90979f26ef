"""The examples as their README says: a job is a folder with a script, queue or not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import TestSpool

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"

# The command of each, what it must print, and what it must make.
RUNS = {
    "interrupted": ("sh job.sh", "step 400000 / 400000", "results.txt"),
    "mandelbrot": ("python3 mandelbrot.py mandelbrot.png", "mandelbrot.png: 720 x 480", "mandelbrot.png"),
    "primes_job": ("python3 primes.py 20000", "2262 primes up to 20000", "primes.py"),
    "primes_array": ("QM_ARRAY_TASK_ID=3 sh job.sh", "8013 primes from 200000", "primes-3.txt"),
    "qm04_count": ("python3 process.py", "processing  24 / 24", "results.txt"),
    "slurm_script": ("sh job.sh", "pi = 3.14", "results.txt"),
    "sweep": ("sh job.sh", "12 / 12", "results.csv"),
    "word_count_xml": ("sh count.sh texts/*.txt", "100%", "results.txt"),
}
SHORT_RESULTS = ("interrupted", "primes_array", "slurm_script")
"""One line is all that these find out."""


def test_every_example_is_run_here() -> None:
    assert sorted(RUNS) == sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir())


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_an_example_runs_as_it_is(name: str, tmp_path: Path) -> None:
    command, printed, made = RUNS[name]
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    environment = {**os.environ, "NB_PROC": "2", "QM_PROGRESS": str(tmp_path / "progress")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # a python3 that finds QM
    environment["PYTHONPATH"] = str(REPOSITORY)
    run = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert printed in run.stdout
    assert (folder / made).stat().st_size > (0 if name in SHORT_RESULTS else 100)
    if name == "mandelbrot":
        assert (folder / made).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert (tmp_path / "progress").read_text().splitlines()[-1] == "1.00 row 480 of 480"


def test_the_example_that_is_interrupted_is_done_at_its_second_attempt(spool: TestSpool) -> None:
    shutil.copytree(EXAMPLES / "interrupted", spool.queue / "interrupted")
    folder = spool.wait_for("interrupted", spool.done)
    assert "the first attempt ends here" in (folder / "process.log.1").read_text()
    assert "going on after step 200000" in (folder / "process.log").read_text()
    assert not (folder / "checkpoint.json").exists()


def test_the_example_of_an_array_counts_the_primes_that_there_are(spool: TestSpool) -> None:
    shutil.copytree(EXAMPLES / "primes_array", spool.queue / "primes_array")
    folder = spool.wait_for("primes_array", spool.done)
    counts = [int(file.read_text().split()[0]) for file in folder.glob("primes-*.txt")]
    assert (len(counts), sum(counts)) == (6, 49098)  # of primes below 600,000
    assert "6 of 6 tasks done" in (folder / "process.log").read_text()
