"""What the daemon knows, in memory: the jobs that wait and those that are active. The folders are the truth."""

from __future__ import annotations

from dataclasses import dataclass

from qm.judgement.waiting import Occupied, Ticket, WaitingLine
from qm.spool.machine import usable_processors
from qm.vocabulary.config import Settings
from qm.vocabulary.record import Job
from qm.vocabulary.states import Event, Place, State


@dataclass(slots=True)
class Active:
    """A job in QM_Jobs. `wanted` is why QM is ending it; `resuming` one that waits for processors to go on."""

    job: Job
    wanted: Event | None = None
    reason: str = ""
    resuming: bool = False
    gone: bool = False
    finished: float | None = None

    @property
    def occupies(self) -> bool:
        """Does it use its processors now?"""
        return self.job.record.state is not State.PAUSED


class Queue:
    """`waiting` by folder name in QM_qJobs, `active` by id; `line` has those of `waiting` that may start.

    `unfiled` are jobs in QM_Jobs that have ended but cannot be filed yet, with how process.log says it;
    `not_taken_over` folders of an earlier daemon's jobs that the system was in the way of.
    """

    def __init__(self, settings: Settings) -> None:
        self.waiting: dict[str, Job] = {}
        self.active: dict[str, Active] = {}
        self.unfiled: list[tuple[Job, str]] = []
        self.not_taken_over: set[tuple[Place, str]] = set()
        self._ids: dict[str, str] = {}
        self._orders = 0
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Take new settings: everybody stands in line anew."""
        self.limit = settings.max_processors or usable_processors()
        self.line = WaitingLine(self.limit, one_at_a_time=settings.launch_type == "blocking")
        for job in sorted(self.waiting.values(), key=lambda job: job.record.submitted):
            self._stand_in_line(job)

    def width(self, job: Job) -> int:
        """The processors a job gets: what it asks for, lowered to what there is."""
        return min(job.record.effective.nb_proc, self.limit)

    def wait(self, job: Job) -> None:
        """A job waits, from now on or with a new record."""
        self.waiting[job.folder] = job
        self._ids[job.record.id] = job.folder
        self.line.remove(job.folder)
        self._stand_in_line(job)

    def _stand_in_line(self, job: Job) -> None:
        record = job.record
        if record.state in (State.PENDING, State.DEFERRED):
            self._orders += 1
            priority = record.effective.priority
            self.line.add(Ticket.of(job.folder, self.width(job), priority, record.submitted, self._orders))

    def leave(self, folder: str) -> Job | None:
        """A job waits no longer."""
        self.line.remove(folder)
        job = self.waiting.pop(folder, None)
        if job is not None:
            self._ids.pop(job.record.id, None)
        return job

    def waiting_by_id(self, job_id: str) -> Job | None:
        """The waiting job with that id."""
        folder = self._ids.get(job_id)
        return self.waiting.get(folder) if folder is not None else None

    def knows(self, job_id: str) -> bool:
        """Is a job with that id waiting or active?"""
        return job_id in self._ids or job_id in self.active

    def occupied(self) -> list[Occupied]:
        """What uses processors now."""
        return [
            Occupied(entry.job.record.nb_proc, entry.job.record.started or 0.0)
            for entry in self.active.values()
            if entry.occupies
        ]

    def has_room_for(self, job: Job) -> bool:
        """May a paused job go on now?"""
        occupied = self.occupied()
        if self.line.one_at_a_time and occupied:
            return False
        return min(job.record.nb_proc, self.limit) <= self.limit - sum(other.width for other in occupied)

    def next_to_start(self) -> str | None:
        """The folder of the waiting job to start now, or None."""
        return self.line.next_to_start(self.occupied())
