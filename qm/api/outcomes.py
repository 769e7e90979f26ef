"""From the `.out` file of a chunk to values and exceptions.

Invariant: whatever a file holds, there is one outcome for each item of the chunk. What cannot be loaded here is an
exception, never a missing value.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

from qm.api.errors import JobFailed, RemoteError, RemoteTraceback, SetupFailed
from qm.api.failures import said
from qm.api.workfiles import BROKEN, CALL, DIED, Chunk, Failure, Results, out_name

Outcomes = list[tuple[bool, Any]]
"""`(True, value)` or `(False, exception)` for each item of a chunk."""


class Told(NamedTuple):
    """What is known of a call: its function's name, and how it is called."""

    name: str
    how: str

    def item(self, index: int) -> str:
        """One of its items, in messages."""
        return self.name if self.how == CALL else f"task {index} of {self.name}"


def read_outcomes(folder: str, number: int, chunk: Chunk, told: Told) -> Outcomes:
    """What came of a chunk. FileNotFoundError when there is no such file (there); any other error is an outcome."""
    try:
        file = open(f"{folder}/{out_name(number)}", "rb")  # noqa: SIM115 (only what opening it raises is meant)
    except FileNotFoundError:
        raise
    except OSError as err:
        return [(False, _unloadable(told.item(chunk.first + n), err)) for n in range(chunk.count)]
    try:
        with file:
            results = Results(*pickle.load(file))
            body = pickle.load(file)
            if len(body) != chunk.count:
                raise ValueError(f"{len(body)} results for {chunk.count} items")
    except BaseException as err:  # noqa: BLE001 (loading runs the classes' own code, which may raise anything)
        return [(False, _unloadable(told.item(chunk.first + n), err)) for n in range(chunk.count)]
    if not results.each:
        return [(True, value) for value in body]
    return [_one(entry, told.item(chunk.first + n), folder) for n, entry in enumerate(body)]


def _one(entry: bytes | Failure, what: str, folder: str) -> tuple[bool, Any]:
    if isinstance(entry, tuple):
        return False, exception_of(Failure(*entry), what, folder)
    try:
        return True, pickle.loads(entry)
    except BaseException as err:  # noqa: BLE001
        return False, _unloadable(what, err)


def _unloadable(what: str, err: BaseException) -> RemoteError:
    error = RemoteError(type(err).__name__, f"the result of {what} cannot be loaded here: {said(err)}")
    error.__cause__ = err
    return error


def exception_of(failure: Failure, what: str, folder: str) -> BaseException:
    """The exception that was raised on the other side, its traceback there as the cause."""
    if failure.kind == DIED and not failure.pickled:
        return JobFailed(what, "failed", failure.message, None, folder)
    error: BaseException = RemoteError(failure.kind, failure.message)
    if failure.pickled:
        with contextlib.suppress(BaseException):  # then its name and its text have to do
            loaded = pickle.loads(failure.pickled)
            error = loaded if isinstance(loaded, BaseException) else error
    if failure.traceback:
        cause = RemoteTraceback(f"{what}:\n{failure.traceback}")
        BaseException.__setattr__(error, "__cause__", cause)  # its own may refuse, as that of a frozen dataclass does
    return error


def read_broken(folder: str, name: str) -> SetupFailed | None:
    """Why no worker of the crew `name` runs anything; None when there is nothing of that kind."""
    try:
        with open(f"{folder}/{BROKEN}", "rb") as file:
            failure = Failure(*pickle.load(file))
    except FileNotFoundError:
        return None
    except Exception as err:  # noqa: BLE001
        failure = Failure(b"", type(err).__name__, said(err), "")
    error = SetupFailed(f"the initializer of {name} failed in a worker: {failure.kind}: {failure.message}")
    error.__cause__ = exception_of(failure, f"the initializer of {name}", folder)
    return error


def failures(chunk: Chunk, told: Told, make: Callable[[str], BaseException]) -> Outcomes:
    """The same kind of failure for all items of a chunk; each its own exception, which may be raised anywhere."""
    return [(False, make(told.item(chunk.first + n))) for n in range(chunk.count)]
