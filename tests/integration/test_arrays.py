"""Arrays: one folder, many tasks, each once, whatever happens to the daemon or to one of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import TestSpool, lines_of, until

from qm.spool import tasks
from qm.vocabulary.states import State

MakeSpool = Callable[..., TestSpool]


def entries(folder: Path) -> dict[int, tasks.TaskEntry]:
    """What tasks.jsonl says."""
    return tasks.read(str(folder / ".qm/tasks.jsonl"))


def ledger(folder: Path) -> list[str]:
    """What the tasks wrote when they began."""
    return sorted(lines_of(folder / "ledger"))


def counts(record: dict[str, Any]) -> list[int]:
    """Tasks, done, failed, running, done earlier."""
    found: list[int] = record["tasks"]
    return found


# --- what tasks are ------------------------------------------------------------------------------------------


def test_each_task_runs_once_with_its_number_and_a_log_of_its_own(any_spool: TestSpool) -> None:
    any_spool.drop("many", 'echo "$QM_ARRAY_TASK_ID" >> ledger; echo "I am $QM_ARRAY_TASK_ID"', array="1-7:2,20")
    folder = any_spool.wait_for("many", any_spool.done)
    assert ledger(folder) == ["1", "20", "3", "5", "7"]
    for number in (1, 3, 5, 7, 20):
        lines = lines_of(folder / f"process.{number}.log")
        assert lines[0].startswith("Job started by QM at:") and lines[1] == f"I am {number}"
        assert lines[-1].startswith("Job finished at:") and lines[-1].endswith("with code 0")
    own = (folder / "process.log").read_text()
    assert "I am" not in own and "5 of 5 tasks done" in own
    assert counts(any_spool.record(folder)) == [5, 5, 0, 0, 0]
    used = [entry.cpu_seconds or 0.0 for entry in entries(folder).values()]
    assert any_spool.record(folder)["cpu_seconds"] == pytest.approx(sum(used))
    assert not os.listdir(folder / ".qm/run"), "a thousand tasks would leave thousands of marks"


def test_one_failing_task_does_no_harm_to_the_others_and_is_named(spool: TestSpool) -> None:
    spool.drop("many", "[ $QM_ARRAY_TASK_ID != 2 ] || exit 9", array="0-4")
    folder = spool.wait_for("many", spool.lost)
    record = spool.record(folder)
    assert (record["state"], record["exit_status"]) == ("failed", 9)
    assert record["reason"] == "1 of 5 tasks did not succeed: task 2"
    assert {number for number, entry in entries(folder).items() if entry.state is State.DONE} == {0, 1, 3, 4}


def test_retry_runs_the_failed_tasks_alone_and_keeps_their_logs(spool: TestSpool) -> None:
    script = 'echo "$QM_ARRAY_TASK_ID" >> ledger; [ $QM_ARRAY_TASK_ID != 2 ] || [ -e mended ] || exit 9'
    spool.drop("many", script, array="0-4")
    folder = spool.wait_for("many", spool.lost)
    (folder / "mended").touch()
    spool.qm("retry", "many")
    folder = spool.wait_for("many", spool.done)
    assert ledger(folder) == ["0", "1", "2", "2", "3", "4"]
    assert (folder / "process.2.log.1").exists() and not (folder / "process.1.log.1").exists()
    record = spool.record(folder)
    assert (record["state"], counts(record)) == ("done", [5, 5, 0, 0, 4])


def test_retry_of_an_array_that_is_done_runs_all_of_it(spool: TestSpool) -> None:
    spool.drop("many", 'echo "$QM_ARRAY_TASK_ID" >> ledger', array="0-2")
    spool.wait_for("many", spool.done)
    spool.qm("retry", "many")
    until(lambda: len(ledger(spool.done / "many")) == 6, "all to run again")
    assert ledger(spool.done / "many") == ["0", "0", "1", "1", "2", "2"]


def test_no_more_tasks_at_a_time_than_the_array_says_or_fit(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=4)
    spool.start()
    script = "echo + >> ledger; sleep 0.2; echo - >> ledger"
    spool.drop("two", script, array="0-7%2")
    spool.drop("wide", script, array="0-3", nb_proc=3)
    for name, most in (("two", 2), ("wide", 1)):
        now, peak = 0, 0
        for sign in lines_of(spool.wait_for(name, spool.done) / "ledger"):
            now += 1 if sign == "+" else -1
            peak = max(peak, now)
        assert (now, peak) == (0, most)


def test_tasks_come_before_jobs_that_came_later(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=1)
    spool.start()
    ledger_file = spool.root / "ledger"
    spool.drop("many", f'sleep 0.1; echo "$QM_ARRAY_TASK_ID" >> {ledger_file}', array="0-3")
    spool.wait_running("many")
    spool.drop("later", f"echo later >> {ledger_file}")
    spool.wait_for("later", spool.done)
    assert lines_of(ledger_file) == ["0", "1", "2", "3", "later"]


def test_tasks_have_attempts_deferral_and_wall_time_of_their_own(spool: TestSpool) -> None:
    script = (
        'echo "$QM_ARRAY_TASK_ID.$QM_ATTEMPT" >> ledger\n'
        "case $QM_ARRAY_TASK_ID.$QM_ATTEMPT in 1.1) exit 3;; 2.1) exit 75;; 3.*) sleep 300;; esac"
    )
    keys = {"attempts": 2, "error_time": 0.2, "defer_time": 0.2, "wall_time": 1}
    spool.drop("many", script, array="0-3", **keys)
    folder = spool.wait_for("many", spool.lost)
    assert ledger(folder) == ["0.1", "1.1", "1.2", "2.1", "2.2", "3.1", "3.2"]
    found = entries(folder)
    assert [found[number].state for number in range(4)] == [State.DONE, State.DONE, State.DONE, State.TIMEOUT]
    assert spool.record(folder)["state"] == "timeout", "all its bad tasks ended that way"
    assert (folder / "process.1.log.1").exists(), "the log of the first attempt"
    assert not (folder / "process.2.log.1").exists(), "a deferred run goes on in its log"


def test_an_output_file_may_have_the_tasks_number(spool: TestSpool) -> None:
    spool.drop("many", "echo $QM_ARRAY_TASK_ID", array="0-2", output="out-%a.txt")
    folder = spool.wait_for("many", spool.done)
    assert [(folder / f"out-{number}.txt").read_text() for number in range(3)] == ["0\n", "1\n", "2\n"]


def test_a_slurm_array_script_runs_unchanged(spool: TestSpool) -> None:
    folder = spool.root / "made" / "slurm"
    folder.mkdir(parents=True)
    lines = ["#!/bin/bash", "#SBATCH --array=1-3%2", "#SBATCH --output=out_%A_%a.txt", "#SBATCH --time=5"]
    (folder / "job.sh").write_text("\n".join([*lines, "echo $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT"]) + "\n")
    os.rename(folder, spool.queue / "slurm")
    done = spool.wait_for("slurm", spool.done)
    job_id = spool.record(done)["id"]
    assert (done / f"out_{job_id}_2.txt").read_text() == "2 of 3\n"


# --- requests ------------------------------------------------------------------------------------------------


def test_kill_ends_the_running_tasks_and_starts_no_more(any_spool: TestSpool) -> None:
    any_spool.drop("many", 'echo "$QM_ARRAY_TASK_ID" >> ledger; sleep 300', array="0-9")
    until(lambda: len(ledger(any_spool.jobs / "many")) == 2, "two tasks to run")
    any_spool.qm("kill", "many")
    folder = any_spool.wait_for("many", any_spool.lost)
    assert any_spool.record(folder)["state"] == "killed"
    assert ledger(folder) == ["0", "1"] and not any_spool.processes()


def test_a_killed_array_goes_on_where_it_was_when_it_is_retried(spool: TestSpool) -> None:
    spool.drop(
        "many", 'echo "$QM_ARRAY_TASK_ID" >> ledger; [ -e go ] || [ $QM_ARRAY_TASK_ID = 0 ] || sleep 300', array="0-3"
    )
    until(lambda: len(ledger(spool.jobs / "many")) == 3, "two tasks to hang")
    spool.qm("kill", "many")
    folder = spool.wait_for("many", spool.lost)
    (folder / "go").touch()
    spool.qm("retry", "many")
    assert ledger(spool.wait_for("many", spool.done)) == ["0", "1", "1", "2", "2", "3"]


def test_pause_and_resume_an_array(spool: TestSpool) -> None:
    spool.drop("many", 'echo "$QM_ARRAY_TASK_ID" >> ledger; sleep 0.5', array="0-5", wall_time=60)
    until(lambda: len(ledger(spool.jobs / "many")) >= 2, "two tasks to run")
    spool.qm("pause", "many")
    states = {entry.state for entry in entries(spool.jobs / "many").values()} - {State.DONE}
    assert states == {State.PAUSED}
    begun = len(ledger(spool.jobs / "many"))
    spool.drop("other", "sleep 0.7")
    spool.wait_for("other", spool.done)
    assert len(ledger(spool.jobs / "many")) == begun, "no task is started while it is paused"
    spool.qm("resume", "many")
    assert len(ledger(spool.wait_for("many", spool.done))) == 6


def test_a_folder_taken_out_while_its_tasks_run_ends_them(spool: TestSpool) -> None:
    spool.drop("many", 'echo "$QM_ARRAY_TASK_ID" >> ledger; sleep 300', array="0-9")
    until(lambda: len(ledger(spool.jobs / "many")) == 2, "two tasks to run")
    os.rename(spool.jobs / "many", spool.root / "taken")
    until(lambda: not spool.processes(), "its processes to end")
    until(lambda: "its folder was removed while it ran" in spool.log(), "the log to say so")
    assert ledger(spool.root / "taken") == ["0", "1"], "no other task was begun"
    spool.drop("next", "exit 0")
    spool.wait_for("next", spool.done)


# --- daemons that die ----------------------------------------------------------------------------------------


def test_a_killed_daemon_loses_no_task_and_runs_none_twice(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.start()
    spool.drop("many", 'echo "$QM_ARRAY_TASK_ID" >> ledger; sleep 0.15; [ $QM_ARRAY_TASK_ID != 5 ]', array="0-19")
    for done in (2, 6, 11):
        until(lambda done=done: len(ledger(spool.jobs / "many")) >= done, "some tasks to run")
        spool.stop(signal.SIGKILL)
        spool.start()
    folder = spool.wait_for("many", spool.lost)
    assert ledger(folder) == sorted(str(number) for number in range(20))
    assert counts(spool.record(folder)) == [20, 19, 1, 0, 0]
    assert not spool.processes()


@pytest.mark.parametrize("step", ["task: written", "task: ended", "claim: moved", "start: spawned"])
def test_a_daemon_that_dies_between_two_steps_runs_no_task_twice(step: str, make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.drop("many", 'echo "$QM_ARRAY_TASK_ID" >> ledger; [ $QM_ARRAY_TASK_ID != 1 ]', array="0-4")
    from nursery import Nursery

    nursery = Nursery()
    try:
        nursery.start(spool.config, step, 1)
        assert nursery.died(30) == -signal.SIGKILL
    finally:
        nursery.close()
    spool.start()
    folder = spool.wait_for("many", spool.lost)
    assert ledger(folder) == ["0", "1", "2", "3", "4"]
    assert spool.record(folder)["reason"] == "1 of 5 tasks did not succeed: task 1"


def test_a_full_set_of_nonsense_in_the_tasks_file_ends_nobody(spool: TestSpool) -> None:
    script = 'printf \'{"task":1}\\n{"task":99,"state":"failed"}\\nxx\\n{"task":2,"state":7}\\n\' >> .qm/tasks.jsonl'
    spool.drop("many", script, array="0-3")
    folder = spool.wait_for("many", spool.done)
    assert counts(spool.record(folder)) == [4, 4, 0, 0, 0]
