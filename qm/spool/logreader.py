"""Reading a log of any size by byte offset: a piece of it, or where a text stands in it.

Invariants: only a regular file in a real folder is opened, never a link, FIFO or device; every call does a
bounded amount of work and holds nothing open afterwards, so any number of followers costs no more than their
questions.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from dataclasses import dataclass

from qm.spool.files import read_regular
from qm.spool.joblog import STARTED

LOG_FILE = re.compile(r"process(\.[0-9]{1,18})?\.log(\.[0-9]{1,18})?")
"""The names that logs have: `process.log`, `process.log.2` of an earlier attempt, `process.7.log` of a task."""

MOST_WORK = 64 << 20
"""Bytes that one search looks at, about 0.1 s of work."""

MOST_LOGS = 1000
"""Logs of earlier attempts that are counted or listed."""

_BLOCK = 1 << 20
_HEAD = 4096
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STARTED_LINE = re.compile(rb"^" + STARTED.encode() + rb" ([0-9T:-]{19})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes `start` to `end` (exclusive) of a log that was `size` bytes long just then.

    `generation` counts the logs that were set aside before: it grows when a new attempt begins a new log under
    the same name, and stays when the job's folder moves, be it to another file system.
    """

    start: int
    end: int
    size: int
    data: bytes
    generation: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to: `at` is where the text begins, None if it is not in what was looked at.

    `further` is then the offset from which to search on, None when there is nothing left in that direction.
    """

    at: int | None
    further: int | None
    size: int


@dataclass(frozen=True, slots=True)
class LogFile:
    """One log in a job's folder. `started` is the time in its first line `Job started by QM at:`, if it has one.

    Times are UTC epoch seconds.
    """

    name: str
    size: int
    changed: float
    started: float | None


def is_log_name(name: str) -> bool:
    """Is it a name that logs have, without any folder?"""
    return LOG_FILE.fullmatch(name) is not None


def read(path: str, offset: int, limit: int) -> Piece:
    """At most `limit` bytes from `offset` on, a negative offset counting from the end. Raises OSError.

    An offset behind the end gives an empty piece at the end: when `size` < `offset` the log was replaced or cut.
    If a new attempt begins in the very moment of the call, its first bytes may come with the old `generation`;
    the next call tells.
    """
    generation = _generation(path)
    fd = _open(path)
    try:
        size = os.fstat(fd).st_size
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        data = _pread(fd, min(limit, size - start), start)
    finally:
        os.close(fd)
    return Piece(start, start + len(data), size, data, generation)


def search(path: str, text: str, offset: int, backwards: bool = False, work: int = MOST_WORK) -> Found:
    """The first place at or after `offset` where `text` begins, or with `backwards` the last one before it.

    ASCII letters match in both cases, everything else byte for byte (so not across a colour's escape sequence).
    Looks at about `work` bytes, then says where to go on. Raises OSError.
    """
    wanted = os.fsencode(text).lower()
    fd = _open(path)
    try:
        size = os.fstat(fd).st_size
        if not wanted:
            return Found(None, None, size)
        look = _backwards if backwards else _forwards
        at, further = look(fd, wanted, min(max(0, offset), size), size, work)
    finally:
        os.close(fd)
    return Found(at, further, size)


def _forwards(fd: int, wanted: bytes, start: int, size: int, work: int) -> tuple[int | None, int | None]:
    """Matches that begin at `start` or later; blocks overlap by what a match may reach over."""
    until = start + work
    while start < size:
        block = _pread(fd, _BLOCK + len(wanted) - 1, start).lower()
        at = block.find(wanted)
        if at >= 0:
            return start + at, None
        if len(block) < len(wanted):  # the end, or cut meanwhile
            break
        start += _BLOCK
        if until <= start < size:
            return None, start
    return None, None


def _backwards(fd: int, wanted: bytes, before: int, size: int, work: int) -> tuple[int | None, int | None]:
    """Matches that begin before `before`."""
    until, turned = before - work, wanted[::-1]
    while before > 0:
        start = max(0, before - _BLOCK)
        block = _pread(fd, min(before - start + len(wanted) - 1, size - start), start).lower()
        at = block[::-1].find(turned)  # rfind() takes as long as both lengths multiplied: a minute, at worst
        if at >= 0:
            return start + len(block) - at - len(wanted), None
        before = start
        if 0 < before <= until:
            return None, before
    return None, None


def logs_of(directory: str) -> list[LogFile]:
    """The logs that lie in a job's folder, in the order of their numbers; none where it cannot be listed."""
    found: list[LogFile] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if is_log_name(entry.name) and entry.is_file(follow_symlinks=False):
                    facts = entry.stat(follow_symlinks=False)
                    found.append(LogFile(entry.name, facts.st_size, facts.st_mtime, None))
                    if len(found) >= MOST_LOGS:
                        break
    except OSError:
        return []
    found.sort(key=lambda log: _numbers(log.name))
    return [LogFile(log.name, log.size, log.changed, _started(f"{directory}/{log.name}")) for log in found]


def attempts_of(directory: str, name: str) -> list[LogFile]:
    """The log of that name and those that were set aside before, `name.1`, `name.2`, …, without listing the folder."""
    found: list[LogFile] = []
    for number in range(MOST_LOGS):
        one = f"{name}.{number}" if number else name
        try:
            facts = os.lstat(f"{directory}/{one}")
        except OSError:
            if number:
                break
            continue
        if stat.S_ISREG(facts.st_mode):
            found.append(LogFile(one, facts.st_size, facts.st_mtime, _started(f"{directory}/{one}")))
    return found


def _numbers(name: str) -> tuple[int, int]:
    """Sorts `process.log` first, then earlier attempts, then tasks."""
    parts = LOG_FILE.fullmatch(name)
    task, attempt = parts.groups() if parts else (None, None)
    return int(task[1:]) + 1 if task else 0, int(attempt[1:]) if attempt else 0


def _started(path: str) -> float | None:
    """The moment in the log's first line about a start, which has this machine's local time."""
    try:
        line = _STARTED_LINE.search(read_regular(path, _HEAD))
        return time.mktime(time.strptime(line[1].decode(), "%Y-%m-%dT%H:%M:%S")) if line else None
    except (OSError, ValueError, OverflowError):
        return None


def _generation(path: str) -> int:
    """How many logs were set aside: `process.log.1`, `process.log.2`, … without a gap, as qm.spool.joblog does it."""
    if not path.endswith(".log"):
        return 0
    number = 0
    while number < MOST_LOGS and os.path.lexists(f"{path}.{number + 1}"):
        number += 1
    return number


def _open(path: str) -> int:
    above, _, name = path.rpartition("/")
    folder = os.open(above, _FOLDER)  # held, so that no link can take its place between two looks
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def _pread(fd: int, length: int, offset: int) -> bytes:
    """`length` bytes unless the file ends before: one call reads 2 GiB at most, and may give less than it was asked."""
    chunks: list[bytes] = []
    while length > 0 and (chunk := os.pread(fd, length, offset)):
        chunks.append(chunk)
        offset += len(chunk)
        length -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
