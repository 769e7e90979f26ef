"""Futures of calls that run as jobs, and what is awaited of a crew.

Invariant: a future is settled once, by whoever comes first: its result, the end of its job, or `cancel`. What comes
later is dropped. Nothing here keeps a result: once it is in its future, only the future has it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Sequence
from concurrent import futures
from concurrent.futures import BrokenExecutor, InvalidStateError
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import Any, Protocol

from qm.api import workfiles
from qm.api.crew import Crew
from qm.api.listener import End
from qm.api.outcomes import Outcomes
from qm.vocabulary.errors import QMError

LOGGER = logging.getLogger("concurrent.futures")
"""The standard library's executors log there, too."""


class Future(futures.Future[Any]):
    """The result of a call that runs as a job, or in one. As a `concurrent.futures.Future`, and beyond it:

    `cancel` also ends a call that runs, by killing its job; it returns False for one that is done, and for one of
    several calls in one job (of a map, got by `attach`). `job_id` and `folder` say where it runs ("" for none).
    """

    def __init__(self, crew: Crew | None = None, alone: bool = True) -> None:
        super().__init__()
        self._crew = crew
        self._alone = alone

    @property
    def job_id(self) -> str:
        """The id of the job, for `qm show ID`."""
        return self._crew.id if self._crew is not None else ""

    @property
    def folder(self) -> str:
        """Where the job's folder is now, as far as known."""
        return self._crew.folder if self._crew is not None else ""

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]} job={self.job_id}>" if self._crew is not None else super().__repr__()

    def cancel(self) -> bool:
        """Withdraw the call, or kill it if it runs. True when it is cancelled, now or before."""
        if self._crew is None:
            return super().cancel()
        if not self._alone:
            return self.cancelled()
        if not self.withdraw():
            return self.cancelled()
        kill(self._crew)
        return True

    def withdraw(self) -> bool:
        """Become cancelled, whatever becomes of the job. False for a future that is done or cancelled."""
        with self._condition:
            if self._state not in (PENDING, RUNNING):
                return False
            self._state = CANCELLED_AND_NOTIFIED
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]
        return True

    def begin(self) -> None:
        """Its job runs."""
        with self._condition:
            if self._state == PENDING:
                self._state = RUNNING

    def settle(self, good: bool, value: Any) -> None:
        """Take the result, or the exception that was raised instead; dropped if it is done or cancelled."""
        with self._condition:
            if self._state in (CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED):
                return
        with contextlib.suppress(InvalidStateError):  # cancelled in between
            if good:
                self.set_result(value)
            else:
                self.set_exception(value)


class Host(Protocol):
    """Who awaits several crews."""

    def learn(self, error: BaseException) -> None:
        """A crew fails by this error, which may be the end of all. Called before its futures are settled."""

    def over(self, awaited: Awaited, end: End | None) -> None:
        """Nothing more can come of a crew; `end` is None when it was not submitted."""


class Awaited:
    """The futures of one crew, by chunk: its listener."""

    def __init__(self, host: Host) -> None:
        self.crew: Crew | None = None
        self.submitted = False
        self.begun = False
        self.good = True
        """Has everything returned so far?"""
        self._host = host
        self._lock = threading.Lock()
        self._chunks: dict[int, Sequence[Future]] = {}

    def expect(self, chunk: int, waiting: Sequence[Future]) -> None:
        """Which futures the outcomes of a chunk are for."""
        with self._lock:
            self._chunks[chunk] = waiting

    def cancel(self) -> None:
        """Cancel what has no outcome yet; what runs is killed."""
        if self.submitted and self.crew is not None:
            withdrawn = [future.withdraw() for _, waiting in self.waiting() for future in waiting]
            if any(withdrawn):
                kill(self.crew)

    def cancel_waiting(self) -> None:
        """Cancel it, unless it runs."""
        if not self.begun:
            self.cancel()

    def waiting(self) -> list[tuple[int, Sequence[Future]]]:
        """The chunks without an outcome, and who waits for it."""
        with self._lock:
            return list(self._chunks.items())

    # --- as crew.Listener ----------------------------------------------------------------------------------

    def began(self, crew: Crew) -> None:
        """Its job runs."""
        self.begun = True
        for _, waiting in self.waiting():
            for future in waiting:
                future.begin()

    def out(self, crew: Crew, chunk: int, outcomes: Outcomes) -> None:
        """Hand the outcomes of a chunk to those who wait for them."""
        with self._lock:
            waiting = self._chunks.pop(chunk, ())
        for good, value in outcomes:
            self.good = self.good and good
            if isinstance(value, BrokenExecutor) and not good:
                self._host.learn(value)
                break
        if waiting:
            self.settle(waiting, outcomes)

    def ended(self, crew: Crew, end: End) -> None:
        """Nothing more comes. All have an outcome by now, but for what was cancelled."""
        for _, waiting in self.waiting():
            for future in waiting:
                future.withdraw()
        self._chunks.clear()
        self._host.over(self, end)

    def settle(self, waiting: Sequence[Future], outcomes: Outcomes) -> None:
        """Each future gets the outcome of its item."""
        for future, (good, value) in zip(waiting, outcomes, strict=True):
            future.settle(good, value)


class Gathered(Awaited):
    """One future for all outcomes of a chunk; for `map`, which has no use for a million futures."""

    def cancel_waiting(self) -> None:
        """Cancel what no worker has begun."""
        if not self.begun or self.crew is None:
            self.cancel()
            return
        for chunk, waiting in self.waiting():
            if _take(self.crew.folder, chunk):
                waiting[0].withdraw()

    def settle(self, waiting: Sequence[Future], outcomes: Outcomes) -> None:
        waiting[0].settle(True, outcomes)


def _take(folder: str, chunk: int) -> bool:
    """Take a chunk so that no worker does. False when one has it, or the job has just ended."""
    try:
        return workfiles.claim(folder, chunk, workfiles.CANCELLED)
    except OSError:
        return False


def kill(crew: Crew) -> None:
    """Ask for the end of a job. Where that cannot be asked for it goes on, and the log says so."""
    try:
        crew.kill()
    except (QMError, OSError) as err:
        LOGGER.warning("%s (%s) was cancelled, but QM could not be told: %s", crew.name, crew.id, err)
