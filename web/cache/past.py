"""QM_history as a table: all that has ended, also the jobs whose folders are gone.

Invariant: every whole line of the files is read once, from where the last look ended; a file that was cut or replaced
is read again from its beginning, one that vanished leaves the table.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qm.judgement.timeline import Bin, bin_number, bins
from qm.spool import history
from qm.spool.history import End, Month
from qm.vocabulary.states import State
from qm_web.cache.rows import to_bytes, to_text
from qm_web.cache.store import MEMORY, CacheLost, Store, cache_path

AT_ONCE = 0.05
"""Seconds that a page reads; the rest of a long history is read behind it."""
PIECE = 1 << 18
"""Bytes read in one transaction."""
FORMAT = 2
log = logging.getLogger("qm_web")
SCHEMA = """
CREATE TABLE files (name TEXT PRIMARY KEY, inode INTEGER NOT NULL, offset INTEGER NOT NULL)

CREATE TABLE ends (
    file TEXT NOT NULL, id TEXT NOT NULL, name BLOB NOT NULL, owner BLOB NOT NULL, state TEXT NOT NULL,
    submitted REAL NOT NULL, started REAL, finished REAL NOT NULL, nb_proc INTEGER NOT NULL, processors TEXT NOT NULL,
    cpu_seconds REAL)

CREATE INDEX by_end ON ends (finished)

CREATE TABLE sums (
    file TEXT, day TEXT, state TEXT, owner BLOB, jobs INTEGER NOT NULL, cpu REAL NOT NULL, held REAL NOT NULL,
    PRIMARY KEY (file, day, state, owner)) WITHOUT ROWID

CREATE TABLE bins (
    file TEXT, day TEXT, kind TEXT, number INTEGER, jobs INTEGER NOT NULL,
    PRIMARY KEY (file, day, kind, number)) WITHOUT ROWID
"""
"""`sums` and `bins` have what pages show added up, so that they need not look at every job. A day is one of this
machine's; bins are those of DURATIONS, their kinds `waited` and `ran`."""
_ADD_SUM = """INSERT INTO sums VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (file, day, state, owner)
    DO UPDATE SET jobs = jobs + excluded.jobs, cpu = cpu + excluded.cpu, held = held + excluded.held"""
_ADD_BIN = """INSERT INTO bins VALUES (?, ?, ?, ?, ?) ON CONFLICT (file, day, kind, number)
    DO UPDATE SET jobs = jobs + excluded.jobs"""
_USE = """coalesce(sum(jobs), 0), coalesce(sum(jobs * (state = 'done')), 0),
    coalesce(sum(cpu), 0.0), coalesce(sum(held), 0.0)"""
_BYTES = tuple(map(End._fields.index, ("name", "owner")))
_STATE, _CPUS = End._fields.index("state"), End._fields.index("processors")
Group = tuple[str | bytes | int, ...]


class Use(NamedTuple):
    """How much a group of jobs used: CPU seconds, and processors times seconds that they had."""

    jobs: int
    done: int
    cpu: float
    held: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """What ended since a moment. `days` are in this machine's time, oldest first; owners by CPU time, most first."""

    total: Use
    owners: list[tuple[str, Use]]
    states: list[tuple[State, Use]]
    days: list[tuple[str, Use]]
    waiting: list[Bin]
    running: list[Bin]


class Past:
    """The history in the folder `directory`; `path` is the index's file, beside which this one lies."""

    def __init__(self, directory: str, path: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        file = cache_path(directory, "-history") if path is None else path if path == MEMORY else f"{path}-history"
        self._store = Store(file, SCHEMA, FORMAT, directory)
        self._reading = threading.Lock()
        self._closed = False
        self._version = 0
        self.complete = False
        """Has everything been read?"""

    def close(self) -> None:
        """Stop reading and give the cache's file free."""
        self._closed = True
        with self._reading:
            self._store.close()

    # --- keeping up ----------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read what is new, unless that is being done. What there is much of is read on behind the pages."""
        if not self._reading.acquire(blocking=False):
            return
        self.complete = self._read_until(self._clock() + AT_ONCE)
        if self.complete:
            self._reading.release()
        else:
            threading.Thread(target=self._read_behind, daemon=True, name="history").start()

    def _read_behind(self) -> None:
        """In a thread of its own, which has been given the lock."""
        try:
            while not self.complete and not self._closed:
                self.complete = self._read_until(self._clock() + AT_ONCE)
        finally:
            self._reading.release()

    def _read_until(self, until: float) -> bool:
        try:
            return self._read(until)
        except CacheLost as err:  # it begins anew
            log.warning("the cache of the history is lost, and made again in memory: %s", err)
            self._version += 1
            return False

    def _read(self, until: float) -> bool:
        """Read on until that moment of the clock; whether all is read."""
        months = history.months(self._directory)
        with self._store.reading() as db:
            rows = db.execute("SELECT name, inode, offset FROM files").fetchall()
        known = {name: (inode, offset) for name, inode, offset in rows}
        there = {month.name: month for month in months}
        for name, (inode, offset) in known.items():
            if name not in there or there[name].inode != inode or there[name].size < offset:
                self._forget(name)
        for month in months:
            inode, offset = known.get(month.name, (month.inode, 0))
            if inode != month.inode or month.size < offset:
                offset = 0
            while offset < month.size:
                try:
                    ends, further = history.read(self._directory, month, offset, PIECE)
                except OSError:
                    break
                if further == offset:  # the line is still being written
                    break
                self._keep(month, further, ends)
                offset = further
                if self._clock() > until:
                    return False
        return True

    def _forget(self, name: str) -> None:
        with self._store.writing() as db:
            for table in ("ends", "sums", "bins"):
                db.execute(f"DELETE FROM {table} WHERE file = ?", (name,))
            db.execute("DELETE FROM files WHERE name = ?", (name,))
            self._version += 1

    def _keep(self, month: Month, offset: int, ends: Sequence[End]) -> None:
        sums, numbers = _added_up(ends)
        with self._store.writing() as db:
            db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (month.name, month.inode, offset))
            marks = ", ".join("?" * (1 + len(End._fields)))
            db.executemany(f"INSERT INTO ends VALUES ({marks})", ((month.name, *_stored(end)) for end in ends))
            db.executemany(_ADD_SUM, ((month.name, *group, *use) for group, use in sums.items()))
            db.executemany(_ADD_BIN, ((month.name, *group, jobs) for group, jobs in numbers.items()))
            self._version += 1

    @property
    def version(self) -> int:
        """Grows whenever something is read."""
        return self._version

    # --- what pages ask ------------------------------------------------------------------------------------

    def between(self, since: float, until: float, most: int) -> tuple[list[End], int]:
        """The jobs that ran at some time from `since` to `until`, the last ended first; how many more there are."""
        condition = "finished >= ? AND started < ? AND finished > started"
        columns = ", ".join(End._fields)
        try:
            with self._store.reading() as db:
                (count,) = db.execute(f"SELECT count(*) FROM ends WHERE {condition}", (since, until)).fetchone()
                text = f"SELECT {columns} FROM ends WHERE {condition} ORDER BY finished DESC LIMIT ?"
                found = [_end(values) for values in db.execute(text, (since, until, most))]
        except CacheLost:
            return [], 0
        return found, count - len(found)

    def statistics(self, first_day: str = "") -> Statistics:
        """What ended on that day (`2026-01-31`, this machine's) and later."""
        try:
            with self._store.reading() as db:
                return _statistics(db, first_day)
        except CacheLost:
            return Statistics(Use(0, 0, 0.0, 0.0), [], [], [], [], [])


def _statistics(db: sqlite3.Connection, first_day: str) -> Statistics:
    def grouped(column: str, order: str) -> list[tuple[Any, Use]]:
        text = f"SELECT {column}, {_USE} FROM sums WHERE day >= ? GROUP BY {column} ORDER BY {order}"
        return [(word, Use(*use)) for word, *use in db.execute(text, (first_day,))]

    def spread(kind: str) -> list[Bin]:
        text = "SELECT number, sum(jobs) FROM bins WHERE kind = ? AND day >= ? GROUP BY number"
        return bins(dict(db.execute(text, (kind, first_day)).fetchall()))

    order = list(State)
    return Statistics(
        total=Use(*db.execute(f"SELECT {_USE} FROM sums WHERE day >= ?", (first_day,)).fetchone()),
        owners=[(to_text(word), use) for word, use in grouped("owner", "4 DESC, 2 DESC, 1")],
        states=sorted(((State(word), use) for word, use in grouped("state", "1")), key=lambda one: order.index(one[0])),
        days=grouped("day", "1"),
        waiting=spread("waited"),
        running=spread("ran"),
    )


def _added_up(ends: Iterable[End]) -> tuple[dict[Group, list[float]], Counter[Group]]:
    """What `sums` and `bins` get of some ends. A job that never began neither waited nor ran."""
    sums: dict[Group, list[float]] = {}
    found: Counter[Group] = Counter()
    for end in ends:
        day = time.strftime("%Y-%m-%d", time.localtime(end.finished))
        use = sums.setdefault((day, end.state.value, to_bytes(end.owner)), [0, 0.0, 0.0])
        use[0] += 1
        use[1] += end.cpu_seconds or 0.0
        if end.started is not None:
            ran = max(0.0, end.finished - end.started)
            use[2] += ran * end.nb_proc
            found[day, "waited", bin_number(end.started - end.submitted)] += 1
            found[day, "ran", bin_number(ran)] += 1
    return sums, found


def _stored(end: End) -> tuple[object, ...]:
    """The values of a row of `ends`."""
    values: list[Any] = list(end)
    values[_STATE], values[_CPUS] = end.state.value, json.dumps(end.processors) if end.processors else ""
    for at in _BYTES:
        values[at] = to_bytes(values[at])
    return tuple(values)


def _end(row: Iterable[Any]) -> End:
    """An end from such a row."""
    values: list[Any] = list(row)
    values[_STATE], values[_CPUS] = State(values[_STATE]), tuple(json.loads(values[_CPUS] or "[]"))
    for at in _BYTES:
        values[at] = to_text(values[at])
    return End(*values)
