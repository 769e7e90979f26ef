"""Noticing that a process has ended: at once through a pidfd where there are such, else by looking at the clock."""

from __future__ import annotations

import contextlib
import os
import resource
import select
from collections.abc import Iterable

from qm.launchers.execution import Execution
from qm.launchers.processes import ProcessTable

SPARE_DESCRIPTORS = 16
"""Descriptors that are not spent on watching processes: logs and records want some too."""


class Watch:
    """The shims of all runs. Without `pidfds` (pidfd_open(2), Linux 5.3) only time tells, and `fileno` is None."""

    def __init__(self, table: ProcessTable, pidfds: bool) -> None:
        self._table = table
        self._epoll = select.epoll() if pidfds else None
        self._by_fd: dict[int, Execution] = {}

    def fileno(self) -> int | None:
        """Readable when one of them has ended."""
        return self._epoll.fileno() if self._epoll is not None else None

    def add(self, run: Execution) -> None:
        """Watch a run whose shim lives, as far as anybody can tell."""
        if self._epoll is None or run.exit is not None:
            return
        try:
            run.pidfd = os.pidfd_open(run.pid)
            self._by_fd[run.pidfd] = run
            if not run.ours and not self.is_same(run):
                self.drop(run)  # gone, and its number is another's by now
            elif run.pidfd >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS:
                self.drop(run)
            else:
                self._epoll.register(run.pidfd, select.EPOLLIN)
        except OSError:  # out of descriptors, no pidfds before Linux 5.3, gone: looked at by the clock instead
            self.drop(run)

    def drop(self, run: Execution) -> None:
        """Watch it no more; `run.pidfd` is None then."""
        if run.pidfd is not None and self._epoll is not None:
            with contextlib.suppress(OSError):  # it could not be registered
                self._epoll.unregister(run.pidfd)
            del self._by_fd[run.pidfd]
            os.close(run.pidfd)
            run.pidfd = None

    def close(self) -> None:
        """Give the descriptor back; nothing is watched any more."""
        if self._epoll is not None:
            self._epoll.close()

    def candidates(self, runs: Iterable[Execution]) -> list[Execution]:
        """Those of the runs that may have ended."""
        if self._epoll is None:
            return list(runs)
        ready = [self._by_fd[fd] for fd, _ in self._epoll.poll(0) if fd in self._by_fd]
        return ready + [run for run in runs if run.pidfd is None and run.exit is None]

    def is_alive(self, run: Execution) -> bool:
        """Does its shim run?"""
        if run.pidfd is None:
            return self.is_same(run)
        poll = select.poll()
        poll.register(run.pidfd, select.POLLIN)
        return not poll.poll(0)

    def is_same(self, run: Execution) -> bool:
        """Is what runs under the pid the shim that was found there?"""
        now = self._table.find(run.pid)
        return now is not None and now.start == run.start and now.state not in "ZX"
