"""The hidden folder `.qm` of a job: made, made writable, set aside.

Invariant: it is always a folder of our own. Whatever else stands under that name, because a job or a user put
it there, is renamed, never followed or removed.
"""

from __future__ import annotations

import errno
import os

from qm.spool.files import exists, free_name, is_real_directory, read_regular
from qm.spool.paths import DOT_NAME, JobPaths
from qm.vocabulary.record import load

MAX_RECORD = 16 << 20
"""Bytes; a larger job.json counts as none."""


def make_hidden(paths: JobPaths) -> None:
    """Make `.qm` and `.qm/run`, as folders of our own: a job may have removed its own, or put a link there."""
    for directory in (paths.dot, paths.run):
        if not (is_real_directory(directory) and os.access(directory, os.W_OK | os.X_OK)):
            if exists(directory):
                parent, _, name = directory.rpartition("/")
                os.rename(directory, f"{parent}/{free_name(parent, f'{name}.strange')}")
            os.mkdir(directory)


def make_writable(directory: str) -> None:
    """A job may have made its own folder read-only; its owner may undo that. Raises PermissionError otherwise."""
    facts = os.lstat(directory)
    if not hasattr(os, "geteuid") or facts.st_uid != os.geteuid() or facts.st_mode & 0o200:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), directory)
    os.chmod(directory, facts.st_mode | 0o700)


def set_aside(paths: JobPaths) -> None:
    """The `.qm` of a job that ended and is run again makes room for a new one, and so does a strange one."""
    if not is_real_directory(paths.dot):
        return
    try:
        old = load(read_regular(paths.record, MAX_RECORD))
    except FileNotFoundError:
        if _is_new(paths):
            return
        old = None
    except OSError:
        old = None
    suffix = old.id if old is not None else "unreadable"
    os.rename(paths.dot, f"{paths.dir}/{free_name(paths.dir, f'{DOT_NAME}.{suffix}')}")


def _is_new(paths: JobPaths) -> bool:
    """Does `.qm` hold nothing but what `qm submit` leaves there, or a daemon that died while it accepted the job?"""
    with os.scandir(paths.dot) as entries:
        return all(
            entry.is_file(follow_symlinks=False)
            if entry.name in ("id", "env", "job.json.new")
            else entry.name == "run" and entry.is_dir(follow_symlinks=False) and not os.listdir(entry.path)
            for entry in entries
        )
