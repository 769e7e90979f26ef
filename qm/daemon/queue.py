"""What the daemon knows, in memory: the jobs that wait and those that are active. The folders are the truth.

Invariant: `line` holds exactly what may be started now but for want of room: waiting jobs, and active arrays that
have tasks left. What waits for a moment stands in `sleepers`, what waits for other jobs in neither.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from qm.daemon.book import Book
from qm.daemon.sleepers import Sleepers
from qm.judgement.contradictions import impossible
from qm.judgement.delays import longest_wait
from qm.judgement.limits import Pulse
from qm.judgement.processors import are_alike, choose
from qm.judgement.reasons import group_of
from qm.judgement.waiting import Limits, Need, Occupied, Ticket, WaitingLine
from qm.launchers.affinity import can_pin
from qm.launchers.base import Start
from qm.spool import machine
from qm.vocabulary.config import Settings
from qm.vocabulary.record import Job
from qm.vocabulary.states import Event, Place, State


@dataclass(slots=True)
class Going:
    """Something that runs: a job, or one task of its array.

    `order` is the line's start counter. `wanted` is why QM is ending it. `wall_end` is when its wall_time is over,
    `wall_left` while it is paused how much is left of it (monotonic seconds). `flagged`: it seems dead.
    """

    start: Start
    order: int
    wanted: Event | None = None
    why: str = ""
    wall_end: float | None = None
    wall_left: float | None = None
    pulse: Pulse = field(default_factory=lambda: Pulse(time.monotonic()))
    flagged: bool = False


@dataclass(slots=True)
class Active:
    """A job in QM_Jobs, with what runs of it by key. `book` is for an array.

    `wanted` is why QM is ending the whole job; `resuming` one that waits for processors to go on. `need` is what each
    of its runs has, but for the processors while it is paused; `group` is in which group it counts.
    """

    job: Job
    runs: dict[str, Going] = field(default_factory=dict)
    book: Book | None = None
    wanted: Event | None = None
    reason: str = ""
    resuming: bool = False
    gone: bool = False
    need: Need = field(init=False)
    group: str = field(init=False)

    def __post_init__(self) -> None:
        record = self.job.record
        options = record.effective
        self.need = Need(record.nb_proc, options.mem or 0, options.gpus)
        self.group = group_of(options, record.name)

    @property
    def paused(self) -> bool:
        """Are its processors free for others?"""
        return self.job.record.state is State.PAUSED


class Over(NamedTuple):
    """A job that is over, and what became of it (None: taken away). `name` is only told of one that never waited."""

    id: str
    state: State | None
    name: str = ""


class Queue:
    """`waiting` by folder name in QM_qJobs, `active` by id; `line` has those that may start.

    `unfiled` are jobs in QM_Jobs that have ended but cannot be filed yet, with how process.log says it;
    `not_taken_over` folders of an earlier daemon's jobs that the system was in the way of. `came` and `ended` is what
    jobs that wait for others have to be told: the ids of those that are new, and who is over.
    """

    def __init__(self, settings: Settings) -> None:
        self.waiting: dict[str, Job] = {}
        self.active: dict[str, Active] = {}
        self.unfiled: list[tuple[Job, str]] = []
        self.not_taken_over: set[tuple[Place, str]] = set()
        self.sleepers = Sleepers()
        self.came: deque[str] = deque()
        self.ended: deque[Over] = deque()
        self._ids: dict[str, str] = {}
        self._names: dict[str, set[str]] = {}
        self._orders = 0
        self.line = WaitingLine(Limits(1, 0))
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Take new settings: everybody stands in line anew."""
        self.limits = machine.limits(settings)
        self.gpus = machine.gpu_numbers(settings)
        cpus = machine.cpus()
        self.all_processors = tuple(cpu.number for cpu in cpus)
        self._alike = are_alike(cpus)
        self._cpus = cpus if settings.limit_processors and can_pin(self.limits.processors) else []
        self.line.limits, self.line.one_at_a_time = self.limits, settings.launch_type == "blocking"
        for entry in self.active.values():
            if entry.job.record.id in self.line:
                self.line.add(self._ticket(entry.job))  # its tasks may be narrower, or wider, from now on
            self.offer(entry)
        for job in sorted(self.waiting.values(), key=lambda job: job.record.submitted):
            self._stand_in_line(job)

    @property
    def binds(self) -> bool:
        """Does each run get processors of its own?"""
        return bool(self._cpus)

    @property
    def limit(self) -> int:
        """MaxNbProcessors."""
        return self.limits.processors

    def width(self, job: Job) -> int:
        """The processors a job gets: what it asks for, lowered to what there is."""
        return min(job.record.effective.nb_proc, self.limit)

    # --- waiting -------------------------------------------------------------------------------------------

    def wait(self, job: Job) -> None:
        """A job waits, from now on or with a new record."""
        self.waiting[job.folder] = job
        self._ids[job.record.id] = job.folder
        self._names.setdefault(job.record.name, set()).add(job.record.id)
        self.sleepers.wake(job.record.id)
        self._stand_in_line(job)

    def _stand_in_line(self, job: Job) -> None:
        if self._may_start(job):
            self.line.add(self._ticket(job))  # who stands there already keeps the turn
        else:
            self.line.remove(job.record.id)

    def _may_start(self, job: Job) -> bool:
        """Is it only room that a job may lack?"""
        record, options = job.record, job.record.effective
        if record.state not in (State.PENDING, State.DEFERRED) or not self._is_due(job):
            return False
        bound = len(record.after) == len(options.after) and all(dependency.met for dependency in record.after)
        return bound and not impossible(options, self.limits)

    def _is_due(self, job: Job) -> bool:
        """May it start by the clock? It is woken when it may."""
        record = job.record
        if record.not_before is None or record.not_before <= time.time():
            return True
        self.sleepers.sleep(record.id, record.not_before, longest_wait(record))
        return False

    def _ticket(self, job: Job) -> Ticket:
        record, options = job.record, job.record.effective
        self._orders += 1
        return Ticket.of(
            record.id,
            Need(self.width(job), options.mem or 0, options.gpus),
            options.priority,
            record.submitted,
            self._orders,
            wall_time=options.wall_time or None,
            group=group_of(options, record.name),
            at_most=options.max_parallel,
        )

    def leave(self, folder: str) -> Job | None:
        """A job waits no longer."""
        job = self.waiting.pop(folder, None)
        if job is not None:
            self._ids.pop(job.record.id, None)
            self.line.remove(job.record.id)
            self.sleepers.wake(job.record.id)
            if job.record.id not in self.active:
                self._forget_name(job)
        return job

    def waiting_by_id(self, job_id: str) -> Job | None:
        """The waiting job with that id."""
        folder = self._ids.get(job_id)
        return self.waiting.get(folder) if folder is not None else None

    def knows(self, job_id: str) -> bool:
        """Is a job with that id waiting or active?"""
        return job_id in self._ids or job_id in self.active

    def is_idle(self) -> bool:
        """Is nothing active and nothing to be started by itself?

        Held jobs do not count, nor those that may not begin yet (key `begin`), nor who waits for such jobs, or for
        jobs that are not there. A job that waits for its next attempt does.
        """
        if self.active or len(self.line) or self.came or self.ended:
            return False
        return not any(job.record.state is State.DEFERRED for job in self.waiting.values())

    def live(self, job_id: str) -> Job | None:
        """The waiting or active job with that id."""
        entry = self.active.get(job_id)
        return entry.job if entry is not None else self.waiting_by_id(job_id)

    def named(self, name: str) -> Iterator[Job]:
        """The waiting and active jobs submitted under that name."""
        for job_id in self._names.get(name, ()):
            if (job := self.live(job_id)) is not None:
                yield job

    # --- active --------------------------------------------------------------------------------------------

    def activate(self, entry: Active) -> None:
        """A job is active from now on."""
        record = entry.job.record
        self.active[record.id] = entry
        self._names.setdefault(record.name, set()).add(record.id)

    def deactivate(self, entry: Active) -> None:
        """Nothing of it runs any more; whether it is filed or waits again is decided by others."""
        record = entry.job.record
        self.active.pop(record.id, None)
        self.line.remove(record.id)
        for going in entry.runs.values():
            self.sleepers.wake(going.start.task.key)
        if record.id not in self._ids:
            self._forget_name(entry.job)

    def _forget_name(self, job: Job) -> None:
        known = self._names.get(job.record.name)
        if known is not None:
            known.discard(job.record.id)
            if not known:
                del self._names[job.record.name]

    def offer(self, entry: Active) -> None:
        """An active array stands in line while it has tasks that may start."""
        job_id = entry.job.record.id
        may = entry.book is not None and entry.book.has_next(len(entry.runs)) and entry.wanted is None
        if not may or entry.paused or entry.resuming or entry.gone or job_id not in self.active:
            self.line.remove(job_id)
        elif job_id not in self.line:
            self.line.add(self._ticket(entry.job))

    def entry_of(self, key: str) -> Active | None:
        """The active job to which the run with that key belongs."""
        return self.active.get(key.partition(".")[0])

    # --- room ----------------------------------------------------------------------------------------------

    def occupied(self) -> list[Occupied]:
        """What runs, or is paused and keeps its memory and its GPUs."""
        now = time.monotonic()
        found = []
        for entry in self.active.values():
            need = entry.need._replace(processors=0) if entry.paused else entry.need
            for going in entry.runs.values():
                left = going.wall_end - now if going.wall_end is not None else None
                found.append(Occupied(need, going.order, left, entry.group))
        return found

    def has_room_for(self, entry: Active) -> bool:
        """May a paused job go on now?"""
        used = sum(other.need.processors for other in self.occupied())
        if self.line.one_at_a_time and used:
            return False
        return min(entry.job.record.nb_proc * len(entry.runs), self.limit) <= self.limit - used

    def next_to_start(self, available: Callable[[], int]) -> str | None:
        """The id of the job to start now (of an active array: the next task of it), or None.

        `available` is how many bytes of memory the machine has left.
        """
        if not len(self.line):
            return None
        return self.line.next_to_start(self.occupied(), available)

    def choose_processors(self, width: int) -> tuple[int, ...]:
        """The processors that a run of that width gets for itself; none where it is not bound to any."""
        if not self._cpus:
            return ()
        going = (run for entry in self.active.values() if not entry.paused for run in entry.runs.values())
        taken = {number for run in going for number in run.start.processors}
        if not self._alike:
            return choose(self._cpus, taken, width)
        free = [number for number in self.all_processors if number not in taken]
        return tuple(free[:width]) if len(free) >= width else ()

    def choose_gpus(self, number: int) -> tuple[int, ...] | None:
        """The GPUs that a run gets for itself; None where there are none to hand out."""
        if not self.gpus:
            return None
        going = (run for entry in self.active.values() for run in entry.runs.values())
        taken = {number for run in going for number in run.start.gpus or ()}
        return tuple(free for free in self.gpus if free not in taken)[:number]
