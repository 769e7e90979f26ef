"""Pausing: active jobs that stand still, so that others have their processors, and go on when there is room again.

Invariant: paused time is not wall time; a job that goes on has processors of its own again, perhaps others.
"""

from __future__ import annotations

import logging
import time

from qm.daemon.arrays import Arrays
from qm.daemon.filing import Filing
from qm.daemon.queue import Active, Going, Queue
from qm.judgement.limits import Pulse
from qm.launchers.base import Launcher
from qm.vocabulary.states import Event, State, after


class Pausing:
    """Pauses and resumes active jobs."""

    def __init__(self, queue: Queue, filing: Filing, arrays: Arrays, launcher: Launcher, log: logging.Logger) -> None:
        self._queue = queue
        self._filing = filing
        self._arrays = arrays
        self._launcher = launcher
        self._log = log

    def pause(self, entry: Active) -> None:
        """Stop everything of it where it stands. The record says so first: a daemon that comes later stops it again."""
        record = entry.job.record
        record = record._replace(state=after(record.state, Event.PAUSE))
        now = time.monotonic()
        for going in entry.runs.values():
            if going.wall_end is not None:
                going.wall_left, going.wall_end = max(0.0, going.wall_end - now), None
            if entry.book is not None:
                self._arrays.change(entry, going, state=State.PAUSED, wall_end=None, wall_left=going.wall_left)
            else:
                record = record._replace(wall_end=None, wall_left=going.wall_left)
        entry.job = entry.job._replace(record=record)
        self._queue.offer(entry)
        self._filing.save(entry.job, "that it is paused")
        for key in entry.runs:
            self._launcher.pause(key)

    def ask_to_resume(self, entry: Active) -> None:
        """It goes on as soon as there is room; the record keeps that."""
        entry.resuming = True
        entry.job = entry.job._replace(record=entry.job.record._replace(ending=Event.RESUME.value))
        self._filing.save(entry.job, "that it is to go on")

    def resume_paused(self) -> bool:
        """Let paused jobs go on that were asked to, as far as there is room; is none left that has to wait?"""
        for entry in [entry for entry in self._queue.active.values() if entry.resuming and entry.wanted is None]:
            if not self._queue.has_room_for(entry):
                return False
            job = entry.job
            try:
                self._resume(entry)
            except OSError as err:  # out of descriptors: unlike the end of a grace period nothing else comes to it
                self._log.warning("%s cannot go on yet: %s", job.folder, err)
                entry.job, entry.resuming = job, True
                return False
            self._log.info("%s (%s) goes on", entry.job.folder, entry.job.record.id)
        return True

    def _resume(self, entry: Active) -> None:
        record = entry.job.record
        record = record._replace(state=after(record.state, Event.RESUME), ending="")
        entry.resuming = False
        entry.job = entry.job._replace(record=record)
        before = {key: going.start.processors for key, going in entry.runs.items()}
        for going in entry.runs.values():  # those that it had may be others' by now
            going.start = going.start._replace(processors=())
        for key, going in entry.runs.items():
            self._go_on(going, record.nb_proc)
            unbound = self._queue.all_processors if before[key] else ()
            self._launcher.resume(key, going.start.processors or unbound)
            facts = {"processors": going.start.processors, "wall_end": going.wall_end, "wall_left": None}
            if entry.book is not None:
                self._arrays.change(entry, going, state=State.RUNNING, **facts)
            else:
                record = record._replace(processors=going.start.processors, wall_end=going.wall_end, wall_left=None)
        entry.job = entry.job._replace(record=record)
        self._queue.offer(entry)
        self._filing.save(entry.job, "that it goes on")

    def _go_on(self, going: Going, width: int) -> None:
        now = time.monotonic()
        going.start = going.start._replace(processors=self._queue.choose_processors(width))
        if going.wall_left is not None:
            going.wall_end, going.wall_left = now + going.wall_left, None
        going.pulse = Pulse(now, going.pulse.cpu, going.pulse.output)
