"""Jobs that wait for others: `after`, groups, and the reasons that are given while they wait."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

from harness import TestSpool, until

MakeSpool = Callable[..., TestSpool]


def job_of(spool: TestSpool, name: str) -> dict[str, Any]:
    """What `qm status --json` says of a job."""
    (job,) = [job for job in spool.status() if job["name"] == name]
    return job


def accepted(spool: TestSpool, name: str) -> dict[str, Any]:
    """The record of a job that waits, as soon as there is one."""
    until(lambda: (spool.queue / name / ".qm/job.json").exists(), f"{name} to be accepted")
    return spool.record(spool.queue / name)


def bound(spool: TestSpool, name: str) -> list[dict[str, Any]]:
    """What a waiting job waits for, as soon as it is known."""
    return until(lambda: accepted(spool, name).get("after"), f"{name} to know what it waits for")


# --- after ---------------------------------------------------------------------------------------------------


def test_a_job_starts_when_those_before_it_are_done(spool: TestSpool) -> None:
    spool.drop("one", "sleep 0.5")
    spool.drop("two", "sleep 0.2")
    spool.drop("last", "exit 0", after="one, two")
    last = spool.record(spool.wait_for("last", spool.done))
    ends = [spool.record(spool.wait_for(name))["finished"] for name in ("one", "two")]
    assert last["started"] >= max(ends)
    assert [one["met"] for one in last["after"]] == [True, True]


def test_a_job_may_come_before_the_one_it_waits_for(spool: TestSpool) -> None:
    spool.drop("second", "exit 0", after="first")
    until(lambda: "after `first`, which is not there yet" in job_of(spool, "second")["reason"], "the reason")
    assert "waits for jobs that are not there yet" in spool.log()
    assert spool.record(spool.queue / "second")["reason"] == "after `first`, which is not there yet"
    spool.drop("first", "exit 0")
    spool.wait_for("second", spool.done)


def test_a_job_whose_dependency_fails_is_skipped_with_the_reason_and_so_is_who_waits_for_it(spool: TestSpool) -> None:
    spool.drop("third", "exit 0", after="second")
    spool.drop("second", "exit 0", after="first")
    bound(spool, "third")
    spool.drop("first", "sleep 0.3; exit 4")
    second = spool.record(spool.wait_for("second", spool.lost))
    third = spool.record(spool.wait_for("third", spool.lost))
    assert (second["state"], third["state"]) == ("skipped", "skipped")
    assert "`first`" in second["reason"] and "failed" in second["reason"]
    assert "`second`" in third["reason"] and "skipped" in third["reason"]
    assert "skipped" in (spool.lost / "third/process.log").read_text()


def test_afterany_is_content_with_any_end(spool: TestSpool) -> None:
    spool.drop("bad", "exit 4")
    spool.drop("clean-up", "exit 0", after="afterany:bad")
    started = spool.record(spool.wait_for("clean-up"))["started"]
    bad = spool.record(spool.wait_for("bad", spool.lost))
    assert bad["state"] == "failed" and started >= bad["finished"]


def test_a_job_with_attempts_left_has_not_failed_yet(spool: TestSpool) -> None:
    spool.drop("flaky", "[ $QM_ATTEMPT = 2 ]", attempts=2, error_time=0.3)
    spool.drop("next", "exit 0", after="flaky")
    record = spool.record(spool.wait_for("next"))
    assert record["state"] == "done"
    assert record["started"] >= spool.record(spool.wait_for("flaky"))["finished"], "not between its attempts"


def test_a_job_that_is_done_already_need_not_be_waited_for(spool: TestSpool) -> None:
    spool.drop("early", "exit 0")
    folder = spool.wait_for("early", spool.done)
    spool.drop("by-name", "exit 0", after="early")
    spool.drop("by-id", "exit 0", after=spool.record(folder)["id"])
    job_id = spool.record(folder)["id"]
    for name in ("by-name", "by-id"):
        record = spool.record(spool.wait_for(name))
        assert record["state"] == "done" and [one["id"] for one in record["after"]] == [job_id]


def test_the_history_knows_an_id_whose_folder_was_removed(spool: TestSpool) -> None:
    spool.drop("early", "exit 0")
    folder = spool.wait_for("early", spool.done)
    job_id = spool.record(folder)["id"]
    shutil.rmtree(folder)
    spool.drop("by-id", "exit 0", after=job_id)
    record = spool.record(spool.wait_for("by-id"))
    assert record["state"] == "done" and record["after"][0]["met"] is True


def test_names_mean_the_newest_live_job_and_a_name_twice_in_a_row_its_elder(spool: TestSpool) -> None:
    spool.drop("step", "exit 7")
    spool.wait_for("step", spool.lost)
    spool.drop("step", "sleep 0.4; exit 0")
    spool.wait_running("step")
    spool.drop("next", "exit 0", after="step")
    assert spool.record(spool.wait_for("next"))["state"] == "done", "the failed one of that name is not meant"


def test_a_job_after_its_own_name_waits_for_its_elder_and_without_one_is_invalid(spool: TestSpool) -> None:
    spool.drop("chain", "sleep 0.3")
    spool.wait_running("chain")
    spool.make("chain", "exit 0", where=spool.root / "other", after="chain")
    os.rename(spool.root / "other/chain", spool.queue / "chain")
    spool.wait_for("chain.2", spool.done)
    spool.drop("alone", "exit 0", after="alone")
    record = spool.record(spool.wait_for("alone", spool.lost))
    assert record["state"] == "invalid" and "wait for itself" in record["reason"]


def test_a_circle_is_found_and_named_and_only_who_closes_it_is_refused(spool: TestSpool) -> None:
    spool.drop("a", "exit 0", after="b")
    bound(spool, "a")
    spool.drop("b", "exit 0", after="c")
    bound(spool, "b")
    spool.drop("c", "exit 0", after="a")
    record = spool.record(spool.wait_for("c", spool.lost))
    assert record["state"] == "invalid"
    assert "circle: c after a after b after c" in record["reason"]
    assert (spool.queue / "a").is_dir() and (spool.queue / "b").is_dir()
    shutil.rmtree(spool.lost / "c")
    spool.drop("c", "exit 0")
    spool.wait_for("a", spool.done)


def test_a_dependency_that_is_taken_out_of_the_queue_can_no_longer_succeed(spool: TestSpool) -> None:
    spool.drop("withdrawn", "exit 0", hold="yes")
    spool.drop("next", "exit 0", after="withdrawn")
    bound(spool, "next")
    os.rename(spool.queue / "withdrawn", spool.root / "withdrawn")
    record = spool.record(spool.wait_for("next", spool.lost))
    assert record["state"] == "skipped" and "taken away" in record["reason"]


def test_what_happened_while_no_daemon_ran_is_found_out(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=3)
    spool.start()
    spool.drop("long", "sleep 0.7; exit 0")
    spool.drop("bad", "sleep 0.7; exit 3")
    spool.wait_running("long")
    spool.wait_running("bad")
    spool.drop("held", "exit 0", hold="yes")
    for name, other in (("good", "long"), ("skipped", "bad"), ("orphan", "held"), ("waits", "nobody")):
        spool.drop(name, "exit 0", after=other)
        bound(spool, name)
    spool.stop(signal.SIGKILL)
    shutil.rmtree(spool.queue / "held")
    until(lambda: not spool.processes(), "the scripts to end")
    spool.start()
    spool.wait_for("good", spool.done)
    assert spool.record(spool.wait_for("skipped", spool.lost))["state"] == "skipped"
    assert spool.record(spool.wait_for("orphan", spool.lost))["state"] == "skipped"
    assert (spool.queue / "waits").is_dir()


def test_retry_of_a_skipped_job_looks_for_its_dependency_anew(spool: TestSpool) -> None:
    spool.drop("first", "exit 4")
    spool.drop("second", "exit 0", after="first")
    assert spool.record(spool.wait_for("second"))["state"] == "skipped"
    shutil.rmtree(spool.lost / "first")
    spool.drop("first", "exit 0")
    first = spool.record(spool.wait_for("first", spool.done))
    spool.qm("retry", "second")
    second = spool.record(spool.wait_for("second", spool.done))
    assert [one["id"] for one in second["after"]] == [first["id"]], "not the one of the first time"


def test_set_after_changes_whom_a_job_waits_for(spool: TestSpool) -> None:
    spool.drop("stuck", "exit 0", after="nobody")
    bound(spool, "stuck")
    spool.drop("there", "exit 0")
    spool.qm("set", "stuck", "after=there")
    record = spool.record(spool.wait_for("stuck", spool.done))
    assert [(one["name"], one["met"]) for one in record["after"]] == [("there", True)]


# --- groups --------------------------------------------------------------------------------------------------


def test_of_a_group_no_more_run_than_it_allows(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=8)
    with spool.config.open("a") as config:
        config.write("\n[Group io]\nmax_parallel : 2\n")
    spool.start()
    go = spool.root / "go"
    for number in range(4):
        spool.drop(f"io{number}", f"until [ -e {go} ]; do sleep 0.05; done", group="io")
    spool.drop("other", "exit 0")
    spool.wait_for("other", spool.done)
    until(lambda: "group `io` has its 2 running" in job_of(spool, "io3")["reason"], "the reason")
    until(lambda: "group `io` has its 2 running" in spool.record(spool.queue / "io2")["reason"], "the record to say it")
    assert sorted(job["name"] for job in spool.status() if job["state"] == "running") == ["io0", "io1"]
    go.touch()
    spool.wait_for("io3", spool.done)


def test_max_parallel_without_a_group_counts_jobs_of_one_name(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=8)
    spool.start()
    go = spool.root / "go"
    for number in range(3):
        folder = spool.make("sim", f"until [ -e {go} ]; do sleep 0.05; done", spool.root / str(number), max_parallel=1)
        os.rename(folder, spool.queue / (f"sim.{number + 1}" if number else "sim"))
    spool.wait_running("sim")
    spool.drop("other", "exit 0")
    spool.wait_for("other", spool.done)
    running = [job for job in spool.status() if job["state"] == "running"]
    assert len(running) == 3, "they came under three names: sim, sim.2, sim.3"
    go.touch()


def test_a_lower_limit_of_a_group_is_taken_over_with_the_settings(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=8)
    daemon = spool.start()
    with spool.config.open("a") as config:
        config.write("\n[Group io]\nmax_parallel : 1\n")
    daemon.send_signal(signal.SIGHUP)
    until(lambda: "settings were read again" in spool.log(), "the settings to be read")
    go = spool.root / "go"
    for number in range(2):
        spool.drop(f"io{number}", f"until [ -e {go} ]; do sleep 0.05; done", group="io")
    spool.wait_running("io0")
    until(lambda: "group `io`" in job_of(spool, "io1")["reason"], "the second to wait")
    go.touch()
    second = spool.record(spool.wait_for("io1", spool.done))
    assert second["started"] >= spool.record(spool.wait_for("io0"))["finished"]


def test_set_refuses_what_would_make_a_circle_and_leaves_all_as_it_was(spool: TestSpool) -> None:
    spool.drop("first", "exit 0", hold="yes")
    spool.drop("second", "exit 0", after="first")
    bound(spool, "second")
    refused = spool.qm("set", "first", "after=second", check=False)
    assert refused.returncode == 1 and "circle: first after second after first" in refused.stderr
    refused = spool.qm("set", "first", "after=first", check=False)
    assert refused.returncode == 1 and "wait for itself" in refused.stderr
    spool.qm("release", "first")
    spool.wait_for("second", spool.done)
