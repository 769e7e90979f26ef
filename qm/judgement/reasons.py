"""Why does a job wait? One sentence for whoever looks at the queue.

Invariant: this only explains what the waiting line and the reception decide; nothing is decided here. All facts come
from records and settings, so whoever can read the spool can tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf

from qm.judgement.room import Limits, Need, Occupied, less, total
from qm.vocabulary.options import Options
from qm.vocabulary.record import Dependency, Record
from qm.vocabulary.states import State
from qm.vocabulary.text import size
from qm.vocabulary.values import awaited

_ONE_PROCESSOR = Need(1)


@dataclass(frozen=True, slots=True)
class Situation:
    """What holds for the whole queue. `now` is UTC epoch seconds.

    `disk_short` says in a sentence that no job is started for want of disk space; `available` is how many bytes of
    memory the machine has left, None if nobody looked.
    """

    served: bool
    draining: bool
    limits: Limits
    running: tuple[Occupied, ...]
    one_at_a_time: bool = False
    disk_short: str = ""
    available: int | None = None
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in QM_qJobs: what the reasons depend on. `reason` is what its record says already."""

    state: State
    need: Need = _ONE_PROCESSOR
    name: str = ""
    group: str = ""
    at_most: int | None = None
    reason: str = ""
    not_before: float | None = None
    after: tuple[Dependency, ...] = ()


def need_of(record: Record) -> Need:
    """What a job gets while it runs; of an array, what each task gets."""
    options = record.effective
    return Need(record.nb_proc, options.mem or 0, options.gpus)


def group_of(options: Options, name: str) -> str:
    """The group that max_parallel counts: without the key `group`, jobs of one name are one."""
    return options.group or (name if options.max_parallel is not None else "")


def waiting_of(record: Record) -> Waiting:
    """What its record says of a waiting job."""
    options = record.effective
    unbound = (Dependency(awaited(text)[0]) for text in options.after[len(record.after) :])
    return Waiting(
        state=record.state,
        need=need_of(record),
        name=record.name,
        group=group_of(options, record.name),
        at_most=options.max_parallel,
        reason=record.reason,
        not_before=record.not_before,
        after=(*record.after, *unbound),
    )


def occupied_of(record: Record, order: int = 0) -> list[Occupied]:
    """What an active job has, for a Situation; of an array, what each of its running tasks has."""
    need = need_of(record)
    if record.state is State.PAUSED:
        need = need._replace(processors=0)
    occupied = Occupied(need, order, group=group_of(record.effective, record.name))
    return [occupied] * (1 if record.tasks is None else record.tasks.running)


def why_waiting(situation: Situation, jobs: Iterable[Waiting]) -> list[str]:
    """A reason for each of the waiting jobs, which stand in the order in which they will start."""
    explainer = _Explainer(situation)
    return [explainer.reason(job) for job in jobs]


def own_hindrance(record: Record) -> str:
    """What keeps this job alone from starting, whom it waits for and until when, as its record says it."""
    begins = [f"begins at {_moment(record.not_before, now=0.0)}"] if record.not_before is not None else []
    return "; ".join([*_after(record.after), *begins])


class _Explainer:
    """Goes through the waiting jobs in order.

    `ahead` are those so far that wait for nothing but room; `kept_for` is the first of them, if it has none.
    """

    def __init__(self, situation: Situation) -> None:
        self.situation = situation
        self.limits = situation.limits
        used = total(situation.running)
        self.free = less(self.limits.all, used)
        self.groups = Counter(one.group for one in situation.running if one.group)
        self.full: set[str] = set()
        self.ahead = 0
        self.kept_for = ""
        self.for_all = self._for_all(busy=used.processors > 0)

    def _for_all(self, busy: bool) -> list[str]:
        """What keeps every job from starting."""
        if self.situation.draining:
            return ["draining: no job is started"]
        if self.situation.one_at_a_time and busy:
            return ["one job at a time: another one runs"]
        return [self.situation.disk_short] if self.situation.disk_short else []

    def reason(self, job: Waiting) -> str:
        if job.state is State.HELD:
            return job.reason or "held, until it is released"
        if not self.situation.served:
            return "QueueManager is not running"
        if job.state is State.ARRIVING:
            return job.reason or "is being copied in"
        own = [*_after(job.after), *self._never(job.need), *self._group(job), *self._time(job)]
        room = self.for_all or self._room(job.need, first=not own and not self.ahead)
        if own:
            return "; ".join(room + own)
        fits = not room
        if not self.for_all and self.ahead:
            room = [*room, f"{self.ahead} job{'s' if self.ahead > 1 else ''} before it"]
            if fits and self.kept_for and self.free.processors:
                room.append(f"what is free is kept for `{self.kept_for}`")
        elif not fits:
            self.kept_for = job.name
        self.ahead += 1
        return "; ".join(room) or "starts next"

    def _never(self, need: Need) -> list[str]:
        """What it asks for beyond the limits; processors are none of it, since they are lowered."""
        found = []
        if need.memory > self.limits.memory:
            found.append(f"needs {size(need.memory)} of memory, MaxMemory is {size(self.limits.memory)}")
        if need.gpus > self.limits.gpus:
            found.append(f"needs {_gpus(need.gpus)}, MaxGPUs is {self.limits.gpus}")
        return found

    def _room(self, need: Need, first: bool) -> list[str]:
        """What it needs that is not free. While no processor is free the first one says so for all others."""
        free, limits = self.free, self.limits
        found = []
        processors = min(need.processors, limits.processors)
        if processors > free.processors and (free.processors or first):
            found.append(f"{free.processors} of {limits.processors} processors free, needs {processors}")
        if free.memory < need.memory <= limits.memory:
            found.append(f"{size(free.memory)} of {size(limits.memory)} memory free, needs {size(need.memory)}")
        elif self.situation.available is not None and self.situation.available < need.memory <= limits.memory:
            left = size(self.situation.available)
            found.append(f"the machine has {left} of memory left, needs {size(need.memory)}")
        if free.gpus < need.gpus <= limits.gpus:
            found.append(f"{free.gpus} of {_gpus(limits.gpus)} free, needs {need.gpus}")
        return found

    def _group(self, job: Waiting) -> list[str]:
        if not job.group:
            return []
        running = self.groups[job.group]
        if running and running >= min(self.limits.groups.get(job.group, inf), job.at_most or inf):
            self.full.add(job.group)
            return [f"group `{job.group}` has its {running} running"]
        return [f"behind another job of group `{job.group}`"] if job.group in self.full else []

    def _time(self, job: Waiting) -> list[str]:
        deferred = job.state is State.DEFERRED
        if job.not_before is None:
            return [job.reason or "waits for its next run"] if deferred else []
        if job.not_before <= self.situation.now:
            return []
        if not deferred:
            return [f"begins at {_moment(job.not_before, self.situation.now)}"]
        again = f"runs again at {_moment(job.not_before, self.situation.now, seconds=True)}"
        return [job.reason, again] if job.reason else [again]


def _after(dependencies: Sequence[Dependency]) -> list[str]:
    """What has to come first, and of that what nobody has seen yet."""
    there = [f"`{one.name}`" for one in dependencies if not one.met and one.id]
    missing = [f"`{one.name}`" for one in dependencies if not one.met and not one.id]
    found = [f"after {', '.join(there)}"] if there else []
    if missing:
        found.append(f"after {', '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not there yet")
    return found


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"


def _moment(when: float, now: float, seconds: bool = False) -> str:
    """The local time, with the date unless it is today, and with seconds if they are wanted or say something."""
    moment = datetime.fromtimestamp(int(when))
    clock = f"{moment:%H:%M:%S}" if seconds or moment.second else f"{moment:%H:%M}"
    return clock if moment.date() == datetime.fromtimestamp(now).date() else f"{moment:%Y-%m-%d} {clock}"
