"""File primitives that everything in the spool stands on.

Invariants: what a reader may be reading is written under another name and renamed into view; no link, FIFO
or device that somebody put into a folder is ever followed or opened; a full disk or a lack of descriptors is
told apart from a bad file.
"""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType

from qm.vocabulary.errors import Blocked, TryAgain

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)

TRANSIENT = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.EIO,
        errno.ESTALE,
    )
)
"""The system is short of something, or a file server is away: the job itself is not to blame."""

SHORT = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
"""We are short of something: a file or process that cannot be read for that is not gone."""

FORBIDDEN = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
"""The system does not allow it: owner, mode or a read-only file system."""


class explained:  # noqa: N801 (reads as the verb it is: `with explained("cannot …"):`)
    """Turn what the system refuses into TryAgain or Blocked; anything else passes as it is.

    (A class, since ten of them stand around each job, and a generator takes three times as long.)
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Nothing has been refused yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            if error.errno in TRANSIENT:
                raise TryAgain(f"{self._what}: {error.strerror}") from error
            if error.errno in FORBIDDEN:
                raise Blocked(f"{self._what}: {error.strerror}") from error


def write_whole(path: str, data: bytes, mode: int = 0o644, sync: bool = False) -> None:
    """Write a file so that readers see the old one or the new one, never a part. Raises OSError.

    With `sync` the bytes are on the disk before the name is.
    """
    temporary = path + ".new"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, mode)
    except FileExistsError:  # left by a crash, or put there by somebody: either way not ours to write into
        os.unlink(temporary)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, mode)
    try:
        write_all(fd, data)
        if sync:
            os.fsync(fd)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    os.replace(temporary, path)


def write_all(fd: int, data: bytes) -> None:
    """write(2) until everything is written."""
    while data:
        data = data[os.write(fd, data) :]


def open_regular(path: str, flags: int = os.O_RDONLY) -> int:
    """Open an existing regular file, nothing else. Raises OSError (ELOOP for a link, EINVAL for a FIFO or device)."""
    fd = os.open(path, flags | _NO_FOLLOW)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def read_regular(path: str, limit: int) -> bytes:
    """The first `limit` bytes of a regular file. Raises OSError."""
    fd = open_regular(path)
    try:
        chunks = []
        while limit > 0 and (chunk := os.read(fd, min(limit, 1 << 20))):
            chunks.append(chunk)
            limit -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def read_tail(path: str, limit: int) -> bytes:
    """The last `limit` bytes of a regular file. Raises OSError."""
    fd = open_regular(path)
    try:
        return os.pread(fd, limit, max(0, os.fstat(fd).st_size - limit))
    finally:
        os.close(fd)


def read_tail_below(directory: str, path: str, limit: int) -> bytes:
    """The last `limit` bytes of a regular file below a directory; no part of the way to it may be a link. OSError.

    So a job that swaps its folders for links while it is looked at shows nothing but its own files.
    """
    folder = os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW
    *above, name = path.split("/")
    fd = os.open(directory, folder)
    try:
        for part in above:
            inner = os.open(part, folder, dir_fd=fd)
            os.close(fd)
            fd = inner
        file = os.open(name, os.O_RDONLY | _NO_FOLLOW, dir_fd=fd)
    finally:
        os.close(fd)
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return os.pread(file, limit, max(0, facts.st_size - limit))
    finally:
        os.close(file)


def exists(path: str) -> bool:
    """Is there anything under that name, be it a dangling link?"""
    return os.path.lexists(path)


def is_real_directory(path: str) -> bool:
    """Is it a directory itself, not a link to one?"""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def free_name(directory: str, wanted: str) -> str:
    """`wanted`, or `wanted.2`, `wanted.3`, … : the first that no entry of the directory has.

    A name too long for a number behind it (255 bytes) is shortened, never in the middle of a character. From
    `.16` on it is only the first after one that is taken: among a thousand jobs of one name, few are looked at.
    """
    if not exists(f"{directory}/{wanted}"):
        return wanted
    taken, free = 1, 2
    while exists(f"{directory}/{numbered(wanted, free)}"):
        taken, free = free, free + 1 if free < 16 else 2 * free
    while free - taken > 1:
        middle = (taken + free) // 2
        if exists(f"{directory}/{numbered(wanted, middle)}"):
            taken = middle
        else:
            free = middle
    return numbered(wanted, free)


def numbered(name: str, number: int) -> str:
    """`name.number` within the 255 bytes that a file name may have."""
    suffix = f".{number}"
    while len(os.fsencode(name)) + len(suffix) > 255:
        name = name[:-1]
    return name + suffix


def owner_of(uid: int) -> str:
    """The user's name, or the number where the system knows none."""
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)
