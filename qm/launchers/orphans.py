"""Orphans of our jobs on Linux: the daemon adopts them, so they stand in its own list of children.

PR_SET_CHILD_SUBREAPER (prctl(2), Linux 3.4) and /proc/PID/task/TID/children (proc(5), CONFIG_PROC_CHILDREN).
Where either is missing, `living` says that there may be some, and the caller looks at every process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Set

_PR_SET_CHILD_SUBREAPER = 36


class Orphans:
    """The children of this process that are no shims."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int | None = None
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0:
            with contextlib.suppress(OSError):
                self._fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)

    def living(self, shims: Set[int]) -> bool:
        """Could an orphan be alive? Reaps those that have ended."""
        return self._fd is None or bool(self.reap(shims))

    def reap(self, shims: Set[int]) -> list[int]:
        """Reap the orphans that have ended; returns those that live."""
        if self._fd is None:
            return []
        text = os.pread(self._fd, 1 << 16, 0)
        return [pid for pid in map(int, text.split()) if pid not in shims and not _reaped(pid)]


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
