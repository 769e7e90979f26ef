"""Obeying requests: one method a verb, named as on the command line and in the request file."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable

from qm.daemon.arrays import Arrays
from qm.daemon.dependencies import Dependencies
from qm.daemon.ending import Ending
from qm.daemon.filing import Filing
from qm.daemon.pausing import Pausing
from qm.daemon.queue import Active, Over, Queue
from qm.daemon.reception import Reception
from qm.judgement.contradictions import impossible
from qm.judgement.delays import begin_at
from qm.launchers.base import Launcher
from qm.spool import requests
from qm.spool.files import TRANSIENT
from qm.spool.ids import new_id
from qm.spool.spool import Spool
from qm.spool.view import View, is_job_name
from qm.vocabulary.errors import JobFileError, NoSuchJob, QMError, RequestError, TryAgain
from qm.vocabulary.options import with_overrides
from qm.vocabulary.record import Job, Record, Survey
from qm.vocabulary.requests import QUEUE_VERBS, Answer, Request
from qm.vocabulary.states import ENDED, Event, Place, State, after


class _StillArriving(Exception):
    """The job of a request is not accepted yet; the request waits for that."""


class Verbs:
    """Reads the request files, obeys them in their order, leaves the answers.

    `postponed` says that some wait for folders that still arrive: they are to be obeyed before any job starts.
    """

    def __init__(
        self,
        spool: Spool,
        queue: Queue,
        reception: Reception,
        filing: Filing,
        arrays: Arrays,
        ending: Ending,
        dependencies: Dependencies,
        launcher: Launcher,
        log: logging.Logger,
    ) -> None:
        self._spool = spool
        self._queue = queue
        self._reception = reception
        self._filing = filing
        self._arrays = arrays
        self._ending = ending
        self._dependencies = dependencies
        self._pausing = Pausing(queue, filing, arrays, launcher, log)
        self._log = log
        self._view = View(spool.paths.root)
        self._verbs: dict[str, Callable[[Job, Request], str]] = {
            "kill": self._kill,
            "hold": self._hold,
            "release": self._release,
            "pause": self._pause,
            "resume": self._resume,
            "retry": self._retry,
            "delete": self._delete,
            "set": self._set,
        }
        self.draining = os.path.exists(spool.paths.drained)
        self.postponed = False
        self._stuck: set[str] = set()

    def obey_all(self) -> None:
        """Obey every request that waits. One that the system is in the way of stays for the next wake-up."""
        self.postponed = False
        for name in self.pending():
            try:
                reply = self._obey(name)
            except FileNotFoundError:
                continue
            except _StillArriving:
                self.postponed = True
                continue
            except TryAgain as err:
                self._log.warning("request %s has to wait: %s", name, err)
                return
            self._spool.step("request: obeyed")
            try:
                requests.answer(self._spool.paths, name, reply)
            except OSError as err:
                self._log.warning("request %s cannot be answered: %s", name, err.strerror)
                if err.errno not in TRANSIENT:
                    self._remove(name)

    def pending(self) -> list[str]:
        """The names of the requests that wait, oldest first. OSError when nobody can say."""
        return [name for name in requests.pending(self._spool.paths) if name not in self._stuck]

    def _remove(self, name: str) -> None:
        try:
            os.unlink(f"{self._spool.paths.requests}/{name}")
        except FileNotFoundError:
            pass
        except OSError as err:  # a folder, or not ours to remove
            self._stuck.add(name)
            self._log.error("request %s cannot be removed, and is left alone: %s", name, err.strerror)

    def _obey(self, name: str) -> Answer:
        try:
            request, uid = requests.read(self._spool.paths, name)
            message = self._run(request, uid)
        except TryAgain:
            raise
        except (QMError, OSError) as err:
            if isinstance(err, FileNotFoundError) and str(err.filename).startswith(self._spool.paths.requests):
                raise
            if isinstance(err, OSError) and err.errno in TRANSIENT:
                raise TryAgain(f"{err.filename or name}: {err.strerror}") from err
            self._log.warning("request %s refused: %s", name, err)
            return Answer(False, str(err))
        self._log.info("request of uid %d: %s", uid, message)
        return Answer(True, message)

    def _run(self, request: Request, uid: int) -> str:
        if request.verb in QUEUE_VERBS:
            self._allow(uid, self._spool.paths.root, "the queue")
            return self._drain() if request.verb == "drain" else self._undrain()
        job = self._find(request)
        self._allow(uid, self._spool.files(job).dir, job.record.name)
        if job.place is Place.QUEUE and job.folder not in self._queue.waiting:
            if job.folder not in self._reception:
                self._reception.notice(job.folder, renamed=False)  # the event that tells of it is yet to be read
            if job.folder in self._reception:
                raise _StillArriving
            raise RequestError(f"{job.record.name} is not accepted as a job; QueueManager.log says why")
        if job.place is Place.JOBS and job.record.id not in self._queue.active:
            raise RequestError(f"{job.record.name} ({job.record.id}): it has ended and is about to be filed")
        try:
            return self._verbs[request.verb](job, request)
        except RequestError as err:
            raise RequestError(f"{job.record.name} ({job.record.id}): {err}") from err

    def _allow(self, uid: int, path: str, what: str) -> None:
        """The request's owner must own the job or the spool (or be root)."""
        owners = {0, os.lstat(self._spool.paths.root).st_uid}
        with contextlib.suppress(FileNotFoundError):
            owners.add(os.lstat(path).st_uid)
        if uid not in owners:
            raise RequestError(f"{what} is not yours: only its owner, or the owner of the spool, may do that")

    def _find(self, request: Request) -> Job:
        if not request.id and "/" in request.name:
            return self._lying_at(request.name)
        if (entry := self._queue.active.get(request.id)) is not None:
            return entry.job
        if (job := self._queue.waiting_by_id(request.id)) is not None:
            return job
        if request.name and request.id:
            for named in self._view.named(request.name):
                if named.record.id == request.id:
                    return named
        return self._view.find(request.id or request.name)

    def _lying_at(self, name: str) -> Job:
        """The job in exactly that folder, `QM_dJobs/name`: how one without an id is meant, and no other of its name."""
        place, folder = _place_and_folder(name)
        if not self._spool.is_there(place, folder):
            raise NoSuchJob(f"there is no folder {name} (any more)")
        job = self._view.at(place, folder)
        if place in (Place.QUEUE, Place.JOBS):
            if job is None:
                raise RequestError(f"{name} has no record that can be read; QueueManager.log says more")
            return job
        if job is not None:
            raise RequestError(f"{name} has a record by now: say its id, {job.record.id}")
        state = State.DONE if place is Place.DONE else State.LOST
        record = Record(new_id(), folder, self._spool.owner(place, folder), state, submitted=time.time())
        return Job(place, folder, record)

    # --- jobs ----------------------------------------------------------------------------------------------

    def _kill(self, job: Job, _request: Request) -> str:
        record = job.record
        if (entry := self._queue.active.get(record.id)) is not None:
            self._ending.end(entry, Event.KILL, "killed on request")
            return f"{record.name} ({record.id}): its processes are being ended"
        state = after(self._state(job), Event.KILL)
        before = "before it ran again" if record.history else "before it ran"
        ended = record._replace(state=state, reason=f"killed on request {before}", finished=time.time())
        self._filing.file_waiting(job._replace(record=ended))
        return f"{record.name} ({record.id}): killed {before}"

    def _hold(self, job: Job, _request: Request) -> str:
        return self._change(job, Event.HOLD, "held")

    def _release(self, job: Job, _request: Request) -> str:
        return self._change(job, Event.RELEASE, "released")

    def _change(self, job: Job, event: Event, word: str) -> str:
        state = after(self._state(job), event)
        record = job.record._replace(state=state, reason="")
        if job.record.state is State.DEFERRED:  # who holds and releases it does not want it to wait on
            record = record._replace(not_before=None)
        changed = job._replace(record=record)
        self._spool.save(changed)
        self._queue.wait(changed)
        return f"{job.record.name} ({job.record.id}): {word}"

    def _pause(self, job: Job, _request: Request) -> str:
        self._pausing.pause(self._active(job, Event.PAUSE))
        return f"{job.record.name} ({job.record.id}): paused; its processors are free"

    def _resume(self, job: Job, _request: Request) -> str:
        self._pausing.ask_to_resume(self._active(job, Event.RESUME))
        return f"{job.record.name} ({job.record.id}): goes on as soon as its processors are free"

    def resume_paused(self) -> bool:
        """Let paused jobs go on that were asked to, as far as there is room; is none left that has to wait?"""
        return self._pausing.resume_paused()

    def _active(self, job: Job, event: Event) -> Active:
        entry = self._queue.active.get(job.record.id)
        after(self._state(job), event)
        if entry is None:
            raise RequestError("it has just ended")
        if entry.wanted is not None:
            raise RequestError("it is being ended")
        return entry

    def _retry(self, job: Job, _request: Request) -> str:
        state = after(self._state(job), Event.RETRY)
        record = job.record._replace(
            state=state,
            reason="",
            started=None,
            finished=None,
            not_before=None,
            deferred=0.0,
        )
        if job.place is Place.QUEUE:  # its next attempt, now
            back = job._replace(record=record)
            self._spool.save(back)
            self._queue.wait(back)
        else:
            record = record._replace(retried=len(record.history), after=())
            unread = self._spool.record(job.place, job.folder) is None  # QM 0.4's
            if unread:
                self._spool.adopt(job)
            elif job.record.state is not State.INVALID:
                try:
                    record = self._reception.read_again(job, record)
                except JobFileError as err:
                    raise RequestError(str(err)) from err
            record = self._arrays.forget_failures(job._replace(record=record)).record
            back = self._spool.requeue(job._replace(record=record._replace(tree=Survey())))
            if unread or job.record.state is State.INVALID:
                self._queue.wait(back)  # its tree is new to us, so it arrives again and its job file is read
            else:
                self._filing.wait_again(back)
        self._queue.came.append(job.record.id)
        return f"{job.record.name} ({job.record.id}): queued again as attempt {job.record.attempt + 1}"

    def _delete(self, job: Job, _request: Request) -> str:
        if job.record.id in self._queue.active:
            raise RequestError("it is active; kill it first")
        hidden = self._spool.delete(job)
        if job.place is Place.QUEUE:  # an ended job may have the folder name of a waiting one
            self._queue.leave(job.folder)
            self._queue.ended.append(Over(job.record.id, None))
        remove_later(hidden)
        return f"{job.record.name} ({job.record.id}): deleted"

    def _set(self, job: Job, request: Request) -> str:
        if job.place is not Place.QUEUE or job.record.id in self._queue.active:
            raise RequestError(f"it is {self._state(job)}; only a waiting job can be changed")
        if not request.args:
            raise RequestError("nothing to set; give key=value")
        overrides = {**job.record.overrides, **request.args}
        try:
            options = with_overrides(job.record.options, overrides)
        except JobFileError as err:
            raise RequestError(str(err)) from err
        if why := impossible(options, self._queue.limits):
            raise RequestError("; ".join(why))
        record = job.record._replace(overrides=overrides, nb_proc=min(options.nb_proc, self._queue.limit))
        if "hold" in request.args and options.hold is not (record.state is State.HELD):
            record = record._replace(state=after(record.state, Event.HOLD if options.hold else Event.RELEASE))
        if "begin" in request.args:  # also instead of the time that a deferred one would wait
            state = after(record.state, Event.DUE) if record.state is State.DEFERRED else record.state
            record = record._replace(state=state, not_before=begin_at(options.begin, time.time()))
        if "after" in request.args:
            self._dependencies.check(record, options.after)
            record = record._replace(after=())
        changed = job._replace(record=record)
        self._spool.save(changed)
        self._queue.wait(changed)
        self._queue.came.append(record.id)
        said = ", ".join(f"{key} = {value}" for key, value in request.args.items())
        return f"{job.record.name} ({job.record.id}): {said}"

    def _state(self, job: Job) -> State:
        """The state to judge by: an ended folder is ended, whatever its record says (a crash during a retry)."""
        state = job.record.state
        if job.place in (Place.DONE, Place.LOST) and state not in ENDED:
            return State.DONE if job.place is Place.DONE else State.LOST
        if job.place is Place.QUEUE and state in ENDED:
            raise NoSuchJob("it is still arriving")
        return state

    # --- the queue -----------------------------------------------------------------------------------------

    def _drain(self) -> str:
        with open(self._spool.paths.drained, "w", encoding="ascii"):
            pass
        self.draining = True
        return "draining: no job is started until `qm undrain`"

    def _undrain(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._spool.paths.drained)
        self.draining = False
        return "jobs are started again"


def _place_and_folder(name: str) -> tuple[Place, str]:
    """The two parts of `QM_dJobs/name`; NoSuchJob for anything that is not a job's folder in one of the four places."""
    place, _, folder = name.partition("/")
    if place not in {known.value for known in Place} or not is_job_name(folder):
        raise NoSuchJob(f"{name!r} is no job folder; such names are QM_dJobs/NAME, and the like")
    return Place(place), folder


def remove_later(path: str) -> None:
    """Remove a hidden folder in the background: it may be large, and the daemon has other things to do."""
    with contextlib.suppress(RuntimeError):  # too many threads: the next start removes it
        threading.Thread(target=shutil.rmtree, args=(path,), kwargs={"ignore_errors": True}, daemon=True).start()
