"""The examples run by hand, as their README says: a job is a folder with a script, queue or not."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

# The command of each, what it must print, and what it must make.
RUNS = {
    "mandelbrot": ("python3 mandelbrot.py mandelbrot.png", "mandelbrot.png: 720 x 480", "mandelbrot.png"),
    "qm04_count": ("python3 process.py", "processing  24 / 24", "results.txt"),
    "slurm_script": ("sh job.sh", "pi = 3.14", "results.txt"),
    "sweep": ("sh job.sh", "12 / 12", "results.csv"),
    "word_count_xml": ("sh count.sh texts/*.txt", "100%", "results.txt"),
}


def test_every_example_is_run_here() -> None:
    assert sorted(RUNS) == sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir())


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_an_example_runs_as_it_is(name: str, tmp_path: Path) -> None:
    command, printed, made = RUNS[name]
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    environment = {**os.environ, "NB_PROC": "2", "QM_PROGRESS": str(tmp_path / "progress")}
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
    assert (folder / made).stat().st_size > 100 or name == "slurm_script"
    if name == "mandelbrot":
        assert (folder / made).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert (tmp_path / "progress").read_text().splitlines()[-1] == "1.00 row 480 of 480"
