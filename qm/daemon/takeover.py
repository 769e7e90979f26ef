"""Taking over: what an earlier daemon left when it ended or was killed.

Invariant: after this, every folder in QM_Jobs is either watched as a running job, filed, or back in the queue,
and every accepted folder in QM_qJobs waits in its old place; nothing was started twice and nothing forgotten.
"""

from __future__ import annotations

import contextlib
import logging
import os

from qm.daemon.arrays import Arrays
from qm.daemon.ending import Ending
from qm.daemon.filing import Filing
from qm.daemon.queue import Active, Going, Queue
from qm.daemon.reception import Reception
from qm.daemon.verbs import remove_later
from qm.launchers.base import Launcher, Start
from qm.spool import joblog
from qm.spool.files import exists, explained, numbered, read_regular
from qm.spool.ids import new_id
from qm.spool.spool import Spool
from qm.vocabulary.errors import Blocked, TryAgain
from qm.vocabulary.options import Options
from qm.vocabulary.record import Job, Record, Task
from qm.vocabulary.states import ENDED, Event, Place, State, after


class TakeOver:
    """One pass over the folders when the daemon starts."""

    def __init__(
        self,
        spool: Spool,
        queue: Queue,
        reception: Reception,
        filing: Filing,
        arrays: Arrays,
        ending: Ending,
        launcher: Launcher,
        log: logging.Logger,
    ) -> None:
        self._spool = spool
        self._queue = queue
        self._reception = reception
        self._filing = filing
        self._arrays = arrays
        self._ending = ending
        self._launcher = launcher
        self._log = log
        self._troubles: dict[str, str] = {}

    def run(self) -> None:
        """Active jobs first, so that ids in use are known; then those that wait; then what was left behind."""
        for folder in sorted(self._spool.folders(Place.JOBS)[0], key=len):  # a job before copies of it: x, x.bak
            self._one(Place.JOBS, folder)
        for folder in self._in_order(self._spool.folders(Place.QUEUE)[0]):
            self._one(Place.QUEUE, folder)
        self._launcher.tidy()
        self._spool.settle_returns(self._queue.knows)
        for path in self._spool.leftovers():
            remove_later(path)

    def again(self) -> None:
        """Try once more what the system was in the way of."""
        for place, folder in list(self._queue.not_taken_over):
            self._one(place, folder)

    def _one(self, place: Place, folder: str) -> None:
        """One folder that makes trouble is reported, tried again later, and blocks nothing."""
        self._queue.not_taken_over.discard((place, folder))
        if not self._spool.is_there(place, folder):
            return
        try:
            if place is Place.JOBS:
                self._active(folder)
            else:
                self._waiting(folder)
        except (Blocked, TryAgain, OSError) as err:
            self._queue.not_taken_over.add((place, folder))
            if self._troubles.get(folder) != str(err):
                self._troubles[folder] = str(err)
                self._log.error("%s cannot be taken over yet: %s", folder, err)

    def _in_order(self, folders: list[str]) -> list[str]:
        """By the time they came (ctime: mtime may have been copied), for those without a record."""

        def came(folder: str) -> int:
            with contextlib.suppress(OSError):
                return os.lstat(f"{self._spool.paths.places[Place.QUEUE]}/{folder}").st_ctime_ns
            return 0

        return sorted(folders, key=came)

    # --- QM_Jobs -------------------------------------------------------------------------------------------

    def _active(self, folder: str) -> None:
        known = self._spool.record(Place.JOBS, folder)
        record = known or self._made_up_record(folder)
        job = Job(Place.JOBS, folder, record)
        if record.id in self._queue.active:
            other = self._queue.active[record.id].job.folder
            self._log.error("%s in %s is a copy of %s, which runs: it is left alone", folder, Place.JOBS, other)
        elif record.state in ENDED:
            self._filing.resume(job)
        elif record.state not in (State.RUNNING, State.PAUSED, State.SUBMITTED):
            self._filing.put_back(job)  # the daemon died while it put the job back
        elif record.effective.array:
            self._active_array(job)
        elif self._spool.void(self._spool.files(job), str(record.attempt)) and known and not record.ending:
            reason = "the daemon died before the script began"
            state = after(record.state, Event.VOID)
            self._filing.put_back(job._replace(record=record._replace(state=state, reason=reason)))
        else:
            self._watch(job, lost=known is None)

    def _watch(self, job: Job, lost: bool) -> None:
        """A job that may run: it is watched to its end. `lost`: there is no record of what it is."""
        record, paths = job.record, self._spool.files(job)
        task = Task(record.id, None, record.attempt)
        start = Start(task, record.started or 0.0, record.ticket, record.processors, record.gpus)
        entry = Active(job)
        if lost and os.path.getsize(paths.start_mark(task.label)) == 0:
            entry.wanted, entry.reason = Event.LOSE, "it has no record that can be read, and nothing of it runs"
        self._launcher.take_over(job, paths, start)
        order = self._queue.line.started()
        entry.runs[task.key] = Going(start, order, wall_end=record.wall_end, wall_left=record.wall_left)
        self._take(entry)

    def _active_array(self, job: Job) -> None:
        paths, record = self._spool.files(job), job.record
        if not exists(paths.log) or joblog.ends(paths).finished is not None:  # the log is none yet, or the last round's
            with explained(f"cannot write the log of {job.folder}"):
                os.close(joblog.open_new(paths.log, record.started or 0.0, record.notes))
        entry = Active(job, book=self._arrays.open(job))
        self._arrays.take_over(entry)
        self._take(entry)

    def _take(self, entry: Active) -> None:
        """It is active again, and what was about to be done to it goes on."""
        record = entry.job.record
        self._queue.activate(entry)
        for key in entry.runs if entry.paused else ():
            self._launcher.pause(key)  # the daemon may have died before it had stopped everything
        if record.ending == Event.RESUME:
            entry.resuming = record.state is State.PAUSED
        elif record.ending in (Event.KILL, Event.RUN_OUT_OF_TIME, Event.RUN_OUT_OF_MEMORY):
            self._ending.end(entry, Event(record.ending), record.reason)
        self._queue.offer(entry)
        self._log.info("%s (%s) taken over", entry.job.folder, record.id)

    def _made_up_record(self, folder: str) -> Record:
        """A folder in QM_Jobs without a record that can be read: its start marks tell what is known.

        What it was to run is not known, so it is never begun again, not even after exit status 75: it is watched to
        its end, or lost.
        """
        paths = self._spool.paths.job(Place.JOBS, folder)
        attempts = [0]
        with contextlib.suppress(OSError):
            names = (name.partition(".") for name in os.listdir(paths.run))
            marks = (number for number, _, kind in names if kind == "start" and number.isascii() and number.isdigit())
            attempts += map(int, marks)
        job_id = ""
        with contextlib.suppress(OSError, IndexError):
            job_id = read_regular(paths.start_mark(str(max(attempts))), 256).decode("ascii", "replace").split()[2]
        job_id = job_id if job_id.isascii() and job_id.isalnum() else new_id()
        owner = self._spool.owner(Place.JOBS, folder)
        began = os.lstat(paths.dir).st_ctime
        self._log.warning("%s in %s has no record that can be read", folder, Place.JOBS)
        options, attempt = Options(defer_max=0.0), max(attempts) or 1
        return Record(job_id, folder, owner, State.RUNNING, began, started=began, attempt=attempt, options=options)

    # --- QM_qJobs ------------------------------------------------------------------------------------------

    def _waiting(self, folder: str) -> None:
        record = self._spool.record(Place.QUEUE, folder)
        if record is None or self._queue.knows(record.id):
            self._reception.notice(folder, renamed=False)
        elif record.state in ENDED:
            if self._spool.was_being_filed(record):
                self._filing.file_waiting(Job(Place.QUEUE, folder, record))
            else:
                self._reception.notice(folder, renamed=False)
        elif record.state in (State.PENDING, State.HELD, State.DEFERRED):
            job = self._under_its_name(Job(Place.QUEUE, folder, record))
            self._queue.wait(job)
            self._queue.came.append(job.record.id)
        else:
            self._not_begun(Job(Place.QUEUE, folder, record))

    def _under_its_name(self, job: Job) -> Job:
        """A folder that was renamed while no daemon ran gives its job the new name; a number behind it is ours."""
        name, _, number = job.folder.rpartition(".")
        ours = number.isascii() and number.isdigit() and numbered(job.record.name, int(number)) == job.folder
        if job.folder == job.record.name or (name and ours):
            return job
        self._log.info("%s (%s) was renamed to %s", job.record.name, job.record.id, job.folder)
        job = job._replace(record=job.record._replace(name=job.folder))
        self._spool.save(job)
        return job

    def _not_begun(self, job: Job) -> None:
        """The daemon died between writing the running record and the claim, or while it took the claim back."""
        record = job.record
        begun = exists(self._spool.files(job).start_mark(str(record.attempt)))
        attempt = record.attempt if begun else record.attempt - 1
        back = record._replace(state=State.PENDING, attempt=max(0, attempt), started=None, finished=None)
        job = job._replace(record=back)
        self._spool.save(job)
        self._queue.wait(job)
        self._queue.came.append(record.id)
        self._log.info("%s (%s) waits again: it was not begun", job.folder, record.id)
