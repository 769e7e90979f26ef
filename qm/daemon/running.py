"""Running: starting the jobs whose turn it is, and filing those that have ended.

Invariant: a job is started only from QM_qJobs, by claiming it, and leaves QM_Jobs only when nothing of it runs
any more, so the jobs that occupy processors are always those in `queue.active`.
"""

from __future__ import annotations

import logging
import time

from qm.daemon.queue import Active, Queue
from qm.daemon.reception import Reception
from qm.judgement.verdict import Exit, code_in_words, judge
from qm.launchers.base import Ended, Launcher
from qm.spool import history, joblog
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
        except Blocked as err:
            self._queue.leave(folder)
            self._log.error("%s", err)
        except TryAgain as err:
            self._wait_until = time.monotonic() + self.settings.poll_interval
            self._log.warning("no job is started for %g s: %s", self.settings.poll_interval, err)
            return False
        return True

    def waits_until(self) -> float | None:
        """When starting is tried again after the system was short of something (monotonic)."""
        return self._wait_until if self._wait_until > time.monotonic() else None

    def _is_unchanged(self, job: Job) -> bool:
        try:
            return survey(self._spool.files(job).dir) == job.record.tree
        except PermissionError as err:
            raise Blocked(f"{job.folder} may no longer be read: {err.strerror}") from err

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
        except TryAgain:
            self._queue.wait(self._spool.unclaim(claimed._replace(record=before)))
            raise
        except JobFileError as err:
            self._queue.active[record.id] = entry = Active(claimed, Event.REJECT, str(err))
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

    def reap(self) -> None:
        """File what has ended."""
        for ended in self._launcher.poll():
            self._spool.step("end: noticed")
            self._finish(ended)

    def _finish(self, ended: Ended) -> None:
        entry = self._queue.active[ended.job_id]
        record = entry.job.record
        attempts_left = record.effective.attempts - record.attempt
        verdict = judge(ended.exit, entry.wanted, entry.reason, attempts_left)
        state = after(record.state, verdict.event)
        entry.reason = verdict.reason
        if state in ENDED:
            self._file(entry, state, ended.exit, verdict.signal)
        else:
            if verdict.event is Event.VOID:  # the disk is full, or worse: not at once again
                self._wait_until = time.monotonic() + self.settings.poll_interval
            self._try_again(entry, state, ended.exit)

    def _ended_record(self, entry: Active, state: State, exit_: Exit, signal: int | None = None) -> Record:
        record = entry.job.record
        finished = time.time()
        used = self._launcher.usage(record.id)
        run = Run(record.attempt, record.started, finished, state.value, entry.reason, exit_.status, signal)
        return record._replace(
            state=state,
            reason=entry.reason,
            ending="",
            finished=finished,
            exit_status=exit_.status,
            signal=signal,
            cpu_seconds=exit_.cpu_seconds if exit_.cpu_seconds is not None else used and used[0],
            peak_memory=exit_.peak_memory if exit_.peak_memory is not None else used and used[1],
            history=(*record.history, run),
        )

    def _file(self, entry: Active, state: State, exit_: Exit, signal: int | None = None) -> None:
        record = self._ended_record(entry, state, exit_, signal)
        del self._queue.active[record.id]
        job = Job(entry.job.place, entry.job.folder, record)
        code = code_in_words(exit_)
        if entry.gone or not self._spool.is_there(job.place, job.folder):
            history.append(self._spool.paths.history, record)
            self._log.warning("%s (%s) %s; its folder was removed while it ran", job.folder, record.id, state)
        elif not self._try_to_file(job, code):
            self._queue.unfiled.append((job, code))

    def _try_to_file(self, job: Job, code: str, again: bool = False) -> bool:
        """File one ended job; False when the system is in the way and it has to be tried again."""
        record = job.record
        try:
            filed = self._spool.resume_filing(job, code) if again else self._spool.file_away(job, code)
        except (TryAgain, Blocked, OSError) as err:
            if isinstance(err, FileNotFoundError):
                self._log.warning("%s (%s) %s; its folder is gone", job.folder, record.id, record.state)
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

    def file_waiting(self, job: Job) -> None:
        """File a job that ended before it ran. When this raises, it still waits."""
        taken = self._spool.take_out(job)
        self._queue.leave(job.folder)
        if not self._try_to_file(taken, ""):
            self._queue.unfiled.append((taken, ""))

    def busy(self) -> bool:
        """Does anything ended wait to be filed?"""
        return bool(self._queue.unfiled)

    def file_again(self) -> None:
        """Try once more to file what the system was in the way of."""
        still = []
        for job, code in self._queue.unfiled:
            try:
                self._spool.save(job)
            except (TryAgain, Blocked, OSError):
                still.append((job, code))
                continue
            if not self._try_to_file(job, code, again=True):
                still.append((job, code))
        self._queue.unfiled = still

    def resume_filing(self, job: Job) -> None:
        """An earlier daemon died while it filed this ended job."""
        code = code_in_words(Exit(job.record.exit_status, job.record.signal))
        if not self._try_to_file(job, code, again=True):
            self._queue.unfiled.append((job, code))

    def _try_again(self, entry: Active, state: State, exit_: Exit) -> None:
        """Back into the queue: an attempt is left, or the start never began."""
        record = self._ended_record(entry, state, exit_)
        del self._queue.active[record.id]
        self.put_back(entry.job._replace(record=record))

    def put_back(self, job: Job) -> None:
        """From QM_Jobs back into QM_qJobs, to be started again."""
        record = job.record._replace(state=State.PENDING, started=None, finished=None)
        try:
            back = self._spool.unclaim(job._replace(record=record))
        except (TryAgain, Blocked, OSError) as err:
            self._log.error("%s (%s) cannot be put back into the queue: %s", job.folder, record.id, err)
            return
        back = self.with_present_tree(back)
        self._queue.wait(back)
        self._log.info("%s (%s) waits again: %s", back.folder, record.id, record.reason or "it was not begun")

    def with_present_tree(self, job: Job) -> Job:
        """The job with its tree as it is now: what its own run changed is no reason to let it settle again."""
        tree = survey(self._spool.files(job).dir)
        if tree == job.record.tree:
            return job
        job = job._replace(record=job.record._replace(tree=tree))
        self._spool.save(job)
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
