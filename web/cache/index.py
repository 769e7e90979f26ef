"""The dashboard's cache of all jobs: a table of what their records say, so that a list of 100,000 can be filtered and
paged in milliseconds.

Invariants: the folders are right, and the table is only what was last read from them. One thread at a time brings it up
to date; the others go on with what is there. What there is much of (the first reading of a spool) is read behind the
pages, newest first, and shown as it comes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from qm.spool.view import LIVE, STAMP_BITS, View, is_job_name
from qm.vocabulary.errors import TryAgain
from qm.vocabulary.states import Place, State
from qm_web.cache.jobtable import Found, JobTable, Reading, Rows
from qm_web.cache.lookout import UNREAD, UNSURE, Known, Lookout
from qm_web.cache.rows import SORTS, Query, Row, key_of, row_of
from qm_web.cache.store import CacheLost, cache_path

__all__ = ["SORTS", "Index", "Query", "Row"]

FRESH = 0.25
"""Seconds for which a refresh is good for everybody."""
PATIENCE = 0.5
"""Seconds that a page waits for another thread's refresh, where it must know."""
AT_ONCE = 0.02
"""Seconds of reading that a page takes upon itself; the rest is read behind it."""
AT_FIRST = 0.2
"""Seconds that the first page waits for the first look; few jobs are all there then."""
FEW, BATCH = 20, 100
"""Jobs read in one transaction: by a page, and behind the pages."""
SETTLED = 100_000
"""Microseconds after which no file system gives a new record the time of the one before."""

log = logging.getLogger("qm_web")
Answer = TypeVar("Answer")
Finds = list[Found]
Names = list[str]


class Index:
    """The jobs of one spool. `path` is the cache's file (`:memory:` for none), by default one in the user's cache.

    `clock` is monotonic, `now` UTC epoch seconds.
    """

    def __init__(
        self,
        view: View,
        path: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._view = view
        self._clock = clock
        self._now = now
        root = view.paths.root
        # Versions grow over restarts, too: browsers keep pages of the last one.
        self._table = JobTable(path or cache_path(root), root, view.stamp, version=int(now() * 1000))
        self._refreshing = threading.Lock()
        self._changing = threading.RLock()
        self._reader: threading.Thread | None = None
        self._closed = False
        self._looked = False
        self._begin()

    def _begin(self) -> None:
        """Know nothing but what the table says."""
        with self._changing:
            self._known: Known = {place: {} for place in Place}
            for place, folder, stamp in self._asked(self._table.known) or ():
                self._known[place][folder] = stamp
            self._lookout = Lookout(self._view, self._known, self._clock, self._now)
            self._unread = 0
            self._complete = False
            self._next = float("-inf")

    def close(self) -> None:
        """Stop reading and give the cache's file free."""
        self._closed = True
        if (reader := self._reader) is not None:
            reader.join()
        with self._refreshing:
            self._table.store.close()

    # --- what pages ask ------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Grows whenever anything in the index changes."""
        return self._table.version

    def progress(self) -> float | None:
        """How much of the first reading of a spool is done (0..1), None when it is complete."""
        if self._complete:
            return None
        jobs = sum(map(len, self._known.values()))
        return 1.0 - self._unread / jobs if jobs else 0.0

    def list(self, query: Query) -> tuple[Rows, int]:
        """The rows of one page of the list, and how many match in all."""
        return self._asked(lambda: self._table.list(query, self._now())) or ([], 0)

    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""
        return self._asked(self._table.counts) or {}

    def owners(self) -> Names:
        """Every owner of a job, sorted."""
        return sorted(filter(None, self._asked(self._table.owners) or ()))

    def present(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that a job has; a folder that has just gone may be among them."""
        return self._asked(lambda: self._table.present(keys)) or set()

    def key_of(self, place: Place, folder: str) -> str | None:
        """The key of the job in this folder, None if there is no such folder."""
        row = self._row(place, folder) if is_job_name(folder) else None
        return row.key if row is not None else None

    def find(self, key: str) -> Row | None:
        """The job with that key where it lies right now; of several with one id the live one, else the newest."""
        for look in (False, True, True):
            if look:  # it has moved on, or came just now
                self._look_now()
            for place, folder in self._asked(lambda: self._table.with_key(key)) or ():
                row = self._row(place, folder)
                if row is not None and row.key == key:
                    return row
        return self._once_without_id(key) or self._unlisted(key)

    def folders_of(self, key: str) -> Names:
        """Every folder that has that key, as `QM_dJobs/name`: more than one where somebody has copied an ended job."""
        found = self._asked(lambda: self._table.with_key(key)) or ()
        rows = (self._row(place, folder) for place, folder in found)
        return [f"{row.place}/{row.folder}" for row in rows if row is not None and row.key == key]

    def _once_without_id(self, key: str) -> Row | None:
        """A job that got its id after somebody had opened its page."""
        if key.startswith("x") and len(key) == 17:
            for place in LIVE:
                for folder in tuple(self._known[place]):
                    if key_of(Place.QUEUE, folder, "") == key:
                        return self._row(place, folder)
        return None

    def _unlisted(self, key: str) -> Row | None:
        """A job that is not read yet, or was still arriving, without an id, when it was; looked for a while only."""
        arriving, _ = self.list(Query(places=LIVE, states=(State.ARRIVING,), per_page=10 * BATCH))
        unread = reversed(self._all_unread()) if self._unread else ()
        until = self._clock() + PATIENCE
        for place, folder in (*((row.place, row.folder) for row in arriving), *unread):
            row = self._row(place, folder)
            if row is not None and row.key == key:
                return row
            if self._clock() > until:
                break
        return None

    def _row(self, place: Place, folder: str) -> Row | None:
        """A job as it is on the disk."""
        job = self._view.job(place, folder, progress=False)
        return row_of(job) if job is not None else None

    def _asked(self, question: Callable[[], Answer]) -> Answer | None:
        """What the table says; None when it broke: all is read again then."""
        try:
            return question()
        except CacheLost as err:
            log.warning("the cache of the jobs is lost, and made again in memory: %s", err)
            self._begin()
            return None

    # --- keeping up ----------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Bring the index up to date, unless that was done FRESH seconds ago or is being done."""
        if self._closed or self._clock() < self._next or not self._refreshing.acquire(blocking=False):
            return
        if not self._lookout.is_slow():
            self._look_and_release()
            return
        behind = threading.Thread(target=self._look_and_release, daemon=True, name="lookout")
        behind.start()
        if not self._looked:
            behind.join(AT_FIRST)

    def _look_and_release(self) -> None:
        """The lock was acquired by whoever wanted the look."""
        try:
            self._look()
        finally:
            self._looked = True
            self._refreshing.release()

    def _look_now(self) -> None:
        """The same whenever it was done last."""
        if self._refreshing.acquire(timeout=PATIENCE):
            try:
                self._look(at_once=True)
            finally:
                self._refreshing.release()

    def _look(self, at_once: bool = False) -> None:
        def look() -> None:
            lookout = self._lookout
            self._read_some(self._listed(at_once), lookout.swept())
            with self._changing:
                if lookout is self._lookout:  # else all is being read again
                    self._complete = self._complete or not self._unread

        try:
            if not self._closed:
                self._asked(look)
        except TryAgain as err:  # out of file descriptors, or the like: pages show what is there
            log.warning("%s", err)
        self._next = self._clock() + FRESH

    def _listed(self, at_once: bool) -> Finds:
        """Forget what is gone; what is new, and now expected to be read."""
        new: Finds = []
        left: Names = []
        for place in Place:  # in the order in which jobs pass through them
            came, gone = self._lookout.listed(place, at_once)
            new += ((place, folder) for folder in came)
            left += gone if place in LIVE else ()
            if gone:
                self._forget(place, gone)
        new += set(self._lookout.moved(left)).difference(new)
        with self._changing:
            for place, folder in new:
                if folder not in self._known[place]:
                    self._known[place][folder] = UNREAD
                    self._unread += 1
        return new

    def _forget(self, place: Place, folders: Iterable[str]) -> None:
        with self._changing:
            for folder in folders:
                if self._known[place].pop(folder, None) == UNREAD:
                    self._unread -= 1
            self._table.forget((place, folder) for folder in folders)

    def _read_some(self, new: Finds, changed: Finds) -> None:
        """Read these jobs, as many as a page can wait for, live ones first.

        New ones are left to the reader if they are many, changed ones to the next sweep.
        """
        until = self._clock() + AT_ONCE
        mine = [found for found in new if len(new) <= BATCH or found[0] in LIVE]
        mine = sorted(mine, key=lambda found: found[0] not in LIVE) + changed
        for start in range(0, len(mine), FEW):
            self._read(mine[start : start + FEW])
            if self._clock() > until:
                break
        with self._changing:
            if self._unread and self._reader is None and not self._closed:
                self._reader = threading.Thread(target=self._read_behind, daemon=True, name="index")
                self._reader.start()

    def _read_behind(self) -> None:
        """In a thread of its own: read all that is not read yet, the newest first."""
        try:
            while not self._closed and (left := self._all_unread()):
                while left and not self._closed:
                    self._read(left[: -BATCH - 1 : -1])
                    del left[-BATCH:]
            with self._changing:
                self._complete = self._complete or not self._unread
        except CacheLost as err:
            log.warning("the cache of the jobs is lost, and made again in memory: %s", err)
            self._begin()
        except TryAgain as err:  # the next refresh goes on with it
            log.warning("%s", err)
        finally:
            with self._changing:
                self._reader = None

    def _all_unread(self) -> Finds:
        """The newest last."""
        with self._changing:
            left = [(place, name) for place in Place for name, stamp in self._known[place].items() if stamp == UNREAD]
        left.sort(key=lambda job: (job[0] in LIVE, self._view.stamp(*job)))
        return left

    def _read(self, found: Iterable[Found]) -> None:
        """Put these jobs into the table as they are now."""
        readings = [self._reading(place, folder) for place, folder in found]
        with self._changing:
            wanted = [reading for reading in readings if reading.folder in self._known[reading.place]]
            for place, folder in self._table.put(wanted):
                self._known[place].pop(folder, None)
            for place, folder, stamp, row in wanted:
                if self._known[place].pop(folder, None) == UNREAD:
                    self._unread -= 1
                if row is not None:
                    self._known[place][folder] = stamp

    def _reading(self, place: Place, folder: str) -> Reading:
        stamp = self._view.stamp(place, folder)  # before the reading: what changes meanwhile is read again
        row = self._row(place, folder)
        young = self._now() * 1e6 - (stamp >> STAMP_BITS) < SETTLED
        return Reading(place, folder, UNSURE if young else stamp, row)
