"""The calls of a pool: cut into chunks, given to the runner, their results handed to whoever waits for them.

Invariants: whatever happens while a call begins, its result or stream gets an outcome for every item, or the error is
raised here: nobody waits for ever. The workers end with this object, which lives as long as a result is missing, and
with the process that made it; a child that was forked from that ends nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sized
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

from qm.api import progressbar
from qm.api.asyncresults import AsyncResult, Callbacks, Forgiving, Sink
from qm.api.feeding import Feeder
from qm.api.pickling import name_of
from qm.api.runner import Runner
from qm.api.stream import ResultIterator, Stream
from qm.api.workfiles import MAP
from qm.judgement.chunks import chunk_size, count, ranges, size_for
from qm.vocabulary.errors import QMError

LOOK_AHEAD = 16
"""Chunks for each worker that imap feeds in before somebody takes results."""


class Style(NamedTuple):
    """How calls are treated: see Pool's arguments."""

    forgiving: bool
    progress: bool
    num_chunks: int | None
    logger: logging.Logger


class Calls:
    """All calls of one pool. Any thread may call its methods."""

    def __init__(self, runner: Runner, style: Style) -> None:
        self._runner = runner
        self._style = style
        self._lock = threading.Lock()
        self._open: dict[AsyncResult | Stream, int] = {}
        self._feeders: dict[threading.Thread, Stream] = {}
        self._callbacks = Callbacks()
        self._pid = os.getpid()
        self._closed = False
        self._at_exit = _ender(runner)
        self._collected = weakref.finalize(self, _abandon, self._at_exit)
        self._collected.atexit = False  # for then it is too late for new threads
        atexit.register(self._at_exit)

    def __del__(self) -> None:
        """As with multiprocessing: who forgets to end the workers is told, where Python is asked for such warnings."""
        if not self._closed and self._runner.stays and self._is_ours():
            text = f"unclosed running pool of {self._runner.workers} workers"
            warnings.warn(text, ResourceWarning, source=self, stacklevel=2)

    def _is_ours(self) -> bool:
        return os.getpid() == self._pid

    # --- how one begins ------------------------------------------------------------------------------------

    def start(
        self,
        function: Callable[..., Any],
        how: str,
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[Any], object] | None = None,
        single: bool = False,
    ) -> AsyncResult:
        """A call whose arguments are all known. `how`: workfiles.MAP, STAR or CALL; `single`: the one result itself.

        TypeError or ValueError for a wrong chunksize; QMError or OSError when it cannot be submitted.
        """
        items = iterable if isinstance(iterable, list | tuple) else list(iterable)
        size = self._size(len(items)) if chunksize is None else count("chunksize", chunksize)
        result = AsyncResult(
            len(items), single=single, callbacks=self._callbacks, callback=callback, error_callback=error_callback
        )
        if not items:
            return result
        call = None
        try:
            call = self._begin(function, how, result, len(items))
            for chunk in ranges(len(items), size):
                self._runner.add(call, items[chunk.start : chunk.stop], chunk.start)
            self._runner.complete(call)
        except BaseException as err:
            if self._came_to_nothing(call, result, err):
                raise
        return result

    def stream(
        self, function: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int, ordered: bool
    ) -> ResultIterator:
        """A call whose arguments are read while its results are taken. Errors as of `start`."""
        size = count("chunksize", chunksize)
        items = iter(iterable)
        total = len(iterable) if isinstance(iterable, Sized) else None
        stream = Stream(ordered=ordered, look_ahead=LOOK_AHEAD * self._runner.workers * size, ends=total is not None)
        call = None
        try:
            call = self._begin(function, MAP, stream, total)
            if self._runner.streams:
                self._runner.complete(call)  # workers may begin, and who cannot submit shall hear of it here
        except BaseException as err:
            if self._came_to_nothing(call, stream, err):
                raise
            stream.finish(1)
            return ResultIterator(stream)
        add, complete = (functools.partial(act, call) for act in (self._runner.add, self._runner.complete))
        feeder = Feeder(items, size, stream, add, complete, waits=self._runner.streams)
        thread = threading.Thread(target=self._feed, args=(feeder,), name="qm.Pool feeder", daemon=True)
        with self._lock:
            self._feeders[thread] = stream
        thread.start()
        return ResultIterator(stream)

    def _begin(self, function: Callable[..., Any], how: str, result: AsyncResult | Stream, total: int | None) -> int:
        if not self._is_ours():
            raise RuntimeError(f"this pool was made by process {self._pid}; make one in this process, too")
        name = name_of(function)
        sink: Sink = result
        shown = progressbar.Counted(sink, name, total, progressbar.display(name)) if self._style.progress else None
        sink = shown or sink
        if self._style.forgiving:
            sink = Forgiving(sink, name, self._style.logger)
        number = self._runner.begin(function, how, sink)
        result.when_over = functools.partial(self._over, result, number, shown)
        result.cancel = functools.partial(self._cancel, result, number, name)
        with self._lock:
            self._open[result] = number
        return number

    def _came_to_nothing(self, call: int | None, result: AsyncResult | Stream, err: BaseException) -> bool:
        """Is it to be raised at once? What cannot be pickled is the outcome instead, as with multiprocessing."""
        if call is not None:
            self._runner.cancel(call)
        result.fail(err)
        return isinstance(err, QMError | OSError) or not isinstance(err, Exception)

    def _size(self, items: int) -> int:
        """The size of a chunk if nobody says: `num_chunks`, one item a job of Grid Engine, four chunks a worker."""
        if self._style.num_chunks is not None:
            return size_for(items, self._style.num_chunks)
        return chunk_size(items, self._runner.workers) if self._runner.streams else 1

    def _feed(self, feeder: Feeder) -> None:
        try:
            feeder.run()
        finally:
            with self._lock:
                del self._feeders[threading.current_thread()]
                last = self._closed and not self._feeders
            if last:
                self._runner.close()

    # --- how they end --------------------------------------------------------------------------------------

    def _cancel(self, result: AsyncResult | Stream, call: int, name: str) -> None:
        self._runner.cancel(call)
        result.fail(CancelledError(f"{name} was cancelled"))

    def _over(self, result: AsyncResult | Stream, call: int, shown: progressbar.Counted | None) -> None:
        """Everything is known of a call. Called with the stream's lock held."""
        with self._lock:
            self._open.pop(result, None)
        self._runner.forget(call)
        if shown is not None:
            shown.close()

    def close(self) -> None:
        """No more calls will come. Those whose arguments still come go on."""
        if not self._is_ours():
            return
        with self._lock:
            self._closed = True
            idle = not self._feeders
        if idle:
            self._runner.close()

    def terminate(self) -> None:
        """What is not over is cancelled, and all workers end."""
        if not self._is_ours():
            return
        with self._lock:
            self._closed = True
            left = list(self._open)
        for result in left:
            result.fail(CancelledError("the pool was terminated"))
        self._runner.terminate()
        self._end()

    def join(self) -> None:
        """Wait for the end of all calls and workers."""
        if not self._is_ours():
            return
        with self._lock:
            feeders = dict(self._feeders)
        for stream in feeders.values():
            stream.feed_freely()
        for thread in feeders:
            thread.join()
        self._runner.join()
        self._end()

    def _end(self) -> None:
        self._callbacks.close(wait=True)
        self._collected.detach()
        atexit.unregister(self._at_exit)


def _ender(runner: Runner) -> Callable[[], None]:
    """What ends a runner, unless it is called in a forked child."""
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:
            runner.terminate()

    return end


def _abandon(end: Callable[[], None]) -> None:
    """Nobody has the pool any more: end it, in a thread of its own, since this may be any."""

    def run() -> None:
        end()
        atexit.unregister(end)

    with contextlib.suppress(RuntimeError):  # the interpreter is about to end: then atexit does it
        threading.Thread(target=run, name="qm.Pool end").start()
