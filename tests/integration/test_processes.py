"""The processes of jobs: how they are started, stopped, ended and found again, and what a script sees."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from asking import ask, granted
from harness import PATIENCE, TestSpool, lines_of, until

MakeSpool = Callable[..., TestSpool]


def state_of(pid: int) -> str:
    """The state letter of a process (proc(5)); empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_gone(pid: int) -> bool:
    """Does the process run no more?"""
    return state_of(pid) in ("", "Z", "X")


def pids_in(file: Path, count: int) -> list[int]:
    """The pids that a script wrote into a file, one a line, as soon as they are that many."""
    until(lambda: len(lines_of(file)) >= count, f"{count} pids in {file}")
    return [int(line) for line in lines_of(file)]


def shim_of(folder: Path, attempt: int = 1) -> int:
    """The pid in a start mark."""
    mark = folder / ".qm" / "run" / f"{attempt}.start"
    return int(until(lambda: mark.exists() and mark.read_text().endswith("\n") and mark.read_text().split()[0]))


def last_line(folder: Path) -> str:
    """How process.log ends."""
    return lines_of(folder / "process.log")[-1]


def waits_for(go: Path) -> str:
    """A line of shell that waits until a file is there."""
    return f"until [ -e {go} ]; do sleep 0.02; done"


# --- kill ----------------------------------------------------------------------------------------------------

FAMILY = """\
sh -c 'echo $$ >> pids; sleep 300 & echo $! >> pids; wait' &
(setsid sh -c 'echo $$ >> pids; setsid sleep 300 & echo $! >> pids; wait' &)
set -m
sleep 300 & echo $! >> pids
set +m
env -i sleep 300 & echo $! >> pids
env -i setsid sleep 300 & echo $! >> pids
echo $$ >> pids
wait
wait
"""
"""A child and its child, two daemons (setsid after a double fork), one with a process group of its own, and two
without the job's environment: one in the job's session, one still the child of its script."""
FAMILY_SIZE = 8


def test_kill_ends_the_whole_tree(any_spool: TestSpool) -> None:
    any_spool.drop("family", FAMILY)
    pids = pids_in(any_spool.jobs / "family" / "pids", FAMILY_SIZE)
    granted(any_spool, "kill", "family")
    record = any_spool.record(any_spool.wait_for("family", any_spool.lost))
    assert record["state"] == "killed"
    assert [pid for pid in pids if not is_gone(pid)] == []


def test_kill_ends_the_whole_tree_of_a_job_that_was_taken_over(any_spool: TestSpool) -> None:
    any_spool.drop("family", FAMILY)
    pids = pids_in(any_spool.jobs / "family" / "pids", FAMILY_SIZE)
    any_spool.stop(signal.SIGKILL)
    any_spool.start()
    assert not any(map(is_gone, pids))
    granted(any_spool, "kill", "family")
    record = any_spool.record(any_spool.wait_for("family", any_spool.lost))
    assert record["state"] == "killed"
    assert [pid for pid in pids if not is_gone(pid)] == []


@pytest.mark.parametrize("status", [0, 3])
def test_kill_asks_with_term_first_and_the_job_is_killed_whatever_it_exits_with(
    status: int, any_spool: TestSpool
) -> None:
    any_spool.drop("polite", f"trap 'echo saved > saved; exit {status}' TERM\necho ready\nwhile :; do sleep 0.02; done")
    until(lambda: "ready" in lines_of(any_spool.jobs / "polite" / "process.log"))
    granted(any_spool, "kill", "polite")
    folder = any_spool.wait_for("polite", any_spool.lost)
    record = any_spool.record(folder)
    assert lines_of(folder / "saved") == ["saved"]
    assert (record["state"], record["exit_status"]) == ("killed", status)
    assert record["reason"]


def test_kill_does_not_ask_again_after_the_grace_period(any_spool: TestSpool) -> None:
    any_spool.drop("stubborn", "trap '' TERM HUP INT\necho ready\nwhile :; do sleep 0.02; done")
    until(lambda: "ready" in lines_of(any_spool.jobs / "stubborn" / "process.log"))
    granted(any_spool, "kill", "stubborn")
    record = any_spool.record(any_spool.wait_for("stubborn", any_spool.lost))
    assert (record["state"], record["exit_status"], record["signal"]) == ("killed", 137, 9)


def test_kill_ends_a_process_that_flees_from_term_into_a_session_of_its_own(any_spool: TestSpool) -> None:
    flight = "sleep 300 & echo \\$! >> pids"
    any_spool.drop(
        "fleeing", f"trap \"setsid sh -c '{flight}'; exit 1\" TERM\necho ready\nwhile :; do sleep 0.02; done"
    )
    until(lambda: "ready" in lines_of(any_spool.jobs / "fleeing" / "process.log"))
    granted(any_spool, "kill", "fleeing")
    folder = any_spool.wait_for("fleeing", any_spool.lost)
    assert all(map(is_gone, pids_in(folder / "pids", 1)))


@pytest.mark.parametrize("who", ["$$", "-- -$(cut -d ' ' -f 5 /proc/$$/stat)"], ids=["script", "shim-too"])
def test_kill_wakes_stopped_processes_so_that_they_can_take_their_term(who: str, make_spool: MakeSpool) -> None:
    spool = make_spool(Kill_Grace=600)
    spool.start()
    spool.drop("stopped", f"echo $$ > pids\nkill -s STOP {who}\nsleep 300")
    (pid,) = pids_in(spool.jobs / "stopped" / "pids", 1)
    until(lambda: state_of(pid) == "T")
    granted(spool, "kill", "stopped")
    record = spool.record(spool.wait_for("stopped", spool.lost))
    assert (record["state"], record["exit_status"]) == ("killed", 143)


def test_a_kill_is_not_forgotten_when_the_daemon_dies_before_the_job_has_ended(any_spool: TestSpool) -> None:
    any_spool.drop("stubborn", "trap '' TERM HUP INT\necho ready\nwhile :; do sleep 0.02; done")
    until(lambda: "ready" in lines_of(any_spool.jobs / "stubborn" / "process.log"))
    granted(any_spool, "kill", "stubborn")
    any_spool.stop(signal.SIGKILL)
    any_spool.start()
    record = any_spool.record(any_spool.wait_for("stubborn", any_spool.lost))
    assert (record["state"], record["exit_status"]) == ("killed", 137)


# --- what a script leaves behind -----------------------------------------------------------------------------

CHILDREN = "sleep 300 & echo $! >> pids\n(setsid sh -c 'echo $$ >> pids; exec sleep 300' &)\n"


def test_what_a_script_leaves_behind_is_ended_before_its_job_is_filed(any_spool: TestSpool) -> None:
    any_spool.drop("parent", f"{CHILDREN}until [ $(wc -l < pids) = 2 ]; do sleep 0.02; done\nexit 6")
    folder = any_spool.wait_for("parent", any_spool.lost)
    assert all(map(is_gone, pids_in(folder / "pids", 2)))
    record = any_spool.record(folder)
    assert (record["state"], record["exit_status"]) == ("failed", 6)


def test_what_is_left_behind_by_a_job_that_was_taken_over_is_ended_too(any_spool: TestSpool, tmp_path: Path) -> None:
    go = tmp_path / "go"
    any_spool.drop("parent", f"{CHILDREN}{waits_for(go)}")
    pids = pids_in(any_spool.jobs / "parent" / "pids", 2)
    any_spool.stop(signal.SIGKILL)
    any_spool.start()
    assert not any(map(is_gone, pids))
    go.touch()
    record = any_spool.record(any_spool.wait_for("parent", any_spool.done))
    assert all(map(is_gone, pids))
    assert record["exit_status"] == 0


def test_what_ended_while_the_daemon_was_down_leaves_nothing_behind_either(
    any_spool: TestSpool, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    any_spool.drop("parent", f"{CHILDREN}{waits_for(go)}")
    folder = any_spool.jobs / "parent"
    pids = pids_in(folder / "pids", 2)
    any_spool.stop(signal.SIGKILL)
    go.touch()
    until(lambda: (folder / ".qm" / "run" / "1.exit").exists())
    any_spool.start()
    any_spool.wait_for("parent", any_spool.done)
    assert all(map(is_gone, pids))


def test_children_that_ignore_term_are_ended_after_the_grace_period(any_spool: TestSpool) -> None:
    child = "trap '' TERM; echo $$ >> pids; while :; do sleep 0.02; done"
    any_spool.drop(
        "parent", f'setsid sh -c "{child}" &\nuntil [ -e pids ]; do sleep 0.02; done'.replace("$$", "\\$\\$")
    )
    folder = any_spool.wait_for("parent", any_spool.done)
    assert all(map(is_gone, pids_in(folder / "pids", 1)))


# --- signals meant for the daemon ----------------------------------------------------------------------------


def test_ctrl_c_at_the_daemon_does_not_reach_its_jobs(any_spool: TestSpool, tmp_path: Path) -> None:
    go = tmp_path / "go"
    any_spool.drop("busy", f"trap 'echo interrupted; exit 1' INT\necho $$ > pids\n{waits_for(go)}")
    (pid,) = pids_in(any_spool.jobs / "busy" / "pids", 1)
    assert any_spool.daemon is not None
    os.killpg(any_spool.daemon.pid, signal.SIGINT)
    assert any_spool.daemon.wait(PATIENCE) == 0
    assert any_spool.stop() == 0
    assert not is_gone(pid)
    any_spool.start()
    go.touch()
    assert "interrupted" not in lines_of(any_spool.wait_for("busy", any_spool.done) / "process.log")


# --- how a run ended -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "state", "status", "number", "words"),
    [
        ("exit 0", "done", 0, None, "0"),
        ("exit 7", "failed", 7, None, "7"),
        ("exit 255", "failed", 255, None, "255"),
        ("exit 143", "failed", 143, 15, "143 (signal 15?)"),
        ("kill -TERM $$", "failed", 143, 15, "143 (signal 15?)"),
        ("kill -KILL $$", "failed", 137, 9, "137 (signal 9?)"),
        ("no-such-command-here", "failed", 127, None, "127"),
        ("kill -KILL $PPID; sleep 300", "failed", None, 9, "none (signal 9)"),
    ],
)
def test_the_exit_status_is_filed_as_the_shell_gives_it(
    script: str, state: str, status: int | None, number: int | None, words: str, any_spool: TestSpool
) -> None:
    any_spool.drop("ends", script)
    folder = any_spool.wait_for("ends")
    record = any_spool.record(folder)
    assert (record["state"], record["exit_status"]) == (state, status)
    if number is not None:
        assert record["signal"] == number
    assert re.fullmatch(r"Job finished at: \S+ with code " + re.escape(words), last_line(folder))
    until(lambda: not any_spool.processes())


# --- restarts: whose is this pid? ----------------------------------------------------------------------------


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same user that is nobody's job."""
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


def _lose_all_processes(spool: TestSpool, name: str) -> Path:
    """What a reboot does: daemon and job are gone, and the shim has left no status."""
    folder = spool.wait_running(name)
    shim = shim_of(folder)
    until(spool.processes)
    spool.stop(signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    for pid in spool.processes():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not spool.processes() and is_gone(shim))
    return folder / ".qm" / "run" / "1.start"


def test_a_job_whose_processes_are_gone_without_a_status_is_lost(any_spool: TestSpool) -> None:
    any_spool.drop("long", "sleep 300")
    _lose_all_processes(any_spool, "long")
    any_spool.start()
    folder = any_spool.wait_for("long", any_spool.lost)
    record = any_spool.record(folder)
    assert (record["state"], record["exit_status"], record["signal"]) == ("lost", None, None)
    assert "no exit status" in record["reason"]
    assert last_line(folder).endswith(" with code none")


def test_after_a_reboot_a_lost_job_is_tried_again_where_attempts_allow(any_spool: TestSpool, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    any_spool.drop("long", f"echo $QM_ATTEMPT >> {ledger}\n[ $QM_ATTEMPT = 2 ] || sleep 300", attempts=2)
    until(lambda: lines_of(ledger))
    mark = _lose_all_processes(any_spool, "long")
    pid, boot, job_id = mark.read_text().split()
    mark.write_text(f"{pid} {boot[::-1]} {job_id}\n")
    any_spool.start()
    record = any_spool.record(any_spool.wait_for("long", any_spool.done))
    assert lines_of(ledger) == ["1", "2"]
    assert (record["state"], record["attempt"], record["id"]) == ("done", 2, job_id)


@pytest.mark.parametrize("same_boot", [True, False], ids=["same boot", "another boot"])
def test_a_stranger_with_the_pid_of_a_lost_job_is_left_alone(
    same_boot: bool, any_spool: TestSpool, stranger: subprocess.Popen[bytes]
) -> None:
    any_spool.drop("long", "sleep 300")
    mark = _lose_all_processes(any_spool, "long")
    _, boot, job_id = mark.read_text().split()
    mark.write_text(f"{stranger.pid} {boot if same_boot else boot[::-1]} {job_id}\n")
    any_spool.start()
    record = any_spool.record(any_spool.wait_for("long", any_spool.lost))
    assert record["state"] == "lost"
    assert stranger.poll() is None


# --- pause and resume ----------------------------------------------------------------------------------------

FAMILY_OF_THREE = """\
echo $$ >> pids
sh -c 'echo $$ >> pids; while :; do sleep 0.02; done' &
(setsid sh -c 'echo $$ >> pids; while :; do sleep 0.02; done' &)
"""


def _is_stopped(pids: list[int]) -> bool:
    return {state_of(pid) for pid in pids} == {"T"}


def _pause(spool: TestSpool, go: Path, **keys: object) -> list[int]:
    """A paused job of the name `paused`, and its processes."""
    spool.drop("paused", f"{FAMILY_OF_THREE}{waits_for(go)}", **keys)
    pids = pids_in(spool.jobs / "paused" / "pids", 3)
    granted(spool, "pause", "paused")
    until(lambda: _is_stopped(pids), "all its processes to stop")
    return pids


def test_pause_stops_the_tree_and_frees_its_processors_until_resume(any_spool: TestSpool, tmp_path: Path) -> None:
    pids = _pause(any_spool, tmp_path / "go", nb_proc=2)
    assert any_spool.record(any_spool.jobs / "paused")["state"] == "paused"
    any_spool.drop("other", "echo ran", nb_proc=2)
    any_spool.wait_for("other", any_spool.done)
    (tmp_path / "go").touch()
    assert _is_stopped(pids)
    granted(any_spool, "resume", "paused")
    record = any_spool.record(any_spool.wait_for("paused", any_spool.done))
    assert (record["exit_status"], record["attempt"]) == (0, 1)


def test_a_resumed_job_waits_for_free_processors_and_comes_before_new_jobs(
    any_spool: TestSpool, tmp_path: Path
) -> None:
    order, other_go = tmp_path / "order", tmp_path / "other_go"
    any_spool.drop("paused", f"echo $$ > pids\n{waits_for(tmp_path / 'go')}\necho resumed >> {order}", nb_proc=2)
    pids = pids_in(any_spool.jobs / "paused" / "pids", 1)
    granted(any_spool, "pause", "paused")
    for name in ("one", "two"):
        any_spool.drop(name, waits_for(other_go))
        any_spool.wait_running(name)
    any_spool.drop("late", f"echo late >> {order}")
    until(lambda: (any_spool.queue / "late" / ".qm" / "job.json").exists())
    granted(any_spool, "resume", "paused")
    (tmp_path / "go").touch()
    assert not ask(any_spool, "resume", "nobody").ok, "the daemon has had its turn"
    assert _is_stopped(pids)
    other_go.touch()
    for name in ("paused", "late"):
        any_spool.wait_for(name, any_spool.done)
    assert lines_of(order) == ["resumed", "late"]


def test_a_pause_survives_a_restart_of_the_daemon(any_spool: TestSpool, tmp_path: Path) -> None:
    pids = _pause(any_spool, tmp_path / "go", nb_proc=2)
    any_spool.stop(signal.SIGKILL)
    any_spool.start()
    assert _is_stopped(pids)
    assert any_spool.record(any_spool.jobs / "paused")["state"] == "paused"
    any_spool.drop("other", "echo ran", nb_proc=2)
    any_spool.wait_for("other", any_spool.done)
    (tmp_path / "go").touch()
    granted(any_spool, "resume", "paused")
    any_spool.wait_for("paused", any_spool.done)


def test_a_job_that_is_to_go_on_still_does_so_after_a_restart(any_spool: TestSpool, tmp_path: Path) -> None:
    go = tmp_path / "go"
    _pause(any_spool, go, nb_proc=2)
    any_spool.drop("other", waits_for(go), nb_proc=2)
    any_spool.wait_running("other")
    granted(any_spool, "resume", "paused")
    any_spool.stop(signal.SIGKILL)
    any_spool.start()
    go.touch()
    assert any_spool.record(any_spool.wait_for("paused", any_spool.done))["state"] == "done"


def test_a_paused_job_can_be_killed_and_takes_its_term(make_spool: MakeSpool, tmp_path: Path) -> None:
    spool = make_spool(Kill_Grace=600)
    spool.start()
    pids = _pause(spool, tmp_path / "go")
    granted(spool, "kill", "paused")
    record = spool.record(spool.wait_for("paused", spool.lost))
    assert (record["state"], record["exit_status"]) == ("killed", 143)
    assert all(map(is_gone, pids))


# --- what a script sees --------------------------------------------------------------------------------------


def _variables(folder: Path) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in (folder / "environment").read_text().split("\0") if entry)
    return {name: value for name, _, value in pairs}


def test_a_script_sees_who_it_is_and_how_many_processors_it_has(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.start(env={"FROM_THE_DAEMON": "yes", "OMP_NUM_THREADS": "64"})
    spool.drop("sees", "env -0 > environment", nb_proc=2, env_COLOUR="dark blue", env_MKL_NUM_THREADS="1")
    folder = spool.wait_for("sees", spool.done)
    seen = _variables(folder)
    expected = {
        "NB_PROC": "2",
        "QM_JOB_NAME": "sees",
        "QM_JOB_ID": spool.record(folder)["id"],
        "QM_JOB_DIR": str(spool.jobs / "sees"),
        "QM_ATTEMPT": "1",
        "QM_FOLDER": str(spool.root),
        "QM_PROGRESS": str(spool.jobs / "sees" / ".qm/run/progress"),
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "1",
        "NUMEXPR_NUM_THREADS": "2",
        "COLOUR": "dark blue",
        "FROM_THE_DAEMON": "yes",
    }
    assert {name: seen.get(name) for name in expected} == expected


def test_a_script_has_standard_streams_and_nothing_else_of_the_daemon(any_spool: TestSpool) -> None:
    script = """\
for fd in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
if [ -L /proc/$$/fd/$fd ]; then open="$open $fd"; fi
done
input=$(readlink /proc/$$/fd/0) output=$(readlink /proc/$$/fd/1) errors=$(readlink /proc/$$/fd/2)
echo "$open, $input, $output, $errors" > open
cat > empty"""
    any_spool.drop("looks", script)
    folder = any_spool.wait_for("looks", any_spool.done)
    log = str(any_spool.jobs / "looks" / "process.log")
    assert lines_of(folder / "open") == [f" 0 1 2, /dev/null, {log}, {log}"]
    assert (folder / "empty").read_bytes() == b""


def test_a_script_runs_in_a_session_of_its_own_with_default_signals(make_spool: MakeSpool) -> None:
    """Even if the daemon was started with signals ignored, as nohup and shells without job control do."""
    spool = make_spool()
    ignoring = "trap '' INT QUIT HUP; exec \"$@\""
    words = [sys.executable, "-m", "qm.cli.queuemanager", "-c", str(spool.config)]
    spool.daemon = subprocess.Popen(["/bin/sh", "-c", ignoring, "sh", *words], start_new_session=True)
    copy = 'while read -r line; do echo "$line"; done < /proc/$$/status > status'
    spool.drop("looks", f"cut -d ' ' -f 6 /proc/$$/stat > session\n{copy}")
    folder = spool.wait_for("looks", spool.done)
    assert int((folder / "session").read_text()) == shim_of(folder)
    status = dict(line.split(":") for line in lines_of(folder / "status") if line.startswith("Sig"))
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) & 0x7FFFFFFF == 0, "the 31 signals of POSIX; the C library keeps some for itself"


def test_a_broken_pipe_ends_a_writer_quietly(spool: TestSpool) -> None:
    spool.drop("pipes", "yes | head -n 1")
    assert lines_of(spool.wait_for("pipes", spool.done) / "process.log")[1:-1] == ["y"]


# --- what is measured ----------------------------------------------------------------------------------------

SAMPLING = """\
import sys
import qm.launchers.local as local
from qm.cli.queuemanager import serve
local.SAMPLE_EVERY = 0.1
sys.exit(serve(sys.argv[1]))
"""


def test_the_use_of_the_whole_tree_is_sampled_while_a_job_runs(make_spool: MakeSpool, tmp_path: Path) -> None:
    spool = make_spool()
    spool.daemon = subprocess.Popen([sys.executable, "-c", SAMPLING, str(spool.config)], start_new_session=True)
    burn = "sh -c 'while :; do :; done' &"
    spool.drop("busy", f"{burn}\n{waits_for(tmp_path / 'go')}")
    usage = spool.jobs / "busy" / ".qm" / "usage.csv"
    until(lambda: len(lines_of(usage)) > 4 and float(lines_of(usage)[-1].split(",")[1]) > 0, "samples")
    (tmp_path / "go").touch()
    folder = spool.wait_for("busy", spool.done)
    header, *rows = lines_of(folder / ".qm" / "usage.csv")
    assert header == "time,cpu_seconds,memory_bytes"
    times, cpu, memory = zip(*(map(float, row.split(",")) for row in rows), strict=True)
    assert list(times) == sorted(times) and list(cpu) == sorted(cpu)
    assert min(memory) > 0
    record = spool.record(folder)
    assert record["cpu_seconds"] > 0 and record["peak_memory"] > 0


def test_progress_is_read_from_the_file_that_qm_progress_names(spool: TestSpool, tmp_path: Path) -> None:
    script = f'[ $QM_ATTEMPT = 2 ] || echo "0.45 half way" > "$QM_PROGRESS"\n{waits_for(tmp_path / "go")}'
    spool.drop("works", script)
    job = until(lambda: [job for job in spool.status() if job["progress"] is not None])[0]
    assert (job["name"], job["progress"], job["progress_text"]) == ("works", 0.45, "half way")
    (tmp_path / "go").touch()
    spool.wait_for("works", spool.done)
    (tmp_path / "go").unlink()
    granted(spool, "retry", "works")
    spool.wait_running("works")
    until(lambda: (spool.jobs / "works" / ".qm" / "run" / "2.start").exists())
    assert spool.status()[0]["progress"] is None, "the progress of an earlier attempt is not this one's"
    (tmp_path / "go").touch()
    spool.wait_for("works", spool.done)
