"""imap's other half: takes items out of an iterable, in a thread of its own, and makes chunks of them.

Invariant: however it ends (the iterable is exhausted or raises, nobody wants results, the pool is ended, an item cannot
be pickled), the stream of results learns how many items there were and what became of those without a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qm.api.stream import Stream


class Feeder:
    """`add(items, first)` and `complete()` are the runner's, of this call; `waits`: feed no faster than results go."""

    def __init__(
        self,
        items: Iterator[Any],
        size: int,
        stream: Stream,
        add: Callable[[Sequence[Any], int], None],
        complete: Callable[[], None],
        waits: bool,
    ) -> None:
        self._items, self._size = items, size
        self._stream = stream
        self._add, self._complete, self._waits = add, complete, waits
        self._error: BaseException | None = None
        self._exhausted = False

    def run(self) -> None:
        """Until the iterable has nothing more, or nothing more is wanted."""
        total = 0
        try:
            while not self._exhausted and (not self._waits or self._stream.room(self._size)):
                items = self._take()
                if items:
                    self._add(items, total)
                    total += len(items)
            self._complete()
        except Exception as err:  # noqa: BLE001 (whatever a __reduce__ raises is the outcome)
            self._stream.fail(err)
        finally:
            self._stream.finish(total, self._error)

    def _take(self) -> list[Any]:
        items: list[Any] = []
        try:
            for item in self._items:
                items.append(item)
                if len(items) == self._size:
                    return items
        except BaseException as err:  # noqa: BLE001 (the user's generator: who iterates over the results gets it)
            self._error = err
            items.clear()  # as with multiprocessing: a chunk that is not whole is not run
        self._exhausted = True
        return items
