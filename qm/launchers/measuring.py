"""What runs use: CPU, memory, output, by looking at their processes now and then.

A run with a memory limit, or with zombie_time, is looked at each second. Where the kernel does not keep it below its
limit (a control group), the memory of its whole tree counts, shared pages in parts (PSS, proc(5)). All others are
looked at every five seconds, which gives the rows of `.qm/usage.csv`, one for all tasks of an array together.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection

from qm.judgement.limits import Usage
from qm.launchers.base import Seen
from qm.launchers.execution import Execution
from qm.launchers.memory import kernel_oom_kills, tree_memory
from qm.launchers.processes import Process, ProcessTable, descendants, tree_of
from qm.spool import usage

SAMPLE_EVERY = 5.0
"""Seconds between two rows of usage.csv."""
MOST_ARRAYS = 1000
"""Arrays whose ended tasks are kept in mind before those are forgotten that do not run."""
LOOK_EVERY = 1.0
"""Seconds between two looks at runs with limits of that kind."""


class Meter:
    """Looks at the runs when it is time to, and keeps what it saw until somebody asks."""

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._sample_at = 0.0
        self._look_at = 0.0
        self._seen: list[Seen] = []
        self._oom_kills = kernel_oom_kills()
        self._ended: dict[str, float] = {}  # CPU seconds of tasks that have ended, by the usage.csv of their array

    def tick(self, runs: Collection[Execution], now: float) -> float | None:
        """Measure if it is time; returns when it is the next time (monotonic), None for never."""
        if not runs:
            self._sample_at = now + SAMPLE_EVERY
            return None
        if len(self._ended) > MOST_ARRAYS:
            self._ended = {path: self._ended[path] for path in {run.paths.usage for run in runs} & self._ended.keys()}
        limited = [run for run in runs if _is_close(run) and run.exit is None]
        whole = now >= self._sample_at
        if whole:
            self._sample_at = now + SAMPLE_EVERY
        if whole or (limited and now >= self._look_at):
            self._look_at = now + LOOK_EVERY
            with contextlib.suppress(OSError):
                self._measure([run for run in runs if run.exit is None], whole)
        return min(self._sample_at, self._look_at) if limited else self._sample_at

    def seen(self) -> list[Seen]:
        """What was measured since the last call."""
        seen, self._seen = self._seen, []
        return seen

    def _measure(self, runs: Collection[Execution], whole: bool) -> None:
        everything = self._table.snapshot()
        rows: dict[str, list[Execution]] = {}
        for run in runs:
            if not whole and not _is_close(run):
                continue
            self._look(run, everything)
            rows.setdefault(run.paths.usage, []).append(run)
        if whole:
            self._oom_kills = kernel_oom_kills()
            for path, some in rows.items():
                with contextlib.suppress(OSError):  # a full disk must not stop the daemon
                    cpu, memory = sum(run.cpu for run in some), sum(run.memory for run in some)
                    if some[0].task.number is not None:
                        cpu += self._before(path, cpu)
                    usage.add_row(path, time.time(), cpu, memory)

    def ended(self, run: Execution, cpu_seconds: float | None) -> None:
        """A run is over: what a task of an array has used goes on counting for the array."""
        if run.task.number is not None:
            path, used = run.paths.usage, cpu_seconds or run.cpu
            self._ended[path] = self._before(path, used) + used

    def _before(self, path: str, now: float) -> float:
        """CPU seconds of the tasks that have ended; at first by what an earlier daemon wrote, less that of `now`."""
        if path not in self._ended:
            rows = usage.last_rows(path, 1)
            self._ended[path] = max(0.0, rows[-1][1] - now) if rows else 0.0
        return self._ended[path]

    def _look(self, run: Execution, everything: dict[int, Process]) -> None:
        group = run.cgroup if run.cgroup is not None and run.cgroup.pids() else None  # else the shim could not enter it
        if run.mem is None or group is not None:
            tree = descendants(everything, run.pid)
            run.memory = sum(process.memory for process in tree)
        else:
            tree = tree_of(self._table, everything, run.pid, run.key)
            run.memory = tree_memory([process.pid for process in tree], enough=run.mem)
        run.cpu = max(run.cpu, sum(process.cpu for process in tree))
        run.peak = max(run.peak, run.memory)
        oom_kills = group.oom_kills() if group is not None else 0
        used = Usage(run.cpu, run.memory, _written(run.outputs), limited=group is not None, oom_kills=oom_kills)
        self._seen.append(Seen(run.key, used))

    def oom_kills_since(self) -> bool:
        """Has the kernel ended processes of this machine for want of memory since the last look?"""
        now = kernel_oom_kills()
        before, self._oom_kills = self._oom_kills, now
        return now is not None and before is not None and now > before


def _is_close(run: Execution) -> bool:
    """Is it looked at each second?"""
    return run.mem is not None or bool(run.outputs)


def _written(files: Collection[str]) -> int:
    """A number that grows when one of the files is written to."""
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            facts = os.stat(file)
            total += facts.st_size + facts.st_mtime_ns
    return total
