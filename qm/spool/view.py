"""Reading a spool without a daemon: what the command line and the dashboard show.

Invariant: nothing here changes anything, and everything works while the daemon is down. Folders come and go
while they are read; what is gone between two looks is left out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qm.judgement.arrival import marks_a_copy
from qm.judgement.progress import Progress, array_progress, read_progress, read_progress_file
from qm.spool import joblog
from qm.spool.files import is_real_directory, owner_of, read_tail_below
from qm.spool.folders import Folders
from qm.spool.lock import Holder, holder_of
from qm.spool.paths import JobPaths, SpoolPaths
from qm.vocabulary.arrays import ArraySpec, read_array
from qm.vocabulary.errors import NoSuchJob
from qm.vocabulary.options import Options
from qm.vocabulary.record import Job, Record, Tasks
from qm.vocabulary.states import ENDED, PLACE_OF, Place, State

LIVE = (Place.JOBS, Place.QUEUE)
PAST = (Place.DONE, Place.LOST)
_TAIL = 4096
_MANY = 500
STAMP_BITS = 10
"""The low bits of a stamp: what tells apart two records of the same microsecond."""


@dataclass(frozen=True, slots=True)
class JobView:
    """One job as it is shown. `name` is what it was submitted as, `folder` its folder's name now.

    Times are UTC epoch seconds; `progress` is 0..1 or None; `tasks` is for arrays only.
    """

    place: Place
    folder: str
    path: str
    name: str
    id: str
    state: State
    owner: str
    info: str
    size: str
    nb_proc: int
    priority: int
    submitted: float
    started: float | None
    finished: float | None
    reason: str
    progress: float | None
    progress_text: str
    record: Record | None
    exit_status: int | None = None
    tasks: Tasks | None = None

    @property
    def order(self) -> tuple[int, float]:
        """Sorts waiting jobs as they will start."""
        return (-self.priority, self.submitted)


class View:
    """One spool, looked at. `root` is QM_FOLDER."""

    def __init__(self, root: str) -> None:
        self.paths = SpoolPaths(root)
        self._spool = Folders(root)

    def daemon(self) -> Holder | None:
        """Who serves this spool right now, or None."""
        return holder_of(self.paths.lock)

    def draining(self) -> bool:
        """Has somebody said `qm drain`?"""
        return os.path.exists(self.paths.drained)

    # --- listing -------------------------------------------------------------------------------------------

    def folders(self, place: Place) -> list[str]:
        """The names of the job folders in a place, in no order; none where the place is missing."""
        try:
            return self._spool.folders(place)[0]
        except FileNotFoundError:
            return []

    def came_and_went(self, place: Place, known: Mapping[str, object]) -> tuple[list[str], list[str]]:
        """The names of the job folders that are not `known`, and those known that lie there no more. Raises OSError.

        Cheaper than `folders` where most are known.
        """
        directory = self.paths.places[place]
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            names = []
        strange = [name for name in names if name not in known]
        went = [] if len(names) - len(strange) == len(known) else list(known.keys() - set(names))
        if len(strange) > _MANY:  # to list them again with their kinds is cheaper than to look at each
            return [name for name in self.folders(place) if name not in known], went
        came = [name for name in strange if not marks_a_copy(name) and is_real_directory(f"{directory}/{name}")]
        return came, went

    def count(self, place: Place) -> int:
        """How many job folders lie there."""
        return len(self.folders(place))

    def changed(self, place: Place) -> float:
        """When a job last came or went there (mtime of the folder, UTC epoch seconds); 0 where it is missing."""
        try:
            return os.stat(self.paths.places[place]).st_mtime
        except OSError:
            return 0.0

    def stamp(self, place: Place, folder: str) -> int:
        """A number that is another one when the job's record was written anew; 0 when there is no such folder.

        It fits into 63 bits; `stamp >> STAMP_BITS` is when that was (UTC epoch microseconds), so a larger one is newer.
        """
        paths = self.paths.job(place, folder)
        for path in (paths.record, paths.dir):
            try:
                facts = os.lstat(path)
            except (OSError, ValueError):
                continue
            odd = (facts.st_ino ^ facts.st_size * 31) & ((1 << STAMP_BITS) - 1)
            return ((facts.st_mtime_ns // 1000 << STAMP_BITS) & ((1 << 63) - 1) | odd) or 1
        return 0

    def jobs(self, *places: Place) -> Iterator[JobView]:
        """The jobs in these places (all four if none is named), in no order."""
        for place in places or tuple(Place):
            for folder in self.folders(place):
                job = self.job(place, folder)
                if job is not None:
                    yield job

    def active(self) -> list[JobView]:
        """What runs, oldest start first."""
        return sorted(self.jobs(Place.JOBS), key=lambda job: job.started or 0.0)

    def waiting(self) -> list[JobView]:
        """What waits, in the order in which it will start; then what is held or arriving."""
        rank = {State.PENDING: 0, State.DEFERRED: 1, State.HELD: 2}
        return sorted(self.jobs(Place.QUEUE), key=lambda job: (rank.get(job.state, 3), *job.order))

    def ended(self, most: int | None = None) -> list[JobView]:
        """What ended, newest first; with `most`, only that many, without reading the others' records."""
        found: list[tuple[int, Place, str]] = []
        for place in PAST:
            for folder in self.folders(place):
                try:
                    found.append((os.lstat(f"{self.paths.places[place]}/{folder}").st_ctime_ns, place, folder))
                except OSError:
                    continue
        found.sort(reverse=True)
        views = (self.job(place, folder) for _, place, folder in found[:most])
        return [view for view in views if view is not None]

    # --- one job -------------------------------------------------------------------------------------------

    def job(self, place: Place, folder: str, progress: bool = True) -> JobView | None:
        """What can be said about one folder; None when it is gone. How far it is only with `progress`."""
        paths = self.paths.job(place, folder)
        try:
            facts = os.lstat(paths.dir)
        except OSError:
            return None
        if not stat.S_ISDIR(facts.st_mode):
            return None
        record = self._spool.record(place, folder)
        if record is None or (place is Place.QUEUE and record.state in ENDED):
            return self._without_record(place, folder, paths, facts)
        state = state_in(place, record)
        options = record.effective
        tasks = tasks_of(record)
        how_far = None
        if progress and place is Place.JOBS:
            how_far = array_progress(tasks) if tasks is not None else read_job_progress(paths)
        return JobView(
            place=place,
            folder=folder,
            path=paths.dir,
            name=record.name,
            id=record.id,
            state=state,
            owner=record.owner,
            info=options.info,
            size=options.size,
            nb_proc=record.nb_proc,
            priority=options.priority,
            submitted=record.submitted,
            started=record.started,
            finished=record.finished,
            reason=record.reason,
            progress=how_far.fraction if how_far else None,
            progress_text=how_far.text if how_far else "",
            record=record,
            exit_status=record.exit_status,
            tasks=tasks,
        )

    def _without_record(self, place: Place, folder: str, paths: JobPaths, facts: os.stat_result) -> JobView:
        """A folder on its way in, or one of QM 0.4's: its process.log, else the file system, tells its times."""
        default = {Place.QUEUE: State.ARRIVING, Place.JOBS: State.RUNNING, Place.DONE: State.DONE}
        state, reason = default.get(place, State.LOST), "" if place is Place.QUEUE else "without a record"
        said = joblog.ends(paths) if place is not Place.QUEUE else joblog.Ends()
        if place in PAST and said.code:
            state, reason = State.FAILED, f"exit status {said.code}, without a record"
        return JobView(
            place=place,
            folder=folder,
            path=paths.dir,
            name=folder,
            id=(self._spool.given_id(folder) or "") if place is Place.QUEUE else "",
            state=state,
            owner=owner_of(facts.st_uid),
            info="",
            size="",
            nb_proc=Options().nb_proc,
            priority=0,
            submitted=said.started or facts.st_mtime,
            started=said.started,
            finished=(said.finished or facts.st_mtime) if place in PAST else None,
            reason=reason,
            progress=None,
            progress_text="",
            record=None,
            exit_status=said.code if place in PAST else None,
        )

    def find(self, name: str) -> Job:
        """An id, else the newest live job submitted under that name, else the newest ended one. NoSuchJob."""
        for places in (LIVE, PAST):
            named = list(self.named(name, places))
            if named:
                return max(named, key=lambda job: (job.record.submitted, job.record.finished or 0.0))
        by_id = self._by_id(name) if len(name) == 12 and name.isalnum() else None
        if by_id is None:
            raise NoSuchJob(f"no job has the name or id {name!r}; `qm status` lists them")
        return by_id

    def follow(self, job: Job) -> Job | None:
        """The same job where it lies now; None when it is gone."""
        there = self.at(job.place, job.folder)
        if there is not None and there.record.id == job.record.id:
            return there
        named = list(self.named(job.record.name, (Place.JOBS, Place.DONE, Place.LOST, Place.QUEUE)))
        if not job.record.id:  # it had none while it arrived: by now it is the newest that came since
            came = [found for found in named if found.record.submitted >= job.record.submitted]
            return max(came, key=lambda found: found.record.submitted, default=None)
        return next((found for found in named if found.record.id == job.record.id), None)

    def named(self, name: str, places: tuple[Place, ...] = LIVE + PAST) -> Iterator[Job]:
        """The jobs submitted under a name lie in `name`, `name.2`, `name.3`, …"""
        if not name or "/" in name:
            return
        for place in places:
            for folder in self.folders(place):
                if folder == name or (folder.startswith(f"{name[:200]}") and folder.rpartition(".")[2].isdigit()):
                    job = self.at(place, folder)
                    if job is not None and (job.record.name == name or folder == name):
                        yield job

    def _by_id(self, wanted: str) -> Job | None:
        for place in (*LIVE, *PAST):
            for folder in self.folders(place):
                job = self.at(place, folder)
                if job is not None and job.record.id == wanted:
                    return job
        return None

    def at(self, place: Place, folder: str) -> Job | None:
        """A folder with its record; in QM_qJobs, before it has one of its own, with what is known already."""
        record = self._spool.record(place, folder)
        if place is Place.QUEUE and (record is None or record.state in ENDED):
            record = self._arriving(folder)
        return Job(place, folder, record) if record is not None else None

    def _arriving(self, folder: str) -> Record | None:
        """What stands for the record of a folder on its way in: the id that `qm submit` gave it, or none."""
        try:
            facts = os.lstat(f"{self.paths.places[Place.QUEUE]}/{folder}")
        except OSError:
            return None
        job_id = self._spool.given_id(folder) or ""
        return Record(job_id, folder, owner_of(facts.st_uid), State.ARRIVING, submitted=facts.st_ctime)


def state_in(place: Place, record: Record) -> State:
    """The state to believe: the folder decides, the record explains."""
    if PLACE_OF[record.state] is place:
        return record.state
    if place is Place.QUEUE:
        return State.ARRIVING if record.state in ENDED else State.PENDING
    if place is Place.JOBS:
        return State.RUNNING
    if record.state in ENDED:
        return record.state  # `Failed_Jobs = done` files failed jobs there
    return State.DONE if place is Place.DONE else State.LOST


def tasks_of(record: Record) -> Tasks | None:
    """How far an array is, also one that never ran; None for a job that is none."""
    spec = array_of(record)
    return (record.tasks or Tasks(len(spec))) if spec is not None else None


def array_of(record: Record) -> ArraySpec | None:
    """The tasks of an array; None for a job that is none."""
    text = record.effective.array
    return read_array(text) if text else None


def read_job_progress(paths: JobPaths) -> Progress | None:
    """How far a job says it is: its QM_PROGRESS file wins over its log."""
    for path, read in ((paths.progress, read_progress_file), (paths.log, read_progress)):
        try:
            progress = read(read_tail_below(paths.dir, path.removeprefix(f"{paths.dir}/"), _TAIL))
        except OSError:
            continue
        if progress is not None:
            return progress
    return None


def is_job_name(name: str) -> bool:
    """May a folder of that name be a job?"""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # a lone surrogate: no folder can be called so
        return False
    return bool(name) and "/" not in name and "\0" not in name and name not in (".", "..") and not marks_a_copy(name)
