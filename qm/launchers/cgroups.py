"""Memory cgroups for jobs: the kernel itself holds a job to its `mem`, and knows all of its processes.

Rules of cgroups(7) and of the kernel's documents cgroup-v1/memory and cgroup-v2. Invariants: all cgroups of jobs lie
in one folder, the daemon's own cgroup; their names begin with PREFIX; none is removed while a process is in it; when
they cannot be used, everything is as it was before we tried.

Page cache counts as memory of the cgroup, but the kernel takes it back before it ends anything: a job that reads large
files is not ended for that. So usage near the limit says nothing, only `oom_kills` does.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from logging import Logger

from qm.spool.hierarchies import NAMES, UNLIMITED, Place, facts_in, memory_used, number_in, place_of, text_of

PREFIX = "qm-"
LEAF = "qm-daemon"
"""Version 2 has processes only in the leaves of the tree: this one is for the daemon and the jobs without a limit."""

_PROBE_LIMIT = 64 << 20


class Unusable(Exception):
    """Memory cgroups cannot be made here; the text says why."""


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A job's cgroup: its folder, and the version of its hierarchy. Once it is gone, every count in it is 0."""

    folder: str
    version: int

    @property
    def procs_files(self) -> tuple[str, ...]:
        """A process that writes its pid into these is in the cgroup, with all that it starts from then on."""
        return (f"{self.folder}/cgroup.procs",)

    def pids(self) -> list[int]:
        """The processes in it, and in cgroups that these made in it."""
        return sorted(pid for folder, _, _ in os.walk(self.folder) for pid in _pids(folder))

    def memory(self) -> int:
        """Bytes in use, without page cache."""
        return memory_used(self.folder, self.version)

    def peak(self) -> int | None:
        """The most bytes that were in use at a time, page cache included; None before Linux 5.19 with version 2."""
        return number_in(f"{self.folder}/{NAMES[self.version].peak}")

    def oom_kills(self) -> int:
        """Processes in it that the kernel killed for want of memory."""
        return facts_in(f"{self.folder}/{NAMES[self.version].events}").get("oom_kill", 0)

    def remove(self) -> bool:
        """Remove it, with cgroups in it; False while there are processes."""
        for folder, _, _ in os.walk(self.folder, topdown=False):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True


class Cgroups:
    """The cgroups of this daemon's jobs, in the folder `base` of the hierarchy where `own` is the daemon's place."""

    def __init__(self, base: str, own: Place) -> None:
        self.base = base
        self.version = own.version
        self._own = own

    def make(self, name: str, limit: int) -> Cgroup:
        """A cgroup for `limit` bytes of memory and no swap. Its name begins with PREFIX.

        One of that name without processes is replaced, so that its counts begin anew. Raises OSError.
        """
        cgroup = Cgroup(f"{self.base}/{name}", self.version)
        names = NAMES[cgroup.version]
        try:
            os.mkdir(cgroup.folder)
        except FileExistsError:
            if not cgroup.remove():
                raise
            os.mkdir(cgroup.folder)
        try:
            _write(f"{cgroup.folder}/{names.limit}", str(limit))
            with contextlib.suppress(FileNotFoundError):  # the kernel may have been built without, or there is no swap
                # version 1 limits memory and swap together, version 2 swap alone
                _write(f"{cgroup.folder}/{names.swap_limit}", str(limit if cgroup.version == 1 else 0))
        except OSError:
            cgroup.remove()
            raise
        return cgroup

    def find(self, pid: int) -> Cgroup | None:
        """The cgroup that holds this process, of some job, to its memory; None if there is none.

        Nor is there when its limit is lost: systemd may withdraw the controller when it starts a service again, and
        what is passed on anew (systemd's issue 24064) has no limits.
        """
        place = place_of(pid)
        if place is None or place.version != self.version:
            return None
        ours = set(self._own.upwards())  # when the daemon itself is somebody's job
        for folder in place.upwards():
            name = os.path.basename(folder)
            if folder not in ours and name.startswith(PREFIX) and name != LEAF:
                limit = number_in(f"{folder}/{NAMES[place.version].limit}")
                return Cgroup(folder, place.version) if limit is not None and limit < UNLIMITED else None
        return None

    def remove_empty(self) -> None:
        """Remove those that have no processes: an earlier daemon's jobs ended while nobody looked."""
        ours = set(self._own.upwards())
        for name in os.listdir(self.base):
            folder = f"{self.base}/{name}"
            if name.startswith(PREFIX) and folder not in ours:
                Cgroup(folder, self.version).remove()


def open_cgroups(log: Logger) -> Cgroups | None:
    """What this daemon can use; None, and why, when that is nothing. Version 2 may move this process into a leaf."""
    try:
        cgroups = _opened(place_of())
    except Unusable as err:
        why = str(err)
    except OSError as err:
        why = f"{err.filename or 'cgroup'}: {err.strerror}"
    else:
        log.info("memory of jobs: limited by cgroups (version %d) in %s", cgroups.version, cgroups.base)
        return cgroups
    log.info("memory of jobs: watched, as cgroups cannot be used: %s", why)
    return None


def _opened(place: Place | None) -> Cgroups:
    if place is None:
        raise Unusable("this system has none for memory")
    if place.version == 1:
        return _tried(Cgroups(place.folder, place))
    if os.path.basename(place.folder) == LEAF:
        return _given(os.path.dirname(place.folder), place)
    if place.folder.endswith(".service"):  # it starts into a cgroup that must have no controllers for its children
        raise Unusable(f"{place.folder} could not be started again while jobs run, without DelegateSubgroup={LEAF}")
    if "memory" not in text_of(f"{place.folder}/cgroup.controllers").split():
        raise Unusable(f"{place.folder} has not been given the memory controller")
    others = set(_pids(place.folder)) - {os.getpid()}
    if others:
        raise Unusable(f"other processes, such as {min(others)}, are in {place.folder}")
    return _from_a_leaf(place)


def _from_a_leaf(place: Place) -> Cgroups:
    """Version 2: our cgroup can only pass a controller on once no process is in it; so we move into a child of it."""
    leaf = f"{place.folder}/{LEAF}"
    os.makedirs(leaf, exist_ok=True)
    try:
        _write(f"{leaf}/cgroup.procs", str(os.getpid()))
        return _given(place.folder, place._replace(folder=leaf))
    except OSError:
        with contextlib.suppress(OSError):
            _write(f"{place.folder}/cgroup.procs", str(os.getpid()))
            os.rmdir(leaf)
        raise


def _given(base: str, own: Place) -> Cgroups:
    """Version 2: cgroups in `base`, once the memory controller is passed on to them."""
    control = f"{base}/cgroup.subtree_control"
    before = text_of(control).split()
    _write(control, "+memory")
    try:
        return _tried(Cgroups(base, own))
    except OSError:
        if "memory" not in before:
            with contextlib.suppress(OSError):
                _write(control, "-memory")
        raise


def _tried(cgroups: Cgroups) -> Cgroups:
    """The same, once one could be made. Raises OSError."""
    cgroup = cgroups.make(f"{PREFIX}try-{os.getpid()}", _PROBE_LIMIT)
    try:
        if not all(os.access(file, os.W_OK) for file in cgroup.procs_files):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), cgroup.folder)
    finally:
        cgroup.remove()
    return cgroups


def _pids(folder: str) -> list[int]:
    return [int(word) for word in text_of(f"{folder}/cgroup.procs").split()]


def _write(path: str, text: str) -> None:
    """One write(2): the kernel takes each as one order. Nothing is ever created."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as err:
        raise OSError(err.errno, os.strerror(err.errno or 0), path) from err
    finally:
        os.close(fd)
