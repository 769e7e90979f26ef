"""Processes: whose they are, and how they are signalled.

Invariant: no process is signalled unless its start time is the one it had when it was found to be the job's,
and its user is the one the job runs as; so a pid that was used again is never hit.

Two implementations of one small interface: /proc with pidfds on Linux, psutil everywhere else. The second is
also what `Portable = yes` uses.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from qm.spool.files import SHORT

RUN_VARIABLE = "QM_RUN_ID"
"""What every process of a run carries in its environment: the key of its Task."""


_RUN_ENTRY = f"{RUN_VARIABLE}=".encode()


@dataclass(frozen=True, slots=True)
class Process:
    """One process. `start` identifies it together with the pid: clock ticks after boot, or psutil's create time.

    `cpu` is seconds used so far by it and the children it has waited for, `memory` resident bytes; `state` is the
    letter of ps(1).
    """

    pid: int
    parent: int
    session: int
    start: float
    state: str
    cpu: float
    memory: int


class ProcessTable(Protocol):
    """What the launcher needs to know about the processes of this machine. OSError when we are short of something."""

    def snapshot(self) -> dict[int, Process]:
        """All processes that can be seen."""

    def run_of(self, pid: int) -> str | None:
        """The QM_RUN_ID in a process's environment, "" if there is none in it, None if it cannot be read."""

    def uid(self, pid: int) -> int | None:
        """The real user of a process, or None when it is gone or the system does not say."""

    def find(self, pid: int) -> Process | None:
        """One process."""

    def send(self, process: Process, number: int) -> bool:
        """Signal exactly this process; False when it is gone."""


class LinuxProcesses:
    """The table in /proc (proc(5)), signals through pidfds (pidfd_send_signal(2))."""

    def __init__(self) -> None:
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")

    def snapshot(self) -> dict[int, Process]:
        found = (self.find(int(name)) for name in os.listdir("/proc") if name.isdigit())
        return {process.pid: process for process in found if process is not None}

    def find(self, pid: int) -> Process | None:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError as err:
            _raise_if_short(err)
            return None
        return Process(
            pid=pid,
            parent=int(fields[1]),
            session=int(fields[3]),
            start=int(fields[19]),
            state=fields[0].decode(),
            cpu=sum(map(int, fields[11:15])) / self._ticks,
            memory=int(fields[21]) * self._page,
        )

    def run_of(self, pid: int) -> str | None:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                data = file.read()
        except OSError as err:
            _raise_if_short(err)
            return None
        for entry in data.split(b"\0"):
            if entry.startswith(_RUN_ENTRY):
                return entry[len(_RUN_ENTRY) :].decode(errors="replace")
        return "" if data else None  # empty in the middle of an execve(2)

    def uid(self, pid: int) -> int | None:
        try:
            return os.stat(f"/proc/{pid}").st_uid
        except OSError:
            return None

    def send(self, process: Process, number: int) -> bool:
        try:
            fd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return False
        except (OSError, AttributeError):  # no pidfds before Linux 5.3
            return _kill_if_same(self, process, number)
        try:
            now = self.find(process.pid)
            if now is None or now.start != process.start:
                return False
            signal.pidfd_send_signal(fd, number)
        except (ProcessLookupError, PermissionError):
            return False
        finally:
            os.close(fd)
        return True


class PortableProcesses:
    """The same through psutil, for macOS, Windows and other systems."""

    def snapshot(self) -> dict[int, Process]:
        import psutil

        found = (self.find(pid) for pid in psutil.pids())
        return {process.pid: process for process in found if process is not None}

    def find(self, pid: int) -> Process | None:
        import psutil

        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                status = process.status()
                return Process(
                    pid=pid,
                    parent=process.ppid(),
                    session=_session(pid),
                    start=process.create_time(),
                    state={psutil.STATUS_ZOMBIE: "Z", psutil.STATUS_STOPPED: "T"}.get(status, "S"),
                    cpu=sum(times[:4]),
                    memory=process.memory_info().rss,
                )
        except psutil.Error:
            return None

    def run_of(self, pid: int) -> str | None:
        import psutil

        try:
            environment = psutil.Process(pid).environ()
            return environment.get(RUN_VARIABLE, "") if environment else None
        except psutil.Error:
            return None
        except OSError as err:
            _raise_if_short(err)
            return None

    def uid(self, pid: int) -> int | None:
        import psutil

        try:
            return int(psutil.Process(pid).uids().real)
        except (psutil.Error, AttributeError):
            return None

    def send(self, process: Process, number: int) -> bool:
        return _kill_if_same(self, process, number)


def _raise_if_short(err: OSError) -> None:
    """A process that cannot be looked at is gone, or none of ours; but not when it is we who are short of something."""
    if err.errno in SHORT:
        raise err


def open_table(portable: bool) -> ProcessTable:
    """The table for this system."""
    if sys.platform.startswith("linux") and not portable:
        return LinuxProcesses()
    return PortableProcesses()


def _kill_if_same(table: ProcessTable, process: Process, number: int) -> bool:
    now = table.find(process.pid)
    if now is None or now.start != process.start:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, number)
        return True
    return False


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (OSError, AttributeError):
        return 0


def tree_of(table: ProcessTable, everything: dict[int, Process], leader: int | None, run: str) -> list[Process]:
    """A run's processes: its session, all descendants, and whoever carries its QM_RUN_ID in the environment.

    `leader` is the shim's pid, None when that number may belong to a stranger by now. The shim itself is not
    in the answer, nor are zombies. Reads every environment that can be read: for ending and pausing only.
    """
    mine = os.getuid() if hasattr(os, "getuid") else None
    members = set() if leader is None else {leader}
    for process in everything.values():
        in_session = leader is not None and process.session == leader
        if in_session or (table.run_of(process.pid) == run and table.uid(process.pid) == mine):
            members.add(process.pid)
    return _alive(everything, _with_descendants(everything, members) - {leader, os.getpid()})


def any_undecided(table: ProcessTable, everything: dict[int, Process]) -> bool:
    """Is there a process of which nobody can say whose it is: just being executed, or gone while we looked?

    Kernel threads have no memory; what belongs to other users is none of our jobs.
    """
    mine = os.getuid() if hasattr(os, "getuid") else None
    return any(
        process.memory > 0
        and process.state not in "ZX"
        and table.run_of(process.pid) is None
        and table.uid(process.pid) in (mine, None)
        for process in everything.values()
    )


def descendants(everything: dict[int, Process], leader: int, more: Iterable[int] = ()) -> list[Process]:
    """The shim's session and all descendants of it and of `more`; cheap, for measuring."""
    members = {leader, *more} | {process.pid for process in everything.values() if process.session == leader}
    return _alive(everything, _with_descendants(everything, members) - {os.getpid()})


def _with_descendants(everything: dict[int, Process], members: set[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for process in everything.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    stack = list(members)
    while stack:
        pid = stack.pop()
        if pid not in found:
            found.add(pid)
            stack += children.get(pid, ())
    return found


def _alive(everything: dict[int, Process], pids: Iterable[int | None]) -> list[Process]:
    return [
        everything[pid] for pid in sorted(filter(None, pids)) if pid in everything and everything[pid].state not in "ZX"
    ]
