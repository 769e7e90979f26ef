"""`.qm/tasks.jsonl`: what became of the single tasks of an array; and `sweep.csv`: their values in a sweep.

Each line is the state of one task at one moment, a JSON object that leaves out what is not known; the last line
of a task counts. Invariant: lines are only ever appended, so a crash costs at most half a last line, which nobody
reads. The job may write here, too: what QM cannot have written is passed over, and what is kept is bounded.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from qm.spool.files import TRANSIENT, open_regular, read_regular, write_all, write_whole
from qm.vocabulary.states import Event, State
from qm.vocabulary.text import printable

MOST_TASKS = 1_000_000
"""Tasks of one array that are kept."""
LONGEST_LINE = 1 << 16
"""Bytes; a longer line was not written by QM."""
LONGEST_REASON = 1000
MOST_BYTES = 1 << 30
"""Of tasks.jsonl that are read."""
MOST_TABLE = 1 << 26
"""Bytes of a sweep.csv that are read."""
SWEEP_TABLE = "sweep.csv"

STATES = frozenset(
    (
        State.PENDING,
        State.DEFERRED,
        State.RUNNING,
        State.PAUSED,
        State.DONE,
        State.FAILED,
        State.TIMEOUT,
        State.OUT_OF_MEMORY,
        State.KILLED,
        State.LOST,
    )
)
ENDING_EVENTS = (Event.KILL, Event.RUN_OUT_OF_TIME, Event.RUN_OUT_OF_MEMORY)
"""By which QM ends a task."""
_CHUNK = 1 << 18
_COLUMNS = ("attempt", "started", "finished", "seconds", "exit_status", "signal", "cpu_seconds", "peak_memory")


class TaskEntry(NamedTuple):
    """One task at one moment. Times are UTC epoch seconds, memory is bytes, processors and gpus are their numbers.

    `deferred` waits for its next attempt, or to run again, until `not_before`; `pending` is a start that was void.
    `tries` counts the attempts that were used up: begun, and neither voided nor deferred by exit status 75.
    The rest is as in a Record; `reason` is why it is being ended while `ending` says by which event.
    """

    task: int
    state: State
    attempt: int = 0
    started: float | None = None
    finished: float | None = None
    exit_status: int | None = None
    signal: int | None = None
    processors: tuple[int, ...] = ()
    gpus: tuple[int, ...] = ()
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    reason: str = ""
    not_before: float | None = None
    deferred: float | None = None
    tries: int = 0
    ticket: str = ""
    wall_end: float | None = None
    wall_left: float | None = None
    ending: str = ""


_DEFAULTS = TaskEntry._field_defaults
_BEGIN = re.compile(rb'\{"task":([0-9]{1,10}),')
_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


def append(path: str, entries: Iterable[TaskEntry]) -> None:
    """Add one line an entry, all in one write. Raises OSError."""
    data = b"".join(_line(entry) for entry in entries)
    if not data:
        return
    try:
        fd = open_regular(path, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:
        write_whole(path, data)
        return
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":  # half a line, left by a crash or a full disk
            data = b"\n" + data
        write_all(fd, data)
    finally:
        os.close(fd)


def read(path: str, strict: bool = False) -> dict[int, TaskEntry]:
    """The newest entry of each task; none where there is no file.

    With `strict` OSError when nobody can say now (no descriptors, a file server that is away): what is not known to
    have run would be run again.
    """
    try:
        fd = open_regular(path)
    except OSError as err:
        if strict and err.errno in TRANSIENT:
            raise
        return {}
    newest: dict[int, bytes] = {}
    try:
        for line in _lines(fd):
            begin = _BEGIN.match(line)
            if begin is not None and (len(newest) < MOST_TASKS or int(begin[1]) in newest):
                newest[int(begin[1])] = line
        found = {task: entry for task, line in newest.items() if (entry := _parsed(line)) is not None}
        if len(found) < len(newest):  # somebody else wrote there: what QM said before counts
            os.lseek(fd, 0, os.SEEK_SET)
            entries = (entry for line in _lines(fd) if (entry := _parsed(line)) is not None)
            found = {entry.task: entry for entry in entries if entry.task in newest}
    except OSError:  # a file server that went away
        if strict:
            raise
        return {}
    finally:
        os.close(fd)
    return found


def with_waiting(entries: Mapping[int, TaskEntry], numbers: Iterable[int]) -> dict[int, TaskEntry]:
    """An entry for every task of the array: those that never began are pending."""
    return {number: entries.get(number) or TaskEntry(number, State.PENDING) for number in numbers}


def read_values(directory: str) -> tuple[tuple[str, ...], dict[int, tuple[str, ...]]]:
    """The names of a sweep and the values of each task, from the `sweep.csv` of a job folder; none without one."""
    try:
        text = read_regular(f"{directory}/{SWEEP_TABLE}", MOST_TABLE).decode("utf-8", "surrogateescape")
    except OSError:
        return (), {}
    values: dict[int, tuple[str, ...]] = {}
    try:
        rows = csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))
        names = tuple(next(rows, ())[1:])
        for row in rows:
            if len(row) == len(names) + 1 and row[0].isascii() and row[0].isdigit() and len(row[0]) < 10:
                values[int(row[0])] = tuple(row[1:])
    except csv.Error:  # not ours, or half of it
        return (), {}
    return names, values


def csv_lines(
    entries: Mapping[int, TaskEntry], values: Mapping[int, Sequence[str]] | None = None, names: Sequence[str] = ()
) -> Iterator[str]:
    """The tasks as CSV by number, a header first; `values` are those of a sweep by task, in the order of `names`."""
    yield csv_line(("task", *names, "state", *_COLUMNS, "reason"))
    nothing = ("",) * len(names)
    for task in sorted(entries):
        entry = entries[task]
        took = entry.finished - entry.started if entry.finished is not None and entry.started is not None else None
        own = values.get(task, nothing) if values else nothing
        cells = (
            *(entry.attempt or None, entry.started, entry.finished, took, entry.exit_status, entry.signal),
            *(entry.cpu_seconds, entry.peak_memory),
        )
        yield csv_line((task, *own, entry.state.value, *map(_rounded, cells), printable(entry.reason)))


def _rounded(value: float | None) -> float | None:
    return round(value, 3) if isinstance(value, float) else value


def csv_line(cells: Iterable[object]) -> str:
    """One line of CSV with its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _line(entry: TaskEntry) -> bytes:
    raw: dict[str, Any] = {"task": entry.task, "state": entry.state.value}
    for name, default in _DEFAULTS.items():
        value = getattr(entry, name)
        if value != default:
            raw[name] = value
    if len(entry.reason) > LONGEST_REASON:
        raw["reason"] = entry.reason[: LONGEST_REASON - 1] + "…"
    return _encode(raw).encode() + b"\n"


def _lines(fd: int) -> Iterator[bytes]:
    """The whole lines of a file that are not too long."""
    rest, left, too_long = b"", MOST_BYTES, False
    while left > 0 and (chunk := os.read(fd, min(_CHUNK, left))):
        left -= len(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if not too_long and len(line) < LONGEST_LINE:
                yield line
            too_long = False
        if len(rest) >= LONGEST_LINE:
            rest, too_long = b"", True


def _parsed(line: bytes) -> TaskEntry | None:
    """The entry that a line holds, None where it is none that QM wrote: every value is of its kind and in bounds."""
    try:
        known: dict[str, Any] = {}
        for name, value in _decode(line.decode()).items():
            if (good := _GOOD.get(name)) is None:  # a later version's
                continue
            if not good(value):
                return None
            known[name] = tuple(value) if type(value) is list else value
        known["state"] = State(known["state"])
        return TaskEntry(**known)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def _is_whole(value: Any) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -1e11 < value < 1e11  # false for nan, too


def _is_time(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _are_counts(value: Any) -> bool:
    return type(value) is list and all(map(_is_count, value))


def _is_text(value: Any) -> bool:
    return type(value) is str and len(value) <= LONGEST_REASON


_GOOD: Mapping[str, Callable[[Any], bool]] = {
    "state": frozenset(state.value for state in STATES).__contains__,
    **dict.fromkeys(("task", "attempt", "tries"), _is_count),
    **dict.fromkeys(("started", "finished", "cpu_seconds", "not_before", "deferred", "wall_end"), _is_time),
    **dict.fromkeys(("exit_status", "signal", "peak_memory"), _is_whole),
    "wall_left": _is_number,
    "ending": frozenset(("", *(event.value for event in ENDING_EVENTS))).__contains__,
    **dict.fromkeys(("processors", "gpus"), _are_counts),
    **dict.fromkeys(("reason", "ticket"), _is_text),
}
