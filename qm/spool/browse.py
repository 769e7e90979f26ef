"""Looking into one job's folder for people who are trusted with nothing else on this machine.

Invariant: whatever a job puts into its folder, only regular files inside it are ever opened, and no link is ever
followed: each component of a path is opened by itself, relative to the folder above it. What QM keeps there for
itself (`.qm`, which has the submitter's environment, and `.qm.<old id>`) is not there for visitors.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from qm.spool.files import explained
from qm.spool.paths import DOT_NAME
from qm.vocabulary.errors import QMError
from qm.vocabulary.text import printable

MOST_ENTRIES = 5000
"""Entries of one folder that a listing has."""
MOST_PARTS = 256
"""Folders inside each other that are looked into."""

FOLDER, FILE, LINK, OTHER = "folder", "file", "link", "other"
_WHAT = {FOLDER: "a folder", LINK: "a link", OTHER: "a pipe, socket or device"}

Parts = tuple[str, ...]

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOT_THERE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL))


class NotShown(QMError):
    """For a visitor there is nothing under that name; the text says so in one sentence."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies in a folder. `kind` is folder, file, link or other; `size` in bytes, `mtime` in UTC epoch seconds.

    `target` is where a link says it leads, as it is written there.
    """

    name: str
    kind: str
    size: int
    mtime: float
    mode: int
    target: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of a folder, folders first, by name; and how many there are beyond those."""

    entries: list[Entry]
    more: int


def parts_of(path: str) -> Parts:
    """The components of a path inside a job's folder, none for the folder itself. NotShown for what is no such path."""
    if not path:
        return ()
    parts = tuple(path.removesuffix("/").split("/"))
    if len(parts) > MOST_PARTS or is_ours(parts[0]) or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise _missing(parts)
    return parts


def is_ours(name: str) -> bool:
    """Is that, at the top of a job's folder, QM's own (also where a file system does not tell `.qm` from `.QM`)?"""
    folded = name.casefold()
    return folded == DOT_NAME or folded.startswith(f"{DOT_NAME}.")


class JobFolder:
    """One job's folder, held open: it can be looked into while the job moves to another place of the spool."""

    def __init__(self, path: str) -> None:
        """Raises NotShown when it is gone or no folder itself, Blocked or TryAgain when it cannot be opened."""
        above, _, name = path.rpartition("/")
        with _told((name,)):
            place = os.open(above or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # the spool's own may be a link
            try:
                self._fd = os.open(name, _OPEN_FOLDER, dir_fd=place)
            finally:
                os.close(place)

    def close(self) -> None:
        """Let go of the folder."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> JobFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def look(self, parts: Parts) -> Entry:
        """What lies there. NotShown, Blocked, TryAgain."""
        with _told(parts), self._folder(parts[:-1]) as above:
            if not parts:
                return _entry("", os.fstat(above), above)
            return _entry(parts[-1], os.stat(parts[-1], dir_fd=above, follow_symlinks=False), above)

    def list(self, parts: Parts, most: int = MOST_ENTRIES) -> Listing:
        """The first `most` entries of a folder; only they are looked at closely. NotShown, Blocked, TryAgain."""
        with _told(parts), self._folder(parts) as fd, os.scandir(fd) as found:
            count = 0

            def visible() -> Iterator[os.DirEntry[str]]:
                nonlocal count
                for entry in found:
                    if parts or not is_ours(entry.name):
                        count += 1
                        yield entry

            first = heapq.nsmallest(most, visible(), key=lambda entry: (not _is_folder(entry), entry.name))
            entries = []
            for each in first:
                with contextlib.suppress(FileNotFoundError):  # gone while we looked
                    entries.append(_entry(each.name, each.stat(follow_symlinks=False), fd))
        return Listing(entries, max(0, count - most))

    def open(self, parts: Parts) -> int:
        """A descriptor of a regular file, to be closed by the caller. NotShown, Blocked, TryAgain."""
        if not parts:
            raise NotShown("a folder has no contents to show as a file")
        with _told(parts), self._folder(parts[:-1]) as above:
            before = os.stat(parts[-1], dir_fd=above, follow_symlinks=False)
            if not stat.S_ISREG(before.st_mode):  # opening a device can do things
                raise NotShown(f"{_shown(parts)} is {_WHAT[_kind(before.st_mode)]}, which is not opened as a file")
            fd = os.open(parts[-1], _OPEN_FILE, dir_fd=above)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
            raise _missing(parts)

    def walk(self, trouble: Callable[[Parts, str], None]) -> Iterator[tuple[Parts, Entry]]:
        """Everything in it, a folder before what it holds; a folder that cannot be read is told to `trouble`.

        One folder is open at a time, so that neither a deep tree nor a wide one takes much.
        """
        stack: list[Parts] = [()]
        while stack:
            parts = stack.pop()
            try:
                with self._folder(parts) as fd, os.scandir(fd) as found:
                    for each in found:
                        if not parts and is_ours(each.name):
                            continue
                        try:
                            entry = _entry(each.name, each.stat(follow_symlinks=False), fd)
                        except OSError:
                            continue  # gone while we looked
                        below = (*parts, each.name)
                        yield below, entry
                        if entry.kind == FOLDER and len(below) < MOST_PARTS:
                            stack.append(below)
                        elif entry.kind == FOLDER:
                            trouble(below, "too many folders inside each other")
            except OSError as err:
                trouble(parts, err.strerror or str(err))

    @contextlib.contextmanager
    def _folder(self, parts: Parts) -> Iterator[int]:
        fd = os.open(".", _OPEN_FOLDER, dir_fd=self._fd)
        try:
            for part in parts:
                deeper = os.open(part, _OPEN_FOLDER, dir_fd=fd)
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)


@contextlib.contextmanager
def _told(parts: Parts) -> Iterator[None]:
    try:
        with explained(f"{_shown(parts)} cannot be read"):
            yield
    except OSError as err:
        if err.errno in _NOT_THERE:
            raise _missing(parts) from err
        raise


def _missing(parts: Parts) -> NotShown:
    return NotShown(f"there is no {_shown(parts)} in this job (any more); links are not followed")


def _shown(parts: Parts) -> str:
    path = printable("/".join(parts))
    return f"'{path if len(path) <= 200 else path[:200] + '…'}'" if parts else "the job's folder"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return FOLDER
    if stat.S_ISREG(mode):
        return FILE
    return LINK if stat.S_ISLNK(mode) else OTHER


def _entry(name: str, facts: os.stat_result, above: int) -> Entry:
    kind = _kind(facts.st_mode)
    target = ""
    if kind == LINK:
        with contextlib.suppress(OSError):  # replaced while we looked
            target = os.readlink(name, dir_fd=above)
    return Entry(name, kind, facts.st_size, facts.st_mtime, stat.S_IMODE(facts.st_mode), target)
