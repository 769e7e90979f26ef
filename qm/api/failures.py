"""Exceptions on their way from a worker to the submitter, and to the log. Imports little: see workfiles.

Invariant: nothing that an exception's own code does (its __str__, its __reduce__, its __init__) ends the worker.
"""

from __future__ import annotations

import os
import sys
from _pickle import dumps, loads

from qm.api.workfiles import PROTOCOL, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def failed(error: BaseException, note: str = "", by_value: bool = True) -> Failure:
    """An exception as it is sent back. Its traceback begins behind the worker's own frame, which caught it.

    Not `by_value`: without byte code, which the Python on the other side could not run.
    """
    import traceback  # 5 ms, which those who succeed need not wait for

    trace = error.__traceback__ and error.__traceback__.tb_next
    try:
        text = note + "".join(traceback.format_exception(type(error), error, trace))
    except Exception as err:  # noqa: BLE001 (its own code runs there)
        text = f"{note}(its traceback cannot be shown: {said(err)})\n"
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return Failure(_pickled_error(error, by_value), name, said(error), text)


def _pickled_error(error: BaseException, by_value: bool) -> bytes:
    """b"" for one that could not be loaded again, such as one whose __init__ wants other arguments than its `args`."""
    try:
        data = pickled(error, by_value)
        return data if isinstance(loads(data), BaseException) else b""
    except Exception:  # noqa: BLE001 (any object's own code runs there)
        return b""


def said(error: BaseException) -> str:
    """Its text, if it has one."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 (its own __str__)
        return "<str() of it failed>"


def complain(name: str, first: int, failures: dict[int, Failure]) -> None:
    """The first of a chunk's failures goes to standard error, for whoever reads the log."""
    index, failure = next(iter(failures.items()))
    more = f"(and {len(failures) - 1} more of this chunk)\n" if len(failures) > 1 else ""
    flush()
    say(f"task {first + index} of {name or 'a call'} failed:\n{failure.traceback}{more}")


def say(text: str) -> None:
    """Write to standard error, be it full or closed."""
    try:  # noqa: SIM105 (contextlib takes a worker 1 ms)
        os.write(2, text.encode(errors="backslashreplace"))
    except OSError:
        pass


def flush() -> None:
    """What was printed is in the log before its result is there."""
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105
            stream.flush()
        except (OSError, ValueError, AttributeError):  # no room, or the function closed or replaced it
            pass


def pickled(value: Any, by_value: bool) -> bytes:
    """Pickle a value, plain or else (if `by_value`) by cloudpickle. Raises what these raise."""
    try:
        return dumps(value, PROTOCOL)
    except Exception as plain:
        if not by_value:
            raise
        try:
            import cloudpickle
        except ImportError:
            raise plain from None
        data: bytes = cloudpickle.dumps(value, PROTOCOL)
        return data
