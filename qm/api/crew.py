"""A crew: one job folder with calls and chunks in it, the workers that its job runs, and whoever waits for results.

Invariants: a chunk's result is delivered once; `ended` comes once, after all of them. A chunk file is written under
a number that no other has, and is in the job's folder only when the job may see it: before the folder comes into view,
or once the job runs (a folder that changes while it waits would have to settle again).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qm.api import crewfile, pickling, workfiles
from qm.api.errors import CrewEnded
from qm.api.listener import End, Listener
from qm.api.outcomes import Told
from qm.api.workfiles import CANCELLED, Chunk
from qm.spool.paths import JobPaths
from qm.spool.submission import give_id, hidden_name, into_view, tidy_name
from qm.vocabulary.errors import QMError
from qm.vocabulary.record import Job
from qm.vocabulary.states import Place

if TYPE_CHECKING:
    from qm.api.queue import JobQueue

Setup = tuple[Callable[..., object], tuple[Any, ...]]


class Plan(NamedTuple):
    """What a crew's job is to be: as the arguments of `JobQueue.crew`."""

    name: str
    workers: int
    options: Mapping[str, str]
    setup: Setup | None
    python: str
    labels: Mapping[str, str]
    environment: Mapping[str, str]


class Crew:
    """Made by `JobQueue.crew`, or `JobQueue.attach`. Any thread may call its methods.

    `known`: the job, if it has been submitted already, by another process.
    """

    def __init__(self, queue: JobQueue, plan: Plan, listener: Listener, known: Job | None = None) -> None:
        self.queue = queue
        self.plan = plan
        self.listener = listener
        self.lock = threading.RLock()
        self.place: Place | None = None
        if known is None:
            self.name = tidy_name(plan.name, "python")
            self.folder, self.id = hidden_name(queue.paths)
        else:
            self.name, self.id, self.place = known.record.name, known.record.id, known.place
            self.folder = queue.paths.job(known.place, known.folder).dir
        """Where it is now, as far as is known: out of sight, then in one of the four places."""
        self.calls: list[Told] = []
        self.chunks: list[Chunk] = []
        self.resolved: set[int] = set()
        """Chunks of which nothing more is to be told."""
        self.kill_asked = False
        self.is_open = True
        self.was_open = True
        """Could anything be added when it was submitted?"""
        self.at_start: frozenset[int] = frozenset()
        """The chunks that were to be done when it was submitted."""
        self.over = False
        self.running = False
        self._staged: list[str] = []
        self._made = ""

    # --- what it is to do ----------------------------------------------------------------------------------

    def add_call(self, function: Callable[..., Any], how: str, name: str | None = None) -> int:
        """Pickle a function, to be called as `how` says (workfiles.MAP, STAR, CALL); returns its number.

        PicklingError or TypeError when it cannot be pickled; OSError when it cannot be written; CrewEnded.
        """
        name = name or pickling.name_of(function)
        with self._numbered(self.calls, Told(name, how)) as number:
            pickling.write_call(self._workplace(), number, function, how, name)
            self._show(workfiles.call_name(number))
        return number

    def add_chunk(self, call: int, items: Sequence[Any], first: int = 0) -> int:
        """Pickle arguments for a call into a chunk of their own; `first` is the index of the first in that call.

        Returns the chunk's number. Errors as for `add_call`.
        """
        with self._numbered(self.chunks, Chunk(call, first, len(items))) as number:
            pickling.write_chunk(self._workplace(), number, self.chunks[number], items, self.calls[call].name)
            self._show(workfiles.chunk_name(number))
        return number

    def close(self) -> None:
        """No more chunks will come: workers that find none end at once."""
        with self.lock:
            if self.is_open and not self.over:
                self.is_open = False
                with workfiles.new_file(self._workplace(), workfiles.CLOSED, hidden=False) as file:
                    file.write(b"%d chunks\n" % len(self.chunks))
                self._show(workfiles.CLOSED)

    @contextlib.contextmanager
    def _numbered(self, table: list[Any], entry: Any) -> Iterator[int]:
        """Add an entry under the next number, unless writing its file fails.

        A KeyboardInterrupt leaves it: the file may be there, and another under its number would never be run.
        """
        with self.lock:
            if self.over or not self.is_open:
                raise CrewEnded(f"{self.name} ({self.id}) {'has ended' if self.over else 'is closed'}")
            table.append(entry)
            try:
                yield len(table) - 1
            except Exception:
                table.pop()
                raise

    # --- where files go ------------------------------------------------------------------------------------

    @property
    def _staging(self) -> str:
        """Out of sight of everybody, on the file system of the job's folder."""
        return f"{self.queue.paths.places[Place.QUEUE]}/.qm-{self.id}.more.part"

    def _workplace(self) -> str:
        """The folder in which a file is to be written: before the submission the job's own."""
        directory = self.folder if self.place is None else self._staging
        if directory != self._made:
            os.mkdir(directory)
            self._made = directory
        return directory

    def _show(self, name: str) -> None:
        """A file is written: the job gets it if it runs, else as soon as it does."""
        if self.place is not None:
            self._staged.append(name)
            if self.running:
                self.hand_over(self.folder)

    def hand_over(self, directory: str) -> None:
        """Move what was written meanwhile into the job's folder, in order. It stays when that is not there now."""
        with self.lock:
            while self._staged:
                source = f"{self._staging}/{self._staged[0]}"
                try:
                    os.rename(source, f"{directory}/{self._staged[0]}")
                except OSError:
                    if os.path.lexists(source):
                        return
                del self._staged[0]  # moved just now, or before a KeyboardInterrupt that came at this very place

    def tidy(self, directory: str) -> None:
        """After the end nothing more is added, and what nobody has begun lies in the job's folder, too."""
        with self.lock:
            self.over = True
            self.hand_over(directory)
            if self._made == self._staging:
                shutil.rmtree(self._staging, ignore_errors=True)

    # --- the job -------------------------------------------------------------------------------------------

    def submit(self) -> None:
        """Bring the job into the queue. NoDaemon when nobody serves it; QMError when that fails: nothing is queued."""
        self.queue.check_once()
        with self.lock:
            self.was_open = self.is_open
            self.at_start = frozenset(range(len(self.chunks))) - self.resolved
            job = JobPaths(self._workplace())
            try:
                if self.plan.setup is not None:
                    pickling.write_setup(job.dir, self.plan.setup)
                crewfile.write(job, self)
                give_id(job, self.id)
                self._come_into_view(job.dir)
            except OSError as err:
                raise QMError(f"cannot make a job in {job.dir}: {err.strerror}") from err

    def _come_into_view(self, hidden: str) -> None:
        """It is watched before it can be seen, so nothing of it is missed. OSError."""
        queue, watcher = self.queue.paths.places[Place.QUEUE], self.queue.watcher
        following = watcher.expect(self, self.name)
        self.place, self.folder = Place.QUEUE, f"{queue}/{self.name}"  # the watcher waits for our lock to say otherwise
        try:
            name = into_view(self.queue.paths, hidden, self.name)
        except BaseException:
            self.place, self.folder = None, hidden
            watcher.forget(following)
            raise
        if name != self.name:
            self.name, self.folder = name, f"{queue}/{name}"
            watcher.rename(following, name)

    def discard(self) -> None:
        """Forget it before it was submitted."""
        with self.lock:
            if self.place is None:
                self.over = True
                shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """Ask for the end of its job, be it waiting or running."""
        with self.lock:
            self.kill_asked = True
            waits = self.place is None
        if waits:
            self.discard()
        elif not self.over:
            self.queue.request("kill", self.id)

    def delete(self) -> None:
        """After its end: ask for its folder to be removed."""
        self.queue.request("delete", self.id)

    def cancel_call(self, call: int) -> None:
        """Nothing more of that call is begun; workers in the middle of it end. No `out` of it comes any more."""
        with self.lock:
            mine = [n for n, chunk in enumerate(self.chunks) if chunk.call == call and n not in self.resolved]
            self.resolved.update(mine)
            if self.over or not mine:
                return
            with contextlib.suppress(OSError):  # it has just ended
                workfiles.write_new(self._workplace(), workfiles.cancel_name(call))
                self._show(workfiles.cancel_name(call))
                if self.place is None or self.running:
                    for number in mine:
                        workfiles.claim(self.folder, number, CANCELLED)

    def successor(self, end: End) -> Crew:
        """A crew of the same kind, not yet submitted, with the same calls and those chunks that nobody has begun.

        Calls and chunks keep their numbers. OSError when their files cannot be had.
        """
        heir = Crew(self.queue, self.plan, self.listener)
        with self.lock:
            heir.calls, heir.chunks = list(self.calls), list(self.chunks)
            heir.resolved = set(range(len(self.chunks))).difference(end.unclaimed)
            directory = heir._workplace()
            for number in range(len(self.calls)):
                _bring(end.folder, directory, workfiles.call_name(number), copy=True)
                _bring(end.folder, directory, workfiles.cancel_name(number), copy=True)
            for number in end.unclaimed:
                _bring(end.folder, directory, workfiles.chunk_name(number), copy=False)
            if not self.is_open:
                heir.is_open = True
                heir.close()
        return heir


def _bring(source: str, target: str, name: str, copy: bool) -> None:
    """A file of one job folder into another; nothing where there is none. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        try:
            (os.link if copy else os.rename)(f"{source}/{name}", f"{target}/{name}")
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without links
            shutil.copyfile(f"{source}/{name}", f"{target}/{name}")
