"""The table of all jobs: what lists ask of it, and how rows come and go.

Invariant: `version` grows with every change of what the table says, in the same breath as the change itself.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from qm.vocabulary.states import Place, State
from qm_web.cache.rows import (
    COLUMNS,
    FORMAT,
    INSERT,
    SCHEMA,
    Query,
    Row,
    is_counted,
    order,
    restored,
    stored,
    tally,
    to_bytes,
    to_text,
    where,
)
from qm_web.cache.store import Store

TOTALS = 64
"""Numbers of matches that are kept for the other viewers of the same list."""
_DELETE = "DELETE FROM jobs WHERE place = ? AND folder = ?"

Found = tuple[Place, str]
"""Where a job lies: the place, and the folder's name there."""
Rows = list[Row]


class Reading(NamedTuple):
    """What was read of one folder, and its stamp from before; the row is None if it is no job any more."""

    place: Place
    folder: str
    stamp: int
    row: Row | None


class JobTable:
    """The jobs of the spool at `root`, in the file `path`. Everything here may raise CacheLost: then it is empty.

    `still_there` says whether a folder is there; `version` is the first one.
    """

    def __init__(self, path: str, root: str, still_there: Callable[[Place, str], object], version: int) -> None:
        self.store = Store(path, SCHEMA, FORMAT, root)
        self.version = version
        self._still_there = still_there
        self._totals: OrderedDict[tuple[int, Query], int] = OrderedDict()

    # --- questions -----------------------------------------------------------------------------------------

    def known(self) -> Iterable[tuple[Place, str, int]]:
        """Every folder with its stamp."""
        found = self._ask("SELECT place, folder, stamp FROM jobs")
        return ((Place(place), to_text(folder), stamp) for place, folder, stamp in found)

    def list(self, query: Query, now: float) -> tuple[Rows, int]:
        """The rows of one page of the list, and how many match in all."""
        condition, values = where(query)
        many = min(max(0, query.per_page), 1 << 20)
        values |= {"now": now, "many": many, "before": (min(max(1, query.page), 1 << 40) - 1) * many}
        picked = f"SELECT number FROM jobs WHERE {condition} ORDER BY {order(query)} LIMIT :many OFFSET :before"
        with self.store.reading() as db:
            numbers = db.execute(picked, values).fetchall()
            text = f"SELECT {COLUMNS} FROM jobs WHERE number = ?"
            rows = [restored(db.execute(text, number).fetchone()) for number in numbers]
            return rows, self._total(db, query)

    def _total(self, db: sqlite3.Connection, query: Query) -> int:
        """How many rows match: from the tallies, or else counted once for every version."""
        if is_counted(query):
            condition, values = tally(query)
            row = db.execute(f"SELECT coalesce(sum(jobs), 0) FROM tallies WHERE {condition}", values).fetchone()
            return int(row[0])
        same = (self.version, replace(query, sort="", descending=False, page=1, per_page=1))
        if same not in self._totals:
            condition, values = where(query)
            (self._totals[same],) = db.execute(f"SELECT count(*) FROM jobs WHERE {condition}", values).fetchone()
            while len(self._totals) > TOTALS:
                self._totals.popitem(last=False)
        return self._totals[same]

    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""
        found = self._ask("SELECT state, sum(jobs) FROM tallies GROUP BY state HAVING sum(jobs) > 0")
        return {State(state): jobs for state, jobs in found}

    def owners(self) -> Iterable[str]:
        """Every owner of a job."""
        found = self._ask("SELECT owner FROM tallies GROUP BY owner HAVING sum(jobs) > 0")
        return (to_text(owner) for (owner,) in found)

    def with_key(self, key: str) -> Iterable[Found]:
        """Where jobs with this key are thought to lie: live ones first, then the newest."""
        text = "SELECT place, folder FROM jobs WHERE key = ? ORDER BY rank = 5, at DESC"
        return [(Place(place), to_text(folder)) for place, folder in self._ask(text, (key,))] if key.isascii() else []

    def present(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that a job has."""
        found: set[str] = set()
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            text = f"SELECT key FROM jobs WHERE key IN ({', '.join('?' * len(some))})"
            found.update(key for (key,) in self._ask(text, tuple(some)))
        return found

    def _ask(self, text: str, values: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
        with self.store.reading() as db:
            return db.execute(text, values).fetchall()

    # --- changes -------------------------------------------------------------------------------------------

    def forget(self, gone: Iterable[Found]) -> None:
        """These lie there no more."""
        with self.store.writing() as db:
            db.executemany(_DELETE, [(place.value, to_bytes(folder)) for place, folder in gone])
            self.version += 1

    def put(self, readings: Iterable[Reading]) -> Iterable[Found]:
        """Rows in place of those that their folders had. The folders whose rows went besides: they have moved."""
        moved: list[Found] = []
        with self.store.writing() as db:
            for place, folder, stamp, row in readings:
                if row is not None:
                    moved += self._put(db, row, stamp)
                else:
                    db.execute(_DELETE, (place.value, to_bytes(folder)))
                    self.version += 1
        return moved

    def _put(self, db: sqlite3.Connection, row: Row, stamp: int) -> Iterable[Found]:
        moved: list[Found] = []
        text = f"SELECT number, {COLUMNS} FROM jobs WHERE key = ? OR place = ? AND folder = ?"
        for number, *values in db.execute(text, (row.key, row.place.value, to_bytes(row.folder))).fetchall():
            old = restored(values)
            if old == row:
                db.execute("UPDATE jobs SET stamp = ? WHERE number = ?", (stamp, number))
                return moved
            if (old.place, old.folder) != (row.place, row.folder):
                if self._still_there(old.place, old.folder):
                    continue
                moved.append((old.place, old.folder))
            db.execute("DELETE FROM jobs WHERE number = ?", (number,))
        db.execute(INSERT, stored(row, stamp))
        self.version += 1
        return moved
