"""Ending: noticing what is over and what has to be ended, and what follows from it.

Invariant: what runs is ended only for a reason that its record or its log tells: a request, its wall_time, its memory,
its silence. A clock that is set anew is no reason: times of runs are counted on one that cannot be set.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import NamedTuple

from qm.daemon.arrays import Arrays
from qm.daemon.book import Book
from qm.daemon.filing import Filing
from qm.daemon.queue import Active, Going, Queue
from qm.judgement.limits import over_memory, pulse_after, zombie
from qm.judgement.outcome import outcome
from qm.judgement.verdict import Exit, Trial, Verdict, attempts_made, code_in_words, judge
from qm.launchers.base import Launcher, Seen
from qm.spool import joblog
from qm.spool.files import explained, read_regular
from qm.spool.spool import Spool
from qm.vocabulary.errors import Blocked, TryAgain
from qm.vocabulary.record import Record, Run
from qm.vocabulary.states import ENDED, Event, Place, State, after
from qm.vocabulary.text import duration, printable

MOST_SAID = 200
"""Bytes of a reason that a script gives; it stands in a line of `qm status`."""


class _Over(NamedTuple):
    """A run that is over but not dealt with yet; `finished` is UTC epoch seconds."""

    entry: Active
    going: Going
    exit: Exit
    finished: float


class Ending:
    """Takes ended runs from the launcher. `void_at` is when the last start was void (monotonic), 0.0 for never."""

    def __init__(
        self,
        spool: Spool,
        queue: Queue,
        filing: Filing,
        arrays: Arrays,
        launcher: Launcher,
        log: logging.Logger,
    ) -> None:
        self.void_at = 0.0
        self._spool = spool
        self._queue = queue
        self._filing = filing
        self._arrays = arrays
        self._launcher = launcher
        self._log = log
        self._over: list[_Over] = []

    # --- what is over --------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Notice what has ended: its processors are free from now on, though it is filed only afterwards."""
        for ended in self._launcher.poll():
            self._spool.step("end: noticed")
            entry = self._queue.entry_of(ended.key)
            if entry is None:
                continue
            going = entry.runs.pop(ended.key)
            self._over.append(_Over(entry, going, ended.exit, time.time()))
            if entry.book is None:
                self._queue.deactivate(entry)
            else:
                self._queue.offer(entry)

    def file_ended(self) -> None:
        """File what was collected, and the arrays of which nothing is left to do."""
        over, self._over = self._over, []
        for one in over:
            if one.entry.book is None:
                self._finish(one)
            else:
                verdict = self._arrays.ended(one.entry, one.going, one.exit, one.finished)
                if verdict.event is Event.VOID:
                    self.void_at = time.monotonic()
        for entry in list(self._queue.active.values()):
            if entry.book is not None and not entry.runs and (entry.wanted is not None or entry.book.is_over()):
                self._finish_array(entry, entry.book)
        self._arrays.summarize()

    def _finish(self, one: _Over) -> None:
        entry, exit_ = one.entry, one.exit
        record = entry.job.record
        options = record.effective
        if exit_.status:
            with contextlib.suppress(OSError):
                said = read_regular(self._spool.files(entry.job).said, MOST_SAID).decode(errors="replace")
                exit_ = exit_._replace(said=printable(said.strip()))
        tries = attempts_made(record.history[record.retried :])
        wanted, why = (one.going.wanted, one.going.why) if one.going.wanted else (entry.wanted, entry.reason)
        verdict = judge(exit_, Trial(options, tries, record.deferred, wanted, why))
        state = after(record.state, verdict.event)
        record = self._ended_record(record, state, verdict, exit_, one.finished)
        entry.job = entry.job._replace(record=record)
        if exit_.out_of_memory and wanted is not Event.RUN_OUT_OF_MEMORY:
            self._note(entry, exit_.out_of_memory)
        if state in ENDED:
            self._filing.file(entry.job, code_in_words(exit_), entry.gone)
        elif entry.gone:
            self._filing.file(entry.job._replace(record=record._replace(state=State.KILLED)), "", gone=True)
        else:
            self._run_again(entry, verdict, exit_, one.finished)

    def _ended_record(self, record: Record, state: State, verdict: Verdict, exit_: Exit, finished: float) -> Record:
        run = Run(
            record.attempt,
            record.started,
            finished,
            verdict.outcome.value,
            verdict.reason,
            exit_.status,
            verdict.signal,
        )
        return record._replace(
            state=state,
            reason=verdict.reason,
            ending="",
            finished=finished,
            exit_status=exit_.status,
            signal=verdict.signal,
            cpu_seconds=exit_.cpu_seconds,
            peak_memory=exit_.peak_memory,
            wall_end=None,
            wall_left=None,
            history=(*record.history, run),
        )

    def _run_again(self, entry: Active, verdict: Verdict, exit_: Exit, finished: float) -> None:
        """Back into the queue: an attempt is left, it asked for it, or the start never began.

        The record says so before the folder moves, so that a daemon that dies in between loses no attempt.
        """
        record = entry.job.record
        if verdict.event is Event.VOID:  # the disk is full, or worse: not at once again
            self.void_at = time.monotonic()
        elif verdict.wait > 0:
            waited = record.deferred + verdict.wait if verdict.event is Event.DEFER else 0.0
            entry.job = entry.job._replace(record=record._replace(not_before=finished + verdict.wait, deferred=waited))
        else:
            entry.job = entry.job._replace(record=record._replace(state=State.PENDING, deferred=0.0))
        with contextlib.suppress(TryAgain, Blocked, OSError):  # it is put back all the same
            if verdict.event is not Event.VOID:
                joblog.finish(self._spool.files(entry.job).log, finished, code_in_words(exit_))
            self._spool.save(entry.job)
        self._spool.step("again: record written")
        self._filing.put_back(entry.job)

    def _finish_array(self, entry: Active, book: Book) -> None:
        record, tasks = entry.job.record, book.tasks(0)
        if entry.wanted is not None:
            state, reason = after(record.state, entry.wanted), entry.reason
        else:
            state, reason = outcome(tasks.total, book.bad)
        first = book.entries[min(book.bad)] if book.bad else None
        status = 0 if state is State.DONE else first.exit_status if first is not None else None
        verdict = Verdict(entry.wanted or Event.SUCCEED, reason, state, first.signal if first is not None else None)
        exit_ = Exit(status, cpu_seconds=book.cpu_seconds or None, peak_memory=book.peak_memory or None)
        ended = self._ended_record(record._replace(tasks=tasks), state, verdict, exit_, time.time())
        self._note(entry, f"{tasks.done} of {tasks.total} tasks done, {tasks.failed} failed")
        if reason:
            self._note(entry, reason)
        self._queue.deactivate(entry)
        entry.job = entry.job._replace(record=ended)
        self._filing.file(entry.job, code_in_words(exit_), entry.gone)

    def _note(self, entry: Active, text: str, going: Going | None = None) -> None:
        """A line of QM's own in the log of a job, or of one of its tasks."""
        if not entry.gone:
            number = going.start.task.number if going is not None else None
            with contextlib.suppress(OSError, TryAgain, Blocked), explained(f"cannot write to {entry.job.folder}"):
                joblog.note(self._spool.files(entry.job).task_log(number), text)

    # --- what has to be ended ------------------------------------------------------------------------------

    def end(self, entry: Active, event: Event, reason: str) -> None:
        """Begin to end an active job; it is filed when nothing of it is left. The record keeps why."""
        entry.wanted, entry.reason = event, reason
        if not entry.gone:
            entry.job = entry.job._replace(record=entry.job.record._replace(ending=event.value, reason=reason))
            self._filing.save(entry.job, "why it ends")
        self._queue.offer(entry)
        for key in entry.runs:
            self._launcher.end(key)

    def end_run(self, entry: Active, going: Going, event: Event, why: str) -> None:
        """Begin to end one run: a whole job, or one task of an array. What has ended by itself did not end for this."""
        key = going.start.task.key
        if going.wanted is not None or entry.wanted is not None or self._launcher.is_over(key):
            return
        self._log.warning("%s (%s): %s", entry.job.folder, key, why)
        self._note(entry, why, going)
        if entry.book is None:
            self.end(entry, event, why)
        else:
            going.wanted, going.why = event, why
            self._arrays.change(entry, going, ending=event.value, reason=why)
            self._launcher.end(key)

    def enforce(self) -> float | None:
        """End what is over its limits; returns when the next wall_time is over (monotonic)."""
        now = time.monotonic()
        due: list[float] = []
        for entry in self._queue.active.values():
            for going in list(entry.runs.values()):
                if going.wall_end is not None and going.wanted is None and entry.wanted is None:
                    if going.wall_end <= now:
                        limit = duration(entry.job.record.effective.wall_time or 0.0)
                        self.end_run(entry, going, Event.RUN_OUT_OF_TIME, f"its wall_time of {limit} is over")
                    else:
                        due.append(going.wall_end)
        for seen in self._launcher.seen():
            found = self._queue.entry_of(seen.key)
            if found is not None and seen.key in found.runs and not found.paused:
                self._judge_usage(found, found.runs[seen.key], seen, now)
        return min(due, default=None)

    def _judge_usage(self, entry: Active, going: Going, seen: Seen, now: float) -> None:
        options = entry.job.record.effective
        if why := over_memory(seen.usage, options.mem):
            self.end_run(entry, going, Event.RUN_OUT_OF_MEMORY, why)
        going.pulse = pulse_after(going.pulse, seen.usage, now)
        why = zombie(going.pulse, now, options)
        if why and options.zombie_kill:
            self.end_run(entry, going, Event.KILL, why)
        elif bool(why) != going.flagged:
            going.flagged = bool(why)
            self._flag(entry, going, why)

    def _flag(self, entry: Active, going: Going, why: str) -> None:
        """Say in the record, or in tasks.jsonl, that a run seems dead, or (with "") that it lives after all."""
        self._log.warning("%s (%s): %s", entry.job.folder, going.start.task.key, why or "it shows life again")
        if entry.book is not None:
            self._arrays.change(entry, going, reason=why)
        elif not entry.gone and entry.wanted is None:
            entry.job = entry.job._replace(record=entry.job.record._replace(reason=why))
            self._filing.save(entry.job, "that it seems dead")

    def check_presence(self, folders: set[str]) -> None:
        """Folders taken out of QM_Jobs by hand: their processes are ended."""
        for entry in list(self._queue.active.values()):
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
