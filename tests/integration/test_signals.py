"""The daemon as a program: signals, its options, its lock, and what it refuses to start with."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import PATIENCE, TestSpool, lines_of, until

MakeSpool = Callable[..., TestSpool]
OTHER_FILE_SYSTEM = Path("/dev/shm")


def queue_manager(spool: TestSpool, *options: str) -> subprocess.CompletedProcess[str]:
    """Run QueueManager to its end."""
    return subprocess.run(
        [sys.executable, "-m", "qm.cli.queuemanager", "-c", str(spool.config), *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def hang_up(spool: TestSpool, says: str) -> None:
    """Send SIGHUP and wait until the log has a new line with these words."""
    before = spool.log().count(says)
    assert spool.daemon is not None
    spool.daemon.send_signal(signal.SIGHUP)
    until(lambda: spool.log().count(says) > before, f"{says!r} in the log:\n{spool.log()}")


def waiting_for(go: Path) -> str:
    """A script that runs until a file is there, and then exits 5."""
    return f"until [ -e {go} ]; do sleep 0.02; done; exit 5"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the spool's."""
    if not OTHER_FILE_SYSTEM.is_dir() or os.stat(OTHER_FILE_SYSTEM).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=OTHER_FILE_SYSTEM) as directory:
        yield Path(directory)


# --- TERM and INT --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_starts_nothing_more_and_lets_jobs_go_on(number: int, any_spool: TestSpool, tmp_path: Path) -> None:
    go = tmp_path / "go"
    for name in ("one", "two"):
        any_spool.drop(name, waiting_for(go))
        any_spool.wait_running(name)
    any_spool.drop("waits", "true")
    until(lambda: (any_spool.queue / "waits" / ".qm" / "job.json").exists())
    running = set(any_spool.processes())
    assert any_spool.stop(number) == 0
    assert "2 jobs go on running" in any_spool.log()
    go.touch()
    for name in ("one", "two"):
        until(lambda name=name: (any_spool.jobs / name / ".qm" / "run" / "1.exit").exists(), f"{name} to end")
    until(lambda: not any_spool.processes())
    assert running, "they ran while the daemon did"
    assert (any_spool.queue / "waits").exists()
    any_spool.run_until_empty()
    for name in ("one", "two"):
        record = any_spool.record(any_spool.lost / name)
        assert (record["state"], record["exit_status"], record["attempt"]) == ("failed", 5, 1)
    assert (any_spool.done / "waits").exists()


def test_a_stop_leaves_the_spool_free_for_the_next_daemon(spool: TestSpool) -> None:
    assert spool.stop() == 0
    assert queue_manager(spool, "--until-empty").returncode == 0


# --- HUP -----------------------------------------------------------------------------------------------------


def test_hup_reads_the_configuration_again(make_spool: MakeSpool, tmp_path: Path) -> None:
    spool = make_spool(MaxNbProcessors=1)
    spool.start()
    for name in ("one", "two"):
        spool.drop(name, waiting_for(tmp_path / "go"))
    spool.wait_running("one")
    until(lambda: (spool.queue / "two" / ".qm" / "job.json").exists())
    spool.configure(MaxNbProcessors=2, Failed_Jobs="done")
    hang_up(spool, "2 processors")
    spool.wait_running("two")
    (tmp_path / "go").touch()
    for name in ("one", "two"):
        spool.wait_for(name, spool.done)


def test_fewer_processors_after_hup_end_no_job_and_start_none(make_spool: MakeSpool, tmp_path: Path) -> None:
    spool = make_spool(MaxNbProcessors=2)
    spool.start()
    for name in ("one", "two"):
        spool.drop(name, waiting_for(tmp_path / name), nb_proc=1)
        spool.wait_running(name)
    spool.drop("wide", "echo got $NB_PROC", nb_proc=2)
    until(lambda: (spool.queue / "wide" / ".qm" / "job.json").exists())
    spool.configure(MaxNbProcessors=1)
    hang_up(spool, "1 processors")
    (tmp_path / "one").touch()
    spool.wait_for("one")
    assert (spool.queue / "wide").exists()
    (tmp_path / "two").touch()
    assert "got 1" in lines_of(spool.wait_for("wide", spool.done) / "process.log")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"MaxNbProcessors": "many"}, "'many'"),
        ({"NoSuchKey": 1}, "NoSuchKey"),
        ({"QM_FOLDER": "/elsewhere"}, "QM_FOLDER"),
        ({"launch_type": "slurm"}, "slurm"),
    ],
)
def test_after_hup_with_a_wrong_configuration_the_old_one_stays(
    settings: dict[str, object], named: str, spool: TestSpool
) -> None:
    spool.configure(**settings)
    hang_up(spool, "the settings stay as they are")
    (line,) = [line for line in spool.log().splitlines() if "stay as they are" in line]
    assert named in line and " error " in line
    spool.drop("job", "echo got $NB_PROC", nb_proc=2)
    assert "got 2" in lines_of(spool.wait_for("job", spool.done) / "process.log")
    spool.configure()
    hang_up(spool, "were read again")


def test_hup_without_a_configuration_file_leaves_the_daemon_serving(spool: TestSpool) -> None:
    text = spool.config.read_text()
    spool.config.unlink()
    hang_up(spool, "the settings stay as they are")
    spool.config.write_text(text)
    spool.drop("job", "true")
    assert spool.record(spool.wait_for("job"))["state"] == "done"


# --- until empty ---------------------------------------------------------------------------------------------


def test_until_empty_ends_at_once_where_there_is_nothing_to_do(make_spool: MakeSpool) -> None:
    assert queue_manager(make_spool(), "--until-empty").returncode == 0


def test_until_empty_waits_for_what_arrives_waits_and_runs(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=1)
    for name in ("one", "two"):
        spool.drop(name, "sleep 0.1; exit 5")
    shutil.copytree(spool.make("copied", "true"), spool.queue / "copied")
    assert queue_manager(spool, "--until-empty").returncode == 0
    assert sorted(os.listdir(spool.lost)) == ["one", "two"]
    assert os.listdir(spool.done) == ["copied"]


def test_until_empty_waits_for_a_job_that_was_taken_over(spool: TestSpool, tmp_path: Path) -> None:
    spool.drop("job", waiting_for(tmp_path / "go"))
    spool.wait_running("job")
    spool.stop(signal.SIGKILL)
    spool.start("--until-empty")
    assert spool.daemon is not None and spool.daemon.poll() is None
    (tmp_path / "go").touch()
    assert spool.daemon.wait(PATIENCE) == 0
    assert spool.record(spool.lost / "job")["exit_status"] == 5


def test_until_empty_does_not_wait_for_held_jobs(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.drop("held", "true", hold="yes")
    spool.drop("job", "true")
    assert queue_manager(spool, "--until-empty").returncode == 0
    assert os.listdir(spool.queue) == ["held"]
    assert spool.record(spool.queue / "held")["state"] == "held"
    assert os.listdir(spool.done) == ["job"]


# --- the lock ------------------------------------------------------------------------------------------------


def test_a_second_daemon_exits_75_at_once_and_names_the_first(spool: TestSpool) -> None:
    assert spool.daemon is not None
    second = queue_manager(spool)
    assert second.returncode == 75
    assert f"pid {spool.daemon.pid} on host {socket.gethostname()}" in second.stderr
    spool.drop("job", "true")
    spool.wait_for("job", spool.done)


def test_a_daemon_that_was_killed_leaves_no_lock(spool: TestSpool) -> None:
    spool.stop(signal.SIGKILL)
    assert queue_manager(spool, "--until-empty").returncode == 0


def test_jobs_do_not_hold_the_lock_of_a_daemon_that_was_killed(spool: TestSpool, tmp_path: Path) -> None:
    spool.drop("job", waiting_for(tmp_path / "go"))
    spool.wait_running("job")
    spool.stop(signal.SIGKILL)
    spool.start()
    assert spool.daemon is not None and spool.daemon.poll() is None
    (tmp_path / "go").touch()
    spool.wait_for("job")


def test_without_the_hidden_folder_of_the_spool_nothing_about_a_job_is_lost(spool: TestSpool, tmp_path: Path) -> None:
    for name, keys in (("runs", {}), ("held", {"hold": "yes"}), ("ended", {})):
        spool.drop(name, "true" if name == "ended" else waiting_for(tmp_path / "go"), **keys)
    spool.wait_for("ended", spool.done)
    spool.wait_running("runs")
    until(lambda: (spool.queue / "held" / ".qm" / "job.json").exists())
    before = {job["id"]: (job["name"], job["state"]) for job in spool.status()}
    spool.stop()
    shutil.rmtree(spool.root / ".qm")
    spool.start()
    assert {job["id"]: (job["name"], job["state"]) for job in spool.status()} == before
    (tmp_path / "go").touch()
    assert spool.record(spool.wait_for("runs"))["exit_status"] == 5


# --- what the daemon does not start with ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"MaxNbProcessors": "many"}, ["line 3", "MaxNbProcessors", "'many'", "a whole number"]),
        ({"Settle_Time": "-1"}, ["Settle_Time", "'-1'", "seconds"]),
        ({"launch_type": "sideways"}, ["launch_type", "'sideways'", "non-blocking"]),
        ({"MaxNbProcesors": 2}, ["MaxNbProcesors", "did you mean MaxNbProcessors"]),
        ({"QM_FOLDER": "nowhere"}, ["nowhere", "does not exist"]),
        ({"QM_FOLDER": "QMserv.cfg"}, ["QMserv.cfg", "does not exist"]),
    ],
)
def test_a_wrong_configuration_exits_78_before_anything_is_touched(
    settings: dict[str, object], named: list[str], make_spool: MakeSpool
) -> None:
    spool = make_spool(**settings)
    for folder in (spool.queue, spool.jobs, spool.done, spool.lost):
        folder.rmdir()
    result = queue_manager(spool)
    assert result.returncode == 78
    assert str(spool.config) in result.stderr or "QM_FOLDER" in result.stderr
    for word in named:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert os.listdir(spool.root) == ["QMserv.cfg"]


def test_queue_and_jobs_on_two_file_systems_exit_78(make_spool: MakeSpool, elsewhere: Path) -> None:
    spool = make_spool()
    spool.queue.rmdir()
    spool.queue.symlink_to(elsewhere)
    result = queue_manager(spool)
    assert result.returncode == 78
    assert "QM_qJobs" in result.stderr and "QM_Jobs" in result.stderr and "file system" in result.stderr
    assert os.listdir(elsewhere) == []


def test_done_may_lie_on_another_file_system(make_spool: MakeSpool, elsewhere: Path) -> None:
    spool = make_spool()
    spool.done.rmdir()
    spool.done.symlink_to(elsewhere)
    outside = spool.root / "outside"
    outside.mkdir()
    (outside / "precious").write_text("here to stay")
    spool.start()
    spool.drop(
        "job", f"mkdir -p a/b; echo result > a/b/result; ln -s {outside} link; mkfifo pipe; chmod 640 a/b/result"
    )
    folder = spool.wait_for("job", spool.done)
    assert (folder / "a/b/result").read_text() == "result\n"
    assert (folder / "a/b/result").stat().st_mode & 0o777 == 0o640
    assert os.readlink(folder / "link") == str(outside)
    assert (folder / "pipe").is_fifo()
    until(lambda: not os.listdir(spool.jobs), "the original to go")
    assert (outside / "precious").exists()
    assert spool.record(folder)["state"] == "done"
    spool.qm("retry", "job")
    until(lambda: spool.record(folder)["attempt"] == 2 if folder.exists() else False, "the second attempt to end")
    until(lambda: not os.listdir(spool.jobs) and not os.listdir(spool.queue))
    assert os.listdir(elsewhere) == ["job"]


AS_NOBODY = """\
import encodings.utf_8_sig, gettext, locale, os, sys
import qm.daemon.logbook, qm.daemon.manager, qm.launchers.local
from qm.cli.queuemanager import main
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""
"""Nobody may not be able to read the Python that root uses, so all is imported before."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write")
def test_a_spool_that_may_not_be_written_exits_78(make_spool: MakeSpool) -> None:
    spool = make_spool()
    for folder in spool.root.parents:  # those of tmp_path are root's alone
        if folder.stat().st_uid == 0 and folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    result = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, "-c", str(spool.config)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 78
    assert "Permission denied" in result.stderr and "write" in result.stderr
