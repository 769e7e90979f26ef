"""Run one chunk: its call is loaded, called with each of its items, and what came of them is written to its `.out`.

Invariant: as long as the process lives, a chunk gets an `.out` with one entry for each item, whatever a function
raises, returns or is. (Only a file that cannot be written ends the worker: OSError.) Imports little: see workfiles.
"""

from __future__ import annotations

import errno
import os
import sys
from _pickle import PicklingError, load

from qm.api import workfiles
from qm.api.failures import complain, failed, flush, pickled, said, say
from qm.api.workfiles import MAP, PROTOCOL, STAR, Call, Chunk, Failure, Results, write_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
"""There is no room for a file; there may be for a small one."""

OK, EX_NOINPUT, EX_SOFTWARE = 0, 66, 70

MOST_CALLS = 8
"""Functions that are kept for the next chunk: several maps at once, and no more, since they may hold large data."""


def version_error(call: Call) -> str:
    """Why this Python cannot run the call at all; "" if it may."""
    theirs, ours = (".".join(map(str, version)) for version in (call.version, workfiles.VERSION))
    if call.format != workfiles.FORMAT:
        return f"{call.name} was written in format {call.format}, this worker reads {workfiles.FORMAT}: use one qm"
    if call.by_value and theirs != ours:
        return (
            f"{call.name} was pickled as byte code by Python {theirs}, and the worker's Python is {ours} "
            f"({sys.executable}): use the same version, or put the function into a module that both can import"
        )
    return ""


def load_call(path: str) -> tuple[Call, Any]:
    """What the file of a call, or setup.pkl, holds. RuntimeError for a wrong version; whatever loading raises."""
    with open(path, "rb") as file:
        call = load(file)
        if why := version_error(call):
            raise RuntimeError(why)
        adopt_path(call)
        return call, load(file)


def adopt_path(call: Call) -> None:
    """Import what the submitter can: its sys.path, in its order; where this Python has other folders, these first."""
    missing = [entry for entry in call.path if entry not in sys.path]
    sys.path[:] = call.path if set(sys.path) <= set(call.path) else sys.path + missing


class Runner:
    """Runs chunks of one work folder."""

    def __init__(self, directory: str) -> None:
        self._dir = directory
        self._calls: dict[int, tuple[Call, Any] | Failure] = {}

    def run(self, chunk: Chunk, file: IO[bytes], number: int) -> None:
        """Run a chunk whose file has been read up to its items. OSError when nothing can be written."""
        found = self._call(chunk.call)
        if isinstance(found, Failure):
            name, by_value, values, failures = "", True, [None] * chunk.count, dict.fromkeys(range(chunk.count), found)
        else:
            call, function = found
            name, by_value = call.name, call.version == workfiles.VERSION
            try:
                if chunk.by_value and (
                    why := version_error(call._replace(name=f"an argument of {name}", by_value=True))
                ):
                    raise RuntimeError(why)
                items = load(file)
            except BaseException as err:  # noqa: BLE001 (any object's own code runs there)
                failure = failed(err, f"The arguments of {name} cannot be loaded in the worker.\n")
                values, failures = [None] * chunk.count, dict.fromkeys(range(chunk.count), failure)
            else:
                values, failures = evaluate(function, call.how, items, by_value)
                del items
        if failures:
            complain(name, chunk.first, failures)
        flush()
        write_results(self._dir, number, chunk, name, values, failures, by_value)

    def _call(self, number: int) -> tuple[Call, Any] | Failure:
        found = self._calls.get(number)
        if found is None:
            try:
                found = load_call(f"{self._dir}/{workfiles.call_name(number)}")
            except BaseException as err:  # noqa: BLE001 (whatever a module does when it is imported)
                found = failed(err, "The function cannot be loaded in the worker.\n")
            if len(self._calls) >= MOST_CALLS:
                self._calls.clear()
            self._calls[number] = found
        return found


def evaluate(
    function: Callable[..., Any], how: str, items: list[Any], by_value: bool
) -> tuple[list[Any], dict[int, Failure]]:
    """The values, and by index what failed. Like ProcessPoolExecutor, SystemExit and KeyboardInterrupt are failures.

    `by_value`: may byte code go back? Only the same Python can run it.
    """
    values: list[Any] = []
    failures: dict[int, Failure] = {}
    for item in items:
        try:
            if how == MAP:
                values.append(function(item))
            elif how == STAR:
                values.append(function(*item))
            else:
                values.append(function(*item[0], **item[1]))
        except BaseException as err:  # noqa: BLE001 (see above)
            failures[len(values)] = failed(err, by_value=by_value)
            values.append(None)
    return values, failures


# --- results -----------------------------------------------------------------------------------------------


def write_results(
    directory: str,
    number: int,
    chunk: Chunk,
    name: str,
    values: list[Any],
    failures: dict[int, Failure],
    by_value: bool,
) -> None:
    """Write `.out`: all values in one pickle if that can be, without a copy of them in memory. OSError.

    `by_value` as for `evaluate`.
    """
    out = workfiles.out_name(number)
    try:
        if failures or not _written_at_once(directory, out, values, by_value):
            first = chunk.first
            blobs = [failures.get(i) or _blob(value, first + i, name, by_value) for i, value in enumerate(values)]
            write_new(directory, out, Results(True, len(blobs)), blobs)
    except OSError as err:
        if err.errno not in FULL:
            raise
        last = f"{chunk.first}" if chunk.count == 1 else f"{chunk.first} to {chunk.first + chunk.count - 1}"
        text = f"{err.strerror}: the results of {name}, {last}, could not be written"
        failure = failed(OSError(err.errno, text, f"{directory}/{out}"))
        say(failure.traceback)
        write_new(directory, out, Results(True, chunk.count), [failure] * chunk.count)


def _written_at_once(directory: str, out: str, values: list[Any], by_value: bool) -> bool:
    """Write them as one pickle, plain or else by cloudpickle (a class of the submitter's __main__, a lambda)."""
    for dump in (None, _cloud_dump) if by_value else (None,):
        try:
            write_new(directory, out, Results(False, len(values)), values, dump=dump)
        except OSError as err:
            if err.errno in FULL:
                raise
        except BaseException:  # noqa: BLE001 (any object's own code runs there, even sys.exit; each is looked at alone)
            continue
        else:
            return True
    return False


def _cloud_dump(value: Any, file: IO[bytes]) -> None:
    import cloudpickle  # 50 ms

    cloudpickle.dump(value, file, PROTOCOL)


def _blob(value: Any, index: int, name: str, by_value: bool) -> bytes | Failure:
    try:
        return pickled(value, by_value)
    except BaseException as err:  # noqa: BLE001 (any object's own code runs there)
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        error = PicklingError(f"result {index} of {name}, of type {kind}, cannot be pickled: {said(err)}")
        error.__cause__ = err
        return failed(error)


def failure_in(directory: str, number: int) -> Failure | None:
    """The first failure among the results of a chunk; None where all is well, or nothing there yet. OSError."""
    try:
        with open(f"{directory}/{workfiles.out_name(number)}", "rb") as file:
            blobs = load(file) if load(file).each else []
    except FileNotFoundError:
        return None
    return next((blob for blob in blobs if isinstance(blob, Failure)), None)


# --- what comes before -------------------------------------------------------------------------------------


MOST_DEATHS = 3
"""So often a worker may die in the initializer before nobody tries it any more."""


def set_up(directory: str, task: str = "0") -> bool:
    """Run the initializer, if there is one. False when it raised or is deadly, which `broken.pkl` then tells."""
    path, deaths = f"{directory}/{workfiles.SETUP}", f"{directory}/setup.{task}.begun"
    if not os.path.exists(path):
        return True
    try:
        with open(deaths, "ab") as file:
            file.write(b".")
            if file.tell() > MOST_DEATHS:
                raise RuntimeError(f"it ended its process {MOST_DEATHS} times")
        _, (initializer, arguments) = load_call(path)
        initializer(*arguments)
    except BaseException as err:  # noqa: BLE001 (whatever it raises, no function may run without it)
        failure = failed(err, "The initializer failed.\n")
        flush()
        say(failure.traceback)
        workfiles.write_new(directory, workfiles.BROKEN, failure)
        return False
    os.unlink(deaths)
    return True


def run_one(path: str) -> int:
    """`--chunk`: run this chunk in its folder. OSError."""
    directory, name = os.path.split(os.path.abspath(path))
    number = workfiles.number_of(name, "")
    if number is None or not os.path.exists(path):
        say(f"{path} is no chunk: expected an existing file named 000000007.pkl or the like\n")
        return EX_NOINPUT
    os.environ["QM_WORKER"] = "1"
    if not set_up(directory):
        return EX_SOFTWARE
    with open(path, "rb") as file:
        Runner(directory).run(load(file), file, number)
    return OK
