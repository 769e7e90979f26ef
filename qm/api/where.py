"""Which queue is meant: one rule for executors, pools, job classes and handles.

Invariant: what runs inside a job means the queue of that job, unless it names another.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import NamedTuple

from qm.spool.settings import FILE_NAME, load_settings
from qm.spool.view import View
from qm.vocabulary.config import Settings
from qm.vocabulary.errors import ConfigError
from qm.vocabulary.jobfile import DEFAULT_JOB_FILES


class Spot(NamedTuple):
    """Where jobs go: QM_FOLDER, and the names under which its daemon looks for job files."""

    root: str
    job_files: tuple[str, ...] = DEFAULT_JOB_FILES


def settings_of(config: str | os.PathLike[str] | None = None) -> Settings:
    """The settings of the queue that is meant: that of `config`; else, inside a job, the one in which that runs; else
    that of the QMserv.cfg found. ConfigError when there is none.

    (But not the private one of launcher="local", to whose workers QM_OWNER is set.)
    """
    if config is not None:
        return load_settings(os.fspath(config))
    root = os.environ.get("QM_FOLDER")
    if root and "QM_JOB_ID" in os.environ and "QM_OWNER" not in os.environ:
        return _of_spool(root)
    return load_settings(None)


def spot(config: str | os.PathLike[str] | None = None) -> Spot:
    """The same, for what only makes and looks at job folders."""
    settings = settings_of(config)
    return Spot(settings.folder, settings.job_files)


def say_if_unserved(root: str, name: str) -> None:
    """Log a warning when a job was queued that nobody will start: it waits, and so does whoever waits for it."""
    if View(root).daemon() is None:
        logging.getLogger("qm").warning("no QueueManager serves %s; %s waits until one is started", root, name)


def _of_spool(root: str) -> Settings:
    """The settings of a spool whose QMserv.cfg may lie anywhere: as far as it can be found, else the defaults."""
    for config in (None, f"{root}/{FILE_NAME}"):
        with suppress(ConfigError):
            settings = load_settings(config)
            if os.path.realpath(settings.folder) == os.path.realpath(root):
                return settings
    return Settings(file=f"{root}/{FILE_NAME}", folder=root)
