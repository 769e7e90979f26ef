"""Folders that the daemon may not touch: it runs as an ordinary user here, for root is refused nothing."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from harness import TestSpool, lines_of, until

import qm
from qm.spool import requests
from qm.spool.paths import SpoolPaths
from qm.vocabulary.requests import Request

IS_ROOT = os.geteuid() == 0
NOBODY = 65534
ME = NOBODY if IS_ROOT else os.geteuid()
"""Whom the daemon runs as."""
IMPORTS = os.pathsep.join(str(Path(module.__file__ or "").parents[1]) for module in (qm, psutil))

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can make folders of another user")


@functools.cache
def interpreter() -> str:
    """A Python that the ordinary user may run, with what the daemon imports; ours may lie in a home of root's."""
    program = "import sys, qm.cli.queuemanager, qm.daemon.manager, qm.launchers.local, inotify_simple, psutil"
    for found in (sys.executable, shutil.which("python3", path=os.defpath), shutil.which("python3")):
        try:
            if found is not None and run_as_me([found, "-c", program], environment()).returncode == 0:
                return found
        except PermissionError:
            continue
    pytest.skip("no Python here that an ordinary user may run with QM's modules")


def environment() -> dict[str, str]:
    return {"PATH": os.defpath, "PYTHONPATH": IMPORTS, "PYTHONDONTWRITEBYTECODE": "1"}


def who() -> dict[str, object]:
    """The keywords of subprocess that make a process the ordinary user's."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if IS_ROOT else {}


def run_as_me(words: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        words, capture_output=True, text=True, check=False, cwd="/", env=env, timeout=60, **who()
    )


class OrdinarySpool(TestSpool):
    """A spool that belongs to an ordinary user, whose daemon it is."""

    def start(self, *options: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        give(self.root)
        with open(self.root / "daemon.out", "ab") as output:
            self.daemon = started = subprocess.Popen(  # type: ignore[call-overload]
                [interpreter(), "-m", "qm.cli.queuemanager", "-c", str(self.config), *options],
                env={**environment(), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
                **who(),
            )
        until(lambda: started.poll() is not None or self._serves(started.pid), "the daemon to serve")
        assert started.poll() is None, (self.root / "daemon.out").read_text()
        return started

    def make(self, name: str, script: str, where: Path | None = None, **keys: object) -> Path:
        folder = super().make(name, script, where, **keys)
        give(folder)
        return folder


def give(path: Path, uid: int = ME) -> None:
    """Let a tree belong to a user."""
    if IS_ROOT:
        for directory, _, files in os.walk(path):
            for name in (directory, *(f"{directory}/{file}" for file in files)):
                os.chown(name, uid, uid)


@pytest.fixture
def spool() -> Iterator[OrdinarySpool]:
    """The ordinary user's daemon on a spool that everybody can reach."""
    interpreter()
    place = Path(tempfile.mkdtemp(prefix="qm-ordinary-"))
    place.chmod(0o755)
    made = OrdinarySpool(place / "spool", Settle_Time=0.1, Poll_Interval=0.1)
    made.start()
    yield made
    made.close()
    for directory, names, _ in os.walk(place):
        for name in names:
            os.chmod(f"{directory}/{name}", 0o755)
    shutil.rmtree(place)


def witness(spool: TestSpool, name: str = "witness") -> None:
    """Another job, which comes later, is not held up."""
    spool.drop(name, "true")
    spool.wait_for(name, spool.done)


def reported(spool: TestSpool, name: str) -> list[str]:
    return [line for line in spool.log().splitlines() if f" {name} cannot be taken" in line]


def assert_left_alone(spool: TestSpool, name: str, remedy: str = "chown") -> None:
    """It stays, is reported once with its owner and a remedy, and blocks nothing."""
    until(lambda: reported(spool, name), f"{name} to be reported:\n{spool.log()}")
    for number in range(3):
        witness(spool, f"witness_of_{name}_{number}")
    (line,) = reported(spool, name)
    assert remedy in line and "It belongs to " in line
    assert (spool.queue / name).is_dir()
    assert not os.path.exists(spool.lost / name)


def test_the_daemon_really_runs_as_an_ordinary_user(spool: OrdinarySpool) -> None:
    spool.drop("who", "id -u")
    assert str(ME) in lines_of(spool.wait_for("who", spool.done) / "process.log")
    assert ME != 0


# --- read-only folders ---------------------------------------------------------------------------------------


def test_a_read_only_folder_stays_and_runs_once_it_may_be_written(spool: OrdinarySpool) -> None:
    os.rename(spool.make("readonly", "true"), spool.queue / "readonly.part")
    (spool.queue / "readonly.part").chmod(0o555)
    os.rename(spool.queue / "readonly.part", spool.queue / "readonly")
    assert_left_alone(spool, "readonly", remedy="chmod -R u+w")
    (spool.queue / "readonly").chmod(0o755)
    spool.wait_for("readonly", spool.done)


def test_a_job_that_makes_its_own_folder_read_only_is_filed(spool: OrdinarySpool) -> None:
    spool.drop("locks_itself", "mkdir deep; touch deep/file; chmod 555 deep . .qm")
    record = spool.record(spool.wait_for("locks_itself", spool.done))
    assert (record["state"], record["exit_status"]) == ("done", 0)
    witness(spool)


def test_a_folder_made_read_only_while_it_waits_still_runs(spool: OrdinarySpool) -> None:
    spool.drop("job", "true", hold="yes")
    until(lambda: (spool.queue / "job" / ".qm" / "job.json").exists())
    spool.qm("drain")
    spool.qm("release", "job")
    (spool.queue / "job").chmod(0o555)
    spool.qm("undrain")
    spool.wait_for("job", spool.done)


# --- what may not be read ------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["proc_config.cfg", "info.xml", "job.sh"])
def test_a_job_file_that_may_not_be_read_makes_the_job_invalid_with_a_remedy(spool: OrdinarySpool, file: str) -> None:
    made = spool.make("secret", "true")
    os.rename(made / "proc_config.cfg", made / file)
    (made / file).chmod(0)
    os.rename(made, spool.queue / "secret")
    folder = spool.wait_for("secret", spool.lost)
    record = spool.record(folder)
    assert record["state"] == "invalid"
    assert file in record["reason"] and "chmod" in record["reason"]
    assert "chmod" in (folder / "process.log").read_text()
    assert (folder / file).exists()


def test_what_may_not_be_read_inside_a_job_is_the_jobs_own_affair(spool: OrdinarySpool) -> None:
    made = spool.make("closed", "cat data; true")
    (made / "data").touch()
    (made / "deep").mkdir()
    (made / "deep" / "file").touch()
    give(made)
    (made / "data").chmod(0)
    (made / "deep").chmod(0)
    os.rename(made, spool.queue / "closed")
    assert (spool.wait_for("closed", spool.done) / "deep").exists()


def test_a_folder_that_may_not_be_listed_stays(spool: OrdinarySpool) -> None:
    made = spool.make("closed", "true")
    os.rename(made, spool.queue / ".closed")
    (spool.queue / ".closed").chmod(0)
    os.rename(spool.queue / ".closed", spool.queue / "closed")
    assert_left_alone(spool, "closed")
    (spool.queue / "closed").chmod(0o755)
    spool.wait_for("closed", spool.done)


# --- folders of another user ---------------------------------------------------------------------------------


def put_as_root(spool: TestSpool, name: str, mode: int) -> Path:
    """A folder that belongs to root, under its final name in one step."""
    made = spool.make(name, "true")
    give(made, 0)
    made.chmod(mode)
    os.rename(made, spool.queue / name)
    return spool.queue / name


@needs_root
def test_a_folder_of_another_user_stays_and_runs_once_it_is_ours(spool: OrdinarySpool) -> None:
    folder = put_as_root(spool, "theirs", 0o755)
    assert_left_alone(spool, "theirs")
    assert "It belongs to root" in reported(spool, "theirs")[0]
    assert os.listdir(folder) == ["proc_config.cfg"], "nothing was written into it"
    give(folder)
    spool.wait_for("theirs", spool.done)


@needs_root
def test_a_folder_of_another_user_that_all_may_write_runs_and_keeps_its_owner(spool: OrdinarySpool) -> None:
    put_as_root(spool, "theirs", 0o777)
    folder = spool.wait_for("theirs", spool.done)
    assert spool.record(folder)["owner"] == "root"
    assert folder.stat().st_uid == 0


@needs_root
def test_a_folder_that_a_sticky_queue_holds_fast_is_reported_once_and_not_touched_again(spool: OrdinarySpool) -> None:
    os.chown(spool.queue, 0, 0)
    spool.queue.chmod(0o1777)
    folder = put_as_root(spool, "sticky", 0o777)
    assert_left_alone(spool, "sticky")
    assert sorted(os.listdir(folder)) in ([".qm", "proc_config.cfg"], ["proc_config.cfg"])
    os.chown(folder, NOBODY, NOBODY)
    spool.wait_for("sticky", spool.done)


@needs_root
def test_a_waiting_folder_that_was_taken_from_us_stays_with_its_id_and_blocks_nothing(spool: OrdinarySpool) -> None:
    spool.drop("job", "true", hold="yes")
    until(lambda: (spool.queue / "job" / ".qm" / "job.json").exists())
    job_id = spool.record(spool.queue / "job")["id"]
    give(spool.queue / "job", 0)
    spool.qm("release", "job", check=False)
    witness(spool)
    assert (spool.queue / "job").is_dir()
    give(spool.queue / "job")
    spool.qm("release", "job", check=False)
    assert spool.record(spool.wait_for("job", spool.done))["id"] == job_id


@needs_root
def test_a_hidden_folder_of_another_user_in_a_job_is_set_aside(spool: OrdinarySpool) -> None:
    made = spool.make("job", "true")
    (made / ".qm").mkdir(mode=0o700)
    (made / ".qm" / "job.json").write_text("{}")
    os.rename(made, spool.queue / "job")
    folder = spool.wait_for("job")
    assert spool.record(folder)["state"] == "done"


# --- requests ------------------------------------------------------------------------------------------------


def ask_as(spool: TestSpool, uid: int, verb: str, job: dict[str, str]) -> requests.Answer:
    """Leave a request that belongs to this user, and wait for the answer."""
    assert spool.daemon is not None
    paths = SpoolPaths(str(spool.root))
    os.kill(spool.daemon.pid, signal.SIGSTOP)
    name = requests.leave(paths, Request(verb, id=job["id"], name=job["name"]))
    os.chown(f"{paths.requests}/{name}", uid, uid)
    os.kill(spool.daemon.pid, signal.SIGCONT)
    return requests.await_answer(paths, name)


@needs_root
def test_a_request_is_obeyed_for_the_owner_of_the_job_or_of_the_spool_and_for_nobody_else(spool: OrdinarySpool) -> None:
    give(spool.make("job", "true", where=spool.root / "of_4711", hold="yes"), 4711)
    (spool.root / "of_4711" / "job").chmod(0o777)
    os.rename(spool.root / "of_4711" / "job", spool.queue / "job")
    until(lambda: (spool.queue / "job" / ".qm" / "job.json").exists())
    job = spool.record(spool.queue / "job")
    refused = ask_as(spool, 4712, "kill", job)
    assert not refused.ok and "not yours" in refused.message
    assert not ask_as(spool, 4711, "drain", {"id": "", "name": ""}).ok
    assert (spool.queue / "job").is_dir()
    assert ask_as(spool, ME, "release", job).ok
    spool.wait_for("job", spool.done)


# --- a spool that the daemon may not use ---------------------------------------------------------------------


def start_in_vain(spool: TestSpool) -> subprocess.CompletedProcess[str]:
    return run_as_me([interpreter(), "-m", "qm.cli.queuemanager", "-c", str(spool.config)], environment())


@pytest.mark.parametrize("what", ["QM_qJobs", "QM_Jobs", ".", ".qm", "QMserv.cfg", "QueueManager.log"])
def test_a_spool_that_may_not_be_used_stops_the_daemon_with_78_and_no_traceback(
    spool: OrdinarySpool, what: str
) -> None:
    spool.stop()
    if what in (".", ".qm"):
        shutil.rmtree(spool.root / ".qm")
        if what == ".qm":
            (spool.root / ".qm").mkdir()
    (spool.root / what).chmod(0 if what == "QMserv.cfg" else 0o555 if (spool.root / what).is_dir() else 0o444)
    result = start_in_vain(spool)
    assert (result.returncode, result.stdout) == (78, "")
    assert "Traceback" not in result.stderr
    assert "denied" in result.stderr.lower() and str(spool.root) in result.stderr
