"""What is measured side by side, and QM as one of them (peers.py has the others).

Each is started in a folder of its own, is given jobs one by one (`prepare`, `submit`, `settle`) or many at
once (`drain`), and is ended on leaving.
"""

from __future__ import annotations

import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TypeVar

from common import TRUE, BenchmarkError, Daemon, Settings, Spool

Kind = TypeVar("Kind", bound="Contestant")

SHELL = "/bin/sh"
NULL = [
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
]


def spawn(command: list[str], environment: Mapping[str, str]) -> int:
    """Start a command (an absolute path first) in the cheapest way, without output; gives its pid."""
    return os.posix_spawn(command[0], command, environment, file_actions=NULL)


def run(command: list[str], environment: Mapping[str, str]) -> None:
    """Run a command to its end; BenchmarkError unless it exits 0."""
    _, status = os.waitpid(spawn(command, environment), 0)
    if status:
        raise BenchmarkError(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")


class Contestant(ABC):
    """One way to run jobs, two at a time; entering starts it, leaving ends it."""

    key: ClassVar[str]  # for --only
    name: ClassVar[str]
    program: ClassVar[str] = SHELL  # what must be installed
    package: ClassVar[str] = ""  # the Debian package that has it
    remark: ClassVar[str] = ""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.path = shutil.which(self.program) or self.program
        self.environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "SHELL": SHELL}
        self.script = ""
        self.submitted: int | None = None  # the pid of a submitting command that has not been waited for

    def __enter__(self: Kind) -> Kind:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Make it ready to take jobs."""
        self.folder.mkdir(parents=True)

    def close(self) -> None:
        """End everything that was started."""
        if self.submitted is not None:
            os.kill(self.submitted, signal.SIGTERM)
            os.waitpid(self.submitted, 0)

    def prepare(self, script: str) -> None:
        """What comes before the clock: here only to know the shell script that `submit` is for."""
        self.script = script

    @abstractmethod
    def submit(self) -> None:
        """Hand over the prepared job, and return as soon as this can be waited for elsewhere."""

    def settle(self) -> None:
        """Wait until nothing of the job is left to do."""
        if self.submitted is not None:
            os.waitpid(self.submitted, 0)
            self.submitted = None

    @abstractmethod
    def drain(self, jobs: int) -> None:
        """Submit that many jobs, each /bin/true, and wait until all have ended."""


class QM(Contestant):
    """The daemon, given complete folders by rename."""

    key = "qm"
    name = "QM"

    def __init__(self, folder: Path, settings: Settings) -> None:
        super().__init__(folder, settings)
        self.spool = Spool(folder)
        self.daemon = Daemon(settings.daemon, self.spool)
        self.jobs = 0
        self.made = ""  # the folder that is ready to be submitted

    def start(self) -> None:
        self.daemon.start()
        self.drain(1)  # the first job proves that the daemon's loop runs

    def close(self) -> None:
        self.daemon.stop()

    def prepare(self, script: str) -> None:
        self.jobs += 1
        self.made = self.spool.make(f"job{self.jobs:06}", script)

    def submit(self) -> None:
        os.rename(self.made, self.spool.waiting / os.path.basename(self.made))

    def settle(self) -> None:
        self.spool.wait_finished(self.jobs)

    def drain(self, jobs: int) -> None:
        for _ in range(jobs):
            self.prepare(TRUE)
            self.submit()
        self.settle()
