"""Filing: taking ended jobs out of QM_Jobs, and putting back into QM_qJobs those that are to run again.

Invariant: a job leaves QM_Jobs only when nothing of it runs any more. What the system is in the way of is kept and
tried again; nothing is forgotten.
"""

from __future__ import annotations

import logging

from qm.daemon.queue import Over, Queue
from qm.judgement.verdict import Exit, code_in_words
from qm.spool import history
from qm.spool.spool import Spool
from qm.spool.tree import survey
from qm.vocabulary.errors import Blocked, TryAgain
from qm.vocabulary.record import Job
from qm.vocabulary.states import State


class Filing:
    """Moves folders by the records it is given."""

    def __init__(self, spool: Spool, queue: Queue, log: logging.Logger) -> None:
        self._spool = spool
        self._queue = queue
        self._log = log
        self._stranded: list[Job] = []

    def file(self, job: Job, code: str, gone: bool = False) -> None:
        """File a job whose record has its end; `code` is how process.log says it. `gone`: its folder was removed."""
        self._queue.ended.append(Over(job.record.id, job.record.state))
        if gone or not self._spool.is_there(job.place, job.folder):
            self._forget(job)
        elif not self._try_to_file(job, code):
            self._queue.unfiled.append((job, code))

    def _try_to_file(self, job: Job, code: str, again: bool = False) -> bool:
        """File one ended job; False when the system is in the way and it has to be tried again."""
        record = job.record
        try:
            if again:
                self._spool.save(job)
                filed = self._spool.resume_filing(job, code)
            else:
                filed = self._spool.file_away(job, code)
        except (TryAgain, Blocked, OSError) as err:
            if not self._spool.is_there(job.place, job.folder):
                self._forget(job)
                return True
            if not again:
                self._log.error("%s (%s) %s but cannot be filed yet: %s", job.folder, record.id, record.state, err)
            return False
        why = f": {record.reason}" if record.reason else ""
        self._log.info(
            "%s (%s) %s%s; filed as %s/%s",
            job.folder,
            record.id,
            record.state,
            why,
            filed.place,
            filed.folder,
        )
        return True

    def _forget(self, job: Job) -> None:
        """An ended job whose folder was removed: only the history can still tell of it."""
        record = job.record
        self._log.warning("%s (%s) %s; its folder was removed while it ran", job.folder, record.id, record.state)
        try:
            history.append(self._spool.paths.history, record)
        except OSError as err:
            self._log.error("the end of %s (%s) is not in the history: %s", job.folder, record.id, err)

    def file_waiting(self, job: Job) -> None:
        """File a job that ended before it ran. When this raises, it still waits."""
        taken = self._spool.take_out(job)
        self._queue.leave(job.folder)
        self._queue.ended.append(Over(job.record.id, job.record.state))
        if not self._try_to_file(taken, ""):
            self._queue.unfiled.append((taken, ""))

    def resume(self, job: Job) -> None:
        """An earlier daemon died while it filed this ended job."""
        code = code_in_words(Exit(job.record.exit_status, job.record.signal))
        if not self._try_to_file(job, code, again=True):
            self._queue.unfiled.append((job, code))

    def busy(self) -> bool:
        """Does anything ended wait to be filed, anything claimed to be put back, anything old to be taken over?"""
        return bool(self._queue.unfiled or self._stranded or self._queue.not_taken_over)

    def try_again(self) -> None:
        """Try once more to file, or to put back, what the system was in the way of."""
        unfiled, self._queue.unfiled = self._queue.unfiled, []
        for job, code in unfiled:
            if not self._try_to_file(job, code, again=True):
                self._queue.unfiled.append((job, code))
            else:  # who came meanwhile could not find it
                self._queue.ended.append(Over(job.record.id, job.record.state, job.record.name))
        stranded, self._stranded = self._stranded, []
        for job in stranded:
            if self.put_back(job) is not None:
                self._queue.came.append(job.record.id)

    def is_stranded(self, job_id: str) -> bool:
        """Is it to be put back into the queue as soon as that is possible?"""
        return any(job.record.id == job_id for job in self._stranded)

    # --- back into the queue -------------------------------------------------------------------------------

    def put_back(self, job: Job) -> Job | None:
        """From QM_Jobs back into QM_qJobs, to be started again; None when that has to be tried again later."""
        state = State.DEFERRED if job.record.state is State.DEFERRED else State.PENDING
        record = job.record._replace(state=state, started=None, finished=None)
        try:
            back = self._spool.unclaim(job._replace(record=record))
        except (TryAgain, Blocked, OSError) as err:
            self._log.error("%s (%s) cannot be put back into the queue: %s", job.folder, record.id, err)
            if self._spool.is_there(job.place, job.folder):
                self._stranded.append(job)
            return None
        self._log.info("%s (%s) waits again: %s", back.folder, record.id, record.reason or "it was not begun")
        return self.wait_again(back)

    def wait_again(self, job: Job) -> Job:
        """A job that is back in QM_qJobs waits, with its tree as it is now: what its own run changed is no new copy.

        The record says so as soon as it can be written; what it says until then leads to the same (see TakeOver).
        """
        try:
            job = job._replace(record=job.record._replace(tree=survey(self._spool.files(job).dir)))
            self._spool.save(job)
        except (TryAgain, Blocked, OSError) as err:
            self._log.warning("the record of %s cannot be written: %s", job.folder, err)
        self._queue.wait(job)
        return job

    # --- records -------------------------------------------------------------------------------------------

    def save(self, job: Job, what: str) -> None:
        """Write the record of a job where it lies; when that cannot be done now, the log tells `what` is not in it."""
        try:
            self._spool.save(job)
        except (TryAgain, Blocked, OSError) as err:
            self._log.warning("the record of %s cannot say %s: %s", job.folder, what, err)
