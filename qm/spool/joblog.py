"""process.log: QM's own lines in it, and the logs of earlier attempts.

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


def open_new(paths: JobPaths, started: float, notes: Iterable[str]) -> int:
    """Create process.log with QM's first lines; the descriptor is for appending. Raises OSError."""
    fd = _create(paths)
    head = "".join(f"QM: {printable(note)}\n" for note in notes) + f"{STARTED} {clock_time(started)}\n"
    try:
        write_all(fd, head.encode())
    except OSError:
        os.close(fd)
        raise
    return fd


def finish(paths: JobPaths, finished: float, code: str) -> None:
    """Write the last line, once: a line that stands there already (the daemon died since) is left alone."""
    _append(paths, f"{FINISHED} {clock_time(finished)} with code {code}", unless=FINISHED)


def note(paths: JobPaths, text: str) -> None:
    """Add a line of QM's own; makes the log where there is none."""
    if not exists(paths.log):
        os.close(_create(paths))
    _append(paths, f"QM: {printable(text)}")


def _create(paths: JobPaths) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(paths.log, flags, 0o644)
    except FileExistsError:
        number = 1
        while exists(f"{paths.log}.{number}"):
            number += 1
        os.rename(paths.log, f"{paths.log}.{number}")
        return os.open(paths.log, flags, 0o644)


def _open_again(paths: JobPaths) -> int:
    """Open process.log for a line more; a job may have made it read-only. Raises OSError."""
    try:
        return open_regular(paths.log, os.O_RDWR | os.O_APPEND)
    except PermissionError:
        fd = open_regular(paths.log)
        try:
            os.chmod(fd, os.fstat(fd).st_mode | 0o200)
        finally:
            os.close(fd)
        return open_regular(paths.log, os.O_RDWR | os.O_APPEND)


def _append(paths: JobPaths, line: str, unless: str = "") -> None:
    """Append a line at the beginning of a line. A log that the job removed or replaced is left alone."""
    try:
        fd = _open_again(paths)
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
