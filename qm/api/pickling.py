"""Writing functions and arguments for workers straight into their files: by plain pickle what a worker can import, by
cloudpickle what is of this program itself (its `__main__`, lambdas, closures).

They are written under their own names, so only where nobody looks yet.

Invariants: what plain pickle writes is what cloudpickle would write, which is loaded only when it is needed. Large
arguments are never copied in memory: the pickler writes their buffers into the file (PEP 574). What
cannot be pickled leaves no file behind.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import IO, Any

from qm.api import workfiles
from qm.api.workfiles import Call, Chunk
from qm.vocabulary.text import printable


class _Own(Exception):
    """Something of this program itself: no worker can import it."""


class _ByName(pickle.Pickler):
    """Writes functions and classes as import paths. _Own for those of `__main__`, before any code of theirs runs."""

    def reducer_override(self, obj: Any) -> Any:
        kind = obj if isinstance(obj, FunctionType | type) else type(obj)
        if getattr(kind, "__module__", None) in (None, "__main__"):
            raise _Own
        return NotImplemented


def name_of(function: object) -> str:
    """What a function is called in messages and lists; a partial has its function's name."""
    inner = getattr(function, "func", function)
    name = getattr(inner, "__qualname__", None) or getattr(inner, "__name__", None) or type(inner).__qualname__
    return printable(str(name))[:100]


def write_call(directory: str, number: int, function: Callable[..., Any], how: str, name: str) -> None:
    """Write call.NUMBER.pkl. PicklingError, TypeError; OSError."""
    call = Call(workfiles.FORMAT, how, name, workfiles.VERSION, False, tuple(map(str, sys.path)))
    with workfiles.new_file(directory, workfiles.call_name(number), hidden=False) as file:
        pickle.dump(call, file, workfiles.PROTOCOL)
        if _dump(function, file, f"the function {name}"):
            file.seek(0)
            pickle.dump(call._replace(by_value=True), file, workfiles.PROTOCOL)  # no longer than before


def write_chunk(directory: str, number: int, chunk: Chunk, items: Sequence[Any], name: str) -> None:
    """Write the file of a chunk. PicklingError, TypeError; OSError."""
    with workfiles.new_file(directory, workfiles.chunk_name(number), hidden=False) as file:
        pickle.dump(chunk, file, workfiles.PROTOCOL)
        if _dump(items if isinstance(items, list) else list(items), file, f"an argument of {name}"):
            file.seek(0)
            pickle.dump(chunk._replace(by_value=True), file, workfiles.PROTOCOL)  # as above


def write_setup(directory: str, setup: tuple[Callable[..., object], tuple[Any, ...]]) -> None:
    """Write setup.pkl: a Call for the initializer, then (initializer, arguments). PicklingError, TypeError; OSError."""
    name = name_of(setup[0])
    call = Call(workfiles.FORMAT, workfiles.STAR, name, workfiles.VERSION, False, tuple(map(str, sys.path)))
    with workfiles.new_file(directory, workfiles.SETUP, hidden=False) as file:
        pickle.dump(call, file, workfiles.PROTOCOL)
        if _dump(setup, file, f"the initializer {name}"):
            file.seek(0)
            pickle.dump(call._replace(by_value=True), file, workfiles.PROTOCOL)


def _dump(value: Any, file: IO[bytes], what: str) -> bool:
    """Pickle a value; returns whether byte code was written."""
    if _dumped_by_name(value, file):
        return False
    from qm.api.byvalue import Pickler

    pickler = Pickler(file, workfiles.PROTOCOL)
    try:
        pickler.dump(value)
    except OSError:
        raise
    except pickle.PicklingError as err:
        raise pickle.PicklingError(f"{what} cannot be pickled: {err}") from err
    except (TypeError, AttributeError) as err:  # pickle's own words for what it cannot take
        kind = TypeError if isinstance(err, TypeError) else pickle.PicklingError
        raise kind(f"{what} cannot be pickled: {type(err).__name__}: {err}") from err
    except Exception as err:  # an object's own __reduce__: its exception stays what it is, as with multiprocessing
        if sys.version_info >= (3, 11):
            err.add_note(f"{what} cannot be pickled")
        raise
    return bool(pickler.by_value)


def _dumped_by_name(value: Any, file: IO[bytes]) -> bool:
    """Try plain pickle, unless cloudpickle is there anyway (and may have been told of modules to take by value)."""
    if "cloudpickle" in sys.modules:
        return False
    start = file.tell()
    try:
        _ByName(file, workfiles.PROTOCOL).dump(value)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 (whatever it is, cloudpickle may do better, or say it)
        file.seek(start)
        file.truncate()
        return False
    return True
