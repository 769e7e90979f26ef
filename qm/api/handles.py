"""A handle: one job as Python sees it, wherever its folder lies.

Invariant: a handle knows which job it means (its id), not what became of it: every attribute looks at the folders
anew. What asks for a change leaves a request for the daemon, as `qm kill` and the like do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from qm.api.errors import JobFailed
from qm.api.jobdata import MOST_LOG, end_of_log, job_section, result_in
from qm.spool import history, requests
from qm.spool.files import read_regular
from qm.spool.view import LIVE, PAST, JobView, View
from qm.vocabulary.errors import NoSuchJob, QMError, RequestError
from qm.vocabulary.record import Job, Record
from qm.vocabulary.requests import Request
from qm.vocabulary.states import ENDED, Place, State

_PLACES = (Place.QUEUE, *(place for place in (*LIVE, *PAST) if place is not Place.QUEUE))
"""In the order in which a job comes through them: what moves on while we look is met again."""
_LOOKS = 4
_PAUSE = 0.01
"""Seconds between two looks for a folder that is in none of its places: most likely it is being moved."""
_SLOWEST = 0.05
"""Seconds between two looks at a job that is waited for, at most."""


class Handle:
    """One job. Made by `qm.submit`, `qm.enqueue`, `qm.job`, `qm.jobs`; `NoSuchJob` once it was taken away.

    A job that has ended and was deleted is still known by its state, from QM_history; it has no folder then.
    """

    def __init__(self, root: str, job_id: str, name: str, place: Place = Place.QUEUE, folder: str = "") -> None:
        self.id = job_id
        """12 characters; "" for a folder of QM 0.4, which has none."""
        self.name = name
        """The name it was submitted under."""
        self._view = View(root)
        self._place, self._folder = place, folder or name

    def __repr__(self) -> str:
        try:
            state = str(self.state)
        except QMError:
            state = "gone"
        return f"<qm job {self.name} {self.id} {state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, str]:
        return self._view.paths.root, self.id or f"{self._place}/{self._folder}"

    # --- what it is now ------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What it is doing: a State, which is the word itself (`handle.state == "done"`). NoSuchJob."""
        return self._state()[0]

    @property
    def ended(self) -> bool:
        """Has it ended, however? NoSuchJob."""
        return self.state in ENDED

    @property
    def reason(self) -> str:
        """Why it is in that state, as `qm status` has it; "" where there is nothing to say."""
        view = self._state()[1]
        return view.reason if view is not None else "deleted since; QM_history knows no more"

    @property
    def exit_status(self) -> int | None:
        """Its exit status at its last end; None while there is none."""
        view = self._state()[1]
        return view.exit_status if view is not None else None

    @property
    def folder(self) -> str | None:
        """The path of its folder now; None if it was deleted after it had ended."""
        view = self._state()[1]
        return view.path if view is not None else None

    @property
    def record(self) -> Record | None:
        """All that QM knows of it; None before it was accepted, and for a folder of QM 0.4."""
        view = self._state()[1]
        return view.record if view is not None else None

    @property
    def progress(self) -> tuple[float | None, str]:
        """How far it is, 0 to 1 (None if it does not say), and in its own words. 1.0 once it is done."""
        state, view = self._state(progress=True)
        if state is State.DONE:
            return 1.0, ""
        return (view.progress, view.progress_text) if view is not None else (None, "")

    @property
    def kwargs(self) -> dict[str, Any]:
        """What it was enqueued with, if it is a job of a class; else empty."""
        view = self._state()[1]
        if view is None:
            return {}
        section = job_section(view.path, view.record.job_file if view.record is not None else "")
        given = json.loads(section.get("kwargs", "{}"))
        return given if isinstance(given, dict) else {}

    def log(self, task: int | None = None) -> str:
        """What it has printed: its process.log, or that of one task of an array; "" where there is none yet."""
        job = self._find()
        if job is None:
            return ""
        try:
            path = self._view.paths.job(job.place, job.folder).task_log(task)
            return read_regular(path, MOST_LOG).decode(errors="replace")
        except OSError:
            return ""

    def result(self, timeout: float | None = None) -> Any:
        """Wait for its end, and return what `execute` of its class returned; None for a job of no class.

        JobFailed if it ended otherwise than done, TypeError if JSON could not hold what was returned, NoSuchJob if the
        folder was deleted, and the result with it; TimeoutError after `timeout` seconds.
        """
        self.wait(timeout)
        state, view = self._state()
        if state is not State.DONE:
            reason, status, folder = (view.reason, view.exit_status, view.path) if view is not None else ("", None, "")
            log = end_of_log(folder) if folder else ""
            raise JobFailed(self.name, str(state), reason=reason, exit_status=status, folder=folder, log=log)
        if view is None:
            raise NoSuchJob(f"{self.name} ({self.id}) is done, but its folder was deleted, and its result with it")
        return result_in(view.path)

    # --- what is asked of it -------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> Handle:
        """Wait until it has ended, however that may be; returns the handle itself, for `handle.wait().state`.

        TimeoutError after `timeout` seconds (it goes on then), NoSuchJob when it was taken away.
        """
        deadline = time.monotonic() + timeout if timeout is not None else float("inf")
        pause = 0.001
        while not self.ended:
            left = deadline - time.monotonic()
            if left <= 0:
                unserved = "" if self._view.daemon() is not None else "; no QueueManager is running"
                raise TimeoutError(f"{self.name} ({self.id}) has not ended within {timeout:g} s; it goes on{unserved}")
            time.sleep(min(pause, left))
            pause = min(pause * 1.3, _SLOWEST)
        return self

    def kill(self) -> None:
        """End it with all its processes. This and all below: RequestError if that cannot be done in its state,
        TryAgain when no daemon answers (the request is kept, and obeyed when one starts)."""
        self._ask("kill")

    def hold(self) -> None:
        """Keep it, while it waits, from starting."""
        self._ask("hold")

    def release(self) -> None:
        """Let it start, if it is held."""
        self._ask("release")

    def pause(self) -> None:
        """Stop it where it stands, and free its processors."""
        self._ask("pause")

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._ask("resume")

    def retry(self) -> None:
        """Queue it again, once it has ended."""
        self._ask("retry")

    def delete(self) -> None:
        """Delete it, folder and all, if it waits or has ended."""
        self._ask("delete")

    def set(self, **changes: object) -> None:
        """Change it while it waits: `job.set(priority=5)`. Keys and values as in a job file."""
        self._ask("set", {key: str(value) for key, value in changes.items()})

    # --- how it is found -----------------------------------------------------------------------------------

    def _ask(self, verb: str, args: Mapping[str, str] | None = None) -> None:
        paths = self._view.paths
        name = self.name if self.id else f"{self._place}/{self._folder}"
        reply = requests.ask(paths, Request(verb, self.id, name, args or {}))
        if not reply.ok:
            raise RequestError(reply.message)

    def _state(self, progress: bool = False) -> tuple[State, JobView | None]:
        """Its state and what can be seen of it: None if it was deleted after its end. NoSuchJob."""
        for look in range(_LOOKS):
            if look:
                time.sleep(_PAUSE)
            job = self._find()
            view = self._view.job(job.place, job.folder, progress) if job is not None else None
            if view is not None:
                return view.state, view
        end = history.find(self._view.paths.history, self.id) if self.id else None
        if end is None:
            raise NoSuchJob(f"{self.name} ({self.id}) is gone: deleted, or taken out of the spool")
        return end.state, None

    def _find(self) -> Job | None:
        """One look: where it was, else under its name in any place, else in any folder whose name begins like it."""
        for folder in dict.fromkeys((self._folder, self.name)):
            for place in dict.fromkeys((self._place, *_PLACES)):
                if found := self._at(place, folder):
                    return found
        if not self.id:
            return None
        stem = self.name[:200]
        for place in _PLACES:
            for folder in self._view.folders(place):
                if folder.startswith(stem) and (found := self._at(place, folder)):
                    return found
        return None

    def _at(self, place: Place, folder: str) -> Job | None:
        job = self._view.at(place, folder) if self.id else _unnamed(self._view, place, folder)
        if job is None or job.record.id != self.id:
            return None
        self._place, self._folder = place, folder
        return job


def _unnamed(view: View, place: Place, folder: str) -> Job | None:
    """A folder without an id; it has a name alone."""
    seen = view.job(place, folder, progress=False)
    return Job(place, folder, Record("", seen.name, seen.owner, seen.state, seen.submitted)) if seen else None
