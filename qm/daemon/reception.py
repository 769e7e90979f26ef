"""Reception: folders that appear in QM_qJobs, until they are jobs, invalid, or gone again.

Invariant: a folder is touched only after it was judged complete (qm.judgement.arrival); until then it is
looked at, and nothing else.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterable

from qm.daemon.acceptance import Acceptance, NoJobFile
from qm.daemon.queue import Over, Queue
from qm.judgement.arrival import LOOK_AT_MOST_OFTEN, Arrival, Look, Sight, judge, marks_a_copy
from qm.spool.events import News
from qm.spool.files import FORBIDDEN, TRANSIENT, exists
from qm.spool.spool import Spool
from qm.spool.tree import survey, written_to
from qm.vocabulary.config import Settings
from qm.vocabulary.errors import Blocked, TryAgain
from qm.vocabulary.record import Job, Record, Survey
from qm.vocabulary.states import Place

BATCH = 2
"""Folders that came by rename and are received before the daemon looks at its running jobs again."""


class Reception:
    """Keeps the folders that are not yet jobs. `blocked` ones may not be touched by us, until they change."""

    def __init__(self, settings: Settings, spool: Spool, queue: Queue, log: logging.Logger) -> None:
        self._settings = settings
        self._spool = spool
        self._queue = queue
        self._log = log
        self._acceptance = Acceptance(settings, spool, queue, log)
        self._fresh: deque[Arrival] = deque()
        self._arrivals: dict[str, Arrival] = {}
        self._blocked: dict[str, tuple[int, int, int]] = {}
        self._mentioned: set[str] = set()
        self._next_look = 0.0

    def apply(self, settings: Settings) -> None:
        """Take new settings."""
        self._settings = self._acceptance.settings = settings

    def read_again(self, job: Job, record: Record) -> Record:
        """The record with what the job file of an ended job says by now. JobFileError, OSError."""
        return self._acceptance.read_again(job, record)

    def __len__(self) -> int:
        return len(self._arrivals)

    def __contains__(self, name: str) -> bool:
        """Is that folder on its way in?"""
        return name in self._arrivals

    # --- noticing ------------------------------------------------------------------------------------------

    def hear(self, news: News) -> None:
        """Take in what the file events say."""
        for old, new in news.renames.items():
            if old in self._queue.waiting:
                self._rename(old, new)
            else:
                self.drop(old)
                self.notice(new, renamed=False)
        for name in news.left_queue - set(news.renames):
            if not self._spool.is_there(Place.QUEUE, name):
                self.withdraw(name)
        for name in news.stirred:
            self.notice(name, renamed=False)
        for name in news.renamed:
            self.notice(name, renamed=True)

    def scan(self) -> None:
        """Compare QM_qJobs with what is known: the scan decides, whatever events came or did not."""
        folders, strangers = self._spool.folders(Place.QUEUE)
        there = set(folders)
        missing = [name for name in (*self._queue.waiting, *self._arrivals) if name not in there]
        if any(name in self._queue.waiting for name in missing):
            self._find_renamed(set(missing), there)
        for name in missing:
            if not self._spool.is_there(Place.QUEUE, name):
                self.withdraw(name)
        for name in sorted(there - self._queue.waiting.keys() - self._arrivals.keys(), key=self._came):
            self.notice(name, renamed=False)
        self._mentioned.intersection_update(strangers)
        for name in strangers:
            self._mention(name)
        for name in self._blocked.keys() - there:
            del self._blocked[name]
            self.drop(name)

    def notice(self, name: str, renamed: bool, former: Record | None = None) -> None:
        """A name appeared in QM_qJobs (or, with `former`, a waiting job's folder was changed)."""
        if marks_a_copy(name) or name in self._queue.waiting or (Place.QUEUE, name) in self._queue.not_taken_over:
            return
        facts = self._facts(name)
        if not self._spool.is_there(Place.QUEUE, name):
            if facts is not None:
                self._mention(name)
            return
        if self._blocked.get(name) == facts:
            return
        self._blocked.pop(name, None)
        now = time.monotonic()
        known = self._arrivals.get(name)
        if known is not None:
            known.stir(now)
            known.renamed = renamed
            if renamed:
                self._fresh.append(known)
            else:
                self._next_look = now
            return
        arrival = Arrival(name, renamed, now, now)
        self._arrivals[name] = arrival
        if former is not None:
            self._acceptance.former[name] = former
        if renamed:
            self._fresh.append(arrival)
        else:
            self._next_look = min(self._next_look, now)

    def _find_renamed(self, missing: set[str], there: set[str]) -> None:
        """Waiting folders that were renamed within QM_qJobs with no event to tell: their records show it."""
        for name in there - self._queue.waiting.keys() - self._arrivals.keys():
            try:
                record = self._spool.record(Place.QUEUE, name)
            except TryAgain:
                continue  # out of descriptors: it arrives as a new job
            job = self._queue.waiting_by_id(record.id) if record is not None else None
            if job is not None and job.folder in missing:
                self._rename(job.folder, name)

    def _rename(self, old: str, new: str) -> None:
        """A waiting job's folder was renamed within QM_qJobs: the same job under another name."""
        job = self._queue.leave(old)
        if job is None or marks_a_copy(new) or not self._spool.is_there(Place.QUEUE, new):
            self._log.info("%s was taken out of the queue by hand: withdrawn", old)
            if job is not None:
                self._queue.ended.append(Over(job.record.id, None))
            return
        job = Job(Place.QUEUE, new, job.record._replace(name=new))
        self._queue.wait(job)
        self._queue.came.append(job.record.id)  # there may be who waits for that name
        self._log.info("%s (%s) was renamed to %s", old, job.record.id, new)
        try:
            self._spool.save(job)
        except (Blocked, TryAgain, OSError) as err:
            self._log.warning("the record of %s has its old name: %s", new, err)

    def withdraw(self, name: str) -> None:
        """A folder was taken out of QM_qJobs by hand."""
        job = self._queue.leave(name)
        if job is not None:
            self._log.info("%s (%s) was taken out of the queue by hand: withdrawn", name, job.record.id)
            self._queue.ended.append(Over(job.record.id, None))
        elif self.drop(name):
            self._log.info("%s is gone again before it was complete", name)

    def drop(self, name: str) -> bool:
        """Forget an arrival; if it was a job before, that was taken away."""
        former = self._acceptance.former.pop(name, None)
        if former is not None:
            self._queue.ended.append(Over(former.id, None))
        return self._arrivals.pop(name, None) is not None

    def _mention(self, name: str) -> None:
        if name not in self._mentioned:
            self._mentioned.add(name)
            why = "is named like a copy in progress" if marks_a_copy(name) else "is not a folder"
            self._log.warning("%s in %s %s, so it is no job: it stays there", name, Place.QUEUE, why)

    def _facts(self, name: str) -> tuple[int, int, int] | None:
        try:
            facts = os.lstat(f"{self._spool.paths.places[Place.QUEUE]}/{name}")
        except OSError:
            return None
        return (facts.st_ctime_ns, facts.st_mode, facts.st_uid)

    def _came(self, name: str) -> tuple[int, str]:
        """When a folder came (ctime: mtime may have been copied), for the order of those that are seen together."""
        facts = self._facts(name)
        return (facts[0] if facts is not None else 0, name)

    # --- looking -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Look at the folders that are due."""
        now = time.monotonic()
        for _ in range(min(BATCH, len(self._fresh))):
            arrival = self._fresh.popleft()
            if self._arrivals.get(arrival.name) is arrival and (tree := self._look_at(arrival, now)) is not None:
                self._admit(arrival.name, tree)
        if now >= self._next_look:
            self._look_at_settling(now)
            self._next_look = min((arrival.look_at for arrival in self._arrivals.values()), default=float("inf"))

    def due(self) -> float | None:
        """When to look again (monotonic), None for never."""
        if self._fresh:
            return time.monotonic()
        return self._next_look if self._arrivals else None

    def _look_at_settling(self, now: float) -> None:
        quiet: dict[str, Survey] = {}
        for arrival in [arrival for arrival in self._arrivals.values() if arrival.look_at <= now]:
            if (tree := self._look_at(arrival, now)) is not None:
                quiet[arrival.name] = tree
        queue = self._spool.paths.places[Place.QUEUE]
        begun = time.monotonic()
        try:
            written = written_to(f"{queue}/{name}" for name in quiet)
        except OSError:  # nobody can say
            written = {f"{queue}/{name}" for name in quiet}
        pause = max(self._settings.settle_time / 4, (time.monotonic() - begun) / LOOK_AT_MOST_OFTEN, 0.1)
        for name, tree in quiet.items():
            if f"{queue}/{name}" in written:
                self._arrivals[name].look_at = now + pause
            else:
                self._admit(name, tree)

    def _look_at(self, arrival: Arrival, now: float) -> Survey | None:
        """One look; the tree if the folder is complete."""
        paths = self._spool.paths.job(Place.QUEUE, arrival.name)
        begun = time.monotonic()
        try:
            tree = survey(paths.dir)
        except (FileNotFoundError, NotADirectoryError):
            self.drop(arrival.name)
            return None
        except OSError as err:
            self._cannot(arrival.name, err)
            return None
        has_job_file = any(exists(f"{paths.dir}/{name}") for name in self._settings.job_files)
        sight = Sight(tree, has_job_file, time.monotonic() - begun)
        found = judge(arrival, sight, now, self._settings.settle_time, self._settings.arrival_grace)
        if found is Look.REJECT:
            wanted = ", ".join(self._settings.job_files)
            grace = f"{self._settings.arrival_grace:g} s"
            self._admit(arrival.name, None, f"no job file in it after {grace} (looked for {wanted})")
        if not arrival.renamed:
            self._next_look = min(self._next_look, arrival.look_at)
        return tree if found is Look.ACCEPT else None

    def _admit(self, name: str, tree: Survey | None, why_not: str = "") -> None:
        """A complete folder becomes a job, or is filed as invalid; `why_not` says that it is none."""
        try:
            if tree is None:
                self._acceptance.reject(name, why_not)
            else:
                self._acceptance.admit(name, tree)
        except NoJobFile:
            self._arrivals[name].stir(time.monotonic())
            self._next_look = 0.0
        except (Blocked, TryAgain, OSError) as err:
            self._cannot(name, err)
        else:
            self._arrivals.pop(name, None)

    def _cannot(self, name: str, err: Exception) -> None:
        """The system is in the way: wait if it is short of something, else report the folder once and leave it."""
        number = err.errno if isinstance(err, OSError) else None
        if isinstance(err, FileNotFoundError):
            self.drop(name)
        elif isinstance(err, TryAgain) or number in TRANSIENT:
            if (arrival := self._arrivals.get(name)) is not None:
                arrival.renamed = False
                arrival.look_at = time.monotonic() + self._settings.poll_interval
                self._next_look = min(self._next_look, arrival.look_at)
            self._log.warning("%s has to wait: %s", name, err)
        elif isinstance(err, Blocked) or number in FORBIDDEN:
            self._leave_alone(name)
            self._log.error("%s", blocked_text(self._spool, name, str(err)))
        else:
            self._leave_alone(name)
            self._log.error("%s is left alone until it changes: %s", name, err)

    def _leave_alone(self, name: str) -> None:
        """Until it changes; a job that waited arrives then under its old id."""
        facts = self._facts(name)
        self._arrivals.pop(name, None)
        if facts is not None:
            self._blocked[name] = facts

    def block(self, job: Job, err: Exception) -> None:
        """A waiting job that cannot be claimed is reported once, and blocks no other."""
        self._queue.leave(job.folder)
        self._acceptance.former[job.folder] = job.record
        self._cannot(job.folder, err)

    def expects(self, job_id: str) -> bool:
        """Is the folder of that job, which waited already, to be accepted anew?"""
        return any(record.id == job_id for record in self._acceptance.former.values())

    def busy(self) -> bool:
        """Does anything arrive?"""
        return bool(self._arrivals)

    def rearrive(self, jobs: Iterable[Job]) -> None:
        """Waiting jobs whose trees were changed settle again; they keep their ids and what `qm set` said."""
        for job in jobs:
            self._queue.leave(job.folder)
            self.notice(job.folder, renamed=False, former=job.record)
            self._log.info("%s (%s) was changed while it waited: arriving again", job.folder, job.record.id)


def blocked_text(spool: Spool, name: str, why: str) -> str:
    """What to tell about a folder that may not be moved: owner and remedy."""
    try:
        owner = spool.owner(Place.QUEUE, name)
    except OSError:
        owner = "unknown"
    return (
        f"{name} cannot be taken ({why}); it stays in {Place.QUEUE}. It belongs to {owner}: "
        f"let that user submit it with `qm submit --move`, or `chmod -R u+w` or `chown -R` it for the daemon's user"
    )
