"""Bringing a job into QM_qJobs from an archive that somebody sent.

Invariant: it is unpacked under a hidden name inside QM_qJobs in a folder that is ours alone, checked as
`qm check` does, and renamed into view only then; whatever is wrong, nothing of it stays behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from typing import BinaryIO

from qm.spool.browse import is_ours
from qm.spool.files import is_real_directory
from qm.spool.member import ArchiveError, shown
from qm.spool.paths import DOT_NAME, JobPaths, SpoolPaths
from qm.spool.submission import Submitted, check_folder, give_id, hidden_name, into_view, tidy_name
from qm.spool.unpacking import Limits, Unpacked, make_links, unpack
from qm.vocabulary.errors import JobFileError, TryAgain
from qm.vocabulary.jobfile import JobFile
from qm.vocabulary.states import Place

SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".tbz", ".txz", ".tar", ".zip")

HIDDEN = ".qm-upload-"
"""How the names of folders begin that an archive is unpacked into."""
STALE = 3600.0
"""Seconds after which such a folder that nobody holds is what a crash left."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def submit_archive(
    paths: SpoolPaths, file: BinaryIO, name: str, job_files: tuple[str, ...], limits: Limits
) -> tuple[Submitted, JobFile, list[str]]:
    """Unpack, check and queue a job; `file` is a zip or tar archive that can be sought in, `name` the archive's own.

    If the archive has just one folder at its top, which has the job file, that is the job, under its own name; else
    what is at the top is, under the archive's name without suffix. Answers the job, its job file, and what a person
    should be told. Raises ArchiveError, JobFileError, TryAgain (the disk is full) or another QMError: then nothing
    was queued.
    """
    _, job_id = hidden_name(paths)
    queue = paths.places[Place.QUEUE]
    hidden = f"{queue}/{HIDDEN}{job_id}.part"
    held = -1
    try:
        _sweep(queue)
        os.mkdir(hidden)
        held = _hold(hidden)
        mode = os.stat(hidden).st_mode & 0o777
        os.chmod(hidden, 0o700)  # until it is in view it is ours alone
        unpacked = unpack(file, hidden, limits)
        root, wanted = _root(hidden, job_files)
        wanted = tidy_name(wanted or without_suffix(name), "job")
        dropped = unpacked.dropped + _finish(root, hidden, unpacked)
        job_file = _checked(root, hidden, job_files)
        give_id(JobPaths(root), job_id)
        if root == hidden:
            os.chmod(root, mode)
        submitted = Submitted(into_view(paths, root, wanted), job_id)
    except OSError as err:
        raise _told(err, queue) from err
    finally:
        shutil.rmtree(hidden, ignore_errors=True)  # not there any more when all went well
        if held >= 0:
            os.close(held)
    notes = [f"left out, since no job needs it: {dropped} files or folders of macOS or of QM"] if dropped else []
    return submitted, job_file, [*notes, *job_file.notes]


def _hold(hidden: str) -> int:
    """Say by a lock that this folder is being filled; the descriptor holds it."""
    fd = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # some file servers lock no folders: then nothing of ours is ever swept
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def _sweep(queue: str) -> None:
    """Remove what uploads left whose program was ended in the middle: old, ours, and locked by nobody."""
    for name in os.listdir(queue):
        if not (name.startswith(HIDDEN) and name.endswith(".part")):
            continue
        with contextlib.suppress(OSError):
            fd = os.open(f"{queue}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                facts = os.fstat(fd)
                if facts.st_uid == os.geteuid() and time.time() - facts.st_mtime > STALE:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(f"{queue}/{name}", ignore_errors=True)
            finally:
                os.close(fd)


def without_suffix(name: str) -> str:
    """An archive's name without the folders before it and `.tar.gz` or alike behind it."""
    plain = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    for suffix in SUFFIXES:
        if plain.lower().endswith(suffix):
            return plain[: -len(suffix)]
    return plain


def _root(hidden: str, job_files: tuple[str, ...]) -> tuple[str, str]:
    """Where the job lies in what was unpacked, and its name if it has one of its own. JobFileError."""
    names = sorted(name for name in os.listdir(hidden) if not is_ours(name))
    if not names:
        raise ArchiveError("the archive is empty")
    if _has_one(hidden, job_files):
        return hidden, ""
    folders = [name for name in names if is_real_directory(f"{hidden}/{name}")]
    jobs = [name for name in folders if _has_one(f"{hidden}/{name}", job_files)]
    if len(jobs) == len(names) == 1:
        return f"{hidden}/{jobs[0]}", jobs[0]
    looked_for = ", ".join(job_files)
    if len(jobs) > 1:
        found = ", ".join(shown(name) for name in jobs[:5])
        raise JobFileError(f"the archive has {len(jobs)} job folders ({found}); send each by itself")
    if jobs:
        other = next(name for name in names if name != jobs[0])
        raise JobFileError(
            f"the archive has no job file at its top (looked for {looked_for}); there is one in "
            f"{shown(jobs[0])}, but beside it lies {shown(other)}: pack the folder {shown(jobs[0])} alone"
        )
    where = f", nor in its folder {shown(folders[0])}" if len(names) == len(folders) == 1 else ""
    raise JobFileError(f"the archive has no job file at its top{where} (looked for {looked_for})")


def _has_one(folder: str, job_files: tuple[str, ...]) -> bool:
    return any(os.path.lexists(f"{folder}/{name}") for name in job_files)


def _finish(root: str, hidden: str, unpacked: Unpacked) -> int:
    """Take out what is QM's own, make the links; how many things were left out."""
    prefix = "" if root == hidden else f"{root.rpartition('/')[2]}/"
    links = [(name[len(prefix) :], target) for name, target in unpacked.links if name.startswith(prefix)]
    if len(links) != len(unpacked.links):
        raise ArchiveError("the archive has links beside the job's folder; pack that folder alone")
    ours = [name for name in os.listdir(root) if name.casefold().startswith(DOT_NAME)]
    for name in ours:
        if is_real_directory(f"{root}/{name}"):
            shutil.rmtree(f"{root}/{name}")
        else:
            os.unlink(f"{root}/{name}")
    kept = [(name, target) for name, target in links if not name.casefold().startswith(DOT_NAME)]
    make_links(root, kept)
    return len(ours) + len(links) - len(kept)


def _checked(root: str, hidden: str, job_files: tuple[str, ...]) -> JobFile:
    """The job file; what is wrong with it is told without where it was unpacked."""
    try:
        return check_folder(root, job_files)
    except JobFileError as err:
        text = str(err).removeprefix(f"{root}: ").replace(f"{root}/", "").replace(hidden, "the archive")
        raise JobFileError(text) from err


def _told(err: OSError, queue: str) -> Exception:
    if err.errno in _FULL:
        return TryAgain(f"the disk of {queue} has no room for the job ({err.strerror}); nothing of it was kept")
    return ArchiveError(f"the archive cannot be unpacked in {queue}: {err.strerror}; nothing of it was kept")
