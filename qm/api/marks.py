"""Which process is it? Imports little: see workfiles."""

from __future__ import annotations

import os


def process_mark(pid: int) -> str:
    """What tells a process from a later one with its number: the number and its start in clock ticks since boot
    (proc(5)), where there is a /proc; "" once it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *facts = file.read().rpartition(b")")[2].split()
    except OSError:
        return "" if os.path.exists("/proc/self/stat") or not _is_alive(pid) else str(pid)
    return "" if state in b"ZX" else f"{pid} {int(facts[18])}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
