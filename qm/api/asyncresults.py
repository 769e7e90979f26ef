"""What Pool's calls give back: results that are there later, as those of multiprocessing.

    AsyncResult       of apply_async, map_async, starmap_async
    (ResultIterator   of imap and imap_unordered: qm.api.stream)

Invariants: every item gets exactly one outcome, or `fail` gives one to all that have none: nobody waits for ever, and
nothing that never came is a None (but for `errors="none"`, which asks for it). Outcomes arrive in the thread that
watches the queue; nothing here calls the user's code in that thread.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Protocol, cast

Outcome = tuple[bool, Any]
"""(True, the value) or (False, the exception)."""


class Sink(Protocol):
    """Where the outcomes of one call go."""

    def put(self, first: int, outcomes: Sequence[Outcome]) -> None:
        """Those of the items from index `first` on. What has an outcome already keeps it."""

    def fail(self, error: BaseException) -> None:
        """Nothing more comes: this is what became of all items without an outcome."""


class Callbacks:
    """Calls the users' callbacks, one after the other, in a thread of its own; the thread is made for the first."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def call(self, callback: Callable[[Any], object], value: Any, then: Callable[[], None]) -> None:
        """Call `callback(value)` soon, and then `then`. What it raises is shown as that of any thread (threading)."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="qm.Pool callbacks", daemon=True)
                self._thread.start()
        self._queue.put(functools.partial(_one_callback, callback, value, then))

    def is_here(self) -> bool:
        """Is this a callback?"""
        return threading.current_thread() is self._thread

    def close(self, wait: bool) -> None:
        """No more come. `wait` until those that were to be called have been."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            if wait and thread is not threading.current_thread():
                thread.join()

    def _run(self) -> None:
        while (due := self._queue.get()) is not None:
            due()


def _one_callback(callback: Callable[[Any], object], value: Any, then: Callable[[], None]) -> None:
    try:
        callback(value)
    except BaseException:  # noqa: BLE001 (the user's code; the others' callbacks go on)
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
    finally:
        then()


class AsyncResult:
    """The results of one call. `count` items were asked for; `single`: the one result itself, not a list.

    As with multiprocessing it is ready when its callback has been called; only for callbacks, lest they wait for
    themselves, it is ready as soon as everything is known.
    """

    def __init__(
        self,
        count: int,
        *,
        single: bool = False,
        callbacks: Callbacks | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[Any], object] | None = None,
    ) -> None:
        self._outcomes: list[Outcome | None] = [None] * count
        self._left = count
        self._single = single
        self._callbacks = callbacks or Callbacks()
        self._callback, self._error_callback = callback, error_callback
        self._lock = threading.Lock()
        self._known = threading.Event()
        self._told = threading.Event()
        self._success = True
        self._value: Any = None
        self.cancel: Callable[[], None] = nothing
        """Run nothing more of this call; what runs of it is ended."""
        self.when_over: Callable[[], None] = nothing
        """Called once everything is known, wherever that is; it must not wait."""
        if not count:
            self._settle()

    # --- as multiprocessing has them -----------------------------------------------------------------------

    def ready(self) -> bool:
        """Is everything over?"""
        return self._event().is_set()

    def successful(self) -> bool:
        """Did nothing fail? ValueError while it is not over."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until everything is over, or for so many seconds."""
        self._event().wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """The result, or the exception of the item with the smallest index that failed. multiprocessing.TimeoutError.

        A KeyboardInterrupt here leaves the call as it is; Pool.map and the like cancel theirs.
        """
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        if self._success:
            return self._value
        try:
            raise self._value
        finally:
            del self  # or the exception's traceback keeps all results alive

    def _event(self) -> threading.Event:
        return self._known if self._callbacks.is_here() else self._told

    # --- for Pool ------------------------------------------------------------------------------------------

    def put(self, first: int, outcomes: Sequence[Outcome]) -> None:
        with self._lock:
            if not self._left:
                return
            end = first + len(outcomes)
            if any(self._outcomes[first:end]):  # `fail`, or a chunk that came twice
                for index, outcome in enumerate(outcomes, first):
                    self._outcomes[index] = self._outcomes[index] or outcome
                self._left = self._outcomes.count(None)
            else:  # all at once: ten thousand results are a matter of milliseconds
                self._outcomes[first:end] = outcomes
                self._left -= len(outcomes)
            if self._left:
                return
        self._settle()

    def fail(self, error: BaseException) -> None:
        self.put(0, [(False, error)] * len(self._outcomes))

    def _settle(self) -> None:
        outcomes = cast("list[Outcome]", self._outcomes)
        self._outcomes = []
        self._success = all(map(itemgetter(0), outcomes))
        failed = None if self._success else next(value for succeeded, value in outcomes if not succeeded)
        values = [value for _, value in outcomes]
        self._value = failed if failed is not None else values[0] if self._single else values
        self._known.set()
        self.when_over()
        callback = self._callback if self._success else self._error_callback
        self._callback = self._error_callback = None
        self.cancel = self.when_over = nothing
        if callback is None:
            self._told.set()
        else:
            self._callbacks.call(callback, self._value, self._told.set)


def nothing() -> None:
    """There is nothing to do."""


class Forgiving:
    """`errors="none"`: None in place of what failed, and a warning that says so."""

    def __init__(self, sink: Sink, name: str, logger: logging.Logger) -> None:
        self._sink, self._name, self._logger = sink, name, logger

    def put(self, first: int, outcomes: Sequence[Outcome]) -> None:
        for index, (succeeded, value) in enumerate(outcomes, first):
            if not succeeded:
                what = f"{type(value).__name__}: {value}"
                self._logger.warning("task %d of %s has the result None, it failed: %s", index, self._name, what)
        self._sink.put(first, [(True, value if succeeded else None) for succeeded, value in outcomes])

    def fail(self, error: BaseException) -> None:
        self._sink.fail(error)
