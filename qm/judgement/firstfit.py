"""A line of entries in order that finds the first one that fits, without looking at each.

Invariant: the entries stand in blocks, in order. A block knows which kinds of entries it holds, and the least that any
of them asks for; both may be out of date only in that they tell of entries that were removed. So a block that is passed
over holds nothing that was looked for, and one that was looked through in vain is described anew.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Set
from math import inf
from types import MappingProxyType
from typing import NamedTuple

Lane = tuple[str, int | None] | None
"""Jobs of one group that say the same `at_most`; None is the lane of all jobs without a group."""

BLOCK = 256
"""Entries of a block, at most."""


class Kind(NamedTuple):
    """What is alike in entries that fit or do not fit together. `wall` is infinite for who gives no wall_time."""

    memory: int
    gpus: int
    wall: float
    lane: Lane


class Entry(NamedTuple):
    """One who stands in line, in the order of these fields. `key` is unique, so no comparison looks further."""

    rank: int
    submitted: float
    order: int
    key: str
    kind: Kind


class Wanted(NamedTuple):
    """What is looked for: who fits into `memory` and `gpus`, and either ends within `until` or fits beside as well.

    Nobody is wanted of the lanes `closed`, and of those that are in `before`, only who comes before that entry.
    """

    memory: float = inf
    gpus: float = inf
    until: float = inf
    memory_beside: float = -1
    gpus_beside: float = -1
    closed: Set[Lane] = frozenset()
    before: Mapping[Lane, Entry] = MappingProxyType({})


class _Block:
    """Up to BLOCK entries, of which kinds they are, and the least that any of them asks for."""

    __slots__ = ("entries", "gpus", "kinds", "memory", "stale", "wall")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.describe()

    def describe(self) -> None:
        self.kinds = {entry.kind for entry in self.entries}
        self.memory = min(kind.memory for kind in self.kinds)
        self.gpus = min(kind.gpus for kind in self.kinds)
        self.wall = min(kind.wall for kind in self.kinds)
        self.stale = False

    def add(self, entry: Entry) -> None:
        insort(self.entries, entry)
        kind = entry.kind
        if kind not in self.kinds:
            self.kinds.add(kind)
            self.memory = min(self.memory, kind.memory)
            self.gpus = min(self.gpus, kind.gpus)
            self.wall = min(self.wall, kind.wall)

    def find(self, wanted: Wanted) -> Entry | None:
        most, gpus_most, until, beside, gpus_beside, closed, before = wanted
        if self.memory > most or self.gpus > gpus_most:
            return None
        if self.wall > until and (self.memory > beside or self.gpus > gpus_beside):
            return None
        good = {
            kind
            for kind in self.kinds
            if kind[0] <= most
            and kind[1] <= gpus_most
            and (kind[2] <= until or (kind[0] <= beside and kind[1] <= gpus_beside))
            and kind[3] not in closed
        }
        if good:
            for entry in self.entries:
                kind = entry[4]
                if kind in good and (kind[3] not in before or entry < before[kind[3]]):
                    return entry
        if self.stale:
            self.describe()
        return None


class FirstFit:
    """The entries of one line."""

    __slots__ = ("_blocks", "_lasts")

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._lasts: list[Entry] = []  # of each block

    def __bool__(self) -> bool:
        return bool(self._blocks)

    @property
    def first(self) -> Entry:
        """The smallest entry; IndexError if there is none."""
        return self._blocks[0].entries[0]

    def add(self, entry: Entry) -> None:
        """Stand in line; an entry with this key must not be there."""
        if not self._blocks:
            self._blocks, self._lasts = [_Block([entry])], [entry]
            return
        at = min(bisect_left(self._lasts, entry), len(self._blocks) - 1)
        block = self._blocks[at]
        block.add(entry)
        if len(block.entries) > BLOCK:
            half = BLOCK // 2
            self._blocks[at : at + 1] = [_Block(block.entries[:half]), _Block(block.entries[half:])]
            self._lasts.insert(at, block.entries[half - 1])
            at += 1
        self._lasts[at] = self._blocks[at].entries[-1]

    def remove(self, entry: Entry) -> None:
        """Leave the line; the entry must be there."""
        at = bisect_left(self._lasts, entry)
        block = self._blocks[at]
        del block.entries[bisect_left(block.entries, entry)]
        block.stale = True
        if block.entries:
            self._lasts[at] = block.entries[-1]
        else:
            del self._blocks[at], self._lasts[at]

    def find(self, wanted: Wanted, before: Entry | None = None) -> Entry | None:
        """The first entry that fits and is smaller than `before`."""
        for block in self._blocks:
            if before is not None and before < block.entries[0]:
                return None
            found = block.find(wanted)
            if found is not None:
                return found if before is None or found < before else None
        return None
