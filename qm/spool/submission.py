"""Bringing job folders into QM_qJobs from outside, as a well-behaved client does.

Invariant: a folder is built under a hidden name inside QM_qJobs and renamed into view, so the daemon sees it
whole and starts it at once (the rule of maildir: write in tmp/, rename into new/).
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from qm.judgement.arrival import COPYING_SUFFIXES
from qm.spool.crossing import copy_tree
from qm.spool.files import exists, free_name, is_real_directory, numbered, read_regular
from qm.spool.ids import new_id
from qm.spool.paths import JobPaths, SpoolPaths
from qm.spool.view import is_job_name
from qm.vocabulary.errors import JobFileError, QMError
from qm.vocabulary.jobfile import MAX_JOB_FILE, JobFile, read_job_file
from qm.vocabulary.states import Place

LONGEST_NAME = 100
"""Characters of a job's name that is made from something else."""
MOST_BYTES = 200
"""Bytes of such a name; a file name may have 255, with `.2` behind it."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """What came in: the folder's name in QM_qJobs and the job's id."""

    name: str
    id: str


def check_folder(folder: str, names: tuple[str, ...]) -> JobFile:
    """Read a folder's job file as the daemon will. JobFileError says what is wrong and what would be right."""
    if not os.path.isdir(folder):
        raise JobFileError(f"{folder} is not a folder")
    for name in names:
        path = os.path.join(folder, name)
        if not exists(path):
            continue
        try:
            return read_job_file(name, read_regular(path, MAX_JOB_FILE + 1))
        except OSError as err:
            raise JobFileError(f"{path} cannot be read as a regular file: {err.strerror}") from err
        except JobFileError as err:
            raise JobFileError(f"{folder}: {err}") from err
    raise JobFileError(f"{folder} has no job file (looked for {', '.join(names)})")


def submit_folder(paths: SpoolPaths, folder: str, name: str | None = None, move: bool = False) -> Submitted:
    """Copy (or move) a folder into the queue. QMError when that is not possible; then nothing was queued."""
    wanted = name or os.path.basename(os.path.abspath(folder))
    check_name(wanted)
    hidden, job_id = hidden_name(paths)
    if f"{os.path.realpath(hidden)}/".startswith(f"{os.path.realpath(folder)}/"):
        raise QMError(f"{folder} holds the queue itself ({paths.places[Place.QUEUE]}); put the job's files elsewhere")
    try:
        if not move or not _renamed(folder, hidden):
            copy_tree(folder, hidden)
        _forget_old_id(JobPaths(hidden))
        give_id(JobPaths(hidden), job_id)
        submitted = Submitted(into_view(paths, hidden, wanted), job_id)
    except OSError as err:
        if not move:
            shutil.rmtree(hidden, ignore_errors=True)
        elif not exists(folder) and exists(hidden):
            os.rename(hidden, folder)  # back to where it was
        raise QMError(f"cannot bring {folder} into {paths.places[Place.QUEUE]}: {err.strerror}") from err
    if move and exists(folder):
        shutil.rmtree(folder)
    return submitted


def submit_script(
    paths: SpoolPaths,
    name: str,
    script: bytes,
    environment: Mapping[bytes, bytes] | None,
    files: Mapping[str, bytes] | None = None,
) -> Submitted:
    """Make a job folder around a job.sh, with the environment it is to run in. QMError when that fails.

    Without an environment (None) it runs in the daemon's, as a job does that comes as a folder. `files` lie beside
    job.sh.
    """
    check_name(name)
    hidden, job_id = hidden_name(paths)
    job = JobPaths(hidden)
    try:
        os.mkdir(hidden)
        os.mkdir(job.dot)
        write_new(f"{hidden}/job.sh", script, 0o755)
        for file, data in (files or {}).items():
            write_new(f"{hidden}/{file}", data, 0o644)
        if environment is not None:
            write_new(job.environment, kept(environment), 0o600)
        give_id(job, job_id)
        return Submitted(into_view(paths, hidden, name), job_id)
    except OSError as err:
        shutil.rmtree(hidden, ignore_errors=True)
        raise QMError(f"cannot make a job in {paths.places[Place.QUEUE]}: {err.strerror}") from err


def kept(environment: Mapping[bytes, bytes]) -> bytes:
    """An environment as `.qm/env` has it, and /proc/PID/environ."""
    return b"".join(name + b"=" + value + b"\0" for name, value in environment.items())


def check_name(name: str) -> None:
    """May a job have that name? QMError says why not."""
    if not is_job_name(name):
        raise QMError(
            f"{name!r} cannot be a job's name: it must not begin with '.' or '@', nor end in .tmp, .part or ~, "
            "nor contain '/'; --name gives another"
        )


def tidy_name(text: str, otherwise: str) -> str:
    """A job's name made from some text: without what would mark a folder as a copy in progress, not too long.

    `otherwise` where nothing is left of it.
    """
    name = text.replace("/", "_").replace("\0", "")[:LONGEST_NAME].lstrip(".@")
    while name.endswith(COPYING_SUFFIXES):
        for suffix in COPYING_SUFFIXES:
            name = name.removesuffix(suffix)
    while len(os.fsencode(name)) > MOST_BYTES:
        name = name[:-1]
    return name or otherwise


def hidden_name(paths: SpoolPaths) -> tuple[str, str]:
    """A name in QM_qJobs under which nobody sees a folder yet, and the id of the job that it becomes."""
    queue = paths.places[Place.QUEUE]
    if not os.path.isdir(queue):
        raise QMError(f"{queue} does not exist; start QueueManager once, or make a spool with `qm init`")
    job_id = new_id()
    return f"{queue}/.qm-{job_id}.part", job_id


def _renamed(folder: str, hidden: str) -> bool:
    """Move by rename where source and queue are on one file system."""
    if not is_real_directory(folder):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
    try:
        os.rename(folder, hidden)
    except OSError as err:
        if err.errno == errno.EXDEV:
            return False
        raise
    return True


def into_view(paths: SpoolPaths, hidden: str, wanted: str) -> str:
    """Rename to the first free name; another client that takes it in the same moment makes us take the next."""
    queue = paths.places[Place.QUEUE]
    name = free_name(queue, wanted)
    number = 2
    while True:
        try:
            os.rename(hidden, f"{queue}/{name}")
            return name
        except OSError as err:
            if err.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            name = free_name(queue, numbered(wanted, number))
            number += 1


def give_id(job: JobPaths, job_id: str) -> None:
    """Write the id down for the daemon to find."""
    if not exists(job.record):  # the record of a job that ended and is run again: the daemon sets it aside
        if not exists(job.dot):
            os.mkdir(job.dot)
        write_new(job.given_id, job_id.encode() + b"\n", 0o644)


def _forget_old_id(job: JobPaths) -> None:
    if is_real_directory(job.dot):
        if exists(job.record):
            os.rename(job.dot, f"{job.dir}/{free_name(job.dir, '.qm.old')}")
        elif exists(job.given_id):
            os.unlink(job.given_id)


def write_new(path: str, data: bytes, mode: int) -> None:
    """Write a file that is not there yet. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(fd, "wb") as file:
        file.write(data)
