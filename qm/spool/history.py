"""QM_history/YYYY-MM.jsonl: one line an ended job, for statistics that outlive the folders."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from qm.spool.files import open_regular, read_tail, write_all
from qm.vocabulary.record import Record
from qm.vocabulary.states import ENDED, State

_FIELDS = (
    "id name owner state reason submitted started finished attempt exit_status signal "
    "nb_proc processors cpu_seconds peak_memory launcher"
).split()
_LOOK_BACK = 1 << 20
"""Bytes at the end of a month's file that are searched: a crash lies seconds back, not weeks."""
_MONTH = re.compile(r"\d{4}-\d\d\.jsonl")


class End(NamedTuple):
    """One end of a job, as a line tells it. Times are UTC epoch seconds; what it does not say is None or empty."""

    id: str
    name: str
    owner: str
    state: State
    submitted: float
    started: float | None
    finished: float
    nb_proc: int
    processors: tuple[int, ...]
    cpu_seconds: float | None


class Month(NamedTuple):
    """One month's file: its name, and what tells whether it is the same and longer."""

    name: str
    inode: int
    size: int


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


def find(directory: str, job_id: str) -> End | None:
    """The last end of the job with that id; None if the history does not know it, or cannot be read."""
    wanted = f'"id": {json.dumps(job_id)}'.encode()
    for month in months(directory):
        try:
            fd = open_regular(f"{directory}/{month.name}")
        except OSError:
            continue
        with (
            open(fd, "rb") as file,
            contextlib.suppress(OSError, ValueError),  # ValueError: the file is empty
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            at = len(data)
            while (at := data.rfind(wanted, 0, at)) >= 0:
                begin, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
                found = next(_ends([data[begin : end if end >= 0 else len(data)]]), None)
                if found is not None and found.id == job_id:
                    return found
    return None


def months(directory: str) -> list[Month]:
    """The files there, the newest first; none where there is no history yet."""
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if _MONTH.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    facts = entry.stat(follow_symlinks=False)
                    found.append(Month(entry.name, facts.st_ino, facts.st_size))
    except OSError:
        return []
    return sorted(found, reverse=True)


def read(directory: str, month: Month, offset: int, limit: int) -> tuple[list[End], int]:
    """The ends in about `limit` bytes from `offset` on, and where to go on.

    Only whole lines are read: one without its end is left for later; what is no line of ours is skipped.
    Raises OSError.
    """
    fd = open_regular(f"{directory}/{month.name}")
    try:
        data = os.pread(fd, limit, offset)
    finally:
        os.close(fd)
    whole = data.rfind(b"\n") + 1
    if not whole:  # no line of ours is that long
        return [], offset + (len(data) if len(data) == limit else 0)
    return list(_ends(data[:whole].splitlines())), offset + whole


def _ends(lines: list[bytes]) -> Iterator[End]:
    for line in lines:
        try:
            yield _end(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            continue


def _end(raw: dict[str, Any]) -> End:
    """A line's values. ValueError, KeyError or TypeError if they are not what QM writes."""
    state, started, cpu = State(raw["state"]), raw.get("started"), raw.get("cpu_seconds")
    end = End(
        id=raw["id"],
        name=raw["name"],
        owner=raw["owner"],
        state=state,
        submitted=float(raw["submitted"]),
        started=None if started is None else float(started),
        finished=float(raw["finished"]),
        nb_proc=int(raw.get("nb_proc", 1)),
        processors=tuple(map(int, raw.get("processors") or ())),
        cpu_seconds=None if cpu is None else float(cpu),
    )
    texts = all(isinstance(text, str) for text in (end.name, end.owner)) and end.id.isascii() and end.id.isalnum()
    times = all(when is None or 0 <= when < 1e11 for when in (end.submitted, end.started, end.finished))
    numbers = 1 <= end.nb_proc < 1 << 31 and all(0 <= number < 1 << 31 for number in end.processors)
    if not (texts and times and numbers and state in ENDED and 0 <= (end.cpu_seconds or 0.0) < 1e12):
        raise ValueError("no line that QM wrote")
    return end


def _file(directory: str, record: Record) -> str:
    month = time.strftime("%Y-%m", time.localtime(record.finished or 0))
    return f"{directory}/{month}.jsonl"
