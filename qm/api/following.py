"""Following one crew from place to place: delivering what comes of it, and its end.

Invariant: all of this is the watcher's thread. A chunk is marked as told before its listener is called, so nothing that
goes wrong there brings it twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from typing import Any

from qm.api import workfiles
from qm.api.crew import Crew
from qm.api.errors import FolderGone, JobFailed
from qm.api.listener import End
from qm.api.logtail import last_lines
from qm.api.outcomes import failures, read_broken, read_outcomes
from qm.api.workfiles import BROKEN
from qm.spool import tasks
from qm.spool.paths import JobPaths
from qm.spool.tasks import TaskEntry
from qm.spool.view import View
from qm.vocabulary.errors import NoSuchJob, QMError
from qm.vocabulary.record import Job, Record
from qm.vocabulary.states import ENDED, Place, State

GONE_AFTER = 2.0
"""Seconds for which no look finds a folder: it may be on its way from one place to another, or just about to come."""
PAST = (Place.DONE, Place.LOST)
LEFT = "its worker ended in the middle of it with exit status 0"

_log = logging.getLogger("qm")


class Following:
    """One crew whose job was submitted. `watch` is the number of the watch on its folder, if there is one."""

    def __init__(self, crew: Crew, view: View, name: str, watch: int | None) -> None:
        self.crew = crew
        self.name = name
        self.watch = watch
        self._view = view
        self._missed_since: float | None = None
        self._tasks_at = 0.0
        self._folder_at = -1

    # --- where it is ---------------------------------------------------------------------------------------

    def arrived(self, place: Place, folder: str) -> bool:
        """A folder of its name is in one of the places: is it this crew's, and is that its end?"""
        job = self._view.at(place, folder)
        if job is None and (folder != self.name or not os.path.isdir(self._view.paths.job(place, folder).dir)):
            return False  # another's, or on its way again
        if job is not None and job.record.id != self.crew.id:
            return False
        if place in PAST:
            self._finish(place, folder, job.record if job is not None else None)
            return True
        self._went(place, folder)
        if job is not None and job.record.state not in ENDED:
            self._began()
            self.look_inside()
        return False

    def look(self, waiting: set[str] | None, active: set[str] | None) -> bool:
        """Look after it, knowing the names in QM_qJobs and QM_Jobs (None: those of the last look). Has it ended?"""
        crew = self.crew
        if self._missed_since is not None:
            return self._search()
        if waiting is not None and active is not None:
            name = os.path.basename(crew.folder)
            if not crew.running and name not in waiting and name in active and self.arrived(Place.JOBS, name):
                return True
            if name not in (active if crew.running else waiting):
                return self._search()
        if crew.running:
            self.look_inside()
        return False

    def _search(self) -> bool:
        """It is not where it was."""
        for place in (*PAST, Place.JOBS, Place.QUEUE):
            for name in {self.name, os.path.basename(self.crew.folder)}:
                job = self._view.at(place, name)
                if job is not None and job.record.id == self.crew.id:
                    return self._found(job)
        now = time.monotonic()
        self._missed_since = self._missed_since or now
        if now - self._missed_since < GONE_AFTER:
            return False
        with contextlib.suppress(NoSuchJob):  # it may have another name by now
            return self._found(self._view.find(self.crew.id))
        self.give_up(lambda what: FolderGone(f"{what}: its job {self.name} ({self.crew.id}) is gone from the queue"))
        return True

    def _found(self, job: Job) -> bool:
        self._missed_since = None
        if job.place is Place.QUEUE:
            self._went(job.place, job.folder)
            return False
        return self.arrived(job.place, job.folder)

    def _went(self, place: Place, folder: str) -> None:
        crew = self.crew
        with crew.lock:
            crew.place, crew.folder = place, self._view.paths.job(place, folder).dir
            crew.running = place is Place.JOBS

    def _began(self) -> None:
        self.crew.hand_over(self.crew.folder)
        self._tell(self.crew.listener.began, self.crew)

    # --- results -------------------------------------------------------------------------------------------

    def written(self, name: str) -> bool:
        """A file came into its folder; that is never its end."""
        number = workfiles.number_of(name, ".out")
        if number is not None:
            self._deliver(number)
        elif name == BROKEN:
            self._broken()
        return False

    def look_inside(self) -> None:
        """What came into its folder without a word (there is no watch on it, or an event was lost)?"""
        folder = self.crew.folder
        if len(self.crew.chunks) == 1 and not self.crew.was_open:
            return  # its end tells
        with contextlib.suppress(OSError):
            changed = os.stat(folder).st_mtime_ns
            if self._folder_at != changed or time.time_ns() - changed < 2_000_000_000:
                self._folder_at = changed
                for name in os.listdir(folder):
                    if name.endswith(".out") or name == BROKEN:
                        self.written(name)
            self._look_at_tasks(folder)

    def _deliver(self, number: int) -> None:
        crew = self.crew
        with crew.lock:
            if number in crew.resolved or number >= len(crew.chunks):
                return
            chunk = crew.chunks[number]
            crew.resolved.add(number)
        try:
            outcomes = read_outcomes(crew.folder, number, chunk, crew.calls[chunk.call])
        except FileNotFoundError:  # the folder has just moved: it is found where it goes
            crew.resolved.discard(number)
            return
        self._tell(crew.listener.out, crew, number, outcomes)

    def _fail(self, numbers: Iterable[int], make: Callable[[str], BaseException]) -> None:
        """Tell that there will be no result of these."""
        crew = self.crew
        for number in numbers:
            chunk = crew.chunks[number]
            crew.resolved.add(number)
            self._tell(crew.listener.out, crew, number, failures(chunk, crew.calls[chunk.call], make))

    def _missing(self) -> list[int]:
        crew = self.crew
        return [number for number in range(len(crew.chunks)) if number not in crew.resolved]

    # --- workers that are lost ---------------------------------------------------------------------------

    def _look_at_tasks(self, folder: str) -> None:
        """Chunks of a worker that has ended for good will not come, though others go on."""
        path = JobPaths(folder).tasks
        changed = os.stat(path).st_mtime
        if changed == self._tasks_at:
            return
        self._tasks_at = changed
        lost = {task: entry for task, entry in tasks.read(path).items() if entry.state in ENDED}
        for number in self._missing() if lost else ():
            entry = lost.get(self._task_of(number))
            if entry is not None:
                self._deliver(number)  # it may have come in the meantime
                if number not in self.crew.resolved:
                    self._fail([number], self._failed_by(entry, folder))

    def _task_of(self, number: int) -> int:
        """The task of the array that had a chunk last; -1 for none."""
        claims = workfiles.claims(self.crew.folder, number)
        task = claims[-1].partition(" ")[0] if claims else ""
        return int(task) if task.isascii() and task.isdigit() else -1

    def _failed_by(self, entry: TaskEntry, folder: str) -> Callable[[str], JobFailed]:
        log = last_lines(folder, entry.task)
        done = entry.state is State.DONE  # not with us: it took a chunk and ended in the middle of that
        state, reason = (State.FAILED, LEFT) if done else (entry.state, entry.reason)
        return lambda what: JobFailed(what, state.value, reason, entry.exit_status, folder, log)

    def _broken(self) -> None:
        """The initializer failed: the job is of no use."""
        error = read_broken(self.crew.folder, self.name)
        if error is not None:
            self._fail(self._missing(), lambda _what: error)
            with contextlib.suppress(QMError):
                self.crew.queue.request("kill", self.crew.id)

    # --- the end -------------------------------------------------------------------------------------------

    def _finish(self, place: Place, folder: str, record: Record | None) -> None:
        crew = self.crew
        self._went(place, folder)
        crew.tidy(crew.folder)
        for number in self._missing():
            self._deliver(number)
        with crew.lock:
            crew.over = True
            missing = self._missing()
        state = record.state.value if record is not None else (State.DONE if place is Place.DONE else State.LOST).value
        reason = record.reason if record is not None else "its record cannot be read"
        status = record.exit_status if record is not None else None
        error: Exception | None = read_broken(crew.folder, self.name)
        unclaimed: tuple[int, ...] = ()
        if crew.was_open and state == State.DONE.value and error is None and not crew.kill_asked:
            unclaimed = tuple(number for number in missing if not workfiles.claims(crew.folder, number))
            if not crew.at_start.isdisjoint(unclaimed) and crew.at_start.issubset(unclaimed):
                unclaimed, reason = (), "its workers ended without beginning anything"  # as those after them would
        lost = [number for number in missing if number not in unclaimed]
        if lost and error is not None:
            self._fail(lost, lambda _what: error)
        elif lost and crew.kill_asked:
            self._fail(lost, lambda _what: CancelledError())
        elif lost:
            log, why = last_lines(crew.folder, self._task_of(lost[0])), reason or LEFT
            self._fail(lost, lambda what: JobFailed(what, state, why, status, crew.folder, log))
        self._tell(crew.listener.ended, crew, End(state, reason, status, crew.folder, unclaimed, error))

    def give_up(self, make: Callable[[str], Exception]) -> None:
        """Nothing will be heard of it any more."""
        crew = self.crew
        with crew.lock:
            crew.over = True
            missing = self._missing()
        self._fail(missing, make)
        error = make(self.name)
        self._tell(crew.listener.ended, crew, End(State.LOST.value, str(error), None, crew.folder, (), error))

    def _tell(self, listener: Callable[..., None], *args: Any) -> None:
        """An error in a listener must end neither the others' results nor the thread."""
        try:
            listener(*args)
        except BaseException:  # noqa: BLE001 (a callback may even call sys.exit)
            _log.exception("an error in whoever waits for %s (%s)", self.name, self.crew.id)
