"""How much of each resource there is, what jobs ask for and have, and when enough of it becomes free.

Invariant: amounts are whole and never below 0: who asks for nothing of a resource does not wait for it, even where
more is in use than there is (a limit was lowered).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple

_NO_GROUPS: Mapping[str, int] = MappingProxyType({})


class Need(NamedTuple):
    """An amount of each resource; memory in bytes. What a job asks for has at least one processor."""

    processors: int
    memory: int = 0
    gpus: int = 0


class Occupied(NamedTuple):
    """What a running job, or one task of an array, has. A paused one has no processors, but its memory and GPUs.

    `order` is what WaitingLine.started gave when it was started; `left` how many seconds its wall_time leaves it, None
    without one, negative while it is being ended.
    """

    need: Need
    order: int
    left: float | None = None
    group: str = ""


class Limits(NamedTuple):
    """What all running jobs may have together; memory in bytes. `groups`: how many jobs of a group at a time."""

    processors: int
    memory: int
    gpus: int = 0
    groups: Mapping[str, int] = _NO_GROUPS

    @property
    def all(self) -> Need:
        """The amounts alone."""
        return Need(self.processors, self.memory, self.gpus)


def total(jobs: Iterable[Occupied]) -> Need:
    """What they have together."""
    processors = memory = gpus = 0
    for (its_processors, its_memory, its_gpus), _, _, _ in jobs:
        processors += its_processors
        memory += its_memory
        gpus += its_gpus
    return Need(processors, memory, gpus)


def less(room: Need, taken: Need) -> Need:
    """What is left; never below 0, so that who needs nothing of a resource does not wait for it."""
    left = room[0] - taken[0], room[1] - taken[1], room[2] - taken[2]
    return Need(*left) if min(left) >= 0 else Need(*(max(0, amount) for amount in left))


def fits(need: Need, room: Need) -> bool:
    """Is there enough of everything?"""
    return need[0] <= room[0] and need[1] <= room[1] and need[2] <= room[2]


def shadow(need: Need, running: Sequence[Occupied], limits: Need, used: Need) -> tuple[float, Need] | None:
    """In how many seconds `need` fits, by what their wall times leave the running jobs, and what is then left over.

    None if they do not say. When a paused job ends nobody knows.
    """
    ends = sorted((max(0.0, left), has) for has, _, left, _ in running if left is not None and has.processors)
    for end, ended in groupby(ends, key=itemgetter(0)):
        for _, has in ended:
            used = Need(used.processors - has.processors, used.memory - has.memory, used.gpus - has.gpus)
        room = less(limits, used)
        if fits(need, room):
            return end, less(room, need)
    return None
