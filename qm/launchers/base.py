"""What every launcher offers the daemon, be it for this machine or for a cluster engine."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Protocol

from qm.judgement.verdict import Exit
from qm.spool.files import SHORT, read_regular
from qm.spool.paths import JobPaths
from qm.vocabulary.record import Job


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over, with nothing of it left."""

    job_id: str
    exit: Exit


class Launcher(Protocol):
    """Starts claimed jobs, watches them, ends them. Nothing here waits: `poll` and `tick` are called again."""

    kill_grace: float
    """Seconds between asking processes to end and ending them."""

    def fileno(self) -> int | None:
        """Readable when `poll` has something to say; None where only time tells."""

    def ticket(self) -> str:
        """What goes into the record before a start, so that a later daemon can find the job again."""

    def start(self, job: Job, paths: JobPaths) -> None:
        """Begin a claimed job. TryAgain, Blocked, OSError: nothing was begun. JobFileError: nor will it ever be."""

    def take_over(self, job: Job, paths: JobPaths) -> None:
        """Watch a job that an earlier daemon started, whether it still runs or not."""

    def poll(self) -> list[Ended]:
        """The runs that are over since the last call."""

    def end(self, job_id: str) -> None:
        """End the whole tree: ask first, and after the grace period do not ask any more."""

    def pause(self, job_id: str) -> None:
        """Stop the whole tree where it stands."""

    def resume(self, job_id: str) -> None:
        """Let it go on."""

    def tick(self) -> float | None:
        """Do what is due by now; returns the monotonic time at which something is due next."""


def read_exit(paths: JobPaths, attempt: int) -> Exit:
    """How a run ended whose shim is gone and was not our child, as far as its marks tell.

    An empty start mark is that of a daemon that voided the start and died before it could put the job back, or
    of a shim that died before it began the script: a shim writes into its mark first.
    """
    status = read_exit_mark(paths, attempt)
    begun = True
    if status is None:
        with contextlib.suppress(OSError):
            begun = bool(read_regular(paths.start_mark(attempt), 1))
    return Exit(status, begun=begun)


def read_exit_mark(paths: JobPaths, attempt: int) -> int | None:
    """The status the shim left, or None while there is none that is complete. OSError when nobody can say."""
    try:
        text = read_regular(paths.exit_mark(attempt), 64)
    except OSError as err:
        if err.errno in SHORT:
            raise
        return None
    return int(text) if text.endswith(b"\n") and text.strip().isdigit() else None
