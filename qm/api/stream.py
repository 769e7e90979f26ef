"""imap's results, one by one: on their way (Stream), and as they are taken (ResultIterator).

Invariant: every item that was fed in gets exactly one outcome, or `fail` gives one to all that have none: nobody waits
for ever. Outcomes arrive in the thread that watches the queue; items in that of the feeder (qm.api.feeding).
"""

from __future__ import annotations

import multiprocessing
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qm.api.asyncresults import Outcome, nothing


class Stream:
    """The outcomes of imap's items on their way, in the order of the items or (`ordered` False) as they come.

    `look_ahead`: how many items may be fed in before somebody takes their results, so that an endless iterable works.
    `ends`: is it known that the iterable has an end?
    """

    def __init__(self, *, ordered: bool, look_ahead: int, ends: bool) -> None:
        self._ordered = ordered
        self._look_ahead = look_ahead
        self._ends = ends
        self._changed = threading.Condition()
        self._there: deque[Outcome] = deque()
        self._early: dict[int, Outcome | None] = {}
        self._fed = self._arrived = self._taken = self._next = 0
        self._total: int | None = None
        self._broken: BaseException | None = None
        self._freely = self._unwanted = False
        self.when_over: Callable[[], None] = nothing
        """Called when every item has an outcome, wherever that is; it must not wait."""
        self.cancel: Callable[[], None] = nothing
        """Run nothing more of this call; what runs of it is ended."""

    # --- who feeds -----------------------------------------------------------------------------------------

    def room(self, items: int) -> bool:
        """Wait until so many more items may be fed in; False when nothing is to come any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_enough() or self._fits(items))
            self._fed += items
            return not self._is_enough()

    def _is_enough(self) -> bool:
        """Is nothing more to be fed in? So it is, too, when somebody has taken what they wanted of an endless thing."""
        return self._broken is not None or (self._unwanted and self._taken > 0 and not self._ends)

    def _fits(self, items: int) -> bool:
        over = self._arrived if self._freely or self._unwanted else self._taken
        return self._fed - over + items <= self._look_ahead or self._fed == over

    def feed_freely(self) -> None:
        """Do not wait for results to be taken: somebody waits for the end of all work before he takes them."""
        with self._changed:
            self._freely = True
            self._changed.notify_all()

    def finish(self, total: int, error: BaseException | None = None) -> None:
        """`total` items were fed in; `error` is what the iterable raised behind them."""
        with self._changed:
            self._total = total if error is None else total + 1
            if error is not None:
                self._add(total, (False, error))
            if self._broken is not None:
                self._fill(self._broken)
            self._tell()

    # --- who knows the outcomes ----------------------------------------------------------------------------

    def put(self, first: int, outcomes: Sequence[Outcome]) -> None:
        with self._changed:
            for index, outcome in enumerate(outcomes, first):
                self._add(index, outcome)
            self._tell()

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self._broken = error
            if self._total is not None:
                self._fill(error)
            self._tell()

    def _tell(self) -> None:
        self._changed.notify_all()
        if self._is_over():
            act, self.when_over, self.cancel = self.when_over, nothing, nothing
            act()

    def _fill(self, error: BaseException) -> None:
        for index in range(self._next, self._total or 0):
            self._add(index, (False, error))

    def _add(self, index: int, outcome: Outcome) -> None:
        if index < self._next or index in self._early:
            return
        self._arrived += 1
        if not self._ordered:
            self._there.append(outcome)
        self._early[index] = outcome if self._ordered else None
        while self._next in self._early:
            following = self._early.pop(self._next)
            if following is not None:
                self._there.append(following)
            self._next += 1
        if self._unwanted:
            self._there.clear()

    # --- who takes them ------------------------------------------------------------------------------------

    def take(self, timeout: float | None) -> Outcome | None:
        """The next outcome; None behind the last. multiprocessing.TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._there or self._is_over(), timeout):
                raise multiprocessing.TimeoutError
            if not self._there:
                return None
            self._taken += 1
            self._changed.notify_all()
            return self._there.popleft()

    def abandon(self) -> None:
        """Nobody takes results any more. What was fed in is done, as with multiprocessing: it may have effects."""
        with self._changed:
            self._unwanted = True
            self._there.clear()
            self._changed.notify_all()

    def _is_over(self) -> bool:
        return self._total is not None and self._arrived >= self._total

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every item has an outcome."""
        with self._changed:
            self._changed.wait_for(self._is_over, timeout)


class ResultIterator(Iterator[Any]):
    """The results one after the other. An item that failed raises at its place; the next call goes on behind it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __iter__(self) -> ResultIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next result; StopIteration, the item's exception, or multiprocessing.TimeoutError after `timeout` s.

        A KeyboardInterrupt while it waits cancels what is left of this call.
        """
        try:
            outcome = self._stream.take(timeout)
        except KeyboardInterrupt:
            self._stream.cancel()
            raise
        if outcome is None:
            raise StopIteration
        succeeded, value = outcome
        if succeeded:
            return value
        raise value

    def __del__(self) -> None:
        self._stream.abandon()
