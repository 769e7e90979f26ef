"""The peers: task-spooler, nq, GNU parallel, and a bare loop that shows the machine's own limit.

Two jobs run at a time. Where a peer has a choice, the one that is faster for it is taken, but task-spooler
keeps each job's output, as QM does; `remark` says it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import IO

from common import TRUE, BenchmarkError, Settings
from contestants import QM, SHELL, Contestant, run, spawn


class TaskSpooler(Contestant):
    """task-spooler with two slots, its server started before the clock."""

    key = "tsp"
    name = "task-spooler"
    program = "tsp"
    package = "task-spooler"
    remark = "task-spooler: the output of each job is kept in a file, the last 100 jobs in its list"

    def start(self) -> None:
        super().start()
        self.environment |= {
            "TS_SOCKET": str(self.folder / "socket"),
            "TMPDIR": str(self.folder),
            "TS_MAXFINISHED": "100",
        }
        run([self.path, "-S", "2"], self.environment)

    def close(self) -> None:
        super().close()
        with contextlib.suppress(BenchmarkError):  # it is gone already
            run([self.path, "-K"], self.environment)

    def submit(self) -> None:
        self.submitted = spawn([self.path, SHELL, "-c", self.script], self.environment)

    def settle(self) -> None:
        super().settle()
        run([self.path, "-w"], self.environment)

    def drain(self, jobs: int) -> None:
        for _ in range(jobs):
            run([self.path, TRUE], self.environment)
        for job in range(max(0, jobs - 2), jobs):  # the last two may end in either order
            run([self.path, "-w", str(job)], self.environment)


class Nq(Contestant):
    """nq runs one job of a folder at a time, so two at a time are two folders, used in turn."""

    key = "nq"
    name = "nq"
    program = "nq"
    package = "nq"
    remark = "nq: two queues, in turn; -c: output deleted after success, or each job looks at all before it"

    def queue(self, number: int) -> dict[str, str]:
        return self.environment | {"NQDIR": str(self.folder / f"queue{number % 2}")}

    def close(self) -> None:
        super().close()
        for number in range(2):  # each waiting job is a process of its own: let them run out
            run([self.path, "-w"], self.queue(number))

    def submit(self) -> None:
        self.submitted = spawn([self.path, "-c", SHELL, "-c", self.script], self.queue(0))

    def settle(self) -> None:
        super().settle()
        run([self.path, "-w"], self.queue(0))

    def drain(self, jobs: int) -> None:
        queues = self.queue(0), self.queue(1)
        for job in range(jobs):
            run([self.path, "-c", TRUE], queues[job % 2])
        for queue in queues:
            run([self.path, "-w"], queue)


class GnuParallel(Contestant):
    """GNU parallel, which has no queue: for single jobs it stays and reads commands from a pipe."""

    key = "parallel"
    name = "GNU parallel"
    program = "parallel"
    package = "parallel"
    remark = "GNU parallel: no queue; jobs are lines of its input, and their output is not kept (-u)"

    def __init__(self, folder: Path, settings: Settings) -> None:
        super().__init__(folder, settings)
        self.environment["PARALLEL_HOME"] = str(folder)
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: IO[bytes] | None = None

    def open(self, *options: str) -> IO[bytes]:
        command = [self.path, "--will-cite", "-j2", "-u", *options]
        self.process = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0
        )
        assert self.process.stdin is not None
        return self.process.stdin

    def close(self) -> None:
        if self.process is not None:
            if self.pipe is not None:
                self.pipe.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def submit(self) -> None:
        if self.pipe is None:
            self.pipe = self.open()
        self.pipe.write(f"{self.script}\n".encode())

    def drain(self, jobs: int) -> None:
        self.pipe = self.open("-n0", TRUE)
        self.pipe.write(b"x\n" * jobs)
        self.pipe.close()
        assert self.process is not None
        if self.process.wait():
            raise BenchmarkError(f"GNU parallel ended with status {self.process.returncode}")


class BareLoop(Contestant):
    """No queue at all: this Python spawns and waits, two at a time."""

    key = "bare"
    name = "bare posix_spawn"
    remark = "bare posix_spawn: a Python loop without queue, log or record; the machine's own limit"

    def submit(self) -> None:
        self.submitted = spawn([SHELL, "-c", self.script], self.environment)

    def drain(self, jobs: int) -> None:
        for job in range(jobs):
            if job >= 2:
                os.wait()
            spawn([TRUE], self.environment)
        for _ in range(min(jobs, 2)):
            os.wait()


ALL: tuple[type[Contestant], ...] = (QM, TaskSpooler, Nq, GnuParallel, BareLoop)


def chosen(settings: Settings) -> list[type[Contestant]]:
    """Those asked for (all, by default) that are installed."""
    asked = [kind for kind in ALL if not settings.only or kind.key in settings.only]
    return [kind for kind in asked if shutil.which(kind.program)]


def missing() -> list[type[Contestant]]:
    """Those whose program is not installed."""
    return [kind for kind in ALL if not shutil.which(kind.program)]
