"""Jobs as rows of a table: what a list shows of one, how it is stored, and how a question becomes SQL.

Invariant: whatever text a name or a description holds comes back as it was: texts are stored as bytes (UTF-8, lone
surrogates, which stand for undecodable bytes, included) and compared as bytes, never as patterns.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from qm.judgement.reasons import group_of
from qm.spool.view import JobView
from qm.vocabulary.record import Dependency, Tasks
from qm.vocabulary.states import Place, State


class Row(NamedTuple):
    """One job as lists show it. Times are UTC epoch seconds, memory is bytes.

    `key` names the job in addresses: its id, or for a folder without one `x` and 16 hexadecimal digits made from
    place and folder name. `folder` is the folder's name in `place`, `name` what the job was submitted as. What it waits
    for: `mem` (0 for no limit), `gpus`, its `group` ("" for none) with its own limit `at_most`, `not_before`, `after`.
    """

    key: str
    id: str
    name: str
    place: Place
    folder: str
    state: State
    owner: str
    info: str
    size: str
    nb_proc: int
    priority: int
    submitted: float
    started: float | None
    finished: float | None
    reason: str
    attempt: int
    exit_status: int | None
    signal: int | None
    cpu_seconds: float | None
    peak_memory: int | None
    mem: int = 0
    gpus: int = 0
    group: str = ""
    at_most: int | None = None
    not_before: float | None = None
    after: tuple[Dependency, ...] = ()
    tasks: Tasks | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """Which jobs a list wants. Empty fields do not filter.

    `text` is looked for in name, id, info, owner and reason, ignoring case (plain text, no pattern); `since` and
    `until` limit the time the job ended, or was submitted if it has not. `sort` is one of SORTS; "" is the natural
    order of the places: active ones by start (oldest first), waiting ones as they will start (then deferred, held,
    arriving), ended ones newest first.
    """

    places: tuple[Place, ...] = tuple(Place)
    text: str = ""
    states: tuple[State, ...] = ()
    owner: str = ""
    since: float | None = None
    until: float | None = None
    sort: str = ""
    descending: bool = False
    page: int = 1
    per_page: int = 50


SORTS = (
    "name",
    "state",
    "owner",
    "nb_proc",
    "priority",
    "submitted",
    "started",
    "finished",
    "duration",
    "cpu_seconds",
    "peak_memory",
)

LONGEST_TEXT = 1000
"""Characters of a description or a reason that lists show; the page of a job has all of it."""

MOST_AFTER = 100
"""Jobs to wait for that lists know of; a record may name any number."""

FORMAT = 2
SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY, place TEXT NOT NULL, folder BLOB NOT NULL, stamp INTEGER NOT NULL,
    rank INTEGER NOT NULL, first REAL NOT NULL, second REAL NOT NULL, at REAL NOT NULL,
    state TEXT NOT NULL, owner BLOB NOT NULL, text BLOB NOT NULL,
    key TEXT NOT NULL, id TEXT NOT NULL, name BLOB NOT NULL, info BLOB NOT NULL, size BLOB NOT NULL,
    nb_proc INTEGER NOT NULL, priority INTEGER NOT NULL, submitted REAL NOT NULL, started REAL, finished REAL,
    reason BLOB NOT NULL, attempt INTEGER NOT NULL, exit_status INTEGER, signal INTEGER, cpu_seconds REAL,
    peak_memory INTEGER, mem INTEGER NOT NULL, gpus INTEGER NOT NULL, group_name BLOB NOT NULL, at_most INTEGER,
    not_before REAL, after TEXT, tasks TEXT, UNIQUE (place, folder))

CREATE INDEX natural_order ON jobs (rank, first, second)

CREATE INDEX by_key ON jobs (key)

CREATE TABLE tallies (place TEXT, state TEXT, owner BLOB, jobs INTEGER, PRIMARY KEY (place, state, owner)) WITHOUT ROWID

CREATE TRIGGER counts_up AFTER INSERT ON jobs BEGIN
    INSERT INTO tallies VALUES (new.place, new.state, new.owner, 1)
    ON CONFLICT (place, state, owner) DO UPDATE SET jobs = jobs + 1;
END

CREATE TRIGGER counts_down AFTER DELETE ON jobs BEGIN
    UPDATE tallies SET jobs = jobs - 1 WHERE place = old.place AND state = old.state AND owner = old.owner;
END
"""
"""`rank`, `first`, `second` are the natural order; `at` is when it ended, or was submitted; `text` is what is searched:
name first, case folded, so that it also sorts by name."""

_COLUMNS = tuple("group_name" if name == "group" else name for name in Row._fields)  # GROUP is a word of SQL
_BYTES = tuple(map(_COLUMNS.index, ("name", "folder", "owner", "info", "size", "reason", "group_name")))
_PLACE, _STATE = _COLUMNS.index("place"), _COLUMNS.index("state")
_AFTER, _TASKS = _COLUMNS.index("after"), _COLUMNS.index("tasks")
_STORED = ("stamp", "rank", "first", "second", "at", "text", *_COLUMNS)
INSERT = f"INSERT INTO jobs ({', '.join(_STORED)}) VALUES ({', '.join('?' * len(_STORED))})"
COLUMNS = ", ".join(_COLUMNS)
"""What `restored` takes."""

_RANKS = {State.PENDING: 1, State.DEFERRED: 2, State.HELD: 3}
_ENDED = 5
_RANK_RANGES = {Place.JOBS: (0, 0), Place.QUEUE: (1, 4), Place.DONE: (_ENDED, _ENDED), Place.LOST: (_ENDED, _ENDED)}
_ORDER = {name: name for name in SORTS} | {"name": "text", "duration": "coalesce(finished, :now) - started"}
_LARGEST = (1 << 63) - 1
_LONGEST = 1e15


def to_bytes(text: str) -> bytes:
    """A text as it is stored; every `str` has one such form."""
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    """What to_bytes was given."""
    return data.decode("utf-8", "surrogatepass")


def key_of(place: Place, folder: str, job_id: str) -> str:
    """How addresses name a job."""
    if job_id:
        return job_id
    return "x" + hashlib.sha256(os.fsencode(f"{place}/{folder}")).hexdigest()[:16]


def row_of(job: JobView) -> Row:
    """What lists show of a job that was looked at."""
    record = job.record
    options = record.effective if record else None
    return Row(
        key=key_of(job.place, job.folder, job.id),
        id=job.id,
        name=job.name,
        place=job.place,
        folder=job.folder,
        state=job.state,
        owner=job.owner,
        info=job.info[:LONGEST_TEXT],
        size=job.size,
        nb_proc=_bounded(job.nb_proc),
        priority=_bounded(job.priority),
        submitted=job.submitted,
        started=job.started,
        finished=job.finished,
        reason=job.reason[:LONGEST_TEXT],
        attempt=_bounded(record.attempt) if record else 0,
        exit_status=_maybe(record.exit_status if record else job.exit_status),
        signal=_maybe(record.signal if record else None),
        cpu_seconds=_seconds(record.cpu_seconds if record else None),
        peak_memory=_maybe(record.peak_memory if record else None),
        mem=_bounded(options.mem or 0) if options else 0,
        gpus=_bounded(options.gpus) if options else 0,
        group=group_of(options, job.name) if options else "",
        at_most=_maybe(options.max_parallel) if options else None,
        not_before=record.not_before if record else None,
        after=record.after[:MOST_AFTER] if record else (),
        tasks=Tasks(*map(_bounded, job.tasks)) if job.tasks is not None else None,
    )


def stored(row: Row, stamp: int) -> list[Any]:
    """The values of INSERT."""
    values: list[Any] = list(row)
    for at in _BYTES:
        values[at] = to_bytes(values[at])
    values[_PLACE], values[_STATE] = row.place.value, row.state.value
    values[_AFTER] = json.dumps(row.after) if row.after else None
    values[_TASKS] = json.dumps(row.tasks) if row.tasks else None
    return [stamp, *_natural(row), _at(row), _searched(row), *values]


def restored(values: Iterable[Any]) -> Row:
    """A row from the values of COLUMNS."""
    found: list[Any] = list(values)
    for at in _BYTES:
        found[at] = to_text(found[at])
    found[_PLACE], found[_STATE] = Place(found[_PLACE]), State(found[_STATE])
    found[_AFTER] = tuple(Dependency(*each) for each in json.loads(found[_AFTER])) if found[_AFTER] else ()
    found[_TASKS] = Tasks(*json.loads(found[_TASKS])) if found[_TASKS] else None
    return Row(*found)


def _natural(row: Row) -> tuple[int, float, float]:
    if row.place is Place.JOBS:
        return 0, row.started or row.submitted, row.submitted
    if row.place is Place.QUEUE:
        return _RANKS.get(row.state, 4), -float(row.priority), row.submitted
    return _ENDED, -_at(row), -row.submitted


def _at(row: Row) -> float:
    ended = row.place in (Place.DONE, Place.LOST) and row.finished is not None
    return row.finished if ended and row.finished is not None else row.submitted


def _searched(row: Row) -> bytes:
    return to_bytes("\n".join((row.name, row.id, row.info, row.owner, row.reason)).casefold())


def _bounded(number: int) -> int:
    """SQLite's integers end at 2**63; what a hostile record says may be larger."""
    return max(-_LARGEST, min(number, _LARGEST))


def _seconds(number: float | None) -> float | None:
    """None for what no job can have used: a hostile record says Infinity, or what no float can hold."""
    return float(number) if number is not None and 0 <= number < _LONGEST else None


def _maybe(number: int | None) -> int | None:
    return None if number is None else _bounded(number)


# --- questions ---------------------------------------------------------------------------------------------


def where(query: Query) -> tuple[str, dict[str, Any]]:
    """The condition of a query, and its values."""
    condition, values = tally(query)
    parts = [*_ranks(query.places), condition]
    if query.since is not None:
        parts.append("at >= :since")
        values["since"] = float(query.since)
    if query.until is not None:
        parts.append("at <= :until")
        values["until"] = float(query.until)
    if query.text:
        parts.append("instr(text, :text) > 0")
        values["text"] = to_bytes(query.text.casefold())
    return " AND ".join(parts), values


def tally(query: Query) -> tuple[str, dict[str, Any]]:
    """The part of the condition that is about place, state and owner."""
    parts: list[str] = []
    values: dict[str, Any] = {}
    if set(query.places) != set(Place):
        values = {f"place{n}": place.value for n, place in enumerate(query.places)}
        parts.append(f"place IN ({_named(values)})")
    if query.states:
        names = {f"state{n}": state.value for n, state in enumerate(query.states)}
        parts.append(f"state IN ({_named(names)})")
        values |= names
    if query.owner:
        parts.append("owner = :owner")
        values["owner"] = to_bytes(query.owner)
    return " AND ".join(parts) or "1", values


def is_counted(query: Query) -> bool:
    """Do the tallies know how many rows match?"""
    return not query.text and query.since is None and query.until is None


def _ranks(places: tuple[Place, ...]) -> list[str]:
    """Where they are, as the natural order's index knows it."""
    if not places or set(places) == set(Place):
        return []
    ranges = sorted(_RANK_RANGES[place] for place in places)
    low, high = ranges[0][0], ranges[-1][1]
    return [f"rank = {low}" if low == high else f"rank BETWEEN {low} AND {high}"]


def _named(names: Iterable[str]) -> str:
    return ", ".join(f":{name}" for name in names)


def order(query: Query) -> str:
    """ORDER BY of a query; what has no value comes last either way."""
    natural = "rank, first, second, number"
    if query.sort not in _ORDER:
        if query.descending:
            return "rank DESC, first DESC, second DESC, number DESC"
        return natural
    column = _ORDER[query.sort]
    return f"{column} IS NULL, {column} {'DESC' if query.descending else 'ASC'}, {natural}"
