"""`qm status`, `show`, `log` and `wait` of arrays, on folders made by hand: no daemon runs here."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import TestSpool, until

from qm.spool.tasks import TaskEntry, append
from qm.vocabulary.options import Options
from qm.vocabulary.record import Record, Tasks, dump
from qm.vocabulary.states import State

NOW = time.time()
ID = "abcdefghijkl"


@pytest.fixture
def spool(make_spool: Callable[..., TestSpool]) -> TestSpool:
    return make_spool(MaxNbProcessors=8)


def put(where: Path, name: str = "sweep", **facts: Any) -> Path:
    """An array of five tasks in one of the four folders."""
    folder = where / name
    (folder / ".qm").mkdir(parents=True)
    plain: dict[str, Any] = {
        "id": ID,
        "name": name,
        "owner": "me",
        "state": State.RUNNING,
        "submitted": NOW - 200,
        "started": NOW - 100,
        "options": Options(script="job.sh", array="0-4", info="all of them"),
        "tasks": Tasks(5, 1, 1, 2),
        "nb_proc": 2,
    }
    (folder / ".qm" / "job.json").write_bytes(dump(Record(**plain | facts)))
    return folder


def with_tasks(folder: Path) -> Path:
    """One of five tasks is done, one failed, two run, one waits."""
    begun = {"attempt": 1, "started": NOW - 100}
    entries = [TaskEntry(number, State.RUNNING, **begun) for number in range(4)]
    entries.append(entries[0]._replace(state=State.DONE, finished=NOW - 40, exit_status=0, cpu_seconds=59.5))
    failed = {"finished": NOW - 90, "exit_status": 3, "reason": "exit status 3", "peak_memory": 3 << 20}
    entries.append(entries[1]._replace(state=State.FAILED, **failed))
    append(str(folder / ".qm" / "tasks.jsonl"), entries)
    (folder / "sweep.csv").write_text("task,slice,b\n" + "".join(f"{task},{task},x y\n" for task in range(5)))
    for task in range(4):
        (folder / f"process.{task}.log").write_text(f"this is task {task}\nsecond line\n")
    return folder


# --- status ----------------------------------------------------------------------------------------------------


def test_status_tells_how_many_tasks_are_done_and_how_long_the_others_take(spool: TestSpool) -> None:
    with_tasks(put(spool.jobs))
    said = spool.qm("status").stdout
    assert "4 of 8 processors in use" in said, "two tasks of two processors"
    line = next(line for line in said.splitlines() if line.startswith("sweep"))
    found = re.search(r" running +4 +(\d\d):(\d\d) +1 / 5, 1 failed +(\d\d):(\d\d) +me +all of them$", line)
    assert found is not None, line
    elapsed, left = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    assert abs(left - 1.5 * elapsed) <= 3, "two tasks took so long, and three are left"
    (job,) = spool.status()
    assert job["tasks"] == {"total": 5, "done": 1, "failed": 1, "running": 2, "earlier": 0}
    assert (job["progress"], job["progress_text"]) == (0.4, "1 / 5, 1 failed")


def test_an_array_that_waits_has_its_tasks_counted_and_a_job_that_is_none_has_none(spool: TestSpool) -> None:
    put(spool.queue, state=State.PENDING, started=None, tasks=None)
    put(spool.queue, "single", id="b" * 12, state=State.PENDING, started=None, tasks=None, options=Options(script="x"))
    jobs = {job["name"]: job for job in spool.status()}
    assert jobs["sweep"]["tasks"] == {"total": 5, "done": 0, "failed": 0, "running": 0, "earlier": 0}
    assert jobs["single"]["tasks"] is None


def test_a_paused_array_takes_no_processors(spool: TestSpool) -> None:
    put(spool.jobs, state=State.PAUSED)
    assert "0 of 8 processors in use" in spool.qm("status").stdout


@pytest.mark.parametrize("array", ["nonsense", "0-99999999999999", "5-1", "0-999999999,1"])
def test_an_array_that_nobody_could_have_asked_for_costs_nothing(spool: TestSpool, array: str) -> None:
    put(spool.jobs, options=Options(script="job.sh", array=array))
    (job,) = spool.status()
    assert job["tasks"] is None and "record" not in job, "the job wrote that, so it counts as no record"
    for words in (("show", "sweep", "--tasks"), ("log", "sweep", "--task", "1")):
        said = spool.qm(*words, check=False)
        assert said.returncode != 0 and "Traceback" not in said.stderr


# --- reasons ---------------------------------------------------------------------------------------------------


def test_status_and_show_say_why_a_job_waits(spool: TestSpool) -> None:
    put(spool.queue, "wide", state=State.PENDING, started=None, tasks=None, nb_proc=4)
    said = spool.qm("status").stdout
    assert re.search(r"^WAITING .* REASON +INFO$", said, re.MULTILINE)
    assert re.search(r"^wide .* QueueManager is not running +all of them$", said, re.MULTILINE)
    assert re.search(r"^reason +QueueManager is not running$", spool.qm("show", "wide").stdout, re.MULTILINE)
    assert spool.status()[0]["reason"] == "QueueManager is not running"


def test_a_disk_that_is_too_full_is_told_on_the_first_line(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool(Disk_Reserve="900000T")
    assert re.search(r"no job is started: .* of disk free, Disk_Reserve is ", spool.qm("status").stdout)


# --- show ------------------------------------------------------------------------------------------------------


def test_show_counts_the_tasks_and_lists_the_failed_ones(spool: TestSpool) -> None:
    with_tasks(put(spool.jobs))
    said = spool.qm("show", "sweep").stdout
    assert re.search(r"^tasks +5: 1 pending, 2 running, 1 done, 1 failed$", said, re.MULTILINE)
    assert re.search(r"^  task 1 +slice = 1, b = x y, failed, exit status 3$", said, re.MULTILINE)
    assert "task 2" not in said


def test_show_lists_no_more_than_twenty_failed_tasks(spool: TestSpool) -> None:
    options = Options(script="job.sh", array="0-49")
    folder = put(spool.lost, state=State.FAILED, options=options, tasks=Tasks(50, 20, 30, 0), finished=NOW)
    append(str(folder / ".qm" / "tasks.jsonl"), [TaskEntry(number, State.KILLED, 1) for number in range(30)])
    said = spool.qm("show", "sweep").stdout
    assert said.count("killed") == 21, "the count, and twenty tasks"
    assert "and 10 more" in said


def test_show_tasks_is_a_table_with_the_values_of_the_sweep(spool: TestSpool) -> None:
    with_tasks(put(spool.jobs))
    head, *lines = spool.qm("show", "sweep", "--tasks").stdout.splitlines()
    assert head.split() == ["TASK", "slice", "b", "STATE", "ATTEMPT", "STARTED", "TOOK", "CPU", "MEMORY", "REASON"]
    assert len(lines) == 5
    assert re.match(r" +0  0 +x y +done +1 +\S+ +01:00 +00:59$", re.sub(r"\d{4}-\d\d-\d\d ", "", lines[0]))
    assert lines[1].endswith("3.0 MiB  exit status 3") and lines[4].split() == ["4", "4", "x", "y", "pending"]


def test_show_csv_has_a_row_for_each_task(spool: TestSpool) -> None:
    with_tasks(put(spool.jobs))
    rows = list(csv.DictReader(io.StringIO(spool.qm("show", "sweep", "--csv").stdout)))
    assert [row["state"] for row in rows] == ["done", "failed", "running", "running", "pending"]
    assert [(row["task"], row["slice"], row["b"]) for row in rows[:2]] == [("0", "0", "x y"), ("1", "1", "x y")]
    assert (rows[1]["exit_status"], rows[1]["seconds"], rows[1]["peak_memory"]) == ("3", "10.0", str(3 << 20))


# --- log -------------------------------------------------------------------------------------------------------


def test_the_log_of_a_task_is_shown(spool: TestSpool) -> None:
    with_tasks(put(spool.jobs))
    assert spool.qm("log", "sweep", "--task", "2").stdout == "this is task 2\nsecond line\n"
    assert spool.qm("log", "sweep", "-t", "2", "-n", "1").stdout == "second line\n"


def test_a_task_that_is_not_there_or_never_began_is_told(spool: TestSpool) -> None:
    with_tasks(put(spool.jobs))
    said = spool.qm("log", "sweep", "--task", "9", check=False)
    assert said.returncode == 1 and "has no task 9; its tasks are 0-4" in said.stderr
    said = spool.qm("log", "sweep", "--task", "4", check=False)
    assert said.returncode == 1 and "has not been started" in said.stderr
    said = spool.qm("log", "sweep", check=False)
    assert said.returncode == 1 and "`--task N` shows the log of a task" in said.stderr


def test_the_log_of_a_task_is_followed_until_the_task_has_ended_over_its_attempts(spool: TestSpool) -> None:
    folder = with_tasks(put(spool.jobs))
    log, entries = folder / "process.2.log", str(folder / ".qm" / "tasks.jsonl")
    out = spool.root / "out"
    command = [sys.executable, "-m", "qm.cli.main", "-c", str(spool.config), "log", "-f", "sweep", "--task", "2"]
    with out.open("wb") as file, subprocess.Popen(command, stdout=file) as following:
        until(lambda: "second line" in out.read_text())
        append(entries, [TaskEntry(2, State.DEFERRED, 1, NOW - 100, NOW - 50, 1, tries=1)])
        os.rename(log, f"{log}.1")
        with Path(f"{log}.1").open("a") as first:
            first.write("end of the first attempt\n")
        log.write_text("second attempt\n")
        until(lambda: "second attempt" in out.read_text())
        assert following.poll() is None
        with log.open("a") as second:
            second.write("the end\n")
        append(entries, [TaskEntry(2, State.DONE, 2, NOW - 40, NOW - 30, 0, tries=2)])
        assert following.wait(timeout=30) == 0
    assert out.read_text().splitlines() == [
        "this is task 2",
        "second line",
        "end of the first attempt",
        "second attempt",
        "the end",
    ]


# --- wait ------------------------------------------------------------------------------------------------------


def test_an_array_that_is_done_has_the_exit_status_0(spool: TestSpool) -> None:
    put(spool.done, state=State.DONE, tasks=Tasks(5, 5), finished=NOW)
    assert spool.qm("wait", "sweep", "--exit-status").returncode == 0
    put(spool.lost, "bad", id="b" * 12, state=State.FAILED, tasks=Tasks(5, 4, 1), finished=NOW, reason="task 3 failed")
    said = spool.qm("wait", "bad", "--exit-status", check=False)
    assert (said.returncode, said.stdout) == (1, f"bad {'b' * 12} failed: task 3 failed\n")


# --- sweeps that are queued, not run ---------------------------------------------------------------------------


def queued(spool: TestSpool) -> Path:
    (folder,) = spool.queue.iterdir()
    return folder


def test_a_sweep_is_one_folder_with_its_commands_and_values(spool: TestSpool) -> None:
    words = ("sweep", "corr.py --file mill2sort-{slice} {b}", "--slice", "00:01", "--values", "b=x,y z")
    said = spool.qm(
        *words, "--at-a-time", "3", "-n", "2", "--mem", "2G", "-o", "attempts=2", "--name", "corr", "--json"
    )
    folder = queued(spool)
    assert folder.name == "corr"
    assert json.loads(said.stdout) == {"name": "corr", "id": (folder / ".qm" / "id").read_text().strip(), "tasks": 4}
    assert (folder / "commands.txt").read_text().splitlines() == [
        "corr.py --file mill2sort-00 x",
        "corr.py --file mill2sort-00 'y z'",
        "corr.py --file mill2sort-01 x",
        "corr.py --file mill2sort-01 'y z'",
    ]
    assert (folder / "sweep.csv").read_text() == "task,slice,b\n0,00,x\n1,00,y z\n2,01,x\n3,01,y z\n"
    script = (folder / "job.sh").read_text()
    for line in ("array = 0-3%3", f"chdir = {spool.root}", "nb_proc = 2", "mem = 2G", "attempts = 2"):
        assert f"#QM {line}\n" in script
    assert f"#QM info = {words[1]}\n" in script
    assert b"PATH=" in (folder / ".qm" / "env").read_bytes()


def test_a_dry_run_prints_what_would_run_and_queues_nothing(spool: TestSpool) -> None:
    (spool.root / "b c.dat").touch()
    (spool.root / "a.dat").touch()
    said = spool.qm("sweep", "cat {f}", "--glob", "f=*.dat", "--dry-run")
    assert said.stdout == "cat a.dat\ncat 'b c.dat'\n"
    assert list(spool.queue.iterdir()) == []


def test_a_dry_run_can_be_given_to_a_shell(spool: TestSpool) -> None:
    name = os.fsdecode(b"odd \xff'$(x).dat")
    (spool.root / name).write_text("content\n")
    said = spool.qm("sweep", "cat {f}", "--glob", "f=*.dat", "--dry-run").stdout
    ran = subprocess.run(["sh"], input=os.fsencode(said), cwd=spool.root, capture_output=True, check=True, timeout=30)
    assert ran.stdout == b"content\n"


def test_lines_come_from_a_file_or_from_standard_input(spool: TestSpool) -> None:
    (spool.root / "list").write_text("one\n\ntwo words\n")
    assert spool.qm("sweep", "x {l}", "--lines", "l=list", "--dry-run").stdout == "x one\nx 'two words'\n"
    command = [sys.executable, "-m", "qm.cli.main", "sweep", "x {l}", "--lines", "l=-", "--dry-run"]
    said = subprocess.run(command, input="three\n", capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == "x three\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("x {slice}",), 2, "needs values"),
        (("x {f}", "--glob", "f=*.nothing"), 2, "no file matches"),
        (("x {l}", "--lines", "l=nofile"), 1, "nofile: No such file"),
        (("x {l}", "--lines", "l=/dev/null"), 2, "no line"),
        (("x {y}", "--slice", "0:3"), 2, "{{y}}"),
        (("x {slice}", "--slice", "0:3", "-o", "array=1-2"), 2, "--at-a-time"),
        (("x {slice}", "--slice", "0:3", "-o", "array"), 2, "key=value"),
        (("x {slice}", "--slice", "0:3", "--at-a-time", "0"), 2, "1 or more"),
        (("x {slice}", "--slice", "0:3", "-n", "some"), 1, "nb_proc"),
        (("x {slice}", "--slice", "0:3", "--name", ".hidden"), 1, "cannot be a job's name"),
    ],
)
def test_a_wrong_sweep_is_refused_and_nothing_queued(
    spool: TestSpool, words: tuple[str, ...], status: int, said: str
) -> None:
    answer = spool.qm("sweep", *words, check=False)
    assert (answer.returncode, answer.stdout) == (status, "")
    assert said in answer.stderr and "Traceback" not in answer.stderr
    assert list(spool.queue.iterdir()) == []


def test_a_folder_whose_name_no_job_file_can_hold_is_gone_to_by_the_script(spool: TestSpool) -> None:
    odd = spool.root / "odd\nfolder"
    odd.mkdir()
    spool.qm("sweep", "pwd; echo {n} $QM_ARRAY_TASK_ID", "--values", "n=a,b", cwd=odd)
    folder = queued(spool)
    assert "chdir" not in (folder / "job.sh").read_text()
    variables = {**os.environ, "QM_JOB_DIR": str(folder), "QM_ARRAY_TASK_ID": "1"}
    ran = subprocess.run(["sh", "job.sh"], cwd=folder, env=variables, capture_output=True, check=True, timeout=30)
    assert ran.stdout == f"{odd}\nb 1\n".encode()


# --- docs/arrays.md --------------------------------------------------------------------------------------------

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "arrays.md"
SWEEPS = re.findall(r"^    ((?:find .* \| )?)qm (sweep .*)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_sweep_of_the_document_works(spool: TestSpool) -> None:
    (spool.root / "data").mkdir()
    for name in ("a.csv", "b c.csv"):
        (spool.root / "data" / name).touch()
    (spool.root / "models.txt").write_text("linear\ncubic\n")
    assert len(SWEEPS) >= 5
    numbers = []
    for piped, words in SWEEPS:
        command = f"{piped}{sys.executable} -m qm.cli.main {words} --dry-run"
        said = subprocess.check_output(["sh", "-c", command], cwd=spool.root, text=True, timeout=60)
        numbers.append(len(said.splitlines()))
        if words.endswith("--dry-run"):
            assert "".join(f"    {line}\n" for line in said.splitlines()) in DOCUMENT.read_text(encoding="utf-8")
    assert numbers[:4] == [200, 2, 20, 2]


def test_every_verb_of_the_document_works(spool: TestSpool) -> None:
    with_tasks(put(spool.lost, "NAME", state=State.FAILED, options=Options(script="x", array="0-9"), finished=NOW))
    (spool.lost / "NAME" / "process.7.log").write_text("seven\n")
    text = DOCUMENT.read_text(encoding="utf-8")
    lines = re.findall(r"^    qm ((?:status|show|log|retry).*?)(?: > \S+)?$", text, re.MULTILINE)
    assert len(lines) == 7
    for line in lines:
        assert spool.qm(*line.split(), check=not line.startswith("retry")).returncode in (0, 75)
