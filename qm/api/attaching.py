"""`qm.attach`: the futures of jobs that another process submitted, which may have died since.

Invariant: nothing is needed but the job's folder: it holds the calls, their results, and how the job ended.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from qm.api.crew import Crew
from qm.api.crewfile import JOB_FILE, SECTION
from qm.api.futures import Awaited, Future, Host
from qm.api.listener import End
from qm.api.outcomes import Outcomes
from qm.api.queue import JobQueue
from qm.spool.files import read_regular
from qm.spool.settings import FILE_NAME, load_settings
from qm.spool.view import LIVE, PAST, View
from qm.vocabulary.errors import NoSuchJob
from qm.vocabulary.ini import IniError, read_ini
from qm.vocabulary.jobfile import MAX_JOB_FILE
from qm.vocabulary.record import Job
from qm.vocabulary.states import Place


def attach(what: str | os.PathLike[str], *, config: str | None = None) -> list[Future]:
    """The futures of a job, or of all jobs of an executor: one a `submit`, one an item of a `map`, in their order.

    `what` is the path of a job's folder, the name or id of a job, or the name of an executor. The queue is that of
    `config`, else that in which the folder lies, else that of the QMserv.cfg found. NoSuchJob when there is nothing of
    that kind; QMError for a job that was not made from Python.
    """
    text = os.fspath(what)
    queue = JobQueue(load_settings(config or _config_beside(text)))
    watched = _Watched(queue)
    try:
        return [future for job in _jobs_of(queue.view, text) for future in watched.futures(job)]
    finally:
        watched.complete()


class _Watched:
    """A queue that is closed when nothing more is to come of what was attached."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._open: set[Awaited] = set()
        self._complete = False

    def futures(self, job: Job) -> list[Future]:
        """One for each item of a job's chunks, in the order of the calls and their items."""
        awaited = _Attached(self)
        with self._lock:
            self._open.add(awaited)
        try:
            crew = self._queue.attach(job, awaited)
        except BaseException:
            self.over(awaited, None)
            raise
        awaited.crew, awaited.submitted = crew, True
        alone = sum(chunk.count for chunk in crew.chunks) == 1
        found = []
        for number, chunk in sorted(enumerate(crew.chunks), key=lambda entry: (entry[1].call, entry[1].first)):
            waiting = [Future(crew, alone) for _ in range(chunk.count)]
            awaited.expect(number, waiting)
            found += waiting
        awaited.replay()
        return found

    def complete(self) -> None:
        """All is attached that will be."""
        with self._lock:
            self._complete = True
            last = not self._open
        if last:
            self._queue.close()

    def learn(self, error: BaseException) -> None:
        """As futures.Host. There is nothing that it would be the end of."""

    def over(self, awaited: Awaited, end: End | None) -> None:
        """As futures.Host."""
        with self._lock:
            self._open.discard(awaited)
            last = self._complete and not self._open
        if last:
            self._queue.close()


class _Attached(Awaited):
    """Keeps what comes before the futures are made, and replays it."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._kept: list[tuple[Callable[..., None], tuple[Any, ...]]] | None = []

    def replay(self) -> None:
        """The futures are there."""
        while True:
            with self._lock:
                kept, self._kept = self._kept, []
                if not kept:
                    self._kept = None
                    return
            for tell, args in kept:
                tell(*args)

    def began(self, crew: Crew) -> None:
        self._now_or_later(super().began, crew)

    def out(self, crew: Crew, chunk: int, outcomes: Outcomes) -> None:
        self._now_or_later(super().out, crew, chunk, outcomes)

    def ended(self, crew: Crew, end: End) -> None:
        self._now_or_later(super().ended, crew, end)

    def _now_or_later(self, tell: Callable[..., None], *args: Any) -> None:
        with self._lock:
            if self._kept is not None:
                self._kept.append((tell, args))
                return
        tell(*args)


# --- which jobs are meant --------------------------------------------------------------------------------------


def _config_beside(what: str) -> str | None:
    """The QMserv.cfg of the queue in which a folder lies, where it is in the usual place."""
    path = f"{os.path.dirname(os.path.dirname(os.path.abspath(what)))}/{FILE_NAME}"
    return path if "/" in what and os.path.exists(path) else None


def _jobs_of(view: View, what: str) -> list[Job]:
    if "/" in what:
        return [_job_in(view, os.path.abspath(what))]
    try:
        return [view.find(what)]
    except NoSuchJob:
        jobs = _of_executor(view, what)
        if not jobs:
            raise NoSuchJob(
                f"no job has the name or id {what!r}, and no executor is called so in {view.paths.root}"
            ) from None
        return jobs


def _job_in(view: View, path: str) -> Job:
    """The job of a folder; it may have moved to another of the four places since its path was learnt."""
    parent, folder = os.path.split(path)
    for place in Place:
        if os.path.realpath(parent) == os.path.realpath(view.paths.places[place]):
            job = view.at(place, folder)
            return job if job is not None else view.find(folder)
    raise NoSuchJob(f"{path} is in none of the folders of the queue {view.paths.root}; `config` names another queue")


def _of_executor(view: View, name: str) -> list[Job]:
    """Its jobs, in the order in which they were submitted; those of an earlier one of that name first."""
    found: list[tuple[float, int, Job]] = []
    for place in (*PAST, *LIVE):
        for folder in view.folders(place):
            if (
                folder.startswith(f"{name}_")
                and (labels := _labels(view.paths.job(place, folder).dir)).get("executor") == name
            ):
                job = view.at(place, folder)
                if job is not None:
                    found.append((_number(labels.get("began")), int(_number(labels.get("number"))), job))
    latest = {job.record.id: (began, number, job) for began, number, job in found}
    return [job for _, _, job in sorted(latest.values(), key=lambda entry: entry[:2])]


def _labels(folder: str) -> dict[str, str]:
    """What the job file says in its section [Call]."""
    try:
        text = read_regular(f"{folder}/{JOB_FILE}", MAX_JOB_FILE).decode("utf-8", "replace")
        sections = read_ini(text, only=SECTION)
    except (OSError, IniError):
        return {}
    return {entry.key.lower(): entry.value for section in sections for entry in section.entries}


def _number(text: str | None) -> float:
    try:
        return float(text or "0")
    except ValueError:
        return 0.0
