"""Binding processes to processors.

What a thread spawns inherits its affinity (sched_setaffinity(2)); so a job is bound before its first instruction, by
binding ourselves while it is spawned. Invariant: afterwards this thread has the affinity that it had before.
Where the system cannot bind, or not to these processors (taken offline, or out of our cpuset), nothing is done.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence


def can_pin(limit: int) -> bool:
    """Can processes be bound here, and are there at least `limit` processors to bind them to?"""
    usable = _affinity()
    return usable is not None and limit <= len(usable)


@contextlib.contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """What this thread spawns inside is bound to these processors; with none of them, to no others than now."""
    before = _affinity() if cpus else None
    bound = before is not None and _bind(0, cpus)
    try:
        yield
    finally:
        if bound and before is not None and not _bind(0, before):
            _bind(0, range(os.cpu_count() or 1))  # our cpuset was changed meanwhile: whatever is left of it


def pin(pid: int, cpus: Sequence[int]) -> None:
    """Bind a running process, all its threads, to these processors; nothing is done with none, or if it is gone."""
    if not cpus:
        return
    if not hasattr(os, "sched_setaffinity"):
        _bind(pid, cpus)
        return
    seen: set[int] = set()
    while True:  # a thread that is not bound yet may be making another
        new = _threads(pid) - seen
        for thread in new:
            _bind(thread, cpus)
        if not new:
            return
        seen |= new


def _threads(pid: int) -> set[int]:
    try:
        return {int(name) for name in os.listdir(f"/proc/{pid}/task")}
    except OSError:
        return set()


def _affinity() -> Sequence[int] | None:
    """The processors that this thread may use; None if that cannot be set here."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    import psutil

    try:
        return list(psutil.Process().cpu_affinity())
    except (AttributeError, psutil.Error):  # macOS
        return None


def _bind(pid: int, cpus: Sequence[int]) -> bool:
    """Bind a thread (0: this one), or where threads are not told apart a process; False if it cannot be done."""
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(pid, cpus)
            return True
    except (OSError, ValueError, OverflowError):  # gone, another user's, no such processor
        return False
    import psutil

    try:
        psutil.Process(pid or None).cpu_affinity(list(cpus))
    except (AttributeError, ValueError, OSError, psutil.Error):
        return False
    return True
