"""Runs that are run again: attempts, deferral, wall_time, zombies, begin; with real daemons that may die in between."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import TestSpool, lines_of, until

MakeSpool = Callable[..., TestSpool]


def outcomes(record: dict[str, Any]) -> list[str]:
    """How the runs of a job ended, one after the other."""
    return [run["state"] for run in record["history"]]


# --- attempts ------------------------------------------------------------------------------------------------


def test_a_job_that_fails_is_tried_again_and_its_first_log_is_kept(any_spool: TestSpool) -> None:
    any_spool.drop("twice", "echo this is $QM_ATTEMPT; [ $QM_ATTEMPT = 2 ]", attempts=3, error_time=0.2)
    folder = any_spool.wait_for("twice")
    assert folder.parent == any_spool.done
    record = any_spool.record(folder)
    assert (record["state"], record["attempt"], outcomes(record)) == ("done", 2, ["failed", "done"])
    assert "this is 1" in (folder / "process.log.1").read_text()
    log = (folder / "process.log").read_text()
    assert "this is 2" in log and "this is 1" not in log


def test_a_job_that_always_fails_has_failed_after_its_attempts(spool: TestSpool) -> None:
    spool.drop("never", "exit 3", attempts=3, error_time=0.1, error_backoff=2)
    record = spool.record(spool.wait_for("never", spool.lost))
    assert (record["state"], record["exit_status"], outcomes(record)) == ("failed", 3, ["failed"] * 3)
    starts = [run["started"] for run in record["history"]]
    ends = [run["finished"] for run in record["history"]]
    assert starts[1] - ends[0] >= 0.09 and starts[2] - ends[1] >= 0.19, "error_time, then twice that"


def test_a_status_that_retry_on_does_not_name_is_final(spool: TestSpool) -> None:
    spool.drop("other", "exit 4", attempts=3, error_time=0.1, retry_on="3, 5")
    spool.drop("named", "exit 5", attempts=2, error_time=0.1, retry_on="3, 5")
    assert len(outcomes(spool.record(spool.wait_for("other")))) == 1
    assert len(outcomes(spool.record(spool.wait_for("named")))) == 2


def test_while_it_waits_for_its_next_attempt_a_job_says_so_and_its_processors_are_free(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=1)
    spool.start()
    spool.drop("failing", "exit 3", attempts=2, error_time=3600)
    until(lambda: (spool.queue / "failing" / "process.log").exists(), "it to wait again")
    spool.drop("next", "exit 0")
    spool.wait_for("next", spool.done)
    (job,) = [job for job in spool.status() if job["name"] == "failing"]
    assert job["state"] == "deferred"
    assert "exit status 3" in job["reason"] and "runs again at" in job["reason"]
    log = (spool.queue / "failing" / "process.log").read_text()
    assert "Job finished at:" in log and "with code 3" in log


def test_retry_does_not_wait_for_error_time_and_gives_all_attempts_anew(spool: TestSpool) -> None:
    spool.drop("failing", "exit 3", attempts=2, error_time=3600)
    until(lambda: (spool.queue / "failing" / "process.log").exists(), "it to wait again")
    spool.qm("retry", "failing")
    record = spool.record(spool.wait_for("failing"))
    assert outcomes(record) == ["failed", "failed"]
    spool.qm("set", "failing", "error_time=0.1", check=False)  # too late: it has ended
    spool.qm("retry", "failing")
    until(
        lambda: len(list((spool.queue / "failing").glob("process.log*"))) == 3, "a third attempt that is not the last"
    )


def test_a_restarted_daemon_keeps_the_attempts_and_the_time_to_the_next(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.start()
    spool.drop("failing", "[ $QM_ATTEMPT = 3 ]", attempts=3, error_time=1.5)
    until(lambda: (spool.queue / "failing" / "process.log").exists(), "it to wait again")
    spool.stop(signal.SIGKILL)
    spool.start()
    record = spool.record(spool.wait_for("failing"))
    assert outcomes(record) == ["failed", "failed", "done"]
    assert record["history"][1]["started"] - record["history"][0]["finished"] >= 1.4


def test_until_empty_waits_for_the_next_attempt(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.drop("twice", "[ $QM_ATTEMPT = 2 ]", attempts=2, error_time=0.5)
    spool.run_until_empty()
    assert (spool.done / "twice").is_dir()


# --- deferral ------------------------------------------------------------------------------------------------


def test_status_75_runs_a_job_again_and_its_log_goes_on(any_spool: TestSpool) -> None:
    any_spool.drop("later", "echo run $QM_ATTEMPT; [ $QM_ATTEMPT = 3 ] || exit 75", defer_time=0.2)
    folder = any_spool.wait_for("later", any_spool.done)
    lines = lines_of(folder / "process.log")
    assert [line for line in lines if line.startswith("run ")] == ["run 1", "run 2", "run 3"]
    assert sum(line.startswith("Job started") for line in lines) == 3
    assert not (folder / "process.log.1").exists()
    assert outcomes(any_spool.record(folder)) == ["deferred", "deferred", "done"]


def test_a_job_that_is_deferred_too_long_is_inactive(spool: TestSpool) -> None:
    spool.drop("forever", "exit 75", defer_time=0.2, defer_max=0.5)
    folder = spool.wait_for("forever", spool.lost)
    record = spool.record(folder)
    assert record["state"] == "inactive"
    assert outcomes(record) == ["deferred", "deferred", "deferred", "inactive"]
    assert "defer_max" in record["reason"]


def test_deferring_uses_up_no_attempt(spool: TestSpool) -> None:
    script = "[ $QM_ATTEMPT -ge 3 ] || exit 75; [ $QM_ATTEMPT = 4 ]"
    spool.drop("mixed", script, defer_time=0.1, attempts=2, error_time=0.1)
    record = spool.record(spool.wait_for("mixed"))
    assert outcomes(record) == ["deferred", "deferred", "failed", "done"]


# --- wall_time -----------------------------------------------------------------------------------------------


def test_a_job_over_its_wall_time_is_ended_with_all_its_processes(any_spool: TestSpool) -> None:
    any_spool.drop("slow", "sleep 300 & (setsid sleep 300 &) ; sleep 300", wall_time=0.5)
    folder = any_spool.wait_for("slow", any_spool.lost)
    record = any_spool.record(folder)
    assert (record["state"], record["reason"]) == ("timeout", "its wall_time of 00:00 is over")
    assert not any_spool.processes()
    assert "QM: its wall_time of 00:00 is over" in lines_of(folder / "process.log")


def test_a_job_that_ignores_term_is_ended_after_the_grace_period(spool: TestSpool) -> None:
    spool.drop("deaf", "trap '' TERM; while :; do sleep 0.1; done", wall_time=0.3)
    assert spool.record(spool.wait_for("deaf", spool.lost))["state"] == "timeout"


def test_a_timeout_is_tried_again(spool: TestSpool) -> None:
    spool.drop("slow", "[ $QM_ATTEMPT = 2 ] || sleep 300", wall_time=0.5, attempts=2, error_time=0.1)
    assert outcomes(spool.record(spool.wait_for("slow"))) == ["timeout", "done"]


def test_wall_time_goes_on_while_the_daemon_is_down(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.start()
    spool.drop("slow", "sleep 300", wall_time=1)
    spool.wait_running("slow")
    spool.stop(signal.SIGKILL)
    spool.start()
    assert spool.record(spool.wait_for("slow", spool.lost))["state"] == "timeout"


def test_paused_time_is_no_wall_time(spool: TestSpool, tmp_path: Path) -> None:
    go = tmp_path / "go"
    spool.drop("pausing", f"until [ -e {go} ]; do sleep 0.05; done", wall_time=30)
    folder = spool.wait_running("pausing")
    spool.qm("pause", "pausing")
    paused = spool.record(folder)
    assert "wall_end" not in paused and 0 < paused["wall_left"] <= 30
    spool.qm("resume", "pausing")
    until(lambda: spool.record(folder)["state"] == "running", "it to go on")
    assert "wall_left" not in spool.record(folder) and "wall_end" in spool.record(folder)
    go.touch()
    spool.wait_for("pausing", spool.done)


# --- zombies -------------------------------------------------------------------------------------------------


def test_a_job_that_neither_writes_nor_works_is_flagged(spool: TestSpool, tmp_path: Path) -> None:
    go = tmp_path / "go"
    spool.drop("silent", f"until [ -e {go} ]; do sleep 3; done", zombie_time=1.5)
    folder = spool.wait_running("silent")
    until(lambda: "no output and no CPU" in spool.record(folder)["reason"], "it to be flagged")
    assert spool.record(folder)["state"] == "running"
    go.touch()
    spool.wait_for("silent", spool.done)


def test_a_zombie_is_ended_if_that_is_wanted(any_spool: TestSpool) -> None:
    any_spool.drop("silent", "sleep 300", zombie_time=1.5, zombie_kill="yes")
    folder = any_spool.wait_for("silent", any_spool.lost)
    record = any_spool.record(folder)
    assert record["state"] == "killed" and "no output and no CPU" in record["reason"]


@pytest.mark.parametrize("script", ["while :; do echo x; sleep 0.3; done", "while :; do :; done"])
def test_a_job_that_writes_or_works_is_no_zombie(script: str, spool: TestSpool) -> None:
    spool.drop("busy", script, zombie_time=2, wall_time=6, zombie_kill="yes")
    assert spool.record(spool.wait_for("busy", spool.lost))["state"] == "timeout"


# --- begin ---------------------------------------------------------------------------------------------------


def test_a_job_begins_no_earlier_than_it_is_to(spool: TestSpool) -> None:
    spool.drop("later", "exit 0", begin="+1s")
    spool.drop("tomorrow", "exit 0", begin="2099-01-31T22:00")
    record = spool.record(spool.wait_for("later"))
    assert record["started"] - record["submitted"] >= 0.99
    (job,) = [job for job in spool.status() if job["name"] == "tomorrow"]
    assert job["state"] == "pending" and "begins at" in job["reason"] and "2099-01-31" in job["reason"]


def test_until_empty_does_not_wait_for_a_job_that_may_not_begin_yet(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.drop("tomorrow", "exit 0", begin="2099-01-31")
    spool.drop("after-it", "exit 0", after="tomorrow")
    spool.drop("now", "exit 0")
    spool.run_until_empty()
    assert (spool.done / "now").is_dir() and (spool.queue / "tomorrow").is_dir() and (spool.queue / "after-it").is_dir()


def test_set_changes_when_a_job_begins(spool: TestSpool) -> None:
    spool.drop("later", "exit 0", begin="2099-01-31")
    until(lambda: (spool.queue / "later/.qm/job.json").exists(), "it to be accepted")
    assert spool.record(spool.queue / "later")["not_before"] > 4e9
    spool.qm("set", "later", "begin=now")
    assert "not_before" not in spool.record(spool.wait_for("later", spool.done))


# --- set, hold and retry -------------------------------------------------------------------------------------


def test_set_can_take_a_key_back_to_its_default(spool: TestSpool) -> None:
    spool.drop("job", "exit 0", hold="yes", wall_time="1h", mem="1G", after="nobody", begin="2099-01-31", retry_on=3)
    until(lambda: (spool.queue / "job/.qm/job.json").exists(), "it to be accepted")
    spool.qm("set", "job", "wall_time=none", "mem=", "after=none", "begin=", "retry_on=any", "hold=no")
    record = spool.record(spool.wait_for("job", spool.done))
    assert "after" not in record, "it waited for nobody"


def test_set_hold_holds_a_job_and_lets_it_go(spool: TestSpool) -> None:
    spool.drop("job", "exit 0", begin="2099-01-31")
    until(lambda: (spool.queue / "job/.qm/job.json").exists(), "it to be accepted")
    spool.qm("set", "job", "hold=yes", "begin=now")
    assert spool.record(spool.queue / "job")["state"] == "held"
    spool.qm("set", "job", "hold=no")
    spool.wait_for("job", spool.done)


def test_a_deferred_job_that_is_held_runs_when_it_is_released(spool: TestSpool) -> None:
    spool.drop("failing", "[ $QM_ATTEMPT = 2 ]", attempts=2, error_time=3600)
    until(lambda: (spool.queue / "failing" / "process.log").exists(), "it to wait again")
    spool.qm("hold", "failing")
    assert spool.record(spool.queue / "failing")["state"] == "held"
    spool.qm("release", "failing")
    spool.wait_for("failing", spool.done)


def test_retry_reads_the_job_file_again(spool: TestSpool) -> None:
    spool.drop("broken", "exit 3", info="first")
    folder = spool.wait_for("broken", spool.lost)
    job_file = folder / "proc_config.cfg"
    job_file.write_text("[QMOptions]\nscript : nb_proc\nnb_proc : twelve\n")
    refused = spool.qm("retry", "broken", check=False)
    assert refused.returncode == 1 and "nb_proc" in refused.stderr and folder.exists()
    job_file.write_text("[QMOptions]\nscript : echo mended\nnb_proc : 2\n")
    spool.qm("retry", "broken")
    record = spool.record(spool.wait_for("broken", spool.done))
    assert (record["nb_proc"], record["options"]["script"]) == (2, "echo mended")


def test_the_record_of_a_job_that_may_not_begin_yet_says_when_it_may(spool: TestSpool) -> None:
    spool.drop("later", "exit 0", begin="2099-01-31T22:00")
    until(lambda: (spool.queue / "later/.qm/job.json").exists(), "it to be accepted")
    assert spool.record(spool.queue / "later")["reason"] == "begins at 2099-01-31 22:00"
