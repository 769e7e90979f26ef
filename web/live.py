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

from qm.judgement.progress import array_progress
from qm.judgement.reasons import Situation, Waiting, why_waiting
from qm.judgement.waiting import Limits, Need, Occupied
from qm.spool.lock import Holder
from qm.spool.machine import available_memory, disk_short, limits
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
MOST_RUNNING = 10_000
"""Running tasks of one array that are counted; its record may say any number."""
MEMORY_STEP = 64 << 20
"""Bytes to which the memory that is left is rounded, so that a page does not change all the time."""


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
class Room:
    """What may keep every job from starting: `disk_short` is a sentence, "" while there is enough of it.

    `available`: bytes of memory that can be had without swapping, rounded down.
    """

    disk_short: str
    available: int


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
        self._room: tuple[float, Room] | None = None
        self._limits: Limits | None = None
        self._active: dict[str, tuple[float, Active]] = {}
        psutil.cpu_percent()  # the first call only begins the measurement

    # --- the queue -----------------------------------------------------------------------------------------

    def daemon(self) -> Holder | None:
        """Who serves the spool right now, or None."""
        return self._view.daemon()

    def draining(self) -> bool:
        """Has somebody said `qm drain`?"""
        return self._view.draining()

    def limits(self) -> Limits:
        """What running jobs may have together."""
        with self._lock:
            if self._limits is None:  # made once: it may ask the driver of the GPUs
                self._limits = limits(self._settings)
            return self._limits

    def used(self) -> Need:
        """What the running jobs have of that."""
        needs = [one.need for one in self._occupied()]
        return Need(
            sum(need.processors for need in needs), sum(need.memory for need in needs), sum(need.gpus for need in needs)
        )

    def _occupied(self) -> tuple[Occupied, ...]:
        rows, _ = self._index.list(Query(places=(Place.JOBS,), per_page=MOST_ACTIVE))
        return tuple(one for row in rows for one in occupied_by(row))

    def why(self, rows: Sequence[Row]) -> list[str]:
        """Why each of the first waiting jobs waits; `rows` begins with the one that starts next."""
        room = self.room()
        situation = Situation(
            served=self.daemon() is not None,
            draining=self.draining(),
            limits=self.limits(),
            running=self._occupied(),
            one_at_a_time=self._settings.launch_type == "blocking",
            disk_short=room.disk_short,
            available=room.available,
            now=self._now(),
        )
        told = why_waiting(situation, [self._waiting(row) for row in rows])
        if self._settings.web.display_details:
            return told
        return [text.replace(f"group `{row.group}`", "its group") for row, text in zip(rows, told, strict=True)]

    def _waiting(self, row: Row) -> Waiting:
        return Waiting(
            state=row.state,
            need=Need(row.nb_proc, row.mem, row.gpus),
            name=row.name,
            group=row.group,
            at_most=row.at_most,
            reason=row.reason if self._settings.web.display_details else "",
            not_before=row.not_before,
            after=row.after,
        )

    # --- the machine ---------------------------------------------------------------------------------------

    def machine(self) -> Machine:
        """The load of this machine, rounded so that it changes only when somebody would care."""
        with self._lock:
            if self._machine is None or self._clock() - self._machine[0] >= MACHINE_LIFE:
                self._machine = (self._clock(), self._measure())
            return self._machine[1]

    def room(self) -> Room:
        """Whether disk and memory are there for another job."""
        with self._lock:
            if self._room is None or self._clock() - self._room[0] >= MACHINE_LIFE:
                available = available_memory()
                short = disk_short(self._settings.folder, self._settings.disk_reserve)
                self._room = (self._clock(), Room(short, available - available % MEMORY_STEP))
            return self._room[1]

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
        cpu, memory = self._usage(last_rows(paths.usage, 2), row)
        if row.tasks is not None:
            progress, details = array_progress(row.tasks), True
        else:
            progress, details = read_job_progress(paths), self._settings.web.display_details
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


def occupied_by(row: Row) -> list[Occupied]:
    """What an active job takes, an array once for each running task; a paused job has no processors."""
    need = Need(0 if row.state is State.PAUSED else row.nb_proc, row.mem, row.gpus)
    many = row.tasks.running if row.tasks is not None else 1
    return [Occupied(need, order=0, group=row.group)] * min(many, MOST_RUNNING)


def _coarse(part: int, total: int) -> int:
    """`part` rounded to half a percent of the whole."""
    step = max(1, total // 200)
    return round(part / step) * step
