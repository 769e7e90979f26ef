"""Unpacking an archive into a folder of our own, whatever is in it.

Invariant: nothing is written outside the folder, and nothing in it is trusted before all of it was checked: names
have plain components only; no link exists while files are written, links are made last and must all end inside;
how many files and bytes there are is counted while they are written, not read from headers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from qm.spool.archives import members
from qm.spool.member import FILE, FOLDER, PIECE, SAME, ArchiveError, Member, Readable, shown, too_many, whole
from qm.vocabulary.text import printable, size

MOST_PART = 255
"""Bytes of one component of a name (NAME_MAX)."""
MOST_PATH = 3000
"""Bytes of a whole name, so that there is room for where it is put (PATH_MAX is 4096)."""
MOST_DEPTH = 100
"""Folders inside each other: more could not be copied to another file system (qm.spool.crossing)."""
RESERVE = 64 << 20
"""Bytes that must stay free on the disk, for the jobs that run."""
LOOK_AGAIN = 32 << 20
"""Bytes that are written between two looks at the disk."""

_DRIVE = re.compile(r"[A-Za-z]:")
_NEWEST = 2**33


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that an archive may unpack to: bytes of contents, and files and folders."""

    size: int
    files: int


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came out: the links that are still to be made (name, target), and how many members were left out."""

    links: list[tuple[str, str]]
    dropped: int


def unpack(file: BinaryIO, folder: str, limits: Limits) -> Unpacked:
    """Write an archive's files and folders into `folder`, which is empty and ours alone; its links are not made yet.

    Raises ArchiveError, which says what is wrong with which member; OSError for what the system refuses. What has
    been written by then is the caller's to remove.
    """
    writer = _Writer(folder, limits)
    for member in members(file, limits.files, limits.size):
        with _named(member):
            writer.add(member)
    return Unpacked(writer.links, writer.dropped)


class _Writer:
    def __init__(self, folder: str, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._files = 0
        self._size = 0
        self._look_at = 0
        self.links: list[tuple[str, str]] = []
        self.dropped = 0

    def add(self, member: Member) -> None:
        self._files += 1
        if self._files > self._limits.files:
            raise too_many(self._limits.files)
        parts = plain_parts(member.name)
        if not parts:  # "./", the folder itself
            return
        if is_junk(parts):
            self.dropped += 1
            return
        path = "/".join((self._folder, *parts))
        if member.kind == FOLDER:
            self._make_folder(parts)
            if member.mode is not None:
                os.chmod(path, (member.mode | stat.S_IRWXU) & stat.S_IMODE(os.lstat(path).st_mode))
            return
        self._make_folder(parts[:-1])
        if member.kind == FILE:
            self._write(member, path)
        elif member.kind == SAME:
            first = "/".join((self._folder, *plain_parts(member.target)))
            if not stat.S_ISREG(os.lstat(first).st_mode):
                raise ArchiveError("it is a hard link to what is no file")
            os.link(first, path, follow_symlinks=False)
        else:
            self.links.append(("/".join(parts), member.target))

    def _make_folder(self, parts: tuple[str, ...]) -> None:
        """Make it, and what is above it; folders that no member names count, too."""
        path = self._folder
        for part in parts:
            path = f"{path}/{part}"
            try:
                os.mkdir(path)
                self._files += 1
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    raise

    def _write(self, member: Member, path: str) -> None:
        self._room_for(member.size)
        mode = 0o666 if member.mode is None else (member.mode & 0o777) | stat.S_IRUSR | stat.S_IWUSR  # never setuid
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with open(fd, "wb", buffering=0) as target:
            source = member.open()
            try:
                self._copy(source, target, member.holes)
            finally:
                source.close()
        if 0 < member.mtime < _NEWEST:
            os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)

    def _copy(self, source: Readable, target: BinaryIO, holes: bool) -> None:
        written = 0
        while True:
            with whole():
                piece = source.read(PIECE)
            if not piece:
                break
            self._room_for(len(piece))
            self._size += len(piece)
            written += len(piece)
            if holes and not piece.strip(b"\0"):
                target.seek(len(piece), os.SEEK_CUR)
            else:
                view = memoryview(piece)
                while view:
                    view = view[target.write(view) :]
        if holes:
            target.truncate(written)

    def _room_for(self, more: int) -> None:
        """May so many bytes more be written, by the limit and by what the disk has?"""
        if self._size + more > self._limits.size:
            raise ArchiveError(
                f"the archive unpacks to more than {size(self._limits.size)} (Max_Unpacked in QMserv.cfg)"
            )
        if self._size >= self._look_at:
            self._look_at = self._size + LOOK_AGAIN
            disk = os.statvfs(self._folder)
            if disk.f_bavail * disk.f_frsize < min(more, LOOK_AGAIN) + RESERVE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._folder)


@contextlib.contextmanager
def _named(member: Member) -> Iterator[None]:
    """Say of which member an error is, and what would be right."""
    name = shown(member.name)
    try:
        yield
    except FileExistsError as err:
        raise ArchiveError(f"{name} is in the archive twice, or as a file and as a folder") from err
    except OSError as err:
        if member.kind == SAME and err.errno in (errno.ENOENT, errno.ENOTDIR):
            raise ArchiveError(f"{name} is a hard link to a file that does not come before it") from err
        if err.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
            raise ArchiveError(f"{name} cannot be a file's name here: {err.strerror}") from err
        raise
    except ArchiveError as err:
        raise err if name in str(err) else ArchiveError(f"{name}: {err}") from err


def plain_parts(name: str) -> tuple[str, ...]:
    """The components of a member's name; ArchiveError for one that could lead elsewhere, or that no file can have."""
    if name.startswith("/"):
        raise ArchiveError("its name is absolute; pack the job's folder from the folder above it, or from inside")
    if "\\" in name or _DRIVE.match(name):
        raise ArchiveError("its name has a drive letter or a backslash; names in an archive have / between folders")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ArchiveError("its name leads out of the archive by '..'; pack the job's folder from the folder above it")
    if "\0" in name:
        raise ArchiveError("its name has a NUL character, which no file can have")
    if len(parts) > MOST_DEPTH:
        raise ArchiveError(f"it lies in more than {MOST_DEPTH} folders inside each other")
    if any(len(os.fsencode(part)) > MOST_PART for part in parts) or len(os.fsencode(name)) > MOST_PATH:
        raise ArchiveError(f"its name is too long: at most {MOST_PART} bytes, {MOST_PATH} with the folders it lies in")
    return parts


def is_junk(parts: tuple[str, ...]) -> bool:
    """What macOS puts into archives beside the files, and no job needs."""
    return parts[0] == "__MACOSX" or parts[-1] == ".DS_Store" or any(part.startswith("._") for part in parts)


def make_links(root: str, links: list[tuple[str, str]]) -> None:
    """Make links (name below `root`, target) and see that each of them, by way of others too, stays below `root`.

    ArchiveError names the first that does not; the folder then has bad links in it, and is the caller's to remove.
    """
    for name, target in links:
        if len(os.fsencode(target)) > MOST_PATH:
            raise ArchiveError(f"the link {shown(name)} leads to a name of more than {MOST_PATH} bytes")
        try:
            os.symlink(target, f"{root}/{name}")
        except FileExistsError as err:
            raise ArchiveError(f"{shown(name)} is in the archive twice, as a link and otherwise") from err
        except (OSError, ValueError) as err:
            raise ArchiveError(f"the link {shown(name)} cannot be made: {printable(str(err))}") from err
    inside = os.path.realpath(root)
    for name, target in links:
        leads = os.path.realpath(f"{root}/{name}")
        if target.startswith("/") or not (leads == inside or leads.startswith(f"{inside}/")):
            raise ArchiveError(
                f"the link {shown(name)} leads out of the job's folder, to {shown(target)}; "
                "put what it leads to into the archive"
            )
