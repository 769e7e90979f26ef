"""Starting: the jobs whose turn it is, and the tasks of arrays.

Invariant: a job is started only from QM_qJobs, by claiming it; what runs is always in `queue.active`, with the
processors and GPUs that it alone has.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time

from qm.daemon.arrays import Arrays
from qm.daemon.ending import Ending
from qm.daemon.filing import Filing
from qm.daemon.queue import Active, Going, Queue
from qm.daemon.reception import Reception
from qm.judgement.reasons import Situation, waiting_of, why_waiting
from qm.judgement.verdict import Exit, code_in_words
from qm.launchers.base import Launcher, Start
from qm.spool import joblog
from qm.spool.files import explained
from qm.spool.machine import available_memory, disk_short
from qm.spool.spool import Spool
from qm.spool.tree import survey
from qm.vocabulary.config import Settings
from qm.vocabulary.errors import Blocked, JobFileError, TryAgain
from qm.vocabulary.record import Job, Record, Run, Task
from qm.vocabulary.states import Event, Place, State, after

EXPLAINED = 20
"""Waiting jobs at the head of the line whose records say why they wait."""
WOKEN = 100
"""Jobs whose moment has come that are woken in one turn: of each the record is written."""


class Starting:
    """Moves jobs from the queue to the launcher."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        queue: Queue,
        reception: Reception,
        filing: Filing,
        arrays: Arrays,
        ending: Ending,
        launcher: Launcher,
        log: logging.Logger,
    ) -> None:
        self.settings = settings
        self._spool = spool
        self._queue = queue
        self._reception = reception
        self._filing = filing
        self._arrays = arrays
        self._ending = ending
        self._launcher = launcher
        self._log = log
        self._wait_until = 0.0
        self._disk_short = ""
        self._disk_at = 0.0

    def start_next(self) -> bool:
        """Start the job whose turn it is, or a task; False when nothing is to be started now."""
        if time.monotonic() < self._resume_at() or self._is_disk_short():
            return False
        job_id = self._queue.next_to_start(self._available)
        if job_id is None:
            return False
        entry = self._queue.active.get(job_id)
        job = entry.job if entry is not None else self._queue.waiting_by_id(job_id)
        if job is None:
            raise KeyError(f"{job_id} stands in line, but no such job waits")
        try:
            if entry is not None:
                self._arrays.start_next(entry)
            elif not self._is_unchanged(job):
                self._reception.rearrive([job])
            else:
                self._start(job)
        except FileNotFoundError as err:
            if entry is None:
                self._reception.withdraw(job.folder)
                return True
            self._ending.check_presence({job.folder})
            if not entry.gone:
                self._rest(f"{job.folder}: {err}")
            return entry.gone
        except TryAgain as err:
            self._rest(str(err))
            return False
        except (Blocked, OSError) as err:
            self._reception.block(job, err)
        return True

    def _rest(self, why: str) -> None:
        self._wait_until = time.monotonic() + self.settings.poll_interval
        self._log.warning("no job is started for %g s: %s", self.settings.poll_interval, why)

    def _resume_at(self) -> float:
        void = self._ending.void_at
        return max(self._wait_until, void + self.settings.poll_interval if void else 0.0)

    def waits_until(self) -> float | None:
        """When starting is tried again after the system was short of something (monotonic)."""
        at = self._resume_at()
        return at if at > time.monotonic() else None

    def _available(self) -> int:
        """Bytes of memory that the machine has left, beside what running jobs were promised."""
        return max(0, available_memory() - self._launcher.promised())

    def _is_disk_short(self) -> bool:
        """Is less free than Disk_Reserve? Looked up at most twice a second."""
        now = time.monotonic()
        if now >= self._disk_at and len(self._queue.line):
            self._disk_at = now + 0.5
            short = disk_short(self._spool.paths.root, self.settings.disk_reserve)
            if bool(short) != bool(self._disk_short):
                self._log.warning("no job is started: %s", short) if short else self._log.info("there is disk again")
            self._disk_short = short
        return bool(self._disk_short)

    def _is_unchanged(self, job: Job) -> bool:
        with explained(f"cannot look at {job.folder}"):
            return survey(self._spool.files(job).dir) == job.record.tree

    # --- a job ---------------------------------------------------------------------------------------------

    def _start(self, job: Job) -> None:
        before = job.record
        options = before.effective
        is_array = bool(options.array)
        now = time.time()
        width = self._queue.width(job)
        start = Start(
            task=Task(before.id, None, before.attempt + 1),
            started=now,
            ticket=self._launcher.ticket(),
            processors=() if is_array else self._queue.choose_processors(width),
            gpus=None if is_array else self._queue.choose_gpus(options.gpus),
            appends=before.deferred > 0,
        )
        wall_end = time.monotonic() + options.wall_time if options.wall_time and not is_array else None
        claimed = self._spool.claim(Job(Place.QUEUE, job.folder, self._running_record(before, start, width, wall_end)))
        self._queue.leave(job.folder)
        entry = Active(claimed)
        try:
            if is_array:
                self._open_array(entry)
            else:
                self._launcher.start(claimed, self._spool.files(claimed), start)
        except (TryAgain, Blocked, OSError) as err:
            back = self._filing.put_back(claimed._replace(record=before))
            if back is None or isinstance(err, TryAgain):
                raise
            self._reception.block(back, err)
            return
        except JobFileError as err:
            self._refuse(claimed, str(err))
            return
        self._spool.step("start: spawned")
        if not is_array:
            entry.runs[before.id] = Going(start, self._queue.line.started(), wall_end=wall_end)
        self._queue.activate(entry)
        self._queue.offer(entry)
        self._log.info("%s (%s) started, attempt %d", claimed.folder, before.id, start.task.attempt)

    def _running_record(self, before: Record, start: Start, width: int, wall_end: float | None) -> Record:
        return before._replace(
            state=after(before.state if before.state is not State.DEFERRED else State.PENDING, Event.START),
            reason="",
            started=start.started,
            finished=None,
            exit_status=None,
            signal=None,
            attempt=start.task.attempt,
            nb_proc=width,
            processors=start.processors,
            gpus=start.gpus or (),
            cpu_seconds=None,
            peak_memory=None,
            launcher="local",
            ticket=start.ticket,
            not_before=None,
            wall_end=wall_end,
            wall_left=None,
        )

    def _open_array(self, entry: Active) -> None:
        """The array itself runs nothing: its log has QM's own lines, its tasks are started one by one."""
        record, paths = entry.job.record, self._spool.files(entry.job)
        entry.book = self._arrays.open(entry.job)
        with explained(f"cannot write the log of {entry.job.folder}"):
            os.close(joblog.open_new(paths.log, record.started or 0.0, record.notes))
        self._arrays.take_over(entry)  # tasks of an earlier round that still wait

    def _refuse(self, claimed: Job, reason: str) -> None:
        """A claimed job turns out to be one that can never be begun."""
        with contextlib.suppress(OSError):
            joblog.note(self._spool.files(claimed).log, f"this job is invalid: {reason}")
        record = claimed.record
        now = time.time()
        run = Run(record.attempt, record.started, now, State.INVALID.value, reason)
        ended = record._replace(
            state=State.INVALID, reason=reason, finished=now, wall_end=None, history=(*record.history, run)
        )
        self._filing.file(claimed._replace(record=ended), code_in_words(Exit(None)))

    # --- what waits ----------------------------------------------------------------------------------------

    def wake(self) -> float | None:
        """Whose moment has come stands in line; returns when the next one's comes (monotonic)."""
        if not self._queue.sleepers:
            return None
        for key in self._queue.sleepers.due(WOKEN):
            job = self._queue.waiting_by_id(key)
            if job is None:
                self._arrays.due(key)
                continue
            record = job.record
            state = after(record.state, Event.DUE) if record.state is State.DEFERRED else record.state
            job = job._replace(record=record._replace(state=state, not_before=None))
            self._filing.save(job, "that its moment has come")
            self._queue.wait(job)
        rest = self._queue.sleepers.rest()
        return time.monotonic() + rest if rest is not None else None

    def explain(self, draining: bool) -> None:
        """The records of the first waiting jobs say why they wait. Only what has changed is written."""
        first = [self._queue.waiting_by_id(ticket.key) for ticket in self._queue.line.first(EXPLAINED)]
        jobs = [job for job in first if job is not None]
        situation = Situation(
            served=True,
            draining=draining,
            limits=self._queue.limits,
            running=tuple(self._queue.occupied()),
            one_at_a_time=self._queue.line.one_at_a_time,
            disk_short=self._disk_short,
            available=self._available(),
            now=time.time(),
        )
        for job, reason in zip(jobs, why_waiting(situation, [waiting_of(job.record) for job in jobs]), strict=True):
            if reason != job.record.reason:
                job = job._replace(record=job.record._replace(reason=reason))
                self._filing.save(job, "why it waits")
                self._queue.waiting[job.folder] = job
