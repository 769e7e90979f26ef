"""What every launcher offers the daemon, be it for this machine or for a cluster engine."""

from __future__ import annotations

import contextlib
from typing import NamedTuple, Protocol

from qm.judgement.limits import Usage
from qm.judgement.verdict import Exit
from qm.spool.files import SHORT, read_regular
from qm.spool.paths import JobPaths
from qm.vocabulary.record import Job, Task


class Start(NamedTuple):
    """One start: what is begun, when (UTC epoch seconds), on which processors and GPUs (numbers).

    `gpus` is None where no GPUs are handed out. `ticket` is what Launcher.ticket gave; `appends`: the log of the run
    before goes on, as after exit status 75.
    """

    task: Task
    started: float
    ticket: str
    processors: tuple[int, ...] = ()
    gpus: tuple[int, ...] | None = None
    appends: bool = False


class Ended(NamedTuple):
    """A run that is over, with nothing of it left. `key` is that of its Task."""

    key: str
    exit: Exit


class Seen(NamedTuple):
    """What a look at a run found. `key` is that of its Task."""

    key: str
    usage: Usage


class Launcher(Protocol):
    """Starts claimed jobs, watches them, ends them. Nothing here waits: `poll` and `tick` are called again.

    What runs, a job or one task of an array, is named by the key of its Task.
    """

    kill_grace: float
    """Seconds between asking processes to end and ending them."""

    def fileno(self) -> int | None:
        """Readable when `poll` has something to say; None where only time tells."""

    def ticket(self) -> str:
        """What goes into the record before a start, so that a later daemon can find the job again."""

    def start(self, job: Job, paths: JobPaths, start: Start) -> None:
        """Begin it. TryAgain, Blocked, OSError: nothing was begun. JobFileError: nor will it ever be."""

    def take_over(self, job: Job, paths: JobPaths, start: Start) -> None:
        """Watch what an earlier daemon started, whether it still runs or not."""

    def tidy(self) -> None:
        """Everything has been taken over: what else an earlier daemon left of its runs may go."""

    def poll(self) -> list[Ended]:
        """The runs that are over since the last call."""

    def is_over(self, key: str) -> bool:
        """Has it ended by itself, though something of it may be left?"""

    def end(self, key: str) -> None:
        """End the whole tree: ask first, and after the grace period do not ask any more."""

    def pause(self, key: str) -> None:
        """Stop the whole tree where it stands."""

    def resume(self, key: str, processors: tuple[int, ...]) -> None:
        """Let it go on, on these processors."""

    def seen(self) -> list[Seen]:
        """What was measured since the last call."""

    def promised(self) -> int:
        """Bytes of memory that what runs has asked for (key `mem`) but does not use yet."""

    def tick(self) -> float | None:
        """Do what is due by now; returns the monotonic time at which something is due next."""


def read_exit(paths: JobPaths, label: str) -> Exit:
    """How a run ended whose shim is gone and was not our child, as far as its marks tell.

    An empty start mark is that of a daemon that voided the start and died before it could put the job back, or
    of a shim that died before it began the script: a shim writes into its mark first.
    """
    status = read_exit_mark(paths, label)
    begun = True
    if status is None:
        with contextlib.suppress(OSError):
            begun = bool(read_regular(paths.start_mark(label), 1))
    return Exit(status, begun=begun)


def read_exit_mark(paths: JobPaths, label: str) -> int | None:
    """The status the shim left, or None while there is none that is complete. OSError when nobody can say."""
    try:
        text = read_regular(paths.exit_mark(label), 64)
    except OSError as err:
        if err.errno in SHORT:
            raise
        return None
    return int(text) if text.endswith(b"\n") and text.strip().isdigit() else None
