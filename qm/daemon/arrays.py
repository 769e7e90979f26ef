"""Arrays: starting the tasks of an array one after the other, and noting what became of them.

Invariant: `.qm/tasks.jsonl` says that a task runs before its shim is spawned, and how it ended before anything else
is done about it; so, as for a whole job, its start mark decides after a crash whether it has begun.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time

from qm.daemon.book import Book
from qm.daemon.filing import Filing
from qm.daemon.queue import Active, Going, Queue
from qm.judgement.verdict import Exit, Trial, Verdict, code_in_words, judge
from qm.launchers.base import Launcher, Start
from qm.spool import joblog, tasks
from qm.spool.files import explained
from qm.spool.spool import Spool
from qm.spool.tasks import TaskEntry
from qm.vocabulary.arrays import read_array
from qm.vocabulary.errors import Blocked, JobFileError, TryAgain
from qm.vocabulary.record import Job, Task, Tasks
from qm.vocabulary.states import ENDED, Event, State

SAVE_EVERY = 1.0
"""Seconds between two summaries in the record of an array that runs."""


class Arrays:
    """Starts and ends tasks; the jobs around them are started and filed by others."""

    def __init__(self, spool: Spool, queue: Queue, filing: Filing, launcher: Launcher, log: logging.Logger) -> None:
        self._spool = spool
        self._queue = queue
        self._filing = filing
        self._launcher = launcher
        self._log = log
        self._save_at = 0.0

    def open(self, job: Job) -> Book | None:
        """The tasks of a job, as far as they are known; None for one that is no array. TryAgain."""
        array, known = job.record.effective.array, job.record.tasks
        if not array:
            return None
        return Book(read_array(array), self._read(job), known.earlier if known else 0)

    def _read(self, job: Job) -> dict[int, TaskEntry]:
        with explained(f"what became of its tasks cannot be read ({job.folder})"):
            return tasks.read(self._spool.files(job).tasks, strict=True)

    # --- starting ------------------------------------------------------------------------------------------

    def start_next(self, entry: Active) -> None:
        """Start the next task of an active array. TryAgain: it waits again. FileNotFoundError: the folder is gone.

        When anything else is in the way, it is the array's own doing (its tasks may write there): the task has failed.
        """
        book = _book(entry)
        number = book.take_next()
        width = self._queue.width(entry.job)
        if width != entry.job.record.nb_proc:  # there were others when the array was started
            entry.job = entry.job._replace(record=entry.job.record._replace(nb_proc=width))
            entry.need = entry.need._replace(processors=width)
        before = book.entries.get(number) or TaskEntry(number, State.PENDING)
        options = entry.job.record.effective
        start = Start(
            task=Task(entry.job.record.id, number, before.attempt + 1),
            started=time.time(),
            ticket=self._launcher.ticket(),
            processors=self._queue.choose_processors(width),
            gpus=self._queue.choose_gpus(options.gpus),
            appends=bool(before.deferred),
        )
        wall_end = time.monotonic() + options.wall_time if options.wall_time else None
        running = before._replace(
            state=State.RUNNING,
            attempt=start.task.attempt,
            started=start.started,
            finished=None,
            ticket=start.ticket,
            processors=start.processors,
            gpus=start.gpus or (),
            reason="",
            not_before=None,
            wall_end=wall_end,
            wall_left=None,
            ending="",
        )
        going = Going(start, self._queue.line.started(), wall_end=wall_end)
        try:
            self._spool.keep_hidden(entry.job)
            self._write(entry, running)
            self._spool.step("task: written")
            self._launcher.start(entry.job, self._spool.files(entry.job), start)
        except (TryAgain, FileNotFoundError):
            book.note(before._replace(state=State.PENDING, attempt=start.task.attempt))
            self._queue.offer(entry)
            raise
        except (JobFileError, Blocked, OSError) as err:
            self._note(entry, running._replace(state=State.FAILED, reason=str(err), finished=time.time()))
            return
        book.entries[number] = running
        entry.runs[start.task.key] = going
        self._queue.offer(entry)
        self._log.debug("%s (%s) task %d started", entry.job.folder, start.task.job_id, number)

    # --- ending --------------------------------------------------------------------------------------------

    def ended(self, entry: Active, going: Going, exit_: Exit, finished: float) -> Verdict:
        """A task is over: say so in its log and in tasks.jsonl, and see whether it is run again."""
        book, number = _book(entry), _number(going)
        before = book.entries[number]
        options = entry.job.record.effective
        wanted, why = (going.wanted, going.why) if going.wanted else (entry.wanted, entry.reason)
        verdict = judge(exit_, Trial(options, before.tries, before.deferred or 0.0, wanted, why))
        if verdict.event is Event.VOID:
            self._void(entry, before)
            return verdict
        counts = verdict.outcome is not State.DEFERRED
        again = verdict.event in (Event.TRY_AGAIN, Event.DEFER)
        after = before._replace(
            state=State.DEFERRED if again else verdict.outcome,
            finished=finished,
            exit_status=exit_.status,
            signal=verdict.signal,
            cpu_seconds=exit_.cpu_seconds,
            peak_memory=exit_.peak_memory,
            reason=verdict.reason,
            tries=before.tries + counts,
            not_before=finished + verdict.wait if again else None,
            deferred=(before.deferred or 0.0) + verdict.wait if verdict.event is Event.DEFER else None,
            wall_end=None,
            wall_left=None,
            ending="",
        )
        if not entry.gone:
            self._finish_log(entry, going, exit_, finished)
        self._note(entry, after)
        if again:
            self._sleep(entry, after)
        self._spool.step("task: ended")
        return verdict

    def _finish_log(self, entry: Active, going: Going, exit_: Exit, finished: float) -> None:
        paths, task = self._spool.files(entry.job), going.start.task
        log = paths.task_log(task.number)
        with contextlib.suppress(OSError):  # a full disk: what became of it stands in tasks.jsonl
            if exit_.out_of_memory and going.wanted is not Event.RUN_OUT_OF_MEMORY:
                joblog.note(log, exit_.out_of_memory)
            joblog.finish(log, finished, code_in_words(exit_))

    def _note(self, entry: Active, after: TaskEntry) -> None:
        """Keep what became of a task. On a full disk it is only known here until the array ends."""
        _book(entry).note(after)
        try:
            self._write(entry, after)
        except (TryAgain, Blocked, OSError) as err:
            self._log.warning("%s: task %d is %s, but %s", entry.job.folder, after.task, after.state, err)
        else:
            self._forget_marks(entry, after)
        self._queue.offer(entry)

    def _void(self, entry: Active, found: TaskEntry) -> None:
        """A start that never began costs nothing: the task waits as it did before, its log as it is."""
        self._note(entry, found._replace(state=State.PENDING, reason="it had not begun"))

    def _forget_marks(self, entry: Active, after: TaskEntry) -> None:
        """Of an ended task tasks.jsonl tells all, and a thousand tasks would leave two thousand files."""
        if entry.gone or after.state is State.PENDING:  # the mark of a void start keeps a slow shim from beginning
            return
        paths = self._spool.files(entry.job)
        label = Task(entry.job.record.id, after.task, after.attempt).label
        for mark in (paths.exit_mark(label), paths.start_mark(label), paths.task_progress(after.task)):
            with contextlib.suppress(OSError):
                os.unlink(mark)

    def _write(self, entry: Active, *some: TaskEntry) -> None:
        if not entry.gone:
            with explained(f"what became of its tasks cannot be written ({entry.job.folder})"):
                tasks.append(self._spool.files(entry.job).tasks, some)

    def _sleep(self, entry: Active, after: TaskEntry) -> None:
        wait = (after.not_before or 0.0) - (after.finished or 0.0)
        key = Task(entry.job.record.id, after.task, after.attempt).key
        self._queue.sleepers.sleep(key, after.not_before or 0.0, wait)

    def due(self, key: str) -> None:
        """A task that waited for its next run may start."""
        entry = self._queue.entry_of(key)
        if entry is not None and entry.book is not None:
            entry.book.due(int(key.partition(".")[2]))
            self._queue.offer(entry)

    def change(self, entry: Active, going: Going, **values: object) -> None:
        """Keep another fact about a running task: that it is paused, that it seems dead."""
        book, number = _book(entry), _number(going)
        book.entries[number] = book.entries[number]._replace(**values)  # type: ignore[arg-type]
        with contextlib.suppress(TryAgain, Blocked, OSError):  # the next fact is written later
            self._write(entry, book.entries[number])

    # --- the record ----------------------------------------------------------------------------------------

    def summarize(self) -> None:
        """Keep the records of active arrays up to date, now and then."""
        if time.monotonic() < self._save_at:
            return
        for entry in self._queue.active.values():
            if entry.book is not None and not entry.gone:
                summary = entry.book.tasks(len(entry.runs))
                if summary != entry.job.record.tasks:
                    entry.job = entry.job._replace(record=entry.job.record._replace(tasks=summary))
                    self._filing.save(entry.job, "how far it is")
                    self._save_at = time.monotonic() + SAVE_EVERY

    # --- again ---------------------------------------------------------------------------------------------

    def forget_failures(self, job: Job) -> Job:
        """For `qm retry`: tasks that did not succeed are to be run again; if all did, all of them. OSError."""
        array, path = job.record.effective.array, self._spool.files(job).tasks
        if not array:
            return job
        with explained(f"what became of its tasks cannot be written ({job.folder})"):
            known = self._read(job)
            bad = [entry for entry in known.values() if entry.state is not State.DONE]
            if len(known) == len(read_array(array)) and not bad:
                os.unlink(path)
                known = {}
            else:
                fresh = {"state": State.PENDING, "tries": 0, "deferred": None, "not_before": None, "reason": ""}
                tasks.append(path, [entry._replace(**fresh) for entry in bad])  # type: ignore[arg-type]
        done = sum(entry.state is State.DONE for entry in known.values())
        return job._replace(record=job.record._replace(tasks=Tasks(len(read_array(array)), done, earlier=done)))

    # --- taking over ---------------------------------------------------------------------------------------

    def take_over(self, entry: Active) -> None:
        """Tasks that an earlier daemon started are watched, or voided where they had not begun; waiting ones wait.

        OSError: some may be watched already; it is to be called again, with a new entry.
        """
        paths = self._spool.files(entry.job)
        going = []
        for found in list(_book(entry).entries.values()):
            task = Task(entry.job.record.id, found.task, found.attempt)
            if found.state is State.DEFERRED:
                self._sleep(entry, found)
            elif found.state not in ENDED and found.state is not State.PENDING:
                going.append((task, found, self._spool.void(paths, task.label)))
        for task, found, void in going:
            if void:
                self._void(entry, found)
                continue
            start = Start(task, found.started or 0.0, found.ticket, found.processors, found.gpus)
            self._launcher.take_over(entry.job, paths, start)
            order = self._queue.line.started()
            entry.runs[task.key] = Going(start, order, wall_end=found.wall_end, wall_left=found.wall_left)
            if found.ending:
                entry.runs[task.key].wanted, entry.runs[task.key].why = Event(found.ending), found.reason
                self._launcher.end(task.key)
        self._queue.offer(entry)


def _book(entry: Active) -> Book:
    if entry.book is None:
        raise ValueError(f"{entry.job.folder} is no array")
    return entry.book


def _number(going: Going) -> int:
    number = going.start.task.number
    if number is None:
        raise ValueError(f"{going.start.task.key} is no task of an array")
    return number
