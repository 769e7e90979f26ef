"""Sweeps that run: one folder, a task for each value, one failing without harm to the others."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

from harness import TestSpool, lines_of, until

MakeSpool = Callable[..., TestSpool]


def output(folder: Path, task: int) -> list[str]:
    """What a task itself printed."""
    return [line for line in lines_of(folder / f"process.{task}.log") if not line.startswith(("Job ", "QM: "))]


def with_one_that_fails(spool: TestSpool) -> Path:
    """A sweep of six tasks, ended; task 3 fails as long as there is no file `mended`. Each leaves a mark a run."""
    command = 'echo run >> ran.{slice}; echo "slice {slice} of {b}"; [ {slice}{b} != 1y -o -e mended ] || exit 3'
    spool.qm("sweep", command, "--slice", "0:2", "--values", "b=x,y", "--name", "six")
    return spool.wait_for("six", spool.lost)


def test_one_task_that_fails_does_no_harm_to_the_others(spool: TestSpool) -> None:
    folder = with_one_that_fails(spool)
    record = spool.record(folder)
    assert record["state"] == "failed"
    assert re.search(r"\b3\b", record["reason"]) and "task" in record["reason"]
    assert [output(folder, task) for task in range(6)] == [
        ["slice 0 of x"],
        ["slice 0 of y"],
        ["slice 1 of x"],
        ["slice 1 of y"],
        ["slice 2 of x"],
        ["slice 2 of y"],
    ]
    for task in range(6):
        log = (folder / f"process.{task}.log").read_text()
        assert f"with code {3 if task == 3 else 0}" in log and "Job started by QM at:" in log
    said = spool.qm("show", "six").stdout
    assert re.search(r"^tasks +6: 5 done, 1 failed$", said, re.MULTILINE)
    assert re.search(r"^  task 3 +slice = .*, b = .*, failed, exit status 3$", said, re.MULTILINE)
    (job,) = spool.status()
    assert job["tasks"] == {"total": 6, "done": 5, "failed": 1, "running": 0, "earlier": 0}
    assert spool.qm("wait", "six", check=False).returncode == 1


def test_a_retry_runs_the_failed_task_alone(spool: TestSpool) -> None:
    with_one_that_fails(spool)
    (spool.root / "mended").touch()
    spool.qm("retry", "six")
    folder = spool.wait_for("six", spool.done)
    assert spool.record(folder)["state"] == "done"
    assert [len(lines_of(spool.root / f"ran.{number}")) for number in range(3)] == [2, 3, 2]
    rows = list(csv.DictReader(io.StringIO(spool.qm("show", "six", "--csv").stdout)))
    assert [(row["task"], row["slice"], row["b"], row["state"]) for row in rows] == [
        ("0", "0", "x", "done"),
        ("1", "0", "y", "done"),
        ("2", "1", "x", "done"),
        ("3", "1", "y", "done"),
        ("4", "2", "x", "done"),
        ("5", "2", "y", "done"),
    ]
    assert [row["attempt"] for row in rows] == ["1", "1", "1", "2", "1", "1"]
    assert "with code 3" in (folder / "process.3.log.1").read_text(), "the log of the first attempt is kept"
    assert spool.qm("wait", "six", "--exit-status").returncode == 0


def test_the_log_of_a_task_is_shown_when_all_is_over(spool: TestSpool) -> None:
    with_one_that_fails(spool)
    said = spool.qm("log", "six", "--task", "4").stdout.splitlines()
    assert "slice 2 of x" in said and said[-1].endswith("with code 0")
    assert spool.qm("log", "-f", "six", "--task", "3").stdout.splitlines()[-1].endswith("with code 3")


def test_no_more_tasks_run_at_a_time_than_were_wanted_and_the_next_begins_as_one_ends(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=4)
    spool.start()
    command = "touch began.{slice}; until [ -e go.{slice} ]; do sleep 0.02; done"
    spool.qm("sweep", command, "--slice", "0:4", "--at-a-time", "2", "--name", "five")

    def began() -> set[str]:
        return {path.name.removeprefix("began.") for path in spool.root.glob("began.*")}

    until(lambda: began() == {"0", "1"}, f"two tasks to begin; log:\n{spool.log()[-2000:]}")
    (spool.root / "go.1").touch()
    until(lambda: began() == {"0", "1", "2"}, "the next task to begin")
    until(
        lambda: spool.status()[0]["tasks"] == {"total": 5, "done": 1, "failed": 0, "running": 2, "earlier": 0},
        "the summary",
    )
    said = spool.qm("status").stdout
    assert "2 of 4 processors in use" in said and re.search(r"^five .* 1 / 5 ", said, re.MULTILINE)
    assert began() == {"0", "1", "2"}, "no third one beside the two"
    for number in range(5):
        (spool.root / f"go.{number}").touch()
    spool.wait_for("five", spool.done)


def test_a_sweep_over_odd_file_names_reads_the_right_files(spool: TestSpool) -> None:
    names = ["plain", "two words", "it's", "$(touch harm)", "; touch harm", "-n", "tab\there"]
    data = spool.root / "data"
    data.mkdir()
    for name in names:
        (data / name).write_text(f"content of {name}\n")
    spool.qm("sweep", "cat -- {f}", "--glob", "f=*", "--name", "odd", cwd=data)
    folder = spool.wait_for("odd", spool.done)
    assert [output(folder, task) for task in range(len(names))] == [[f"content of {name}"] for name in sorted(names)]
    assert not (data / "harm").exists()
