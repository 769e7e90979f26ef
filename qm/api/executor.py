"""`qm.Executor`: a concurrent.futures.Executor whose calls run as jobs.

Each `submit` is one job, each `map` one array job whose workers take chunk after chunk. Everything else of a job (its
processors, memory, time, attempts, log, end) is QM's: `qm status`, the dashboard and `qm retry` know these jobs.

Invariant: whatever was submitted gets an outcome: a result, the exception that was raised, JobFailed with the reason
that QM gives, or a BrokenExecutor when the daemon or its folder are gone.
"""

from __future__ import annotations

import itertools
import operator
import os
import reprlib
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from types import TracebackType
from typing import Any

from qm.api.futures import Awaited, Future, Gathered
from qm.api.pickling import name_of
from qm.api.queue import JobQueue, job_options, open_queue
from qm.api.submitter import Submitter
from qm.api.workfiles import CALL, STAR
from qm.spool.ids import new_id
from qm.spool.submission import tidy_name
from qm.vocabulary.text import printable

MOST_INFO = 80
"""Characters of a call in its job's description."""
LIMITS = ("group", "max_parallel")


class _Calls(futures.Executor):
    """What an executor and its views with other options have in common."""

    def __init__(self, submitter: Submitter, options: Mapping[str, str], max_workers: int | None) -> None:
        self._submitter = submitter
        self._options = options
        self._max_workers = max_workers

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run `fn(*args, **kwargs)` as a job of its own.

        What cannot be pickled is the future's exception, as with ProcessPoolExecutor. RuntimeError after `shutdown`,
        NoDaemon when nobody serves the queue, BrokenExecutor once that is gone.
        """
        options = {"info": shown(fn, args, kwargs), **self._options}
        with self._submitter.job(Awaited, options, workers=1) as job:
            future = Future(job.crew)
            job.call(fn, CALL)
            job.chunk([(args, kwargs)], 0, [future])
        return future

    def map(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[Any]:
        """The results of `fn(*item)` in the order of the items, computed by one array job.

        A worker takes `chunksize` items at a time. TimeoutError when a result is not there `timeout` seconds after
        this call. Closing the iterator, or an exception that it raises, kills what is left of the job.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        deadline = None if timeout is None else time.monotonic() + timeout
        items = zip(*iterables, strict=False)
        head = list(itertools.islice(items, chunksize))
        if not head:
            return iter(())
        waiting: list[Future] = []
        workers = min(self._most_workers(), -(-_length(iterables) // chunksize))
        with self._submitter.job(Gathered, self._options, workers=workers) as job:
            job.call(fn, STAR)
            first = 0
            while head:
                waiting.append(Future(job.crew))
                job.chunk(head, first, waiting[-1:])
                first += len(head)
                head = list(itertools.islice(items, chunksize))
        return _in_order(waiting, deadline, job.awaited)

    def _most_workers(self) -> int:
        at_a_time = self._submitter.queue.processors() // int(self._options.get("nb_proc", 1))
        return max(1, min(at_a_time, self._max_workers or at_a_time))


class Executor(_Calls):
    """Runs calls as jobs of the queue.

    max_workers     how many of its jobs may run at a time; what the queue allows, if None
    launcher        "spool": the daemon's of the QMserv.cfg found, or of `config`; "local": in this process, without a
                    daemon. None: "spool", but "local" inside a worker
    name            of the executor; its jobs are `name_1`, `name_2`, …, and `qm.attach(name)` finds them
    initializer     called with `initargs` by each worker before its first call
    keep            False: a job of which all calls returned is deleted when the results are here
    options         keys of a job file for all its jobs: nb_proc, mem, wall_time, attempts, priority, group, info, …
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        launcher: str | None = None,
        config: str | None = None,
        name: str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        keep: bool = True,
        **options: Any,
    ) -> None:
        if max_workers is not None and operator.index(max_workers) <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        given = _checked(options, max_workers)
        name = tidy_name(printable(name).strip(), "python") if name else _own_name()
        if max_workers is not None:
            given |= {"group": name, "max_parallel": str(max_workers)}
        processors = max_workers and max_workers * int(given.get("nb_proc", 1))
        queue = open_queue(launcher, config, processors)
        setup = (initializer, tuple(initargs)) if initializer is not None else None
        lingers = type(queue) is not JobQueue  # but runs its jobs in this process
        submitter = Submitter(queue, name, setup=setup, keep=keep, lingers=lingers)
        super().__init__(submitter, given, max_workers)
        # An executor that nobody holds any more takes no more calls; what it was given is still computed.
        self._finalizer = weakref.finalize(self, submitter.let_go)
        self._finalizer.atexit = False

    @property
    def name(self) -> str:
        """What its jobs are called after."""
        return self._submitter.name

    def __repr__(self) -> str:
        return f"<qm.Executor {self.name}>"

    @property
    def _broken(self) -> BaseException | None:
        return self._submitter.broken

    def options(self, **options: Any) -> _Calls:
        """This executor with other options for single calls: `executor.options(mem="2G").submit(f, x)`."""
        return _View(self, {**self._options, **_checked(options, self._max_workers)})

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; `wait` until all are done; `cancel_futures`: withdraw those that no worker has begun."""
        self._finalizer.detach()
        self._submitter.close(wait=wait, cancel_waiting=cancel_futures)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Wait for all calls; but Ctrl-C, in the block or while it waits, cancels them."""
        try:
            if isinstance(exc, KeyboardInterrupt):
                self._submitter.cancel()
            self.shutdown(wait=True)
        except KeyboardInterrupt:
            self._submitter.cancel()
            raise
        return None


class _View(_Calls):
    """An executor under other options."""

    def __init__(self, executor: Executor, options: Mapping[str, str]) -> None:
        super().__init__(executor._submitter, options, executor._max_workers)
        self._executor = executor

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait, cancel_futures=cancel_futures)


def _in_order(waiting: list[Future], deadline: float | None, awaited: Awaited) -> Iterator[Any]:
    """The items of all outcomes. Keeps no reference to what it has yielded."""
    waiting.reverse()
    outcomes: list[tuple[bool, Any]] = []
    try:
        while waiting:
            left = None if deadline is None else deadline - time.monotonic()
            outcomes = list(reversed(waiting.pop().result(left)))
            while outcomes:
                if not outcomes[-1][0]:
                    raise outcomes.pop()[1]
                yield outcomes.pop()[1]
    finally:
        awaited.cancel()  # what has no outcome yet, if anything
        waiting.clear()
        outcomes.clear()


def _checked(options: Mapping[str, Any], max_workers: int | None) -> dict[str, str]:
    texts = job_options(**options)
    if max_workers is not None and any(key in texts for key in LIMITS):
        raise ValueError("max_workers is a limit of its own: give either that, or group and max_parallel")
    return texts


def _length(iterables: tuple[Iterable[Any], ...]) -> int:
    """How many items there are at most, where that can be known beforehand."""
    return min((operator.length_hint(iterable, sys.maxsize) or 1 for iterable in iterables), default=1)


def _own_name() -> str:
    """The program's name, and something that no other has."""
    script = getattr(sys.modules.get("__main__"), "__file__", None) or "python"
    stem = os.path.splitext(os.path.basename(script))[0]
    return f"{tidy_name(stem, 'python')}-{new_id()[:6]}"


class _Short(reprlib.Repr):
    """Arguments in a few words; what is not of a plain type is only called by its type, as a repr may be slow."""

    def repr_instance(self, x: object, level: int) -> str:
        return f"<{type(x).__name__}>"


def shown(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """A call in one short line: `pow(2, 5)`."""
    short = _Short().repr
    words = [short(arg) for arg in args[:10]] + [f"{key}={short(value)}" for key, value in list(kwargs.items())[:10]]
    text = f"{name_of(fn)}({', '.join(words)})"
    text = text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= MOST_INFO else f"{text[: MOST_INFO - 2]}…)"
