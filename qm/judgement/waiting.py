"""The waiting line: which job starts next.

The rule of order, written where it is applied:

1. Higher priority first, then earlier arrival.
2. A job whose group is full is passed over and reserves nothing; later ones of its group do not pass it. A job that
   asks for more than the limits is passed over, too, as it could never start.
3. The first of the others starts as soon as it fits: into what is free of processors, memory and GPUs, and, if it
   asks for memory, into what the machine really has left.
4. While it does not fit, it has a reservation, and later ones that fit now may start if they do not delay it (EASY
   backfill: Lifka, "The ANL/IBM SP scheduling system", 1995; Slurm's sched/backfill with a single reservation):
   - Where the wall_time of what runs says when it will fit (the shadow time), a later one may start if its
     wall_time is over by then, or if it takes only what is left over beside the first at that moment.
   - Where nothing says so, a later one may only take what is left over beside the first and beside all that was
     started since the first came to the head of the line.
   - Where the first fits but for memory that others use on the machine, later ones may ask for no memory besides:
     they would take what becomes free.
   - The last place in the group of the first is kept for it.
5. In blocking mode nothing starts beside a running job.

Invariant: never more than the limits. What ran before the first came to the head ends some day, and what was started
since ends before the shadow time or fits beside the first: so it starts, whatever stream of jobs of its priority or a
lower one passes by. There is no clock here: the only times are durations that the caller passes in.

Jobs of one width stand in a line of their own (firstfit.py), so a choice among 20,000 looks at few of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from heapq import nsmallest
from math import inf
from types import MappingProxyType
from typing import NamedTuple

from qm.judgement.firstfit import Entry, FirstFit, Kind, Lane, Wanted
from qm.judgement.room import Limits, Need, Occupied, fits, less, shadow, total

__all__ = ["Limits", "Need", "Occupied", "Ticket", "WaitingLine"]


class Ticket(NamedTuple):
    """A place in the line, ordered as jobs start. `key` is the job's id, also of an array of which tasks remain.

    `order` tells jobs of one instant apart; `wall_time` is in seconds. `group` is "" without one; of a group at most
    `at_most` may run when this job starts (None: only what Limits.groups says counts).
    """

    rank: int
    submitted: float
    order: int
    key: str
    need: Need
    wall_time: float | None
    group: str
    at_most: int | None

    @classmethod
    def of(
        cls,
        key: str,
        need: Need,
        priority: int,
        submitted: float,
        order: int,
        wall_time: float | None = None,
        group: str = "",
        at_most: int | None = None,
    ) -> Ticket:
        """A ticket for a job of that priority: higher comes first."""
        return cls(-priority, submitted, order, key, need, wall_time, group, at_most)


class _Shut(NamedTuple):
    """The lanes that are full, and those out of which only who comes before an entry may go."""

    closed: Set[Lane]
    before: Mapping[Lane, Entry]


_OPEN = _Shut(frozenset(), MappingProxyType({}))


class WaitingLine:
    """The jobs that may start, in order. `limits` and `one_at_a_time` may be set anew at any time."""

    def __init__(self, limits: Limits, one_at_a_time: bool = False) -> None:
        self.limits = limits
        self.one_at_a_time = one_at_a_time
        self._tickets: dict[str, Ticket] = {}
        self._lines: dict[int, FirstFit] = {}  # by width
        self._groups: dict[str, dict[int | None, FirstFit]] = {}  # by name and at_most
        self._starts = 0
        self._heads_since: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, key: str) -> bool:
        return key in self._tickets

    def add(self, ticket: Ticket) -> None:
        """Stand in line; a second ticket for one key replaces the first."""
        if (old := self._tickets.get(ticket.key)) is not None:
            self._take_out(old)
        self._tickets[ticket.key] = ticket
        entry = _entry(ticket)
        width = ticket.need.processors
        if width not in self._lines:
            self._lines[width] = FirstFit()
        self._lines[width].add(entry)
        if ticket.group:
            lanes = self._groups.setdefault(ticket.group, {})
            lanes.setdefault(ticket.at_most, FirstFit()).add(entry)

    def remove(self, key: str) -> None:
        """Leave the line; unknown keys are no error."""
        ticket = self._tickets.pop(key, None)
        if ticket is not None:
            self._heads_since.pop(key, None)
            self._take_out(ticket)

    def _take_out(self, ticket: Ticket) -> None:
        entry = _entry(ticket)
        line = self._lines[ticket.need.processors]
        line.remove(entry)
        if not line:
            del self._lines[ticket.need.processors]
        if ticket.group:
            lanes = self._groups[ticket.group]
            lanes[ticket.at_most].remove(entry)
            if not lanes[ticket.at_most]:
                del lanes[ticket.at_most]
            if not lanes:
                del self._groups[ticket.group]

    def first(self, number: int) -> list[Ticket]:
        """The first tickets, as their jobs would start one after the other."""
        return nsmallest(number, self._tickets.values())

    def started(self) -> int:
        """To be called once for each start: its number in the order of starts, for Occupied."""
        self._starts += 1
        return self._starts

    def next_to_start(self, running: Sequence[Occupied], available: Callable[[], int] | None = None) -> str | None:
        """The key of the job to start now beside what is running, or None.

        `available` tells how many bytes of memory the machine really has left; it is called at most once, and only
        when a job that asks for memory might start.
        """
        if not self._tickets:
            return None
        used = total(running)
        if self.one_at_a_time and used.processors:
            return None
        limits = self.limits.all
        free = less(limits, used)
        if not free.processors:
            return None
        shut = self._shut(running)
        head = self._head(limits, shut)
        if head is None:
            return None
        need = self._tickets[head.key].need
        until = 0.0
        if fits(need, free):
            if not need.memory or available is None or need.memory <= available():
                self._heads_since.pop(head.key, None)  # of an array, the next task comes to the head anew
                return head.key
            room, spare = free._replace(memory=0), self._spare(head.key, limits, running)
        else:
            room, spare = free, self._spare(head.key, limits, running)
            until, spare = shadow(need, running, limits, used) or (until, spare)
        shut = self._kept(head.kind.lane, running, shut)
        found = self._find(room, spare, until, shut)
        if found is not None and found.kind.memory and available is not None:
            left = max(0, available())
            if found.kind.memory > left:
                found = self._find(room._replace(memory=min(room.memory, left)), spare, until, shut)
        return found.key if found is not None else None

    def _head(self, limits: Need, shut: _Shut) -> Entry | None:
        """The first that is not passed over."""
        first = min(line.first for line in self._lines.values())
        if shut is _OPEN and fits(self._tickets[first.key].need, limits):
            return first
        return self._find(limits, limits, inf, shut)

    def _spare(self, key: str, limits: Need, running: Sequence[Occupied]) -> Need:
        """What is left over beside the job at the head and all that was started since it came there."""
        since = self._heads_since.setdefault(key, self._starts)
        younger = total(job for job in running if job.order > since)
        return less(less(limits, self._tickets[key].need), younger)

    def _find(self, room: Need, spare: Need, until: float, shut: _Shut) -> Entry | None:
        """The first that fits into `room`, and ends within `until` seconds or fits into `spare` as well."""
        if until <= 0 and not spare.processors:
            return None
        either = Wanted(room.memory, room.gpus, until, spare.memory, spare.gpus, *shut)
        short = either._replace(memory_beside=-1)
        best: Entry | None = None
        for width, line in self._lines.items():
            if width <= room.processors:
                found = line.find(either if width <= spare.processors else short, best)
                best = found if found is not None else best
        return best

    def _shut(self, running: Sequence[Occupied]) -> _Shut:
        """Whose groups are full.

        Of a group whose jobs differ in `at_most`, one lane may be full and another not: nobody in the other may pass
        the first of those that wait in the full one, or that one would wait for ever.
        """
        if not self._groups:
            return _OPEN
        closed: set[Lane] = set()
        before: dict[Lane, Entry] = {}
        for group, count in Counter(job.group for job in running if job.group in self._groups).items():
            lanes = self._groups[group]
            full = [at_most for at_most in lanes if count >= self._most(group, at_most)]
            closed.update((group, at_most) for at_most in full)
            if 0 < len(full) < len(lanes):
                first = min(lanes[at_most].first for at_most in full)
                before.update(((group, at_most), first) for at_most in lanes if at_most not in full)
        return _Shut(closed, before) if closed else _OPEN

    def _kept(self, lane: Lane, running: Sequence[Occupied], shut: _Shut) -> _Shut:
        """The same, and the last place in the group of the one at the head is kept for it: it would lose its turn."""
        if lane is None or sum(job.group == lane[0] for job in running) + 1 < self._most(*lane):
            return shut
        return _Shut(shut.closed | {(lane[0], at_most) for at_most in self._groups[lane[0]]}, shut.before)

    def _most(self, group: str, at_most: int | None) -> float:
        return min(self.limits.groups.get(group, inf), at_most or inf)


def _entry(ticket: Ticket) -> Entry:
    rank, submitted, order, key, need, wall_time, group, at_most = ticket
    wall = inf if wall_time is None else wall_time
    return Entry(rank, submitted, order, key, Kind(need.memory, need.gpus, wall, (group, at_most) if group else None))
