"""Jobs as classes, after core4: a class says what to do (`execute`) and what it needs (its attributes).

Invariant: a job of a class is an ordinary job folder, whose script runs qm/api/runjob.py. What an object of the class
knows it reads from that folder; nothing else is handed over.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from qm.api.classes import load_class, reference_of, refuse_while_loading
from qm.api.errors import JobFailed
from qm.api.handles import Handle
from qm.api.jobfolder import as_json, children_of, class_options, job_text, note_child, submit_job
from qm.api.jobs import matches_state
from qm.api.where import Spot, say_if_unserved, spot
from qm.spool.files import write_whole
from qm.vocabulary.errors import NoSuchJob

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_LEAST_PAUSE = 0.1
"""Seconds between two lines of progress; nobody looks more often."""


class Deferred(BaseException):
    """A job asks to be run again later. No Exception, so that `except Exception` in a job does not catch it."""


@dataclass(slots=True)
class Context:
    """Which run of which job this is. `folder` is "" in the foreground, and then `launched` has the children."""

    where: Spot | None = None
    folder: str = ""
    id: str = ""
    name: str = ""
    parent: str = ""
    trial: int = 1
    kwargs: dict[str, Any] = field(default_factory=dict)
    launched: dict[str, str] = field(default_factory=dict)
    progress_file: str = ""
    told: float = float("-inf")
    """When progress was last written (monotonic seconds)."""


class Job:
    """What to do, and what is needed for it. A class of your own defines `execute`, and any of these attributes.

    They mean what the keys of the same name in a job file mean, and are checked when the class is enqueued;
    `max_parallel` is how many jobs of the class run at a time. The class must be importable where the job runs.
    """

    author: str | None = None
    attempts: int | None = None
    retry_on: str | None = None
    error_time: float | str | None = None
    error_backoff: float | None = None
    defer_time: float | str | None = None
    defer_max: float | str | None = None
    wall_time: float | str | None = None
    zombie_time: float | str | None = None
    zombie_kill: bool | None = None
    max_parallel: int | None = None
    group: str | None = None
    priority: int | None = None
    nb_proc: int | None = None
    mem: int | str | None = None
    gpus: int | None = None
    info: str | None = None
    e_mail: str | None = None
    mail_type: str | None = None
    schedule: str | None = None

    _given: Context | None = None

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """What the job does; yours to write. It gets the arguments with which the class was enqueued.

        What it returns is kept as result.json, if JSON can hold it. An exception fails this attempt.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method execute")

    # --- what a job knows of itself ------------------------------------------------------------------------

    @property
    def _context(self) -> Context:
        if self._given is None:  # made by hand, as in a test: a foreground of its own
            self._given = Context(name=type(self).__name__)
        return self._given

    @property
    def id(self) -> str:
        """Its id; "" in the foreground."""
        return self._context.id

    @property
    def name(self) -> str:
        """Its name in the queue."""
        return self._context.name

    @property
    def parent(self) -> str:
        """The id of the job that enqueued it; "" if none did."""
        return self._context.parent

    @property
    def folder(self) -> str:
        """The path of its folder while it runs; "" in the foreground."""
        return self._context.folder

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments with which it was enqueued."""
        return self._context.kwargs

    @property
    def trial(self) -> int:
        """Which run this is, from 1: attempts and runs after `defer` count alike, also after `qm retry`.

        A start that never came to run it does not count.
        """
        return self._context.trial

    @property
    def logger(self) -> logging.Logger:
        """Writes to the job's log, with time and level; from INFO on."""
        logger = logging.getLogger(f"qm.job.{type(self).__name__}")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
        if not logger.hasHandlers():
            handler = logging.StreamHandler(sys.stdout)
            handler.setFormatter(logging.Formatter(LOG_FORMAT))
            logger.addHandler(handler)
        return logger

    # --- what it can do ------------------------------------------------------------------------------------

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far it is, 0 to 1. It may be said often: at most ten times a second it is written down.

        What is less or more counts as 0 or 1. TypeError, ValueError for what is no number.
        """
        context, now, fraction = self._context, time.monotonic(), float(fraction)
        if not context.progress_file or (fraction < 1 and now - context.told < _LEAST_PAUSE):
            return
        context.told = now
        line = f"{min(max(0.0, fraction), 1.0):.4f} {' '.join(str(message).split())}".rstrip()
        with suppress(OSError):  # a full disk must not end a job for the sake of its bar
            write_whole(context.progress_file, line.encode(errors="replace") + b"\n")

    def defer(self, message: str = "") -> NoReturn:
        """End this run now, and run again after `defer_time`, until `defer_max` of deferring is over."""
        raise Deferred(message)

    def enqueue(self, target: type[Job] | str, /, **kwargs: Any) -> Handle:
        """Enqueue a job, as `qm.enqueue` does, as a child of this one."""
        return _enqueue(job_class(target), kwargs, self._context)

    def children(self, state: str | None = None) -> list[Handle]:
        """The jobs that this one has enqueued, in all its runs, oldest first; with `state`, those in that state.

        `state` may be `active` (has not ended) and `ended`, too. A child that was deleted after its end counts by
        that; one that was taken away before is left out. ValueError for an unknown state.
        """
        matches_state("", state)
        context = self._context
        known = children_of(context.folder) if context.folder else context.launched
        found = []
        for job_id, name in known.items():
            child = Handle(_where(context).root, job_id, name)
            with suppress(NoSuchJob):
                if matches_state(child.state, state):
                    found.append(child)
        return found


def enqueue(target: type[Job] | str, /, **kwargs: Any) -> Handle:
    """Queue a job of a class, or of "module:Class"; all keywords go to its `execute`.

    Returns at once; the job waits if no daemon runs, and a warning is logged. ValueError for a wrong attribute of the
    class, TypeError for an argument that `execute` does not take or that JSON cannot hold, ClassNotFound, ConfigError
    without a QMserv.cfg, QMError if the disk is full.
    """
    return _enqueue(job_class(target), kwargs, None)


def execute(target: type[Job] | str, /, **kwargs: Any) -> Any:
    """Run a job of a class here and now, without a queue, and return what its `execute` returns.

    When it defers, it is run again after `defer_time`; after `defer_max` of that, JobFailed. Its exceptions come
    through as they are: nothing is tried again. Arguments and attributes are checked as for `enqueue`.
    """
    cls = job_class(target)
    options = class_options(cls, cls.__qualname__).read
    check_call(cls, kwargs)
    context = Context(name=cls.__name__, kwargs=json.loads(as_json(kwargs)))
    deferred, pause = 0.0, max(options.defer_time, _LEAST_PAUSE)
    while True:
        job = cls()
        job._given = context
        try:
            return job.execute(**context.kwargs)
        except Deferred as err:
            if deferred >= options.defer_max:
                raise JobFailed(cls.__name__, "inactive", f"deferred for {deferred:g} s, which is defer_max") from err
            job.logger.info("deferred for %g s: %s", pause, err)
        time.sleep(pause)
        deferred += pause
        context.trial += 1


def job_class(target: type[Job] | str, folder: str = "") -> type[Job]:
    """The class that is meant. ClassNotFound; TypeError if it is no job."""
    cls = load_class(target, folder) if isinstance(target, str) else target
    if not (isinstance(cls, type) and issubclass(cls, Job)):
        hint = "give the class itself, not an object of it" if isinstance(cls, Job) else "a job is a class"
        raise TypeError(f"{target!r} is no job class; {hint}, derived from qm.Job")
    return cls


def check_call(cls: type[Job], kwargs: dict[str, Any]) -> None:
    """TypeError if the class has no `execute`, or one that does not take these arguments."""
    if cls.execute is Job.execute:
        raise TypeError(f"{cls.__name__} has no method execute, which says what the job does")
    plain = isinstance(inspect.getattr_static(cls, "execute"), staticmethod | classmethod)
    signature = inspect.signature(cls.execute)
    try:
        signature.bind(*() if plain else (None,), **kwargs)
    except TypeError as err:
        raise TypeError(f"{cls.__name__}.execute: {err}; it is execute{signature}") from None


def _enqueue(cls: type[Job], kwargs: dict[str, Any], parent: Context | None) -> Handle:
    refuse_while_loading()
    check_call(cls, kwargs)
    where = _where(parent) if parent is not None else spot()
    folder = parent.folder if parent is not None else os.environ.get("QM_JOB_DIR", "")
    reference = reference_of(cls, folder)
    options = class_options(cls, reference.label)
    parent_id = parent.id if parent is not None else ""
    text = job_text(reference, options.lines, as_json(kwargs), cls.author or "", parent_id)

    def announce(job_id: str, name: str) -> None:
        if parent is not None and parent.folder:
            note_child(parent.folder, job_id, name)
        elif parent is not None:
            parent.launched[job_id] = name

    submitted = submit_job(where, cls.__name__, text, reference.files, announce)
    if parent is None:
        say_if_unserved(where.root, submitted.name)
    return Handle(where.root, submitted.id, submitted.name)


def _where(context: Context) -> Spot:
    if context.where is None:
        context.where = spot()
    return context.where
