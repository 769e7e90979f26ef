"""The daemon with real job folders: the ordinary ways of a job."""

from __future__ import annotations

import os
import shutil

from harness import TestSpool, lines_of, until


def test_a_folder_moved_into_the_queue_runs_and_is_filed_in_done(any_spool: TestSpool) -> None:
    any_spool.drop("hello", "echo processors $NB_PROC; pwd", nb_proc=2)
    folder = any_spool.wait_for("hello", any_spool.done)
    log = lines_of(folder / "process.log")
    assert log[0].startswith("Job started by QM at: ")
    assert log[1:3] == ["processors 2", str(any_spool.jobs / "hello")]
    assert log[3].startswith("Job finished at: ") and log[3].endswith(" with code 0")
    record = any_spool.record(folder)
    assert (record["state"], record["exit_status"], record["attempt"]) == ("done", 0, 1)


def test_a_folder_copied_into_the_queue_runs(any_spool: TestSpool) -> None:
    shutil.copytree(any_spool.make("copied", "cat data"), any_spool.queue / "copied")
    folder = any_spool.wait_for("copied")
    assert folder.parent == any_spool.lost, "there is no file `data`"
    assert any_spool.record(folder)["state"] == "failed"


def test_a_failing_script_is_filed_in_lost_and_found_with_its_status(any_spool: TestSpool) -> None:
    any_spool.drop("fails", "exit 7")
    record = any_spool.record(any_spool.wait_for("fails", any_spool.lost))
    assert (record["state"], record["exit_status"]) == ("failed", 7)


def test_failed_jobs_go_to_done_when_the_configuration_says_so(make_spool) -> None:  # type: ignore[no-untyped-def]
    spool = make_spool(Failed_Jobs="done")
    spool.drop("fails", "exit 7")
    spool.run_until_empty()
    assert spool.record(spool.done / "fails")["state"] == "failed"


def test_a_second_job_of_the_same_name_gets_a_number(spool: TestSpool) -> None:
    spool.drop("twin", "true")
    spool.wait_for("twin", spool.done)
    spool.drop("twin", "true")
    folder = spool.wait_for("twin.2", spool.done)
    assert spool.record(folder)["name"] == "twin"


def test_higher_priority_first_then_the_order_of_arrival(make_spool) -> None:  # type: ignore[no-untyped-def]
    spool = make_spool(MaxNbProcessors=1)
    spool.start()
    order = spool.root / "order"
    spool.drop("blocker", f"until [ -e {spool.root}/go ]; do sleep 0.02; done")
    spool.wait_running("blocker")
    for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)):
        spool.drop(name, f"echo {name} >> {order}", priority=priority)
        until(lambda name=name: (spool.queue / name / ".qm" / "job.json").exists())
    (spool.root / "go").touch()
    spool.wait_for("e")
    assert lines_of(order) == ["b", "d", "a", "c", "e"]


def test_never_more_processors_than_the_limit(make_spool) -> None:  # type: ignore[no-untyped-def]
    spool = make_spool(MaxNbProcessors=3)
    ledger = spool.root / "ledger"
    for number in range(12):
        wide = number % 3 + 1
        spool.drop(f"j{number}", f"echo +{wide} >> {ledger}; sleep 0.05; echo -{wide} >> {ledger}", nb_proc=wide)
    spool.run_until_empty()
    used, most = 0, 0
    for line in lines_of(ledger):
        used += int(line)
        most = max(most, used)
    assert used == 0 and most <= 3


def test_blocking_runs_one_job_at_a_time(make_spool) -> None:  # type: ignore[no-untyped-def]
    spool = make_spool(launch_type="blocking", MaxNbProcessors=4)
    ledger = spool.root / "ledger"
    for number in range(5):
        spool.drop(f"j{number}", f"echo begin >> {ledger}; sleep 0.05; echo end >> {ledger}")
    spool.run_until_empty()
    assert lines_of(ledger) == ["begin", "end"] * 5


def test_nb_proc_above_the_limit_is_lowered_and_the_log_says_so(spool: TestSpool) -> None:
    spool.drop("wide", "echo got $NB_PROC", nb_proc=64)
    log = lines_of(spool.wait_for("wide", spool.done) / "process.log")
    assert "got 2" in log
    assert any("nb_proc 64" in line and "lowered to 2" in line for line in log)


def test_a_job_that_deletes_its_own_folder_ends_nothing_but_itself(spool: TestSpool) -> None:
    spool.drop("removes_itself", 'rm -rf "$QM_JOB_DIR"')
    until(lambda: "removes_itself" in spool.log() and "folder" in spool.log())
    spool.drop("next", "true")
    spool.wait_for("next", spool.done)
    until(lambda: not os.listdir(spool.jobs))


def test_a_second_daemon_exits_with_75_and_names_the_first(spool: TestSpool) -> None:
    assert spool.daemon is not None
    first = spool.daemon
    result = spool.qm("daemon", check=False)
    assert result.returncode == 75
    assert str(first.pid) in result.stderr


def test_a_restart_takes_over_what_runs(any_spool: TestSpool) -> None:
    any_spool.drop("long", f"until [ -e {any_spool.root}/go ]; do sleep 0.02; done; exit 5")
    any_spool.wait_running("long")
    assert any_spool.stop() == 0
    any_spool.start()
    (any_spool.root / "go").touch()
    record = any_spool.record(any_spool.wait_for("long"))
    assert (record["state"], record["exit_status"], record["attempt"]) == ("failed", 5, 1)


def test_a_job_that_ended_while_the_daemon_was_down_is_filed_with_its_status(any_spool: TestSpool) -> None:
    any_spool.drop("long", f"until [ -e {any_spool.root}/go ]; do sleep 0.02; done; exit 9")
    folder = any_spool.wait_running("long")
    any_spool.stop(9)
    (any_spool.root / "go").touch()
    until(lambda: (folder / ".qm" / "run" / "1.exit").exists())
    any_spool.start()
    record = any_spool.record(any_spool.wait_for("long"))
    assert (record["state"], record["exit_status"]) == ("failed", 9)
