"""A queue as a Python program sees it: one spool, the crews that were submitted to it, one thread that watches them.

Invariant: it is used by the process that opened it, and by no child that was forked from that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from qm.api.crew import Crew, Plan
from qm.api.errors import FolderGone, NoDaemon
from qm.api.listener import Listener
from qm.api.watching import Watcher
from qm.api.where import settings_of
from qm.spool import requests
from qm.spool.paths import SpoolPaths
from qm.spool.view import View
from qm.vocabulary.config import Settings
from qm.vocabulary.errors import ConfigError, JobFileError
from qm.vocabulary.options import Options, read_options, with_overrides
from qm.vocabulary.record import Job
from qm.vocabulary.requests import Request

SPOOL, LOCAL = "spool", "local"
OURS = frozenset(("script", "array", "chdir"))
"""Keys of a job file that are not the caller's to choose."""


def job_options(**options: Any) -> dict[str, str]:
    """Options as a job file has them; None is left out. ValueError names what is wrong, and what would be right.

    Truth values, numbers, texts, timedeltas (for times) and lists of these (`after`, `retry_on`) are understood.
    """
    texts = {_key(key): _text(key, value) for key, value in options.items() if value is not None}
    if theirs := OURS & texts.keys():
        raise ValueError(f"option {', '.join(sorted(theirs))}: that is for QM to say")
    try:
        with_overrides(Options(script="true"), texts)  # it knows all keys
        read_options([("script", "true", 0), *((key, value, 0) for key, value in texts.items())], "options")
    except JobFileError as err:
        raise ValueError(f"option {str(err).removeprefix('set: ')}") from err
    return texts


def _key(key: str) -> str:
    return key if key[:4] == "env_" else key.lower()


def _text(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.3f}"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(_text(key, one) for one in value)
    text = str(value)
    if text != text.strip() or not text.isprintable():
        raise ValueError(f"option {key}: {text!r} must be one line of printable text")
    return text


class JobQueue:
    """One spool. `root` is QM_FOLDER."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.root = settings.folder
        self.paths = SpoolPaths(settings.folder)
        self.view = View(settings.folder)
        self.watcher = Watcher(self.view, settings.portable)
        self._pid = os.getpid()
        self._checked = False

    def check(self) -> None:
        """May something be submitted? FolderGone, NoDaemon; RuntimeError in a forked child."""
        if os.getpid() != self._pid:
            raise RuntimeError(f"this queue was opened by process {self._pid}; open one in this process, too")
        if not os.path.isdir(self.root):
            raise FolderGone(f"QM_FOLDER {self.root} (of {self.settings.file}) does not exist")
        if self.view.daemon() is None:
            raise NoDaemon(
                f"no QueueManager serves {self.root} (of {self.settings.file}): start one with `qm daemon`, "
                'or use launcher="local", which needs none'
            )

    def check_once(self) -> None:
        """The same, until it was found good: a daemon that goes away later is waited for."""
        if not self._checked or os.getpid() != self._pid:
            self.check()
            self._checked = True

    def processors(self) -> int:
        """How many processors the running jobs may have together."""
        from qm.spool.machine import usable_processors

        return self.settings.max_processors or usable_processors()

    def crew(
        self,
        name: str,
        listener: Listener,
        *,
        workers: int = 1,
        options: Mapping[str, str] | None = None,
        setup: tuple[Callable[..., object], tuple[Any, ...]] | None = None,
        python: str | None = None,
        labels: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Crew:
        """A new job, not submitted yet. `name` should be new, too, so that its folder keeps it.

        `options` are those of `job_options`; `setup` is an initializer with its arguments; `labels` go into the job
        file's section [Call], `environment` to the workers, beside this process's own. QMError without a QM_qJobs.
        """
        plan = Plan(
            name, workers, options or {}, setup, python or sys.executable or "python3", labels or {}, environment or {}
        )
        return Crew(self, plan, listener)

    def attach(self, job: Job, listener: Listener) -> Crew:
        """The crew whose job was submitted by another process; it is watched from now on. QMError if it is none."""
        from qm.api.attached import known_crew

        crew = known_crew(self, job, listener)
        self.watcher.expect(crew, crew.name)
        self.watcher.look_now()
        return crew

    def variables(self) -> dict[str, str]:
        """What workers get in their environment from the kind of queue it is."""
        return {}

    def request(self, verb: str, job_id: str, **args: str) -> None:
        """Leave a request for the daemon, and do not wait for the answer. RequestError, FolderGone."""
        if not os.path.isdir(self.root):  # or it would be made anew
            raise FolderGone(f"QM_FOLDER {self.root} does not exist any more")
        requests.leave(self.paths, Request(verb, job_id, job_id, args))

    def close(self) -> None:
        """Watch no more. Jobs go on."""
        if os.getpid() == self._pid:  # a forked child has neither the thread nor, perhaps, the lock
            self.watcher.close()


def open_queue(launcher: str | None = None, config: str | None = None, processors: int | None = None) -> JobQueue:
    """The queue to submit to. `launcher`: "spool" (the daemon's; which, says qm.api.where), "local" (in
    this process, with `processors`); None: "spool", but "local" inside a worker, with the processors that it has.

    ValueError for another; ConfigError where there is no QMserv.cfg.
    """
    if launcher is None and "QM_WORKER" in os.environ and config is None:
        launcher, processors = LOCAL, processors or _own_processors()
    if launcher == LOCAL:
        from qm.api.inprocess import LocalQueue

        return LocalQueue(processors)
    if launcher not in (None, SPOOL):
        raise ValueError(f'launcher {launcher!r} is not there (yet): use "spool" or "local"')
    try:
        return JobQueue(settings_of(config))
    except ConfigError as err:
        raise ConfigError(f'{err}; launcher="local" needs none') from None  # the text is whole: no second traceback


def _own_processors() -> int:
    text = os.environ.get("NB_PROC", "")
    return max(1, int(text)) if text.isascii() and text.isdigit() else 1
