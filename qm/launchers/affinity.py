"""Binding processes to processors.

A process inherits its parent's affinity (sched_setaffinity(2)). So it is enough to bind the shim when it has just
been spawned, and whatever it may have spawned before that. (To bind ourselves for as long as we spawn would leave no
such moment, but sends the daemon from processor to processor among busy ones: 0.4 ms each time.)
Where the system cannot bind, or not to these processors (taken offline, or out of our cpuset), nothing is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence


def can_pin(limit: int) -> bool:
    """Can processes be bound here, and are there at least `limit` processors to bind them to?"""
    usable = _affinity()
    return usable is not None and limit <= len(usable)


def pin_spawned(pid: int, cpus: Sequence[int], has_spawned: Callable[[], bool]) -> None:
    """Bind a process that was spawned a moment ago, and all that it has spawned since; with no processors, nothing.

    `has_spawned` tells, when it is bound, whether it may have done so before: to look for its children costs 0.1 ms.
    """
    if cpus and _bind(pid, cpus) and has_spawned():
        _pin_children(pid, cpus)


def _pin_children(pid: int, cpus: Sequence[int]) -> None:
    for child in _children(pid):
        if _bind(child, cpus):  # from now on it hands its binding down
            _pin_children(child, cpus)


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


def _children(pid: int) -> list[int]:
    try:
        fd = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # gone, no such file (CONFIG_PROC_CHILDREN), no /proc
        return []
    try:
        return [int(number) for number in os.read(fd, 1 << 16).split()]
    except OSError:
        return []
    finally:
        os.close(fd)


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
    """Bind a thread, or where threads are not told apart a process; False if it cannot be done."""
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(pid, cpus)
            return True
    except (OSError, ValueError, OverflowError):  # gone, another user's, no such processor
        return False
    import psutil

    try:
        psutil.Process(pid).cpu_affinity(list(cpus))
    except (AttributeError, ValueError, OSError, psutil.Error):
        return False
    return True
