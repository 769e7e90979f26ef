"""Requests: kill, hold, release, pause, resume, retry, delete, set, drain, undrain, by `qm` and by files."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from asking import ask, granted
from harness import TestSpool, lines_of, until

from qm.spool import requests
from qm.spool.paths import SpoolPaths
from qm.vocabulary.requests import Answer, Request

MakeSpool = Callable[..., TestSpool]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of several users")


def put(spool: TestSpool, file: str, content: bytes) -> None:
    """Put a request file there by hand: written under a hidden name, then renamed."""
    hidden = spool.root / ".qm" / "requests" / f".{file}"
    hidden.write_bytes(content)
    hidden.rename(hidden.with_name(file))


def answer_to(spool: TestSpool, file: str) -> Answer:
    """What the daemon said to a request file."""
    return requests.await_answer(SpoolPaths(str(spool.root)), file)


def by_hand(spool: TestSpool, verb: str, name: str) -> Answer:
    """Ask with a file that a person wrote."""
    file = f"wish to {verb}"
    put(spool, file, json.dumps({"verb": verb, "name": name}).encode())
    return answer_to(spool, file)


def by_command(spool: TestSpool, verb: str, name: str) -> Answer:
    """Ask with the command line: 0 and a word on standard output, or 1 and a word on standard error."""
    words = [verb, name] if name else [verb]
    result = spool.qm(*words, check=False)
    assert result.returncode in (0, 1), result.stderr
    return Answer(result.returncode == 0, result.stdout if result.returncode == 0 else result.stderr)


Ask = Callable[[TestSpool, str, str], Answer]
both_ways = pytest.mark.parametrize("way", [by_hand, by_command])


def accepted(spool: TestSpool, name: str) -> None:
    """Wait until a folder has become a job."""
    until(lambda: (spool.queue / name / ".qm" / "job.json").exists(), f"{name} to be accepted")


def held(spool: TestSpool, name: str, script: str = "true", **keys: object) -> Path:
    """A job that waits for `qm release`."""
    spool.drop(name, script, hold="yes", **keys)
    accepted(spool, name)
    return spool.queue / name


def busy(spool: TestSpool, name: str) -> Path:
    """A job that runs until its folder has a file `go`; returns that file."""
    spool.drop(name, "until [ -e go ]; do sleep 0.02; done")
    spool.wait_running(name)
    return spool.jobs / name / "go"


# --- what each verb does -------------------------------------------------------------------------------------


@both_ways
def test_kill_ends_a_running_job(way: Ask, spool: TestSpool) -> None:
    busy(spool, "job")
    answer = way(spool, "kill", "job")
    assert answer.ok and "job" in answer.message
    assert spool.record(spool.wait_for("job", spool.lost))["state"] == "killed"


@both_ways
def test_kill_takes_a_waiting_job_out_of_the_queue(way: Ask, any_spool: TestSpool) -> None:
    held(any_spool, "job")
    assert way(any_spool, "kill", "job").ok
    folder = any_spool.wait_for("job", any_spool.lost)
    record = any_spool.record(folder)
    assert (record["state"], record["started"]) == ("killed", None)
    assert "before it ran" in record["reason"]


@both_ways
def test_hold_keeps_a_job_from_starting_until_release(way: Ask, spool: TestSpool) -> None:
    go = [busy(spool, name) for name in ("one", "two")]
    spool.drop("job", "echo ran")
    accepted(spool, "job")
    assert way(spool, "hold", "job").ok
    for file in go:
        file.touch()
    spool.drop("other", "true")
    spool.wait_for("other", spool.done)
    assert spool.record(spool.queue / "job")["state"] == "held"
    assert way(spool, "release", "job").ok
    spool.wait_for("job", spool.done)


@both_ways
def test_pause_and_resume_are_said_in_the_record(way: Ask, spool: TestSpool) -> None:
    go = busy(spool, "job")
    assert way(spool, "pause", "job").ok
    assert spool.record(spool.jobs / "job")["state"] == "paused"
    assert way(spool, "resume", "job").ok
    until(lambda: spool.record(spool.jobs / "job")["state"] == "running")
    go.touch()
    spool.wait_for("job", spool.done)


@both_ways
def test_retry_runs_an_ended_job_again_under_its_id(way: Ask, spool: TestSpool) -> None:
    spool.drop("job", "echo attempt $QM_ATTEMPT; [ $QM_ATTEMPT = 2 ]")
    first = spool.record(spool.wait_for("job", spool.lost))
    assert way(spool, "retry", "job").ok
    folder = spool.wait_for("job", spool.done)
    second = spool.record(folder)
    assert (second["id"], second["attempt"], second["exit_status"]) == (first["id"], 2, 0)
    assert [(run["attempt"], run["state"]) for run in second["history"]] == [(1, "failed"), (2, "done")]
    assert "attempt 1" in lines_of(folder / "process.log.1")
    assert lines_of(folder / "process.log")[1:-1] == ["attempt 2"]


@both_ways
def test_delete_removes_an_ended_and_a_waiting_job(way: Ask, spool: TestSpool) -> None:
    spool.drop("ended", "true")
    spool.wait_for("ended", spool.done)
    held(spool, "waiting")
    for name in ("ended", "waiting"):
        assert way(spool, "delete", name).ok
    until(lambda: not os.listdir(spool.done) and not os.listdir(spool.queue), "the folders to go")
    assert spool.status() == []


@both_ways
def test_drain_lets_what_runs_go_on_and_starts_nothing_until_undrain(way: Ask, any_spool: TestSpool) -> None:
    go = busy(any_spool, "first")
    assert way(any_spool, "drain", "").ok
    any_spool.drop("second", "true")
    accepted(any_spool, "second")
    go.touch()
    any_spool.wait_for("first", any_spool.done)
    any_spool.stop()
    any_spool.start()
    assert not ask(any_spool, "resume", "second").ok, "the daemon has had its turn"
    assert (any_spool.queue / "second").exists()
    assert way(any_spool, "undrain", "").ok
    any_spool.wait_for("second", any_spool.done)


def test_set_changes_a_waiting_job_and_wins_over_its_file_even_after_a_restart(any_spool: TestSpool) -> None:
    held(any_spool, "job", "echo $NB_PROC $COLOUR", nb_proc=1)
    result = any_spool.qm("set", "job", "nb_proc=2", "env_COLOUR=dark blue", "priority=7")
    assert "nb_proc = 2" in result.stdout
    any_spool.stop(signal.SIGKILL)
    any_spool.start()
    (job,) = any_spool.status()
    assert (job["priority"], job["nb_proc"]) == (7, 2)
    granted(any_spool, "release", "job")
    folder = any_spool.wait_for("job", any_spool.done)
    assert lines_of(folder / "process.log")[1] == "2 dark blue"
    assert "nb_proc : 1" in (folder / "proc_config.cfg").read_text(), "the job file is the user's"


def test_set_priority_changes_who_starts_first(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=1)
    spool.start()
    go, order = busy(spool, "blocker"), spool.root / "order"
    for name in ("one", "two", "three"):
        spool.drop(name, f"echo {name} >> {order}")
        accepted(spool, name)
    granted(spool, "set", "three", priority="5")
    granted(spool, "set", "one", priority="-5")
    go.touch()
    spool.wait_for("one", spool.done)
    assert lines_of(order) == ["three", "two", "one"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nb_proc", "twelve"),
        ("nb_proc", "0"),
        ("priority", "high"),
        ("wall_time", "soon"),
        ("no_such_key", "1"),
        ("env_COLOUR", "bl\0ue"),
        ("env_COLOUR", "\ud800"),
        ("env_A=B", "1"),
        ("script", "echo \0"),
        ("script", ""),
        ("chdir", "a\0b"),
    ],
)
def test_set_refuses_what_cannot_be_and_changes_nothing(key: str, value: str, spool: TestSpool) -> None:
    folder = held(spool, "job")
    before = spool.record(folder)
    answer = ask(spool, "set", "job", **{key: value})
    assert not answer.ok
    assert key in answer.message and "job" in answer.message
    assert spool.record(folder) == before
    granted(spool, "release", "job")
    spool.wait_for("job", spool.done)


def test_set_of_more_processors_than_there_are_is_lowered(spool: TestSpool) -> None:
    held(spool, "job", "echo $NB_PROC")
    granted(spool, "set", "job", nb_proc="64")
    granted(spool, "release", "job")
    assert lines_of(spool.wait_for("job", spool.done) / "process.log")[1:-1] == ["2"]


def test_several_jobs_are_asked_for_at_once(spool: TestSpool) -> None:
    for name in ("one", "two"):
        held(spool, name)
    result = spool.qm("kill", "one", "two")
    assert len(result.stdout.splitlines()) == 2
    for name in ("one", "two"):
        spool.wait_for(name, spool.lost)


# --- wrong moments -------------------------------------------------------------------------------------------

IMPOSSIBLE = {
    "held": ("hold", "pause", "resume", "retry"),
    "pending": ("release", "pause", "resume", "retry"),
    "running": ("hold", "release", "resume", "retry", "delete", "set"),
    "paused": ("hold", "release", "pause", "retry", "delete", "set"),
    "done": ("kill", "hold", "release", "pause", "resume", "set"),
}


def _bring_into(spool: TestSpool, state: str) -> None:
    """A job of the name `job` in that state."""
    if state == "held":
        held(spool, "job")
    elif state == "pending":
        granted(spool, "drain")
        spool.drop("job", "true")
        accepted(spool, "job")
    elif state == "done":
        spool.drop("job", "true")
        spool.wait_for("job", spool.done)
    else:
        busy(spool, "job")
        if state == "paused":
            granted(spool, "pause", "job")


@pytest.mark.parametrize("state", IMPOSSIBLE)
def test_a_verb_at_the_wrong_moment_is_refused_with_the_state(state: str, spool: TestSpool) -> None:
    _bring_into(spool, state)
    for verb in IMPOSSIBLE[state]:
        answer = ask(spool, verb, "job", **({"priority": "1"} if verb == "set" else {}))
        assert not answer.ok, f"{verb} a job that is {state}: {answer.message}"
        assert "job" in answer.message
        assert state in answer.message or "active" in answer.message, f"{verb}: {answer.message}"
    assert [job["state"] for job in spool.status()] == [state]


def test_a_refusal_goes_to_standard_error_and_exits_1(spool: TestSpool) -> None:
    held(spool, "job")
    result = spool.qm("resume", "job", check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert "cannot resume a job that is held" in result.stderr


def test_an_unknown_job_among_others_leaves_the_others_alone(spool: TestSpool) -> None:
    folder = held(spool, "job")
    result = spool.qm("kill", "job", "nobody", check=False)
    assert result.returncode == 66
    assert "nobody" in result.stderr
    assert not ask(spool, "kill", "nobody").ok
    assert folder.exists()


# --- by name, by id ------------------------------------------------------------------------------------------


def test_an_id_means_that_job_and_a_name_the_newest_live_one(spool: TestSpool) -> None:
    first, second = held(spool, "twin"), None
    spool.make("twin", "true", where=spool.root / "other", hold="yes")
    os.rename(spool.root / "other" / "twin", spool.queue / "twin.2")
    second = spool.queue / "twin.2"
    accepted(spool, "twin.2")
    paths = SpoolPaths(str(spool.root))
    job_id = spool.record(first)["id"]
    assert requests.ask(paths, Request("release", id=job_id)).ok
    spool.wait_for("twin", spool.done)
    assert spool.record(second)["state"] == "held"


def test_a_job_is_retried_beside_a_new_one_of_its_name(spool: TestSpool) -> None:
    spool.drop("job", "exit 1")
    old = spool.record(spool.wait_for("job", spool.lost))["id"]
    held(spool, "job")
    answer = requests.ask(SpoolPaths(str(spool.root)), Request("retry", id=old))
    assert answer.ok, answer.message
    again = spool.wait_for("job", spool.lost)
    until(lambda: spool.record(again)["attempt"] == 2 if again.exists() else False, "the second attempt to end")
    assert spool.record(again)["id"] == old
    assert spool.record(spool.queue / "job")["state"] == "held"


# --- while the daemon is down --------------------------------------------------------------------------------


def test_what_is_asked_while_the_daemon_is_down_is_obeyed_when_it_starts(make_spool: MakeSpool, tmp_path: Path) -> None:
    spool = make_spool()
    spool.start()
    ledger = tmp_path / "ledger"
    held(spool, "dies", f"echo dies >> {ledger}")
    held(spool, "lives", f"echo lives >> {ledger}")
    go = busy(spool, "runs")
    spool.stop()
    for words in (("kill", "dies"), ("release", "lives"), ("kill", "runs")):
        result = spool.qm(*words, check=False)
        assert result.returncode == 75
        assert "obeyed when one starts" in result.stderr
    assert not go.exists()
    spool.start()
    assert spool.record(spool.wait_for("dies"))["state"] == "killed"
    assert spool.record(spool.wait_for("lives"))["state"] == "done"
    assert spool.record(spool.wait_for("runs"))["state"] == "killed"
    assert lines_of(ledger) == ["lives"]


def test_a_drain_while_the_daemon_is_down_comes_before_any_start(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.drop("job", "true")
    assert spool.qm("drain", check=False).returncode == 75
    spool.start()
    accepted(spool, "job")
    granted(spool, "hold", "job")
    assert spool.record(spool.queue / "job")["state"] == "held"


def test_a_waiting_job_that_was_killed_never_runs_though_the_daemon_dies_right_after(
    any_spool: TestSpool, tmp_path: Path
) -> None:
    granted(any_spool, "drain")
    ledger = tmp_path / "ledger"
    any_spool.drop("job", f"echo ran >> {ledger}")
    accepted(any_spool, "job")
    granted(any_spool, "kill", "job")
    any_spool.stop(signal.SIGKILL)
    any_spool.start()
    granted(any_spool, "undrain")
    any_spool.drop("other", "true")
    any_spool.wait_for("other", any_spool.done)
    assert any_spool.record(any_spool.lost / "job")["state"] == "killed"
    assert not lines_of(ledger)


def test_a_deletion_that_the_daemon_did_not_live_to_finish_is_finished_by_the_next(make_spool: MakeSpool) -> None:
    spool = make_spool()
    for place in (spool.queue, spool.jobs, spool.done, spool.lost):
        (place / ".qm-deleted.abcdefghijkl" / "deep").mkdir(parents=True)
    spool.start()
    until(lambda: not any(os.listdir(place) for place in (spool.queue, spool.jobs, spool.done, spool.lost)))


# --- whose job is it? ----------------------------------------------------------------------------------------


def _ask_as(spool: TestSpool, uid: int, verb: str, name: str) -> Answer:
    file = f"from-{uid}-{verb}"
    hidden = spool.root / ".qm" / "requests" / f".{file}"
    hidden.write_text(json.dumps({"verb": verb, "name": name}))
    os.chown(hidden, uid, uid)
    hidden.rename(hidden.with_name(file))
    return answer_to(spool, file)


@needs_root
def test_only_the_owner_of_a_job_or_of_the_spool_is_obeyed(make_spool: MakeSpool) -> None:
    spool = make_spool()
    os.chown(spool.root, 1001, 1001)
    spool.start()
    for name in ("first", "second", "third"):
        folder = spool.make(name, "true", hold="yes")
        for path in (folder, folder / "proc_config.cfg"):
            os.chown(path, 1002, 1002)
        os.rename(folder, spool.queue / name)
        accepted(spool, name)
    stranger = _ask_as(spool, 1003, "kill", "first")
    assert not stranger.ok and "not yours" in stranger.message
    assert spool.record(spool.queue / "first")["state"] == "held"
    for name, uid in (("first", 1002), ("second", 1001), ("third", 0)):
        answer = _ask_as(spool, uid, "kill", name)
        assert answer.ok, answer.message
        spool.wait_for(name, spool.lost)


@needs_root
def test_only_the_owner_of_the_spool_may_drain_it(make_spool: MakeSpool) -> None:
    spool = make_spool()
    os.chown(spool.root, 1001, 1001)
    spool.start()
    for verb in ("drain", "undrain"):
        assert not _ask_as(spool, 1003, verb, "").ok
        assert _ask_as(spool, 1001, verb, "").ok


# --- request files that are none -----------------------------------------------------------------------------

BROKEN = {
    "empty": b"",
    "no-json": b"kill everything",
    "not-an-object": b'["kill"]',
    "no-verb": b'{"name": "job"}',
    "unknown-verb": b'{"verb": "explode", "name": "job"}',
    "verb-no-text": b'{"verb": ["kill"], "name": "job"}',
    "name-no-text": b'{"verb": "kill", "name": 7}',
    "args-no-object": b'{"verb": "set", "name": "job", "args": "priority"}',
    "args-no-texts": b'{"verb": "set", "name": "job", "args": {"priority": 7}}',
    "no-job": b'{"verb": "kill"}',
    "slash": b'{"verb": "kill", "name": "../QM_qJobs/job"}',
    "nul": b'{"verb": "kill", "name": "jo\\u0000b"}',
    "half-a-character": b'{"verb": "kill", "name": "\\ud800"}',
    "other-encoding": '{"verb": "kill", "name": "jöb"}'.encode("latin-1"),
    "nested": b"[" * 30_000,
    "huge": b'{"verb": "kill", "name": "' + b"j" * (1 << 20) + b'"}',
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_request_is_refused_under_its_own_name(kind: str, spool: TestSpool) -> None:
    folder = held(spool, "job")
    put(spool, kind, BROKEN[kind])
    answer = answer_to(spool, kind)
    assert not answer.ok and answer.message
    until(lambda: not os.listdir(spool.root / ".qm" / "requests"), "the request to be removed")
    assert folder.exists()
    granted(spool, "release", "job")
    spool.wait_for("job", spool.done)


def test_a_request_that_is_no_regular_file_is_removed_unread(any_spool: TestSpool, tmp_path: Path) -> None:
    folder = held(any_spool, "job")
    target = tmp_path / "target"
    target.write_text(json.dumps({"verb": "kill", "name": "job"}))
    waiting = any_spool.root / ".qm" / "requests"
    strange = {"link": target.as_posix(), "dangling": "/nowhere/at/all"}
    for name, points_to in strange.items():
        (waiting / f".{name}").symlink_to(points_to)
    os.mkfifo(waiting / ".fifo")
    for name in (*strange, "fifo"):
        (waiting / f".{name}").rename(waiting / name)
        assert not answer_to(any_spool, name).ok
    until(lambda: not os.listdir(waiting), "all of it to be removed")
    assert folder.exists() and target.exists()


def test_a_folder_among_the_requests_harms_nobody(any_spool: TestSpool) -> None:
    (any_spool.root / ".qm" / "requests" / "folder").mkdir()
    (any_spool.root / ".qm" / "requests" / "folder.json").mkdir()
    held(any_spool, "job")
    granted(any_spool, "release", "job")
    assert any_spool.record(any_spool.wait_for("job", any_spool.done))["state"] == "done"


def test_a_request_that_is_still_being_written_is_left_alone(any_spool: TestSpool) -> None:
    waiting = any_spool.root / ".qm" / "requests"
    for name in (".hidden", "copying.part", "copying.tmp"):
        (waiting / name).write_text('{"verb": "ki')
    held(any_spool, "job")
    granted(any_spool, "release", "job")
    any_spool.wait_for("job", any_spool.done)
    assert sorted(os.listdir(waiting)) == [".hidden", "copying.part", "copying.tmp"]


def test_answers_are_kept_for_an_hour(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.start()
    held(spool, "job")
    put(spool, "wish", b'{"verb": "release", "name": "job"}')
    assert answer_to(spool, "wish").ok
    put(spool, "old wish", b'{"verb": "kill", "name": "nobody"}')
    assert not answer_to(spool, "old wish").ok
    old = spool.root / ".qm" / "answers" / "old wish"
    long_ago = time.time() - 3700
    os.utime(old, (long_ago, long_ago))
    spool.stop()
    spool.start()
    until(lambda: not old.exists(), "the old answer to go")
    assert json.loads((spool.root / ".qm" / "answers" / "wish").read_text())["ok"]
