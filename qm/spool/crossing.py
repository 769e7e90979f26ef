"""Moving an ended job's folder to another file system.

Invariant: the folder shows up under its name only when it is complete and on the disk, and the original goes
only after that. Links are copied as links, FIFOs are made anew, sockets and devices stay behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable

RETURNING = ".qm-returning."
"""How the name of a folder begins that is on its way back into the queue, while it is being copied."""


def hide_returning(source: str) -> str:
    """Take a folder out of sight before it is copied back into the queue: there must never be two. OSError."""
    directory, _, name = source.rpartition("/")
    hidden = f"{directory}/{RETURNING}{_cut(name)}"
    os.rename(source, hidden)
    return hidden


def copy_across(source: str, directory: str, name: str, step: Callable[[str], None]) -> None:
    """Copy `source` to `directory/name` by way of a hidden name. Raises OSError, also for a tree too deep to copy."""
    hidden = f"{directory}/.{_cut(name)}.part"
    shutil.rmtree(hidden, ignore_errors=True)  # what a crash left
    try:
        copy_tree(source, hidden)
        step("cross: copied")
        os.rename(hidden, f"{directory}/{name}")
    except OSError:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    except RecursionError as err:
        shutil.rmtree(hidden, ignore_errors=True)
        raise OSError(errno.ELOOP, "folders nested too deeply to be copied", source) from err
    _sync_directory(directory)
    step("cross: in view")


def copy_tree(source: str, target: str) -> None:
    """Copy a folder to a new name, which must not exist, and sync what was copied. Raises OSError."""
    os.mkdir(target, 0o700)
    with os.scandir(source) as entries:
        for entry in entries:
            _copy_entry(entry, f"{target}/{entry.name}")
    _copy_facts(source, target)
    _sync_directory(target)


def _copy_entry(entry: os.DirEntry[str], target: str) -> None:
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(entry.path), target)
    elif stat.S_ISDIR(mode):
        copy_tree(entry.path, target)
    elif stat.S_ISREG(mode):
        shutil.copyfile(entry.path, target, follow_symlinks=False)
        _copy_facts(entry.path, target)
        fd = os.open(target, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    elif stat.S_ISFIFO(mode):
        os.mkfifo(target, stat.S_IMODE(mode))


def _copy_facts(source: str, target: str) -> None:
    """Owner where we may, then mode and times."""
    facts = os.lstat(source)
    with contextlib.suppress(PermissionError):
        os.chown(target, facts.st_uid, facts.st_gid)
    shutil.copystat(source, target, follow_symlinks=False)


def _cut(name: str) -> str:
    """A name with room for something around it, within the 255 bytes that it may have."""
    while len(os.fsencode(name)) > 200:
        name = name[:-1]
    return name


def _sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
