"""How much memory processes use, for jobs that no cgroup limits.

PSS (proc(5), /proc/PID/smaps): a page that several processes share counts for each in part, so a job's processes
together count it once. What is swapped out does not count.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

from qm.spool.hierarchies import text_of

_LINUX = sys.platform.startswith("linux")


def tree_memory(pids: Iterable[int], enough: int = 0) -> int:
    """Bytes that these processes use together; those that are gone, or cannot be looked at, use none.

    The kernel adds up PSS page by page, RSS it knows. PSS is never more: so when the RSS together are no more than
    `enough`, that is the answer.
    """
    pids = list(pids)
    if not _LINUX:
        return sum(map(_portable, pids))
    if enough:
        rss = sum(map(_rss, pids))
        if rss <= enough:
            return rss
    return sum(map(_pss, pids))


def _pss(pid: int) -> int:
    """RSS where there is no smaps_rollup (before Linux 4.14), or it may not be read."""
    found = re.search(r"^Pss:\s*([0-9]+) kB", text_of(f"/proc/{pid}/smaps_rollup"), re.MULTILINE)
    return int(found[1]) << 10 if found else _rss(pid)


def _rss(pid: int) -> int:
    fields = text_of(f"/proc/{pid}/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def _portable(pid: int) -> int:
    import psutil

    try:
        process = psutil.Process(pid)
        return int(process.memory_info().rss)
    except (psutil.Error, OSError):
        return 0


def kernel_oom_kills() -> int | None:
    """How many processes the kernel has killed for want of memory since it started; None if it does not say."""
    found = re.search(r"^oom_kill ([0-9]+)$", text_of("/proc/vmstat"), re.MULTILINE)
    return int(found[1]) if found else None
