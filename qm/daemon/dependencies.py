"""Jobs that wait for others (key `after`): names are bound to ids, once, and what becomes of those is passed on.

Invariant: a job with `after` stands in line only when all it waits for is met. One that waits for a job which cannot
succeed any more is skipped; one that would close a circle is refused, so there never is a circle.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from qm.daemon.filing import Filing
from qm.daemon.queue import Over, Queue
from qm.daemon.reception import Reception
from qm.judgement.reasons import own_hindrance
from qm.spool import history, joblog
from qm.spool.ids import is_id
from qm.spool.spool import Spool
from qm.spool.view import PAST, View
from qm.vocabulary.errors import Blocked, RequestError, TryAgain
from qm.vocabulary.record import Dependency, Job, Record
from qm.vocabulary.states import ENDED, Event, Place, State, after
from qm.vocabulary.values import awaited

SHORTENED = 200
"""Characters of a name that are left for sure when a number had to be put behind it."""


class _Impossible(Exception):
    """The job can never start; the text says why. `event` is what follows."""

    def __init__(self, event: Event, reason: str) -> None:
        super().__init__(reason)
        self.event = event


class Dependencies:
    """Who waits: `_waiting_for` by the id of the other job, `_unbound` by its name or id while it is not there."""

    def __init__(self, spool: Spool, queue: Queue, reception: Reception, filing: Filing, log: logging.Logger) -> None:
        self._spool = spool
        self._queue = queue
        self._reception = reception
        self._filing = filing
        self._log = log
        self._view = View(spool.paths.root)
        self._waiting_for: dict[str, set[str]] = {}
        self._unbound: dict[str, set[str]] = {}
        self._stuck: set[str] = set()
        self._past: dict[str, list[tuple[Place, str]]] | None = None

    def settle(self, until: float) -> None:
        """Take in who came and who ended since the last call, as far as it goes `until` then (monotonic).

        What nobody can tell now is looked up the next time.
        """
        self._past = None
        came, ended = self._queue.came, self._queue.ended
        try:
            while (came or ended) and time.monotonic() < until:
                if came:
                    self._came(came[0])
                    came.popleft()
                else:
                    self._ended(ended.popleft())
        except (TryAgain, OSError) as err:
            self._log.warning("whom %s waits for cannot be looked up now: %s", came[0] if came else "a job", err)

    def try_again(self) -> None:
        """Try once more to file who can never start, but could not be filed."""
        self._stuck = {job_id for job_id in self._stuck if self._queue.waiting_by_id(job_id) is not None}
        self._queue.came += self._stuck

    # --- who came ------------------------------------------------------------------------------------------

    def _came(self, job_id: str) -> None:
        job = self._queue.waiting_by_id(job_id)
        if job is None:
            return
        if job.record.effective.after:
            job = self._bound(job)
        if job is None:
            return
        for name in (job.record.name, job_id):
            for other_id in list(self._unbound.get(name, ())):
                other = self._queue.waiting_by_id(other_id)
                if other is not None:
                    self._bound(other)
            self._unbound.pop(name, None)

    def _bound(self, job: Job) -> Job | None:
        """A waiting job with as much of its `after` bound to ids as there is; None when it does not wait any more."""
        record = job.record
        known = {(one.name, one.any_end): one for one in record.after if one.id}
        try:
            found = [
                known.get((name, any_end)) or self._bind(record, job.folder, name, any_end)
                for name, any_end in map(awaited, record.effective.after)
            ]
            found = [one if one.met else self._looked_up(one) for one in found]
        except _Impossible as err:
            self._refuse(job, err)
            return None
        for one in found:
            if one.id and not one.met:
                self._waiting_for.setdefault(one.id, set()).add(record.id)
            elif not one.id:
                self._unbound.setdefault(one.name, set()).add(record.id)
        return self._keep(job, tuple(found))

    def _bind(self, own: Record, folder: str, name: str, any_end: bool) -> Dependency:
        """An id, else the newest live job submitted under that name, else the newest ended one."""
        others = [other for other in self._queue.named(name) if other.record.id != own.id]
        live = self._queue.live(name) or max(others, key=lambda other: other.record.submitted, default=None)
        if live is not None:
            if circle := self._circle(live.record.id, own):
                raise _Impossible(Event.REJECT, f"after makes a circle: {' after '.join([own.name, *circle])}")
            return Dependency(name, live.record.id, any_end)
        if name in self._reception or (name != folder and self._spool.is_there(Place.QUEUE, name)):
            return Dependency(name, "", any_end)  # it is just being copied in
        past = [other for other in self._ended_jobs(name) if other.record.id not in ("", own.id)]
        if past:
            newest = max(past, key=lambda other: (other.record.submitted, other.record.finished or 0.0))
            return Dependency(name, newest.record.id, any_end)
        if is_id(name) and history.find(self._spool.paths.history, name) is not None:
            return Dependency(name, name, any_end)
        if name in (own.name, own.id):
            raise _Impossible(Event.REJECT, f"after = {name}: it would wait for itself")
        return Dependency(name, "", any_end)

    def _circle(self, start: str, wanted: Record) -> list[str] | None:
        """The names of the jobs by which `start` waits for `wanted`, bound to it or not; None if it does not."""
        stack: list[tuple[str, list[str]]] = [(start, [])]
        seen = set()
        while stack:
            job_id, names = stack.pop()
            job = self._queue.live(job_id)
            if job is None or job_id in seen:
                continue
            seen.add(job_id)
            path = [*names, job.record.name]
            for one in job.record.after:
                if one.id == wanted.id or (not one.id and one.name in (wanted.name, wanted.id)):
                    return [*path, wanted.name]
                if one.id and not one.met:
                    stack.append((one.id, path))
        return None

    def _looked_up(self, one: Dependency) -> Dependency:
        """What is known of a job that is bound, but not live any more."""
        if not one.id or self._queue.knows(one.id) or self._is_out_of_sight(one.id):
            return one
        return self._after_end(one, self._state_of(one))

    def _is_out_of_sight(self, job_id: str) -> bool:
        """Is it neither waiting nor active at the moment, but will be?"""
        return bool(self._queue.not_taken_over) or self._reception.expects(job_id) or self._filing.is_stranded(job_id)

    def _ended_jobs(self, name: str) -> Iterator[Job]:
        """The ended jobs submitted under a name. All their folders are listed once each time that jobs came or ended:
        thousands that come together may wait for names that nobody knows."""
        if self._past is None:
            self._past = {}
            for place in PAST:
                for folder in self._view.folders(place):
                    base, _, number = folder.rpartition(".")
                    self._past.setdefault(folder[:SHORTENED], []).append((place, folder))
                    if base and number.isdigit():
                        self._past.setdefault(base[:SHORTENED], []).append((place, folder))
        for place, folder in self._past.get(name[:SHORTENED], ()):
            job = self._view.at(place, folder)
            if job is not None and (job.record.name == name or folder == name):
                yield job

    def _state_of(self, one: Dependency) -> State | None:
        """How a job ended: by its folder, else by the history; None for one that was taken away."""
        for job, _ in self._queue.unfiled:
            if job.record.id == one.id:
                return job.record.state
        for job in self._ended_jobs(one.name):
            if job.record.id == one.id:
                done = State.DONE if job.place is Place.DONE else State.LOST
                return job.record.state if job.record.state in ENDED else done
        end = history.find(self._spool.paths.history, one.id)
        return end.state if end is not None else None

    def check(self, record: Record, names: Iterable[str]) -> None:
        """May this job wait for these? RequestError if it would wait for itself."""
        for name, any_end in map(awaited, names):
            try:
                self._bind(record, record.name, name, any_end)
            except _Impossible as err:
                raise RequestError(str(err)) from err

    # --- who ended -----------------------------------------------------------------------------------------

    def _ended(self, over: Over) -> None:
        waiting = self._waiting_for.pop(over.id, set())
        names = (over.name, over.id) if over.name else ()
        for name in names:
            waiting |= self._unbound.pop(name, set())
        for other_id in sorted(waiting):
            job = self._queue.waiting_by_id(other_id)
            if job is None:
                continue
            bound = (one._replace(id=over.id) if not one.id and one.name in names else one for one in job.record.after)
            try:
                found = [self._after_end(one, over.state) if one.id == over.id else one for one in bound]
            except _Impossible as err:
                self._refuse(job, err)
            else:
                self._keep(job, tuple(found))

    def _after_end(self, one: Dependency, state: State | None) -> Dependency:
        if one.any_end or state is State.DONE:
            return one._replace(met=True)
        what = f"is {state}" if state is not None else "was taken away before it ran"
        raise _Impossible(Event.SKIP, f"after `{one.name}`: that job ({one.id}) {what}")

    def _keep(self, job: Job, found: tuple[Dependency, ...]) -> Job:
        if found == job.record.after:
            return job
        missing = [one.name for one in found if not one.id]
        if missing:
            self._log.warning("%s (%s) waits for jobs that are not there yet: %s", job.folder, job.record.id, missing)
        record = job.record._replace(after=found)
        job = job._replace(record=record._replace(reason=own_hindrance(record)))
        self._filing.save(job, "whom it waits for")
        self._queue.wait(job)
        return job

    def _refuse(self, job: Job, why: _Impossible) -> None:
        state = after(job.record.state, why.event)
        record = job.record._replace(state=state, reason=str(why), finished=time.time())
        try:
            if record.id not in self._stuck:
                joblog.note(self._spool.files(job).log, f"this job is {state}: {why}")
            self._filing.file_waiting(job._replace(record=record))
        except FileNotFoundError:
            self._reception.withdraw(job.folder)
        except (TryAgain, Blocked, OSError) as err:
            if job.record.id not in self._stuck:
                self._stuck.add(job.record.id)
                self._log.error("%s is %s (%s), but cannot be filed yet: %s", job.folder, state, why, err)
            return
        self._stuck.discard(job.record.id)
