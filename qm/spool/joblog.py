"""process.log, and for the tasks of an array process.7.log: QM's own lines in it, and the logs of earlier attempts.

Invariant: a process.log is created exclusively, so whatever lies under that name before (a link out of the
spool, a FIFO, an earlier log) is renamed, never followed, opened or overwritten.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable
from typing import NamedTuple

from qm.spool.files import TRANSIENT, exists, open_regular, read_regular, read_tail, write_all
from qm.spool.paths import JobPaths
from qm.vocabulary.text import printable

FINISHED = "Job finished at:"
STARTED = "Job started by QM at:"
_LINE = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)\S*(?: with code (none|-?\d{1,9})\b)?")
_NEAR = 4096


class Ends(NamedTuple):
    """What QM's first and last line in a log say. Times are UTC epoch seconds, None where there is no such line.

    `code` is the exit status, negative for a signal (QM 0.4), None where the line gives no number.
    """

    started: float | None = None
    finished: float | None = None
    code: int | None = None


def ends(paths: JobPaths) -> Ends:
    """When the job with this log began and ended. All a folder of QM 0.4's tells about it."""
    try:
        head, tail = read_regular(paths.log, _NEAR), read_tail(paths.log, _NEAR)
    except OSError:
        return Ends()
    started, _ = _line_at(head.find(STARTED.encode()), head, STARTED)
    finished, code = _line_at(tail.rfind(FINISHED.encode()), tail, FINISHED)
    if tail.rfind(STARTED.encode()) > tail.rfind(FINISHED.encode()):  # it was begun again
        finished, code = None, None
    return Ends(started, finished, code)


def _line_at(at: int, text: bytes, begin: str) -> tuple[float | None, int | None]:
    """The time and the code of the line of QM's that begins at `at`."""
    found = _LINE.match(text[at + len(begin) : at + 200].decode("ascii", "replace").lstrip()) if at >= 0 else None
    if found is None:
        return None, None
    try:
        when = time.mktime(time.strptime(f"{found[1]} {found[2]}", "%Y-%m-%d %H:%M:%S"))
    except (ValueError, OverflowError):
        return None, None
    return (when if when >= 0 else None), (int(found[3]) if found[3] not in (None, "none") else None)


def clock_time(seconds: float) -> str:
    """Local time as the log lines have it, `2026-01-31T12:00:00`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))


def open_new(log: str, started: float, notes: Iterable[str] = ()) -> int:
    """Create a log with QM's first lines; the descriptor is for appending. Raises OSError."""
    head = "".join(f"QM: {printable(note)}\n" for note in notes) + f"{STARTED} {clock_time(started)}\n"
    return _begun(_create(log), head.encode())


def open_again(log: str, started: float) -> int | None:
    """Open the log of the run before, which this one goes on with; None where it is there no more. Raises OSError."""
    try:
        fd = _open_again(log)
    except OSError as err:
        if err.errno in TRANSIENT:
            raise
        return None
    size = os.fstat(fd).st_size
    newline = b"" if size == 0 or os.pread(fd, 1, size - 1) == b"\n" else b"\n"
    return _begun(fd, newline + f"{STARTED} {clock_time(started)}\n".encode())


def _begun(fd: int, head: bytes) -> int:
    try:
        write_all(fd, head)
    except OSError:
        os.close(fd)
        raise
    return fd


def finish(log: str, finished: float, code: str) -> None:
    """Write the last line, once: a line that stands there already (the daemon died since) is left alone."""
    _append(log, f"{FINISHED} {clock_time(finished)} with code {code}", unless=FINISHED)


def note(log: str, *texts: str) -> None:
    """Add lines of QM's own; makes the log where there is none."""
    if not exists(log):
        os.close(_create(log))
    _append(log, "\n".join(f"QM: {printable(text)}" for text in texts))


def _create(log: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(log, flags, 0o644)
    except FileExistsError:
        number = 1
        while exists(f"{log}.{number}"):
            number += 1
        os.rename(log, f"{log}.{number}")
        return os.open(log, flags, 0o644)


def _open_again(log: str) -> int:
    """Open a log for a line more; a job may have made it read-only. Raises OSError."""
    try:
        return open_regular(log, os.O_RDWR | os.O_APPEND)
    except PermissionError:
        fd = open_regular(log)
        try:
            os.chmod(fd, os.fstat(fd).st_mode | 0o200)
        finally:
            os.close(fd)
        return open_regular(log, os.O_RDWR | os.O_APPEND)


def _append(log: str, line: str, unless: str = "") -> None:
    """Append a line at the beginning of a line. A log that the job removed or replaced is left alone."""
    try:
        fd = _open_again(log)
    except OSError as err:
        if err.errno in TRANSIENT:
            raise
        return
    try:
        size = os.fstat(fd).st_size
        tail = b""
        with contextlib.suppress(OSError):
            tail = os.pread(fd, 200, max(0, size - 200))
        if unless and tail.rpartition(b"\n")[0].rpartition(b"\n")[2].startswith(unless.encode()):
            return
        text = line.encode() + b"\n"
        write_all(fd, text if not tail or tail.endswith(b"\n") else b"\n" + text)
    finally:
        os.close(fd)
