"""The tasks of one active array, in memory: which are still to be started, which wait, what became of the others.

Invariant: `.qm/tasks.jsonl` says the same, so a daemon that comes later knows as much. Of a task that never began,
and of one that is done, nothing is kept here but its number, or not even that: an array may have a million.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from qm.spool.tasks import TaskEntry
from qm.vocabulary.arrays import ArraySpec
from qm.vocabulary.record import Tasks
from qm.vocabulary.states import State

_GOING = (State.RUNNING, State.PAUSED)


class Book:
    """`entries` are the newest of the tasks that have begun and are not done, `written` is what was known at first.

    `earlier` is how many were done before the last `qm retry`; `cpu_seconds` and `peak_memory` (bytes) are what all
    that ended have used together, and the most that one has.
    """

    def __init__(self, spec: ArraySpec, written: dict[int, TaskEntry], earlier: int = 0) -> None:
        self.spec = spec
        self.entries: dict[int, TaskEntry] = {}
        self.again: deque[int] = deque()
        self.waiting: set[int] = set()
        self.total = len(spec)
        self.done = 0
        self.earlier = earlier
        self.cpu_seconds = 0.0
        self.peak_memory = 0
        self.bad: dict[int, State] = {}
        """Those that ended otherwise than done."""
        numbers = set(spec) if written else set()
        known = {number: entry for number, entry in written.items() if number in numbers}
        for entry in known.values():
            self.note(entry)
        self._fresh: Iterator[int] = iter([number for number in spec if number not in known] if known else spec)
        self._next: int | None = next(self._fresh, None)

    def has_next(self, running: int) -> bool:
        """May another task be started, while so many run?"""
        room = self.spec.at_a_time is None or running < self.spec.at_a_time
        return room and (bool(self.again) or self._next is not None)

    def take_next(self) -> int:
        """The number of the task to start now; has_next must hold."""
        if self.again:
            return self.again.popleft()
        number = self._next
        if number is None:
            raise IndexError("no task is left")
        self._next = next(self._fresh, None)
        return number

    def note(self, entry: TaskEntry) -> None:
        """What became of a task."""
        number = entry.task
        self.waiting.discard(number)
        self.bad.pop(number, None)
        if entry.state not in (*_GOING, State.PENDING):
            self.cpu_seconds += entry.cpu_seconds or 0.0
            self.peak_memory = max(self.peak_memory, entry.peak_memory or 0)
        if entry.state is State.DONE:
            self.done += 1
            self.entries.pop(number, None)
            return
        self.entries[number] = entry
        if entry.state is State.DEFERRED:
            self.waiting.add(number)
        elif entry.state is State.PENDING:
            self.again.append(number)
        elif entry.state not in _GOING:
            self.bad[number] = entry.state

    def due(self, number: int) -> None:
        """A task that waited may start."""
        if number in self.waiting:
            self.waiting.discard(number)
            self.again.append(number)

    def is_over(self) -> bool:
        """Is there nothing left to start, now or later?"""
        return not (self.again or self.waiting) and self._next is None

    def tasks(self, running: int) -> Tasks:
        """The summary for the record."""
        return Tasks(self.total, self.done, len(self.bad), running, self.earlier)
