"""The waiting line: which job starts next.

The rule of order, written where it is applied:

1. Higher priority first, then earlier arrival.
2. When the first job is too wide for the free processors, later ones that fit may start, but only on the
   processors that the first one leaves over: those started since it came, together with the newcomer, must
   fit beside it. So everything that ran before it came ends some day, and it starts; it can never starve.
3. Never more processors than the limit; in blocking mode one job at a time.

Jobs of one width stand in a heap of their own, so a choice among 20,000 costs one look per width.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Ticket(NamedTuple):
    """A place in the line, ordered as jobs start: `key` is the job's folder name in QM_qJobs."""

    rank: int
    submitted: float
    order: int
    key: str
    width: int

    @classmethod
    def of(cls, key: str, width: int, priority: int, submitted: float, order: int) -> Ticket:
        """A ticket for a job `width` processors wide; `order` tells jobs of one instant apart."""
        return cls(-priority, submitted, order, key, width)


@dataclass(frozen=True, slots=True)
class Occupied:
    """A running job as the line sees it: how wide it is and when (UTC epoch seconds) it was started."""

    width: int
    started: float


class WaitingLine:
    """The jobs that may start, in order. `limit` is MaxNbProcessors; wider jobs must have been lowered to it."""

    def __init__(self, limit: int, one_at_a_time: bool = False) -> None:
        self.limit = limit
        self.one_at_a_time = one_at_a_time
        self._tickets: dict[str, Ticket] = {}
        self._heaps: dict[int, list[Ticket]] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, key: str) -> bool:
        return key in self._tickets

    def add(self, ticket: Ticket) -> None:
        """Stand in line; a second ticket for one key replaces the first."""
        self._tickets[ticket.key] = ticket
        heapq.heappush(self._heaps.setdefault(ticket.width, []), ticket)

    def remove(self, key: str) -> None:
        """Leave the line; unknown keys are no error."""
        self._tickets.pop(key, None)

    def next_to_start(self, running: Iterable[Occupied]) -> str | None:
        """The key of the job to start now, or None."""
        if not self._tickets:
            return None
        occupied = list(running)
        if self.one_at_a_time and occupied:
            return None
        free = self.limit - sum(job.width for job in occupied)
        if free < 1:
            return None
        heads = [head for width in list(self._heaps) if (head := self._head(width))]
        first = min(heads)
        if first.width <= free:
            return first.key
        younger = sum(job.width for job in occupied if job.started >= first.submitted)
        spare = min(free, self.limit - first.width - younger)
        fitting = [head for head in heads if head.width <= spare]
        return min(fitting).key if fitting else None

    def _head(self, width: int) -> Ticket | None:
        """The first valid ticket of this width; tickets that were removed or replaced fall out here."""
        heap = self._heaps[width]
        while heap and self._tickets.get(heap[0].key) is not heap[0]:
            heapq.heappop(heap)
        if heap:
            return heap[0]
        del self._heaps[width]
        return None
