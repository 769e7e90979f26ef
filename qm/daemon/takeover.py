"""Taking over: what an earlier daemon left when it ended or was killed.

Invariant: after this, every folder in QM_Jobs is either watched as a running job, filed, or back in the queue,
and every accepted folder in QM_qJobs waits in its old place; nothing was started twice and nothing forgotten.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from qm.daemon.queue import Active, Queue
from qm.daemon.reception import Reception
from qm.daemon.running import Running
from qm.daemon.verbs import remove_later
from qm.launchers.base import Launcher
from qm.spool.files import exists, numbered, read_regular
from qm.spool.spool import Spool, new_id
from qm.vocabulary.errors import Blocked, TryAgain
from qm.vocabulary.record import Job, Record
from qm.vocabulary.states import ENDED, Event, Place, State, after


class TakeOver:
    """One pass over the folders when the daemon starts."""

    def __init__(
        self,
        spool: Spool,
        queue: Queue,
        reception: Reception,
        running: Running,
        launcher: Launcher,
        log: logging.Logger,
    ) -> None:
        self._spool = spool
        self._queue = queue
        self._reception = reception
        self._running = running
        self._launcher = launcher
        self._log = log

    def run(self) -> None:
        """Active jobs first, so that ids in use are known; then those that wait; then what was left behind."""
        for folder in self._spool.folders(Place.JOBS)[0]:
            with self._one(folder):
                self._active(folder)
        for folder in self._in_order(self._spool.folders(Place.QUEUE)[0]):
            with self._one(folder):
                self._waiting(folder)
        self._spool.settle_returns(self._queue.knows)
        for path in self._spool.leftovers():
            remove_later(path)

    @contextlib.contextmanager
    def _one(self, folder: str) -> Iterator[None]:
        """One folder that makes trouble is reported and blocks nothing."""
        try:
            yield
        except (Blocked, TryAgain, OSError) as err:
            self._log.error("%s cannot be taken over: %s", folder, err)

    def _in_order(self, folders: list[str]) -> list[str]:
        """By the time they came (ctime: mtime may have been copied), for those without a record."""

        def came(folder: str) -> int:
            with contextlib.suppress(OSError):
                return os.lstat(f"{self._spool.paths.places[Place.QUEUE]}/{folder}").st_ctime_ns
            return 0

        return sorted(folders, key=came)

    # --- QM_Jobs -------------------------------------------------------------------------------------------

    def _active(self, folder: str) -> None:
        record = self._spool.record(Place.JOBS, folder) or self._made_up_record(folder)
        job = Job(Place.JOBS, folder, record)
        if record.state in ENDED:
            self._running.resume_filing(job)
        elif record.state not in (State.RUNNING, State.PAUSED, State.SUBMITTED):
            self._running.put_back(job)  # the daemon died while it put the job back
        elif self._void(job):
            reason = "the daemon died before the script began"
            state = after(record.state, Event.VOID)
            self._running.put_back(job._replace(record=record._replace(state=state, reason=reason)))
        else:
            self._queue.active[record.id] = entry = Active(job)
            self._launcher.take_over(job, self._spool.files(job))
            if record.ending in [event.value for event in Event]:
                self._running.end(entry, Event(record.ending), record.reason)
            self._log.info("%s (%s) taken over", folder, record.id)

    def _void(self, job: Job) -> bool:
        """Create the start mark ourselves: if that succeeds the script has not begun, and now never will."""
        mark = self._spool.files(job).start_mark(job.record.attempt)
        try:
            os.makedirs(os.path.dirname(mark), exist_ok=True)
            os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            return False
        self._spool.step("void: marked")
        return True

    def _made_up_record(self, folder: str) -> Record:
        """A folder in QM_Jobs without a record that can be read: its start marks tell what is known."""
        paths = self._spool.paths.job(Place.JOBS, folder)
        attempts = [0]
        with contextlib.suppress(OSError):
            names = (name.partition(".") for name in os.listdir(paths.run))
            attempts += [int(number) for number, _, kind in names if kind == "start" and number.isdigit()]
        job_id = ""
        with contextlib.suppress(OSError, IndexError):
            job_id = read_regular(paths.start_mark(max(attempts)), 256).decode("ascii", "replace").split()[2]
        owner = self._spool.owner(Place.JOBS, folder)
        began = os.lstat(paths.dir).st_ctime
        self._log.warning("%s in %s has no record that can be read", folder, Place.JOBS)
        return Record(
            job_id or new_id(), folder, owner, State.RUNNING, began, started=began, attempt=max(attempts) or 1
        )

    # --- QM_qJobs ------------------------------------------------------------------------------------------

    def _waiting(self, folder: str) -> None:
        record = self._spool.record(Place.QUEUE, folder)
        if record is None or self._queue.knows(record.id):
            self._reception.notice(folder, renamed=False)
        elif record.state in ENDED:
            if self._spool.was_being_filed(record):
                self._running.file_waiting(Job(Place.QUEUE, folder, record))
            else:
                self._reception.notice(folder, renamed=False)
        elif record.state in (State.PENDING, State.HELD, State.DEFERRED):
            self._queue.wait(self._under_its_name(Job(Place.QUEUE, folder, record)))
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
        begun = exists(self._spool.files(job).start_mark(record.attempt))
        attempt = record.attempt if begun else record.attempt - 1
        back = record._replace(state=State.PENDING, attempt=max(0, attempt), started=None, finished=None)
        job = job._replace(record=back)
        self._spool.save(job)
        self._queue.wait(job)
        self._log.info("%s (%s) waits again: it was not begun", job.folder, record.id)
