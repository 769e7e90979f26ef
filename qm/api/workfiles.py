"""The files by which Python calls reach workers and their results come back: their names, and how they are written.

A work folder holds calls (a function, pickled once) and chunks (arguments for one of the calls):

    call.000000.pkl       one call: Call, then the function
    000000007.pkl         chunk 7: Chunk, then a list of arguments
    000000007.pkl.claim   made exclusively by whoever takes the chunk: a link that leads nowhere and reads `TASK
                          ATTEMPT`; after another try a file with such a line for each
    000000007.pkl.out     what came of it: Results, then the list of values or blobs
    call.000000.cancel    nothing more is to be run of this call
    closed                no more chunks will come; how many there are
    setup.7.begun         a point for each time that task 7 began the initializer and has not got through it
    setup.pkl             for each worker to run first: Call, then a pair: the initializer and a tuple of its arguments
    broken.pkl            an initializer raised: its Failure. No worker does anything more

A worker reads in its environment, beside what QM sets for every job:

    QM_CHUNK_ATTEMPTS     how often to try a chunk whose worker dies. (Not in a job of one worker that is no array:
                          there the job's own attempts decide)
    QM_WORKER_IDLE        seconds after which it ends for want of work; 10 without it
    QM_WORKER_TASKS       after how many items it begins anew in a fresh process; never without it
    QM_OWNER              a `marks.process_mark`: it ends when that process is gone

and sets QM_WORKER = 1 for the functions it runs.

Invariants: everything but a claim is written out of sight and renamed into view, so a file that is there is whole. A
claim is made exclusively, by symlink(2) with its text at once: no chunk is run by two workers, or claimed by nobody.
Chunks that are there when `closed` is are all there are. Imported by workers, each time one starts: only what every
Python has, and little of it.
"""

from __future__ import annotations

import _pickle as pickle  # the C part alone: the module pickle imports 10 ms of others
import errno
import os
import sys
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import IO, Any, NamedTuple
else:

    class _Fields(type):
        def __new__(mcs, name, bases, body):
            if not bases:
                return super().__new__(mcs, name, bases, body)
            given = [body[field] for field in body["__annotations__"] if field in body]
            made = namedtuple(name, body["__annotations__"], defaults=given, module=__name__)
            made.__doc__ = body["__doc__"]
            return made

    class NamedTuple(metaclass=_Fields):
        """Does for this module what typing's does, of which the import alone takes 10 ms."""


FORMAT = 1
PROTOCOL = 5
"""The pickle protocol (PEP 574): large buffers are written and read without a second copy. Python 3.8 and later."""
VERSION = sys.version_info[:2]

MAP, STAR, CALL = "map", "star", "call"
"""How an item of a chunk is given to the function: `f(item)`, `f(*item)`, `f(*item[0], **item[1])`."""

CLOSED = "closed"
SETUP = "setup.pkl"
BROKEN = "broken.pkl"

NO_LINKS = frozenset((errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP))
"""What symlink(2) says where a file system has no links."""

CANCELLED = "cancelled 0"
"""The claim of a submitter that wants a chunk to be run by nobody."""

DIED = "JobFailed"
"""The `kind` of a Failure that is not an exception of the function: its worker died too often."""


class Call(NamedTuple):
    """What a worker needs to know before it loads a function. `path` is the submitter's sys.path.

    `by_value`: the function's byte code is in the pickle, so only the same Python version can run it.
    """

    format: int
    how: str
    name: str
    version: tuple[int, int]
    by_value: bool
    path: tuple[str, ...]


class Chunk(NamedTuple):
    """What a chunk is of: the number of its call, the index of its first item in that call, how many there are.

    `by_value`: there is byte code among its arguments.
    """

    call: int
    first: int
    count: int  # type: ignore[assignment]  # (not tuple.count)
    by_value: bool = False


class Failure(NamedTuple):
    """An exception on its way back. `pickled` is b"" where it cannot be pickled; `traceback` is text."""

    pickled: bytes
    kind: str
    message: str
    traceback: str


class Results(NamedTuple):
    """What follows in a `.out` file: one pickled list of all results, or (`each`) a list whose items are either
    the pickled result (bytes) or a Failure."""

    each: bool
    count: int  # type: ignore[assignment]


def call_name(number: int) -> str:
    return f"call.{number:06d}.pkl"


def cancel_name(call: int) -> str:
    return f"call.{call:06d}.cancel"


def chunk_name(number: int) -> str:
    """queue_map_reduce's name for it."""
    return f"{number:09d}.pkl"


def claim_name(chunk: int) -> str:
    return chunk_name(chunk) + ".claim"


def out_name(chunk: int) -> str:
    return chunk_name(chunk) + ".out"


def number_of(name: str, suffix: str) -> int | None:
    """The number of the chunk whose file this is: `number_of("000000007.pkl.out", ".out")` is 7."""
    digits = name[:9]
    return int(digits) if name[9:] == f".pkl{suffix}" and digits.isdigit() else None


def discard(path: str) -> None:
    """Remove a file, if it is there and can be removed."""
    try:  # noqa: SIM105 (contextlib takes a worker 1 ms)
        os.unlink(path)
    except OSError:
        pass


class new_file:  # noqa: N801 (reads as what it is: `with new_file(…) as file:`)
    """A file that comes into view when it is whole, and not at all after an error. Raises OSError.

    Not `hidden`: it is written under its own name, in a folder that is out of sight itself.
    """

    __slots__ = ("_file", "_hidden", "_path")

    def __init__(self, directory: str, name: str, hidden: bool = True) -> None:
        self._path = f"{directory}/{name}"
        self._hidden = f"{directory}/.{name}.{os.getpid()}.part" if hidden else self._path

    def __enter__(self) -> IO[bytes]:
        """Open it, under its hidden name."""
        self._file = open(self._hidden, "wb")
        return self._file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
            if kind is None and self._hidden != self._path:
                os.rename(self._hidden, self._path)
        except BaseException:
            discard(self._hidden)
            raise
        if kind is not None:
            discard(self._hidden)


def write_new(directory: str, name: str, *objects: Any, dump: Callable[[Any, IO[bytes]], None] | None = None) -> None:
    """Pickle objects, one behind the other, into a new file. `dump` pickles the last of them, if given."""
    with new_file(directory, name) as file:
        for number, value in enumerate(objects, 1):
            if dump is not None and number == len(objects):
                dump(value, file)
            else:
                pickle.dump(value, file, PROTOCOL)


def claim(directory: str, chunk: int, by: str) -> bool:
    """Take a chunk, unless somebody has it. Raises OSError (the folder is gone, the disk is full)."""
    path = f"{directory}/{claim_name(chunk)}"
    try:
        os.symlink(by, path)
    except FileExistsError:
        return False
    except OSError as err:
        if err.errno in NO_LINKS:
            return _claim_by_file(path, by)
        raise
    return True


def _claim_by_file(path: str, by: str) -> bool:
    """The same where a file system knows no links. Who dies before he writes leaves a claim of nobody."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(fd, by.encode() + b"\n")
    except OSError:  # a claim of nobody would keep everybody from it
        discard(path)
        raise
    finally:
        os.close(fd)
    return True


def claim_again(directory: str, chunk: int, by: str) -> None:
    """Note another try of a chunk whose worker died. Raises OSError."""
    with new_file(directory, claim_name(chunk)) as file:
        file.write("".join(f"{line}\n" for line in (*claims(directory, chunk), by)).encode())


def claims(directory: str, chunk: int) -> list[str]:
    """Who has taken a chunk, one entry a try, as `TASK ATTEMPT`; none while it is free."""
    path = f"{directory}/{claim_name(chunk)}"
    try:
        return [os.readlink(path)]
    except FileNotFoundError:
        return []
    except OSError:  # no link: there was more than one try, or there are no links
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().split("\n")[:-1]
