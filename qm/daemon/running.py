"""Running: starting the jobs whose turn it is, and filing those that have ended.

Invariant: a job is started only from QM_qJobs, by claiming it, and leaves QM_Jobs only when nothing of it runs
any more, so the jobs that occupy processors are always those in `queue.active`.
"""

from __future__ import annotations

import contextlib
import logging
import time

from qm.daemon.queue import Active, Queue
from qm.daemon.reception import Reception
from qm.judgement.verdict import Exit, attempts_made, code_in_words, judge
from qm.launchers.base import Launcher
from qm.spool import history, joblog
from qm.spool.files import explained
from qm.spool.spool import Spool
from qm.spool.tree import survey
from qm.vocabulary.config import Settings
from qm.vocabulary.errors import Blocked, JobFileError, TryAgain
from qm.vocabulary.record import Job, Record, Run
from qm.vocabulary.states import ENDED, Event, Place, State, after


class Running:
    """Moves jobs from the queue to the launcher and from the launcher to their last folder."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        queue: Queue,
        reception: Reception,
        launcher: Launcher,
        log: logging.Logger,
    ) -> None:
        self.settings = settings
        self._spool = spool
        self._queue = queue
        self._reception = reception
        self._launcher = launcher
        self._log = log
        self._wait_until = 0.0
        self._stranded: list[Job] = []
        self._over: list[tuple[Active, Exit]] = []

    # --- starting ------------------------------------------------------------------------------------------

    def start_next(self) -> bool:
        """Start the job whose turn it is; False when none is to be started now."""
        if time.monotonic() < self._wait_until:
            return False
        folder = self._queue.next_to_start()
        if folder is None:
            return False
        job = self._queue.waiting[folder]
        try:
            if not self._is_unchanged(job):
                self._reception.rearrive([job])
            else:
                self._start(job)
        except FileNotFoundError:
            self._reception.withdraw(folder)
        except TryAgain as err:
            self._wait_until = time.monotonic() + self.settings.poll_interval
            self._log.warning("no job is started for %g s: %s", self.settings.poll_interval, err)
            return False
        except (Blocked, OSError) as err:
            self._reception.block(job, err)
        return True

    def waits_until(self) -> float | None:
        """When starting is tried again after the system was short of something (monotonic)."""
        return self._wait_until if self._wait_until > time.monotonic() else None

    def _is_unchanged(self, job: Job) -> bool:
        with explained(f"cannot look at {job.folder}"):
            return survey(self._spool.files(job).dir) == job.record.tree

    def _start(self, job: Job) -> None:
        before = job.record
        attempt = before.attempt + 1
        record = before._replace(
            state=after(before.state if before.state is not State.DEFERRED else State.PENDING, Event.START),
            reason="",
            started=time.time(),
            finished=None,
            exit_status=None,
            signal=None,
            attempt=attempt,
            nb_proc=self._queue.width(job),
            cpu_seconds=None,
            peak_memory=None,
            launcher="local",
            ticket=self._launcher.ticket(),
        )
        claimed = self._spool.claim(Job(Place.QUEUE, job.folder, record))
        self._queue.leave(job.folder)
        try:
            self._launcher.start(claimed, self._spool.files(claimed))
        except (TryAgain, Blocked, OSError) as err:
            back = self.put_back(claimed._replace(record=before))
            if back is None or isinstance(err, TryAgain):
                raise
            self._reception.block(back, err)
            return
        except JobFileError as err:
            entry = Active(claimed, Event.REJECT, str(err))
            with contextlib.suppress(OSError):
                joblog.note(self._spool.files(claimed), f"this job is invalid: {err}")
            self._file(entry, State.INVALID, Exit(None))
            return
        self._spool.step("start: spawned")
        self._queue.active[record.id] = Active(claimed)
        self._log.info("%s (%s) started, attempt %d", claimed.folder, record.id, attempt)

    def may_come(self, folder: str) -> bool:
        """Is that folder in QM_qJobs still on its way in, so that it may become a job?"""
        return folder in self._reception

    # --- ending --------------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Notice what has ended: its processors are free from now on, though it is filed only afterwards."""
        for ended in self._launcher.poll():
            self._spool.step("end: noticed")
            entry = self._queue.active.pop(ended.job_id)
            entry.finished = time.time()
            self._over.append((entry, ended.exit))

    def file_ended(self) -> None:
        """File what was collected."""
        over, self._over = self._over, []
        for entry, exit_ in over:
            self._finish(entry, exit_)

    def _finish(self, entry: Active, exit_: Exit) -> None:
        record = entry.job.record
        attempts_left = record.effective.attempts - attempts_made(record.history) - 1
        verdict = judge(exit_, entry.wanted, entry.reason, attempts_left)
        state = after(record.state, verdict.event)
        entry.reason = verdict.reason
        if state in ENDED:
            self._file(entry, state, exit_, verdict.signal)
        else:
            if verdict.event is Event.VOID:  # the disk is full, or worse: not at once again
                self._wait_until = time.monotonic() + self.settings.poll_interval
            self._try_again(entry, state, exit_)

    def _ended_record(self, entry: Active, state: State, exit_: Exit, signal: int | None = None) -> Record:
        record = entry.job.record
        finished = entry.finished or time.time()
        run = Run(record.attempt, record.started, finished, state.value, entry.reason, exit_.status, signal)
        return record._replace(
            state=state,
            reason=entry.reason,
            ending="",
            finished=finished,
            exit_status=exit_.status,
            signal=signal,
            cpu_seconds=exit_.cpu_seconds,
            peak_memory=exit_.peak_memory,
            history=(*record.history, run),
        )

    def _file(self, entry: Active, state: State, exit_: Exit, signal: int | None = None) -> None:
        record = self._ended_record(entry, state, exit_, signal)
        job = Job(entry.job.place, entry.job.folder, record)
        code = code_in_words(exit_)
        if entry.gone or not self._spool.is_there(job.place, job.folder):
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
        if not self._try_to_file(taken, ""):
            self._queue.unfiled.append((taken, ""))

    def busy(self) -> bool:
        """Does anything ended wait to be filed, anything claimed to be put back, anything old to be taken over?"""
        return bool(self._queue.unfiled or self._stranded or self._queue.not_taken_over)

    def file_again(self) -> None:
        """Try once more to file, or to put back, what the system was in the way of."""
        unfiled, self._queue.unfiled = self._queue.unfiled, []
        for job, code in unfiled:
            if not self._try_to_file(job, code, again=True):
                self._queue.unfiled.append((job, code))
        stranded, self._stranded = self._stranded, []
        for job in stranded:
            self.put_back(job)

    def resume_filing(self, job: Job) -> None:
        """An earlier daemon died while it filed this ended job."""
        code = code_in_words(Exit(job.record.exit_status, job.record.signal))
        if not self._try_to_file(job, code, again=True):
            self._queue.unfiled.append((job, code))

    def _try_again(self, entry: Active, state: State, exit_: Exit) -> None:
        """Back into the queue: an attempt is left, or the start never began."""
        record = self._ended_record(entry, state, exit_)
        self.put_back(entry.job._replace(record=record))

    def put_back(self, job: Job) -> Job | None:
        """From QM_Jobs back into QM_qJobs, to be started again; None when that has to be tried again later."""
        record = job.record._replace(state=State.PENDING, started=None, finished=None)
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

    def end(self, entry: Active, event: Event, reason: str) -> None:
        """Begin to end an active job; it is filed when nothing of it is left. The record keeps why."""
        entry.wanted, entry.reason = event, reason
        if not entry.gone:
            entry.job = entry.job._replace(record=entry.job.record._replace(ending=event.value, reason=reason))
            try:
                self._spool.save(entry.job)
            except (TryAgain, Blocked, OSError) as err:
                self._log.warning("the record of %s cannot say why it ends: %s", entry.job.folder, err)
        self._launcher.end(entry.job.record.id)

    def check_presence(self, folders: set[str]) -> None:
        """Folders taken out of QM_Jobs by hand: their processes are ended."""
        for entry in self._queue.active.values():
            folder = entry.job.folder
            if folder in folders and not entry.gone and not self._spool.is_there(Place.JOBS, folder):
                entry.gone = True
                self._log.warning(
                    "%s (%s) was taken out of %s by hand: its processes are ended",
                    folder,
                    entry.job.record.id,
                    Place.JOBS,
                )
                self.end(entry, Event.KILL, "its folder was taken out of QM_Jobs by hand")
