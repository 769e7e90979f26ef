"""Pool over QM: open crews whose workers take the chunks of one call after the other.

Invariants: every chunk of a call that was not cancelled gets its outcome, be it that of a crew that follows the first;
at most `workers` workers are asked for at a time, but for those that a crew about to end still has busy. A lock of a
crew may be taken under `_adding`; under `_state` nothing is waited for, since the watcher's thread takes it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from qm.api.asyncresults import Sink
from qm.api.crew import Crew, Setup
from qm.api.errors import CrewEnded
from qm.api.listener import End
from qm.api.outcomes import Outcomes
from qm.api.queue import JobQueue, job_options, open_queue
from qm.api.runner import Kept
from qm.api.shift import Call, Shift
from qm.spool.files import free_name
from qm.spool.ids import new_id
from qm.spool.submission import tidy_name
from qm.vocabulary.errors import QMError

PATIENCE = 10.0
"""Seconds that `terminate` waits for the end of jobs that it has ended."""


class Asked(NamedTuple):
    """What workers are to be. `options`: keys of a job file; `tasks`: how many one does before it begins anew."""

    name: str | None
    processes: int | None
    options: Mapping[str, Any]
    setup: Setup | None
    python: str | None
    tasks: int | None


def on_qm(kept: Kept, asked: Asked, launcher: str | None, config: str | None) -> Crews:
    """The runner for a pool in QM. ValueError for a wrong option or launcher; ConfigError where there is no queue."""
    options = job_options(**asked.options)
    if asked.python is not None and shutil.which(asked.python) is None:
        raise ValueError(f"python_path {asked.python!r} is no program that can be run here")
    nb_proc = int(options.get("nb_proc", 1))
    queue = open_queue(launcher, config, asked.processes and asked.processes * nb_proc)
    workers = asked.processes or max(1, queue.processors() // nb_proc)
    if kept.always and kept.work_dir is None and _is_private(queue):
        kept = kept._replace(work_dir=".qpool")
    return Crews(queue, asked._replace(name=asked.name or _own_name()), workers, options, kept)


def _is_private(queue: JobQueue) -> bool:
    """Does it end with this process, and all of its folders with it?"""
    return type(queue) is not JobQueue


def _own_name() -> str:
    stem = os.path.splitext(os.path.basename(getattr(sys.modules.get("__main__"), "__file__", None) or "python"))[0]
    return f"{tidy_name(stem, 'python')}-{new_id()[:6]}"


class Crews:
    """The calls of a Pool that runs in QM."""

    streams = True
    stays = True

    def __init__(
        self,
        queue: JobQueue,
        asked: Asked,
        workers: int,
        options: Mapping[str, str],
        kept: Kept,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.workers = workers
        self._queue = queue
        self._asked = asked
        self._options = options
        self._kept = kept
        self._clock = clock
        self._adding = threading.RLock()
        self._ending = threading.Lock()
        self._state = threading.Condition()
        self._names = itertools.count(1)
        self._numbers = itertools.count()
        self._calls: dict[int, Call] = {}
        self._shifts: dict[str, Shift] = {}
        self._current: Shift | None = None
        self._closed = False

    # --- for Pool ------------------------------------------------------------------------------------------

    def begin(self, function: Callable[..., Any], how: str, sink: Sink) -> int:
        """A new call. PicklingError, TypeError, OSError, QMError: nothing has begun."""
        call = Call(function, how, sink)
        with self._adding:
            self._try(lambda shift: self._number(shift, call))
            number = next(self._numbers)
            self._calls[number] = call
        return number

    def add(self, call: int, items: Sequence[Any], first: int) -> None:
        """One more chunk of a call. PicklingError, TypeError, OSError, QMError."""
        with self._adding:
            wanted = self._calls.get(call)
            if wanted is not None and not wanted.cancelled:
                self._try(lambda shift: self._put(shift, wanted, items, first))

    def complete(self, call: int) -> None:
        """All chunks of a call have been added, or all that are to be for now: they may run."""
        del call
        with self._adding:
            if self._current is not None:
                self._submit(self._current)

    def cancel(self, call: int) -> None:
        """Nothing more of that call runs; what runs of it is ended."""
        with self._adding:
            with self._state:
                wanted = self._calls.get(call)
                if wanted is None:
                    return
                wanted.cancelled = True
            for shift in self._living():
                number = wanted.numbers.get(shift.crew.id)
                if number is not None:
                    shift.crew.cancel_call(number)
                    with self._state:
                        shift.count(number, -shift.open[number], self._clock())

    def forget(self, call: int) -> None:
        """A call has all of its outcomes, or nobody wants them: its results are not held here any more."""
        with self._state:
            over = self._calls.pop(call, None)
            if over is not None:
                for shift in self._shifts.values():
                    shift.calls.pop(over.numbers.get(shift.crew.id, -1), None)

    def close(self) -> None:
        """No more calls will come: workers end when nothing is left."""
        with self._adding:
            self._closed = True
            for shift in self._living():
                self._retire(shift)

    def terminate(self) -> None:
        """End all workers, and wait a little for their jobs."""
        with self._ending:
            with self._adding:
                self._closed = True
                for call in list(self._calls.values()):
                    call.cancelled = True  # who feeds them adds nothing more
                for shift in self._living():
                    with contextlib.suppress(QMError, OSError):
                        self._retire(shift)
                        if shift.open.total():
                            shift.crew.kill()
            self._wait_for_end(PATIENCE)
            self._queue.close()

    def join(self) -> None:
        """Wait for the end of all workers."""
        self._wait_for_end(None)
        with self._ending:
            self._queue.close()

    # --- crews ---------------------------------------------------------------------------------------------

    def _living(self) -> list[Shift]:
        with self._state:
            return list(self._shifts.values())

    def _shift(self) -> Shift:
        """The crew that gets what is added: the one there is, or a new one where that has too little of a crew left."""
        shift = self._current
        if shift is not None and not shift.is_fresh(self._clock()):
            self._retire(shift)
            shift = None
        if shift is None:
            with self._state:
                busy = sum(min(one.open.total(), one.workers) for one in self._shifts.values())
            workers = max(1, self.workers - busy)
            shift = self._new_shift(self._make(workers), workers)
            self._current = shift
        return shift

    def _make(self, workers: int) -> Crew:
        asked = self._asked
        return self._queue.crew(
            f"{asked.name}_{next(self._names)}",
            self,
            workers=workers,
            options=self._options,
            setup=asked.setup,
            python=asked.python,
            environment={"QM_WORKER_TASKS": str(asked.tasks)} if asked.tasks else {},
        )

    def _new_shift(self, crew: Crew, workers: int) -> Shift:
        shift = Shift(crew, workers)
        with self._state:
            self._shifts[crew.id] = shift
        return shift

    def _number(self, shift: Shift, call: Call) -> int:
        """The call's number in a crew, which gets to know it now if it did not."""
        known = call.numbers.get(shift.crew.id)
        if known is None:
            known = shift.crew.add_call(call.function, call.how)
            call.numbers[shift.crew.id] = known
            shift.calls[known] = call
        return known

    def _try(self, act: Callable[[Shift], object]) -> None:
        """Do it with the present crew, and when that has ended in the meantime with another."""
        while True:
            shift = self._shift()
            try:
                act(shift)
            except CrewEnded:
                self._retire(shift)
            else:
                return

    def _put(self, shift: Shift, call: Call, items: Sequence[Any], first: int) -> None:
        number = self._number(shift, call)
        with self._state:
            shift.count(number, 1, self._clock())
        try:
            shift.crew.add_chunk(number, items, first)
        except BaseException:
            with self._state:
                shift.count(number, -1, self._clock())
            raise

    def _retire(self, shift: Shift) -> None:
        """It gets nothing more, and ends when it is done with what it has."""
        if shift is self._current:
            self._current = None
        if not shift.submitted and not shift.open.total():
            shift.crew.discard()
            with self._state:
                self._shifts.pop(shift.crew.id, None)
                self._state.notify_all()
        else:
            shift.crew.close()
            self._submit(shift)

    def _submit(self, shift: Shift) -> None:
        if not shift.submitted:
            shift.crew.submit()
            shift.submitted = True

    def _wait_for_end(self, patience: float | None) -> None:
        with self._state:
            self._state.wait_for(lambda: not self._shifts, patience)

    # --- what the watcher's thread says --------------------------------------------------------------------

    def began(self, crew: Crew) -> None:
        with self._state:
            shift = self._shifts[crew.id]
            shift.began = shift.began or self._clock()

    def out(self, crew: Crew, chunk: int, outcomes: Outcomes) -> None:
        about = crew.chunks[chunk]
        with self._state:
            shift = self._shifts[crew.id]
            call = shift.calls.get(about.call)
            if call is None or call.cancelled:
                return
            shift.failed = shift.failed or not all(map(itemgetter(0), outcomes))
            shift.count(about.call, -1, self._clock())
        call.sink.put(about.first, outcomes)

    def ended(self, crew: Crew, end: End) -> None:
        with self._state:
            shift = self._shifts[crew.id]
        if end.unclaimed:
            follow = threading.Thread(target=self._follow, args=(shift, end), name="qm.Pool successor", daemon=True)
            follow.start()
        else:
            self._over(shift, end)

    def _follow(self, shift: Shift, end: End) -> None:
        """Another crew for what nobody has begun."""
        with self._adding:
            if self._current is shift:
                self._current = None
            try:
                crew = shift.crew.successor(end)
                heir = self._new_shift(crew, shift.workers)
                heir.calls = dict(shift.calls)
                for number, call in heir.calls.items():
                    call.numbers[crew.id] = number
                with self._state:
                    heir.open.update(crew.chunks[number].call for number in end.unclaimed)
                if self._closed or self._current is not None:
                    crew.close()
                else:
                    self._current = heir
                self._submit(heir)
            except (QMError, OSError) as err:
                for number in end.unclaimed:
                    self.out(shift.crew, number, [(False, err)] * shift.crew.chunks[number].count)
        self._over(shift, end)

    def _over(self, shift: Shift, end: End) -> None:
        """A crew is no more: its folder goes, unless somebody will want to look into it."""
        always, work_dir, logger = self._kept
        local = _is_private(self._queue)
        stays = always or shift.failed or end.state not in ("done", "killed")
        folder = end.folder if not local else ""
        try:
            if stays and work_dir is not None:
                folder = _copied(end.folder, work_dir)
            elif not stays and not local:
                shift.crew.delete()
        except (QMError, OSError) as err:
            logger.warning("%s: %s", shift.crew.name, err)
        if stays and folder:
            level = logging.INFO if always else logging.WARNING
            what = "had tasks that failed" if end.state == "done" and shift.failed else f"ended as {end.state}"
            logger.log(level, "%s %s; look into %s", shift.crew.name, what, folder)
        with self._state:
            self._shifts.pop(shift.crew.id, None)
            self._state.notify_all()


def _copied(folder: str, work_dir: str) -> str:
    """A copy of a job folder, at the first free name `work_dir`, `work_dir.2`, …; returns that. Raises OSError."""
    directory, name = os.path.split(os.path.abspath(work_dir))
    target = f"{directory}/{free_name(directory, name)}"
    shutil.copytree(folder, target, symlinks=True)
    return target
