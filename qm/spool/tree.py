"""Looking at a job's tree without following or opening anything in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from qm.spool.files import TRANSIENT
from qm.spool.paths import DOT_NAME, LOG_NAME
from qm.vocabulary.record import Survey


def survey(directory: str) -> Survey:
    """Count, sizes, newest mtime and ctime of everything below a folder, but for what QM writes there itself.

    A folder that cannot be read counts as one entry. Raises OSError when `directory` itself cannot be listed, or
    when the system is short of something.
    """
    count = size = mtime = ctime = 0
    stack = [directory]
    while stack:
        where = stack.pop()
        try:
            entries = os.scandir(where)
        except OSError as err:
            if where == directory or err.errno in TRANSIENT:
                raise
            continue
        top = where == directory
        with entries:
            for entry in entries:
                if top and _is_ours(entry.name):
                    continue
                try:
                    facts = entry.stat(follow_symlinks=False)
                except OSError as err:
                    if err.errno in TRANSIENT:
                        raise
                    continue  # gone while we looked (the next look will differ), or not for our eyes
                count += 1
                size += facts.st_size
                mtime = max(mtime, facts.st_mtime_ns)
                ctime = max(ctime, facts.st_ctime_ns)
                if stat.S_ISDIR(facts.st_mode):
                    stack.append(entry.path)
    return Survey(count, size, mtime, ctime)


def _is_ours(name: str) -> bool:
    """Our names in a job's folder: `.qm`, `process.log`, and both with something behind a dot when set aside."""
    return name.startswith((DOT_NAME, LOG_NAME)) and name.removeprefix(DOT_NAME).removeprefix(LOG_NAME)[:1] in ("", ".")


def written_to(directories: Iterable[str]) -> set[str]:
    """Those of the directories below which some process that can be seen holds a file open for writing.

    Linux only (/proc); elsewhere, and for processes of other users, nothing is seen and nothing is said. Raises
    OSError when the system is short of something.
    """
    parents: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    for directory in directories:
        parent, _, name = directory.rstrip("/").rpartition("/")
        if parent not in parents:
            parents[parent] = os.path.realpath(parent or "/").rstrip("/")  # /proc knows no links
        prefixes[f"{parents[parent]}/{name}/"] = directory
    found: set[str] = set()
    if not prefixes or not os.path.isdir("/proc/self/fd"):
        return found
    common = os.path.dirname(os.path.commonpath(list(prefixes)))
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError as err:
            if err.errno in TRANSIENT:
                raise
            continue  # ended meanwhile, or another user's
        for fd in descriptors:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
            except OSError:
                continue
            if target.startswith(common) and _open_for_writing(pid, fd):
                found.update(directory for prefix, directory in prefixes.items() if target.startswith(prefix))
    return found


def _open_for_writing(pid: str, fd: str) -> bool:
    """Read the access mode from /proc/PID/fdinfo/FD (proc_pid_fdinfo(5): flags in octal)."""
    try:
        with open(f"/proc/{pid}/fdinfo/{fd}") as info:
            for line in info:
                if line.startswith("flags:"):
                    return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    except (OSError, ValueError):
        pass
    return False
