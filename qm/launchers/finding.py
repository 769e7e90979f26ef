"""Finding the shim of a run that an earlier daemon started, and no stranger in its place."""

from __future__ import annotations

import os
import sys
import time

from qm.launchers.base import Start
from qm.launchers.processes import Process, ProcessTable, tree_of
from qm.spool.files import read_regular
from qm.spool.paths import JobPaths


def find_shim(table: ProcessTable, boot: str, paths: JobPaths, start: Start) -> Process | None:
    """The shim that wrote the start mark, if it still runs: same boot, same pid, and no stranger under it."""
    key = start.task.key
    try:
        number, its_boot, _ = read_regular(paths.start_mark(start.task.label), 256).decode().split()
        pid, begun = int(number), float(start.ticket.split()[1])
    except (OSError, ValueError, IndexError):
        return _find_by_environment(table, key)
    process = table.find(pid) if its_boot == boot and pid > 0 else None
    if process is None or process.state in "ZX":
        return None
    if table.uid(process.pid) not in (None, _own_uid()) or process.session not in (0, process.pid):
        return None
    carried = table.run_of(process.pid)
    if carried is not None:
        return process if carried == key else None
    near = 0.0 <= _started_since_boot(process) - begun + 1.0 < 60.0
    return process if near else None


def _find_by_environment(table: ProcessTable, key: str) -> Process | None:
    """A start mark without its text (the daemon's machine was full): the shim leads its session."""
    for process in tree_of(table, table.snapshot(), None, key):
        if process.session == process.pid:
            return process
    return None


def boot_id() -> str:
    """What tells one boot of this machine from the next."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        import psutil

        return f"boot-{psutil.boot_time():.0f}"


def since_boot() -> float:
    """Seconds since this boot, those asleep included where the system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


def _own_uid() -> int | None:
    return os.getuid() if hasattr(os, "getuid") else None


def _started_since_boot(process: Process) -> float:
    """Seconds from boot to the start of a process, on the clock of `since_boot`."""
    if sys.platform.startswith("linux") and process.start < 1e9:
        return process.start / os.sysconf("SC_CLK_TCK")
    return since_boot() - (time.time() - process.start)
