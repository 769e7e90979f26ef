"""What changes by itself while nobody touches the spool: the daemon, the machine, the running jobs.

Invariant: a figure is read at most once in its lifetime (below), however many people look at the page.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from qm.judgement.reasons import Situation, Waiting, why_waiting
from qm.spool.lock import Holder
from qm.spool.machine import usable_processors
from qm.spool.usage import last_rows
from qm.spool.view import View, read_job_progress
from qm.vocabulary.config import Settings
from qm.vocabulary.states import Place, State
from qm_web.cache.index import Index, Query, Row

MACHINE_LIFE = 5.0
"""Seconds for which the figures of the machine are good."""
ACTIVE_LIFE = 0.4
"""Seconds for which progress, CPU and memory of a running job are good."""
STALE = 30.0
"""Seconds after which a row of usage.csv says nothing about now: the daemon writes one every 5 s."""
MOST_ACTIVE = 500


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of the dashboard. Memory and disk in bytes, `cpu` 0..1 of all processors together."""

    processors: int
    load: float | None
    cpu: float
    memory_used: int
    memory_total: int
    disk_free: int
    disk_total: int


@dataclass(frozen=True, slots=True)
class Active:
    """A running job: `progress` 0..1, `cpu` in processors in use, `memory` of its process tree in bytes."""

    progress: float | None = None
    text: str = ""
    cpu: float | None = None
    memory: int | None = None


class Live:
    """The figures of one spool and its machine. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        settings: Settings,
        view: View,
        index: Index,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._view = view
        self._index = index
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._machine: tuple[float, Machine] | None = None
        self._active: dict[str, tuple[float, Active]] = {}
        psutil.cpu_percent()  # the first call only begins the measurement

    # --- the queue -----------------------------------------------------------------------------------------

    def daemon(self) -> Holder | None:
        """Who serves the spool right now, or None."""
        return self._view.daemon()

    def draining(self) -> bool:
        """Has somebody said `qm drain`?"""
        return self._view.draining()

    def limit(self) -> int:
        """How many processors running jobs may have together."""
        return self._settings.max_processors or usable_processors()

    def used(self) -> int:
        """How many processors the running jobs have."""
        rows, _ = self._index.list(Query(places=(Place.JOBS,), per_page=MOST_ACTIVE))
        return sum(row.nb_proc for row in rows if row.state is State.RUNNING)

    def why(self, rows: Sequence[Row]) -> list[str]:
        """Why each of the first waiting jobs waits; `rows` begins with the one that starts next."""
        situation = Situation(
            served=self.daemon() is not None,
            draining=self.draining(),
            limit=self.limit(),
            used=self.used(),
            one_at_a_time=self._settings.launch_type == "blocking",
        )
        details = self._settings.web.display_details
        return why_waiting(situation, [Waiting(row.state, row.nb_proc, row.reason if details else "") for row in rows])

    # --- the machine ---------------------------------------------------------------------------------------

    def machine(self) -> Machine:
        """The load of this machine, rounded so that it changes only when somebody would care."""
        with self._lock:
            if self._machine is None or self._clock() - self._machine[0] >= MACHINE_LIFE:
                self._machine = (self._clock(), self._measure())
            return self._machine[1]

    def _measure(self) -> Machine:
        memory = psutil.virtual_memory()
        try:
            disk = shutil.disk_usage(self._settings.folder)
            free, total = disk.free, disk.total
        except OSError:
            free = total = 0
        return Machine(
            processors=psutil.cpu_count() or 1,
            load=round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
            cpu=round(psutil.cpu_percent() / 5) * 5 / 100,
            memory_used=_coarse(memory.total - memory.available, memory.total),
            memory_total=memory.total,
            disk_free=_coarse(free, total),
            disk_total=total,
        )

    # --- running jobs --------------------------------------------------------------------------------------

    def of(self, row: Row) -> Active:
        """How far a running job is, and what it uses."""
        if row.place is not Place.JOBS:
            return Active()
        known = self._active.get(row.key)
        if known is not None and self._clock() - known[0] < ACTIVE_LIFE:
            return known[1]
        active = self._read(row)
        if len(self._active) > MOST_ACTIVE:
            self._active = {}
        self._active[row.key] = (self._clock(), active)
        return active

    def _read(self, row: Row) -> Active:
        paths = self._view.paths.job(row.place, row.folder)
        progress = read_job_progress(paths)
        cpu, memory = self._usage(last_rows(paths.usage, 2), row)
        details = self._settings.web.display_details
        return Active(
            progress=round(progress.fraction, 3) if progress else None,
            text=progress.text if progress and details else "",
            cpu=cpu,
            memory=memory,
        )

    def _usage(self, rows: Sequence[tuple[float, float, int]], row: Row) -> tuple[float | None, int | None]:
        """CPU between the last two rows (or since the start) and the memory of the last, if they are of now."""
        if not rows or row.started is None or rows[-1][0] < row.started or self._now() - rows[-1][0] > STALE:
            return None, None
        when, seconds, memory = rows[-1]
        before, used = row.started, 0.0
        if len(rows) == 2 and rows[0][0] >= row.started:
            before, used, _ = rows[0]
        cpu = max(0.0, seconds - used) / (when - before) if when > before else None
        return (round(cpu, 2) if cpu is not None else None), memory


def _coarse(part: int, total: int) -> int:
    """`part` rounded to half a percent of the whole."""
    step = max(1, total // 200)
    return round(part / step) * step
