"""What a hostile reader of the scheduling found: jobs that waited for ever, tasks begun twice, a daemon that ended."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import TestSpool, lines_of, until
from nursery import Nursery

from qm.spool import tasks
from qm.vocabulary.states import State

MakeSpool = Callable[..., TestSpool]


def accepted(spool: TestSpool, name: str) -> Path:
    """The folder of a job that waits, as soon as it has a record."""
    until(lambda: (spool.queue / name / ".qm/job.json").exists(), f"{name} to be accepted")
    return spool.queue / name


def bound(spool: TestSpool, name: str) -> Path:
    """The same, as soon as it knows whom it waits for."""
    folder = accepted(spool, name)
    until(lambda: [one for one in spool.record(folder)["after"] if one["id"]], f"{name} to know whom it waits for")
    return folder


def rewrite(folder: Path, **values: Any) -> None:
    """Change the record in a folder, as a job may."""
    path = folder / ".qm/job.json"
    record = json.loads(path.read_text())
    record.update(values)
    path.write_text(json.dumps(record))


# --- jobs that would wait for ever ---------------------------------------------------------------------------


def test_who_waits_for_a_job_that_turns_out_to_be_invalid_is_skipped(spool: TestSpool) -> None:
    spool.drop("second", "exit 0", after="first")
    accepted(spool, "second")
    spool.drop("first", "exit 0", nb_proc="many")
    spool.wait_for("first", spool.lost)
    assert "first" in spool.record(spool.wait_for("second", spool.lost))["reason"]


def test_who_waits_for_a_changed_job_that_is_taken_away_while_it_settles_is_skipped(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=1, Settle_Time=2)
    spool.start()
    spool.drop("now", "until [ -e go ]; do sleep 0.05; done")
    spool.wait_running("now")
    spool.drop("first", "exit 0")
    spool.drop("second", "exit 0", after="first")
    bound(spool, "second")
    (spool.queue / "first" / "more").write_text("x")
    (spool.jobs / "now" / "go").touch()
    until(lambda: "first" in spool.log() and "arriving again" in spool.log(), "first to arrive again")
    shutil.rmtree(spool.queue / "first")
    assert "taken away" in spool.record(spool.wait_for("second", spool.lost))["reason"]


def test_who_waits_for_a_changed_job_is_not_skipped_while_that_settles(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=1, Settle_Time=3)
    spool.start()
    spool.drop("now", "until [ -e go ]; do sleep 0.05; done")
    spool.wait_running("now")
    spool.drop("first", "exit 0")
    spool.drop("second", "exit 0", after="first")
    bound(spool, "second")
    (spool.queue / "first" / "more").write_text("x")
    (spool.jobs / "now" / "go").touch()
    until(lambda: "arriving again" in spool.log(), "first to arrive again")
    spool.qm("set", "second", "priority=1")
    second = spool.record(spool.wait_for("second"))
    assert second["state"] == "done"
    assert second["started"] >= spool.record(spool.wait_for("first"))["finished"]


def test_a_job_that_gets_the_name_by_renaming_is_the_one_that_was_waited_for(spool: TestSpool) -> None:
    spool.drop("second", "exit 0", after="first")
    spool.drop("other", "exit 0", hold="yes")
    accepted(spool, "second")
    os.rename(accepted(spool, "other"), spool.queue / "first")
    bound(spool, "second")
    until(lambda: spool.record(spool.queue / "first")["name"] == "first", "the new name in the record")
    spool.qm("release", "first")
    second = spool.record(spool.wait_for("second", spool.done))
    assert [one["id"] for one in second["after"]] == [spool.record(spool.done / "first")["id"]]


@pytest.mark.parametrize(
    "harm", ["rm -rf .qm", "rm -rf .qm/run; touch .qm/run", "rm -f .qm/tasks.jsonl; mkdir .qm/tasks.jsonl"]
)
def test_an_array_that_destroys_its_own_hidden_folder_keeps_no_other_job_from_starting(
    harm: str, make_spool: MakeSpool
) -> None:
    spool = make_spool(MaxNbProcessors=1)
    spool.start()
    spool.drop("harm", f"sleep 0.2; {harm}", array="0-3", priority=5)
    until(lambda: (spool.jobs / "harm").exists(), "the array to start")
    spool.drop("other", "exit 0")
    assert spool.record(spool.wait_for("other"))["state"] == "done"
    spool.wait_for("harm")


def test_a_deferred_job_that_is_to_begin_later_does_not_begin_before(spool: TestSpool) -> None:
    spool.drop("job", "echo x >> ledger; exit 75", defer_time=2)
    until(lambda: (spool.queue / "job/ledger").exists(), "its first run to be over")
    spool.qm("set", "job", "begin=+1h")
    time.sleep(3)
    assert lines_of(spool.queue / "job/ledger") == ["x"]


def test_a_job_that_is_deferred_for_no_time_is_inactive_some_day(spool: TestSpool) -> None:
    spool.drop("job", "echo x >> ledger; exit 75", defer_time=0, defer_max=2)
    folder = spool.wait_for("job", spool.lost)
    assert spool.record(folder)["state"] == "inactive"
    assert len(lines_of(folder / "ledger")) < 40


def test_a_job_that_was_held_does_not_keep_an_old_reason(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=1)
    spool.start()
    spool.drop("now", "sleep 60")
    spool.wait_running("now")
    spool.drop("job", "exit 0")
    until(lambda: spool.record(accepted(spool, "job"))["reason"], "a reason")
    spool.qm("hold", "job")
    (job,) = [job for job in spool.status() if job["name"] == "job"]
    assert "held" in job["reason"]


# --- daemons that would end ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [{"deferred": None}, {"history": [{"state": []}]}, {"history": [{"state": None}]}, {"retried": 10**30}],
)
def test_nonsense_in_the_record_of_a_running_job_ends_no_daemon(values: dict[str, Any], make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.start()
    spool.drop("job", "until [ -e go ]; do sleep 0.05; done; exit 75", defer_time=1, defer_max=1)
    folder = spool.wait_running("job")
    spool.stop(signal.SIGKILL)
    rewrite(folder, **values)
    daemon = spool.start()
    (folder / "go").touch()
    spool.wait_for("job")
    spool.drop("other", "exit 0")
    spool.wait_for("other", spool.done)
    assert daemon.poll() is None


def test_nonsense_in_the_record_of_a_waiting_job_ends_no_daemon(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.start()
    spool.drop("job", "exit 0", hold="yes")
    folder = accepted(spool, "job")
    spool.stop()
    rewrite(folder, deferred=None, state="pending")
    daemon = spool.start()
    spool.drop("other", "exit 0")
    spool.wait_for("other", spool.done)
    assert daemon.poll() is None


def test_a_job_that_cannot_be_skipped_now_stops_nobody(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.start()
    spool.drop("first", "until [ -e go ]; do sleep 0.05; done; exit 1")
    first = spool.wait_running("first")
    spool.drop("second", "exit 0", after="first")
    folder = bound(spool, "second")
    (folder / ".qm/job.json").unlink()
    (folder / ".qm/job.json/in/the/way").mkdir(parents=True)
    (first / "go").touch()
    spool.wait_for("first", spool.lost)
    spool.drop("other", "exit 0")
    spool.wait_for("other", spool.done)
    assert spool.log().count("cannot be filed yet") < 20
    shutil.rmtree(folder / ".qm/job.json")
    assert spool.record(spool.wait_for("second", spool.lost))["state"] == "skipped"


def test_a_job_whose_record_is_lost_is_not_begun_again_as_another(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.start()
    spool.drop("job", "until [ -e go ]; do sleep 0.05; done; exit 75", defer_time=0.1)
    folder = spool.wait_running("job")
    spool.stop(signal.SIGKILL)
    (folder / ".qm/job.json").write_text("lost")
    (folder / "go").touch()
    spool.start()
    assert spool.record(spool.wait_for("job"))["state"] == "inactive"


# --- daemons that die ----------------------------------------------------------------------------------------


def test_a_voided_start_of_a_task_stays_void(make_spool: MakeSpool) -> None:
    """A shim that is so slow that the next daemon came before it must find the mark of its own start."""
    spool = make_spool()
    spool.start()
    spool.drop("many", "until [ -e go ]; do sleep 0.05; done", array="0-1")
    folder = spool.wait_running("many")
    until(lambda: len(list(folder.glob(".qm/run/*.start"))) == 2, "both tasks to run")
    spool.stop(signal.SIGKILL)
    for pid in spool.processes():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not spool.processes(), "the tasks to be gone")
    (folder / ".qm/run/1.1.start").unlink()
    spool.start()
    until(lambda: (folder / ".qm/run/1.2.start").exists(), "the task to be started again")
    assert (folder / ".qm/run/1.1.start").exists()


@pytest.mark.parametrize(("keys", "log"), [({"array": "7"}, "process.7.log"), ({}, "process.log")])
def test_a_start_voided_by_a_daemon_that_died_costs_nothing_of_what_the_log_and_the_deferral_say(
    keys: dict[str, str], log: str, make_spool: MakeSpool
) -> None:
    spool = make_spool()
    runs = "echo run >> ledger; [ $(wc -l < ledger) != 1 ] || exit 75"
    spool.drop("job", runs, defer_time=0.1, **keys)
    nursery = Nursery()
    try:
        # It is deferred, its second start has its log and no shim yet, and that start is voided but not put back.
        for step, occurrence in (("start: log opened", 2), ("void: marked", 1)):
            nursery.start(spool.config, step, occurrence)
            assert nursery.died(30) == -signal.SIGKILL
    finally:
        nursery.close()
    spool.start()
    folder = spool.wait_for("job", spool.done)
    said = [line.split(" 2")[0] for line in lines_of(folder / log) if line.startswith("Job ")]
    begun, ended = "Job started by QM at:", "Job finished at:"
    assert said == [begun, ended, begun, begun, ended]
    assert not list(folder.glob(f"{log}.1"))
    assert lines_of(folder / "ledger") == ["run", "run"]


def test_an_array_whose_tasks_became_wider_than_the_limit_is_narrowed(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=2)
    spool.start()
    spool.drop(
        "many",
        'echo "$NB_PROC" >> ledger; until [ -e go$QM_ARRAY_TASK_ID ]; do sleep 0.05; done',
        array="0-2",
        nb_proc=2,
    )
    folder = spool.wait_running("many")
    spool.configure(MaxNbProcessors=1)
    assert spool.daemon is not None
    spool.daemon.send_signal(signal.SIGHUP)
    until(lambda: "read again" in spool.log(), "the settings to be read")
    for number in range(3):
        (folder / f"go{number}").touch()
    assert lines_of(spool.wait_for("many", spool.done) / "ledger") == ["2", "1", "1"]


# --- what nobody can say now ---------------------------------------------------------------------------------


def test_tasks_that_cannot_be_looked_up_now_are_not_taken_for_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(path: str, flags: int = 0) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

    path = str(tmp_path / "tasks.jsonl")
    tasks.append(path, [tasks.TaskEntry(1, State.DONE)])
    monkeypatch.setattr(tasks, "open_regular", short)
    assert tasks.read(path) == {}
    with pytest.raises(OSError, match="open files"):
        tasks.read(path, strict=True)


def test_a_job_that_is_being_ended_is_not_paused(spool: TestSpool) -> None:
    spool.drop("job", "trap '' TERM; until [ -e go ]; do sleep 0.05; done")
    spool.wait_running("job")
    spool.qm("kill", "job")
    result = spool.qm("pause", "job", check=False)
    assert result.returncode == 1 and ("being ended" in result.stderr or "killed" in result.stderr)
    spool.wait_for("job", spool.lost)
