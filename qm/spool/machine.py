"""What this machine has."""

from __future__ import annotations

import os


def usable_processors() -> int:
    """The processors this process may use: what `MaxNbProcessors = auto` means."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
