"""QM_history/YYYY-MM.jsonl: one line an ended job, for statistics that outlive the folders."""

from __future__ import annotations

import json
import os
import time

from qm.spool.files import read_tail, write_all
from qm.vocabulary.record import Record

_FIELDS = (
    "id name owner state reason submitted started finished attempt exit_status signal "
    "nb_proc cpu_seconds peak_memory launcher"
).split()
_LOOK_BACK = 1 << 20
"""Bytes at the end of a month's file that are searched: a crash lies seconds back, not weeks."""


def append(directory: str, record: Record) -> None:
    """Add the line of a job that has just ended. Raises OSError."""
    line = json.dumps({name: getattr(record, name) for name in _FIELDS}).encode() + b"\n"
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
        fd = os.open(_file(directory, record), flags, 0o644)
    except FileNotFoundError:
        os.makedirs(directory, exist_ok=True)
        fd = os.open(_file(directory, record), flags, 0o644)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":  # a power cut left half of a line
            line = b"\n" + line
        try:
            write_all(fd, line)
        except OSError:  # a full disk: no half of a line may stay
            os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)


def contains(directory: str, record: Record) -> bool:
    """Does the history have this end of this job already? Raises OSError when nobody can say."""
    try:
        tail = read_tail(_file(directory, record), _LOOK_BACK)
    except FileNotFoundError:
        return False
    wanted = json.dumps(record.id).encode()
    for line in reversed(tail.split(b"\n")):
        if wanted in line:
            try:
                known = json.loads(line)
            except ValueError:
                continue
            if known.get("id") == record.id and known.get("finished") == record.finished:
                return True
    return False


def _file(directory: str, record: Record) -> str:
    month = time.strftime("%Y-%m", time.localtime(record.finished or 0))
    return f"{directory}/{month}.jsonl"
