"""A real daemon on a throw-away spool, for tests that use real processes and real folders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 30.0
"""Seconds that a condition is waited for; long, since the machine may be busy with other tests."""


def until(condition: Callable[[], Any], what: str = "", patience: float = PATIENCE) -> Any:
    """Wait until the condition holds and return its value; fail with `what` when it never does."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain for {what or condition}")
        time.sleep(0.01)


class Clock:
    """A clock that only the test moves."""

    def __init__(self, time: float = 0.0) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


class TestSpool:
    """A spool in a fresh folder, the daemon on it, and what tests do with both."""

    __test__ = False

    def __init__(self, root: Path, **settings: object) -> None:
        self.root = root
        self.config = root / "QMserv.cfg"
        self.queue = root / "QM_qJobs"
        self.jobs = root / "QM_Jobs"
        self.done = root / "QM_dJobs"
        self.lost = root / "QM_lost+found"
        self.daemon: subprocess.Popen[bytes] | None = None
        root.mkdir(parents=True, exist_ok=True)
        for folder in (self.queue, self.jobs, self.done, self.lost):
            folder.mkdir(exist_ok=True)
        self.configure(**settings)

    def configure(self, **settings: object) -> None:
        """Write QMserv.cfg: short times, two processors, and what the test wants otherwise."""
        values: dict[str, object] = {
            "QM_FOLDER": ".",
            "MaxNbProcessors": 2,
            "launch_type": "non-blocking",
            "Settle_Time": 0.3,
            "Poll_Interval": 0.5,
            "Kill_Grace": 1,
            **settings,
        }
        lines = [f"{key} : {value}" for key, value in values.items()]
        self.config.write_text("[QMServer]\n" + "\n".join(lines) + "\n")

    # --- the daemon ----------------------------------------------------------------------------------------

    def start(self, *options: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the daemon and wait until it serves."""
        output = open(self.root / "daemon.out", "ab")  # noqa: SIM115 (a pipe that nobody reads would fill up)
        self.daemon = subprocess.Popen(
            [sys.executable, "-m", "qm.cli.queuemanager", "-c", str(self.config), *options],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        output.close()
        started = self.daemon
        until(lambda: started.poll() is not None or self._serves(started.pid), "the daemon to serve")
        return started

    def _serves(self, pid: int) -> bool:
        from qm.spool.lock import holder_of

        holder = holder_of(str(self.root / ".qm" / "lock"))
        return holder is not None and holder.pid == pid and f"serving {self.root}" in self.log()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the daemon, wait for its end, return its exit status."""
        assert self.daemon is not None
        if self.daemon.poll() is None:
            self.daemon.send_signal(number)
        self.daemon.communicate(timeout=PATIENCE)
        status = self.daemon.returncode
        self.daemon = None
        return status

    def log(self) -> str:
        """The daemon's log so far."""
        try:
            return (self.root / "QueueManager.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def run_until_empty(self) -> None:
        """A whole life of the daemon: until nothing is left to do."""
        self.start("--until-empty")
        assert self.daemon is not None
        self.daemon.wait(timeout=90)
        assert self.daemon.returncode == 0, (self.root / "daemon.out").read_text(errors="replace")
        self.daemon = None

    def close(self) -> None:
        """End the daemon and every process of the spool's jobs, by pid."""
        if self.daemon is not None:
            if self.daemon.poll() is None:
                self.daemon.kill()
            self.daemon.communicate()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def processes(self) -> list[int]:
        """The pids of all processes that carry this spool's QM_FOLDER in their environment."""
        wanted = b"QM_FOLDER=" + os.fsencode(self.root)
        found = []
        for name in os.listdir("/proc"):
            try:
                if name.isdigit() and wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    state = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()[0]
                    if state not in (b"Z", b"X"):
                        found.append(int(name))
            except OSError:
                continue
        return found

    # --- jobs ----------------------------------------------------------------------------------------------

    def make(self, name: str, script: str, where: Path | None = None, **keys: object) -> Path:
        """A job folder with a proc_config.cfg, outside the queue unless `where` says otherwise."""
        folder = (where or self.root / "made") / name
        folder.mkdir(parents=True)
        lines = [f"{key} : {value}" for key, value in keys.items()]
        indented = script.replace("\n", "\n    ")
        text = "\n".join(["[QMOptions]", f"script : {indented}", *lines]) + "\n"
        (folder / "proc_config.cfg").write_text(text, encoding="utf-8")
        return folder

    def drop(self, name: str, script: str, **keys: object) -> str:
        """Make a job folder and rename it into the queue."""
        os.rename(self.make(name, script, **keys), self.queue / name)
        return name

    def wait_for(self, name: str, *places: Path) -> Path:
        """Wait until the job's folder lies, ended, in one of the places (done or lost+found)."""

        def ended() -> Path | None:
            for place in places or (self.done, self.lost):
                if (place / name).exists():
                    return place / name
            return None

        folder: Path = until(ended, f"{name} to end; log:\n{self.log()[-2000:]}")
        return folder

    def wait_running(self, name: str) -> Path:
        """Wait until the job's script has begun (its start mark is written)."""
        until(
            lambda: list((self.jobs / name / ".qm" / "run").glob("*.start")),
            f"{name} to start:\n{self.log()}",
        )
        return self.jobs / name

    def record(self, folder: Path) -> dict[str, Any]:
        """The record in a job's folder."""
        record: dict[str, Any] = json.loads((folder / ".qm" / "job.json").read_text())
        return record

    def qm(self, *words: str, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command line; with `check`, it must exit 0."""
        result = subprocess.run(
            [sys.executable, "-m", "qm.cli.main", "-c", str(self.config), *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=cwd or self.root,
            stdin=subprocess.DEVNULL,
            errors="surrogateescape",
        )
        if check:
            assert result.returncode == 0, result.stdout + result.stderr
        return result

    def status(self) -> list[dict[str, Any]]:
        """`qm status --json`."""
        jobs: list[dict[str, Any]] = json.loads(self.qm("status", "--json").stdout)
        return jobs


def lines_of(path: Path) -> Sequence[str]:
    """A text file's lines; none where there is no file yet."""
    try:
        return path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
