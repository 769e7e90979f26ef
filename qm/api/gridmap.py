"""The jobs of one map in Grid Engine: submitted, watched with qstat, submitted again, deleted when nobody wants them.

Invariants: a chunk is over when its result lies in the work folder or when it is given up, with an error that says why;
a command that fails is tried again at the next poll and is no job that fails; no chunk has two living jobs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from qm.api.errors import JobFailed
from qm.api.workfiles import chunk_name
from qm.launchers import gridengine
from qm.launchers.gridengine import Listed
from qm.spool.files import read_tail
from qm.vocabulary.errors import QMError, TryAgain

FILE_PATIENCE = 90.0
"""Seconds that the result of a job which is gone is waited for: NFS may show a new file that much later."""

_TAIL = 2000
"""Bytes of a job's output that an error quotes."""


class Grid(NamedTuple):
    """How Grid Engine is used; the names are queue_map_reduce's. `polling_interval_qstat` in seconds."""

    queue_name: str | None
    python_path: str
    polling_interval_qstat: float = 5.0
    max_num_resubmissions: int = 10
    error_state_indicator: str = "E"
    qsub_path: str = "qsub"
    qstat_path: str = "qstat"
    qdel_path: str = "qdel"
    file_patience: float = FILE_PATIENCE


def check(grid: Grid) -> None:
    """TypeError or ValueError for what cannot be meant."""
    interval, most = grid.polling_interval_qstat, grid.max_num_resubmissions
    if not isinstance(interval, int | float):
        raise TypeError(f"polling_interval_qstat is {interval!r}; it must be a number of seconds")
    if not isinstance(most, int):
        raise TypeError(f"max_num_resubmissions is {most!r}; it must be an int")
    if not 0 <= interval <= threading.TIMEOUT_MAX or most < 0:
        raise ValueError(f"polling_interval_qstat is {interval}, max_num_resubmissions {most}; neither may be negative")
    if not grid.error_state_indicator:
        raise ValueError("error_state_indicator is empty, which every state contains; Grid Engine's letter is E")


class Folder(NamedTuple):
    """The work folder of a map, as its jobs need it. `results` lists the chunks whose result is there."""

    path: str
    script: str
    session: str
    results: Callable[[], set[int]]
    log: Callable[..., None]
    """`log(level, event, message, **counts)`: one line for people and one for programs."""


@dataclass(slots=True)
class _Chunk:
    """What is known of the job of one chunk. `wanted`: it has to be submitted, at first or again.

    `job` as the last listing shows it; `refused` and `deleted`: numbers of jobs that were in an error state, that
    qdel has taken.
    """

    number: int
    name: str
    what: str
    wanted: bool = True
    missing: float | None = None
    refused: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    job: Listed | None = None


class GridMap:
    """All jobs of one map. `over(chunk, error)` is told of each chunk once; error None: its result is there."""

    def __init__(
        self, grid: Grid, folder: Folder, chunks: Sequence[str], over: Callable[[int, Exception | None], None]
    ) -> None:
        self._grid = grid
        self._folder = folder
        self._over = over
        self._open = {
            number: _Chunk(number, gridengine.job_name(folder.session, number), what)
            for number, what in enumerate(chunks)
        }
        self._all = dict(self._open)
        self._refused = 0
        self._counts: dict[str, int] = {}
        self._complete_since: float | None = None
        self._stop = threading.Event()

    def run(self) -> None:
        """Until every chunk is over and its job gone, or `cancel`.

        QMError where a command does not exist, OSError where the folder does not any more; no job stays behind then.
        """
        try:
            self._follow()
        except (QMError, OSError):
            with contextlib.suppress(QMError):  # the command that is missing may be qdel
                self._delete_those([chunk.job for chunk in self._open.values() if chunk.job is not None])
            raise

    def _follow(self) -> None:
        self._submit()
        while not self._stop.wait(self._grid.polling_interval_qstat):
            listed = self._poll()
            self._collect()
            if not self._open and not (listed and self._may_still_write()):
                return
            if listed is not None:
                self._submit()
        self._delete_all()

    def cancel(self) -> None:
        """Have every job deleted that is left."""
        self._stop.set()

    # --- one round -----------------------------------------------------------------------------------------

    def _poll(self) -> bool | None:
        """Look where the jobs are. Is any of ours still listed? None where qstat does not say."""
        try:
            jobs = gridengine.read_listing(gridengine.run(gridengine.list_command(self._grid.qstat_path)))
        except TryAgain as err:
            self._folder.log("WARNING", "qstat failed", f"{err}; looking again in a while")
            return None
        there = self._folder.results()
        ours: dict[str, Listed] = {job.name: job for job in jobs}
        for chunk in self._all.values():
            chunk.job = self._find(chunk, jobs, ours)
        states = [self._judge(chunk, chunk.number in there) for chunk in list(self._open.values())]
        counts = {state: states.count(state) for state in ("running", "pending", "error", "missing")}
        counts["over"] = len(self._all) - len(self._open)
        if counts != self._counts:
            self._counts = counts
            said = ", ".join(f"{count} {state}" for state, count in counts.items())
            self._folder.log("INFO", "poll", said, **counts)
        return any(chunk.job for chunk in self._all.values())

    def _may_still_write(self) -> bool:
        """All results are there, but jobs are not gone: they may complain yet, so they are waited for a while."""
        self._complete_since = self._complete_since or time.monotonic()
        return time.monotonic() - self._complete_since < self._grid.file_patience

    def _find(self, chunk: _Chunk, jobs: Sequence[Listed], ours: dict[str, Listed]) -> Listed | None:
        """Its job, other than those that qdel has taken already and that are only on their way out."""
        job = ours.get(chunk.name)
        if job is not None and job.number in chunk.deleted:
            job = next((job for job in jobs if job.name == chunk.name and job.number not in chunk.deleted), None)
        return job

    def _judge(self, chunk: _Chunk, result: bool) -> str:
        """What a listing says of an open chunk, and what follows from it."""
        job = chunk.job
        if job is not None:
            chunk.missing = None
            if self._grid.error_state_indicator in job.state:
                self._error(chunk, job)
                return "error"
            chunk.wanted = False  # as after a qsub that was said to have failed
            return "running" if set("rt") & set(job.state) else "pending"
        if chunk.wanted or result:
            return ""
        chunk.missing = chunk.missing if chunk.missing is not None else time.monotonic()
        if time.monotonic() - chunk.missing >= self._grid.file_patience:
            self._give_up(chunk, "lost", "its job is gone from qstat and left no result")
        return "missing"

    def _error(self, chunk: _Chunk, job: Listed) -> None:
        """An engine's job that cannot run: away with it, and another one while that may be."""
        what = f"{chunk.what}, job {job.number} ({job.name})"
        chunk.wanted = True
        chunk.refused.add(job.number)
        if not self._delete(chunk, job):
            return
        errors, limit = len(chunk.refused), self._grid.max_num_resubmissions
        if errors > limit:
            self._give_up(chunk, "failed", f"Grid Engine could not run its job (state {job.state}) {errors} times")
            return
        message = f"{what} is in state {job.state}; submitting it again, {errors} of {limit}"
        self._folder.log("WARNING", "resubmit", message, chunk=chunk.number, resubmissions=errors)

    def _collect(self) -> None:
        for number in sorted(self._folder.results() & self._open.keys()):
            del self._open[number]
            self._over(number, None)

    def _give_up(self, chunk: _Chunk, state: str, reason: str) -> None:
        del self._open[chunk.number]
        error = JobFailed(chunk.what, state, reason, folder=self._folder.path, log=self._output(chunk.number))
        self._folder.log("ERROR", "lost", f"{chunk.what}: {reason}", chunk=chunk.number)
        self._over(chunk.number, error)

    def _output(self, number: int) -> str:
        """The last that a chunk's job wrote, to its standard error and else to its standard output."""
        for end in (".e", ".o"):
            try:
                tail = read_tail(f"{self._folder.path}/{chunk_name(number)}{end}", _TAIL)
            except OSError:
                continue
            if tail.strip():
                return tail.decode(errors="replace").strip()
        return ""

    # --- commands ------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        """qsub for all that want it. After a refusal the others wait for the next poll, too."""
        for chunk in [chunk for chunk in self._open.values() if chunk.wanted and chunk.job is None]:
            if self._stop.is_set():
                return
            path = f"{self._folder.path}/{chunk_name(chunk.number)}"
            grid = self._grid
            job = gridengine.Submission(
                chunk.name, grid.queue_name, grid.python_path, self._folder.script, path, path + ".o", path + ".e"
            )
            try:
                answer = gridengine.run(gridengine.submit_command(grid.qsub_path, job))
            except TryAgain as err:
                self._refuse(err)
                return
            self._refused = 0
            chunk.wanted = False
            chunk.missing = None
            number = gridengine.submitted_number(answer)
            if number is not None:
                chunk.job = Listed(number, chunk.name, "qw")
            self._folder.log("DEBUG", "submit", f"{chunk.what}: {answer.strip()}", chunk=chunk.number)

    def _refuse(self, err: TryAgain) -> None:
        """qsub failed: for the moment, or, that often in a row, for good."""
        self._refused += 1
        self._folder.log("WARNING", "qsub failed", f"{err}; trying again in a while")
        if self._refused > self._grid.max_num_resubmissions:
            for chunk in [chunk for chunk in self._open.values() if chunk.wanted]:
                self._give_up(chunk, "failed", f"it could not be submitted: {err}")

    def _delete(self, chunk: _Chunk, job: Listed) -> bool:
        try:
            gridengine.run(gridengine.delete_command(self._grid.qdel_path, job.number))
        except TryAgain as err:
            self._folder.log("WARNING", "qdel failed", f"{err}; trying again in a while", chunk=chunk.number)
            return False
        chunk.deleted.add(job.number)
        chunk.job = None
        return True

    def _delete_all(self) -> None:
        """qdel for every job that is known, and for those that a last look at qstat shows."""
        try:
            jobs: Sequence[Listed] = gridengine.read_listing(
                gridengine.run(gridengine.list_command(self._grid.qstat_path))
            )
        except TryAgain as err:
            self._folder.log("WARNING", "qstat failed", f"{err}; deleting the jobs that are known")
            jobs = [chunk.job for chunk in self._open.values() if chunk.job is not None]
        self._delete_those(jobs)

    def _delete_those(self, jobs: Sequence[Listed]) -> None:
        """qdel for what is ours of these."""
        names = {chunk.name: chunk for chunk in self._all.values()}
        left = [job for job in jobs if job.name in names and job.number not in names[job.name].deleted]
        deleted = sum(self._delete(names[job.name], job) for job in left)
        message = f"cancelled: {deleted} of {len(left)} jobs that were left are deleted"
        self._folder.log("WARNING" if left else "INFO", "cancel", message, deleted=deleted)
