"""What an executor and its views share: the queue, the jobs that are awaited, and whether it still takes more.

Invariants: a job is among the open ones from before it is made until nothing more can come of it, so `close` misses
none. Once the executor is closed and the last of them is over, the queue is closed, by whoever notices.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

from qm.api.crew import Crew, Setup
from qm.api.errors import DaemonAway, FolderGone, RemoteTraceback, SetupFailed
from qm.api.futures import LOGGER, Awaited, Future, kill
from qm.api.listener import End
from qm.api.queue import JobQueue
from qm.vocabulary.errors import QMError
from qm.vocabulary.states import State

AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"
AFTER_EXIT = "cannot schedule new futures after interpreter shutdown"
"""Texts of the standard library."""


class Making:
    """A job that is being made: its call and its chunks, of which some may turn out not to be picklable."""

    def __init__(self, crew: Crew, awaited: Awaited) -> None:
        self.crew = crew
        self.awaited = awaited
        self.chunks = 0
        self._call = 0
        self._wrong: Exception | None = None

    def call(self, function: Callable[..., Any], how: str) -> None:
        """Pickle the function. If that cannot be, all that is to be called by it has this outcome."""
        try:
            self._call = self.crew.add_call(function, how)
        except (QMError, OSError):
            raise
        except Exception as err:  # noqa: BLE001 (whatever a __reduce__ raises)
            self._wrong = err

    def chunk(self, items: Sequence[Any], first: int, waiting: Sequence[Future]) -> None:
        """Pickle arguments; say which futures wait for what comes of them."""
        wrong = self._wrong
        if wrong is None:
            try:
                number = self.crew.add_chunk(self._call, items, first)
            except (QMError, OSError):
                raise
            except Exception as err:  # noqa: BLE001 (as above)
                wrong = err
            else:
                self.awaited.expect(number, waiting)
                self.chunks += 1
        if wrong is not None:
            for future in waiting:
                future.settle(False, wrong)


class Submitter:
    """One queue, and the jobs of one executor in it. `lingers`: jobs end with this process, so it waits for them."""

    def __init__(self, queue: JobQueue, name: str, *, setup: Setup | None, keep: bool, lingers: bool) -> None:
        self.queue = queue
        self.name = name
        self.broken: BaseException | None = None
        self._setup = setup
        self._keep = keep
        self._lingers = lingers
        self._pid = os.getpid()
        self._began = f"{time.time():.6f}"
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._open: set[Awaited] = set()
        self._waiters = 0
        self._refusal = ""
        leave_at_exit(self)

    @contextlib.contextmanager
    def job(self, kind: type[Awaited], options: Mapping[str, str], workers: int) -> Iterator[Making]:
        """A job, submitted at the end of the block, unless nothing came to be in it.

        RuntimeError after `close`, BrokenExecutor once the queue is gone, NoDaemon when nobody serves it.
        """
        awaited = self._enter(kind)
        try:
            number = next(self._numbers)
            labels = {"executor": self.name, "began": self._began, "number": str(number)}
            crew = awaited.crew = self.queue.crew(
                f"{self.name}_{number}", awaited, workers=workers, options=options, setup=self._setup, labels=labels
            )
            try:
                making = Making(crew, awaited)
                yield making
                if making.chunks:
                    crew.close()
                    crew.submit()
                    awaited.submitted = True
            except BaseException:
                kill(crew)  # interrupted in the middle it may be submitted already
                raise
        except BaseException:
            self.over(awaited, None)
            raise
        if not awaited.submitted:
            crew.discard()
            self.over(awaited, None)

    def _enter(self, kind: type[Awaited]) -> Awaited:
        self._may_submit()
        self.queue.check_once()
        if not os.path.isdir(self.queue.root):
            self.broken = FolderGone(f"QM_FOLDER {self.queue.root} was removed")
        with self._changed:
            self._may_submit()
            awaited = kind(self)
            self._open.add(awaited)
        return awaited

    def _may_submit(self) -> None:
        if self.broken is not None:
            raise BrokenExecutor(f"{self.name} takes no more calls: {self.broken}") from self.broken
        if self._refusal:
            raise RuntimeError(self._refusal)

    # --- the end -------------------------------------------------------------------------------------------

    def over(self, awaited: Awaited, end: End | None) -> None:
        """As futures.Host. The last one closes the queue, unless `close` waits for that and does."""
        if end is not None:
            if end.error is not None:
                self.learn(end.error)
            if not self._keep and end.state == State.DONE and awaited.good and awaited.crew is not None:
                with contextlib.suppress(QMError, OSError):  # then it stays, which harms nobody
                    awaited.crew.delete()
        with self._changed:
            self._open.discard(awaited)
            last = bool(self._refusal) and not self._open and not self._waiters
            self._changed.notify_all()
        if last:
            self.queue.close()

    def learn(self, error: BaseException) -> None:
        """As futures.Host. What a call raised by itself, and the end of a single job, are no reason to give up."""
        if self.broken is not None or not isinstance(error, DaemonAway | FolderGone | SetupFailed):
            return
        if isinstance(error.__cause__, RemoteTraceback):
            return  # a call that uses an executor itself, and raised what that had
        if isinstance(error, FolderGone) and os.path.isdir(self.queue.root):
            return
        if isinstance(error, SetupFailed):
            LOGGER.critical("Exception in initializer:", exc_info=error)
        self.broken = error

    def close(self, *, wait: bool, cancel_waiting: bool = False, refusal: str = AFTER_SHUTDOWN) -> None:
        """Take nothing more; `cancel_waiting`: withdraw what no worker has begun; `wait` until all is over.

        In a forked child, where nobody would hear of that, nothing is done: the calls are its parent's.
        """
        if os.getpid() != self._pid:
            self._refusal = self._refusal or refusal
            return
        with self._changed:
            self._refusal = self._refusal or refusal
            waiting = list(self._open)
        if cancel_waiting:
            for awaited in waiting:
                awaited.cancel_waiting()
        with self._changed:
            if wait:
                self._waiters += 1
                try:
                    self._changed.wait_for(lambda: not self._open)
                finally:
                    self._waiters -= 1
            last = not self._open
        if last:
            self.queue.close()

    def let_go(self) -> None:
        """Nobody holds the executor any more. The garbage collector may say so in any thread, under any lock."""
        threading.Thread(target=self.close, kwargs={"wait": False}, name="qm-closing", daemon=True).start()

    def cancel(self) -> None:
        """Cancel whatever is not over, and nothing else of this queue; in a forked child nothing."""
        if os.getpid() != self._pid:
            return
        with self._changed:
            waiting = list(self._open)
        for awaited in waiting:
            awaited.cancel()

    def leave(self) -> None:
        """The interpreter ends. Jobs of a daemon go on by themselves; those that end with this process are awaited."""
        if os.getpid() == self._pid:  # in a forked child there is no thread that would hear of an end
            self.close(wait=self._lingers, refusal=AFTER_EXIT)


def leave_at_exit(submitter: Submitter) -> None:
    """Have `leave` called while threads can still be started, as the standard library's executors have it."""
    alive = weakref.ref(submitter)

    def leave() -> None:
        if (still := alive()) is not None:
            still.leave()

    threading._register_atexit(leave)  # type: ignore[attr-defined]
