"""qm log: process.log, or that of a task, also while the job runs and across its move to done."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from qm.vocabulary.errors import EX_DONE, EX_FAILED

if TYPE_CHECKING:
    from qm.spool.paths import JobPaths
    from qm.spool.view import View
    from qm.vocabulary.record import Job

HELP = "show a job's process.log, or that of a task of an array"
LOOK_EVERY = 0.1
"""Seconds between two looks for more."""
SHARE = 10
"""How often to read what became of an array's tasks: after so many times as long as the last reading took."""
_CHUNK = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("name", metavar="NAME", help="a job's name or id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job (or the task) has ended")
    parser.add_argument("-n", "--lines", type=int, metavar="N", help="only the last N lines")
    parser.add_argument("-t", "--task", type=int, metavar="N", help="the log of this task of an array")


def run(args: argparse.Namespace) -> int:
    """Print it; what it says is the job's own output, byte for byte."""
    from qm.cli.common import complain, open_spool

    _, view = open_spool(args)
    log = Log(view, view.find(args.name), args.task)
    fd = log.open()
    while fd is None and args.follow and not log.is_over():
        time.sleep(LOOK_EVERY)
        fd = log.open()
    if fd is None:
        complain(log.missing())
        return EX_FAILED
    try:
        if args.lines is not None:
            os.lseek(fd, _start_of_last_lines(fd, args.lines), os.SEEK_SET)
        _copy(fd)
        if args.follow:
            _follow(log, fd)
    finally:
        os.close(fd)
    return EX_DONE


def _follow(log: Log, fd: int) -> None:
    """Print what is written into it until it is over; when the next attempt begins a new one, go on with that."""
    over = False
    while not over:
        over = log.is_over()
        _copy(fd)
        newer = log.open()
        if newer is not None:
            if not os.path.sameopenfile(fd, newer):
                _copy(fd)
                os.dup2(newer, fd)
                over = False
            os.close(newer)
        if not over:
            time.sleep(LOOK_EVERY)


class Log:
    """The log of a job, or of one task of an array, wherever the folder goes. RequestError for no such task."""

    def __init__(self, view: View, job: Job, task: int | None) -> None:
        self._view = view
        self._job = job
        self._task = task
        self._stamp: tuple[int, int] | None = None
        self._ended = False
        self._again = 0.0
        if task is not None:
            _check_task(job, task)

    def open(self) -> int | None:
        """A descriptor of it, which stays good when the folder moves."""
        from qm.spool.files import open_regular

        try:
            return open_regular(self._paths().task_log(self._task))
        except OSError:
            return None

    def is_over(self) -> bool:
        """Will nothing more be written into it?"""
        from qm.spool.view import PAST

        where = self._view.follow(self._job)
        if where is None or where.place in PAST:
            return True
        self._job = where
        return self._task is not None and self._task_ended(self._task)

    def missing(self) -> str:
        """Why there is no log to show."""
        from qm.spool import tasks
        from qm.spool.view import tasks_of

        record = self._job.record
        if self._task is not None:
            entry = tasks.read(self._paths().tasks).get(self._task)
            state = f"it is {entry.state}" if entry is not None else "it has not been started"
            return f"task {self._task} of {record.name} ({record.id}) has no log: {state}"
        hint = "; `--task N` shows the log of a task" if tasks_of(record) is not None else ""
        return f"{record.name} ({record.id}) has no log yet: it is {record.state}{hint}"

    def _paths(self) -> JobPaths:
        self._job = self._view.follow(self._job) or self._job
        return self._view.paths.job(self._job.place, self._job.folder)

    def _task_ended(self, task: int) -> bool:
        """Has the task ended for good? The file of a large array is read only when it changed, and not all the time."""
        from qm.spool import tasks
        from qm.vocabulary.states import ENDED

        path = self._paths().tasks
        try:
            facts = os.lstat(path)
        except OSError:
            return False
        begun = time.monotonic()
        if (facts.st_size, facts.st_mtime_ns) != self._stamp and begun >= self._again:
            self._stamp = (facts.st_size, facts.st_mtime_ns)
            entry = tasks.read(path).get(task)
            self._ended = entry is not None and entry.state in ENDED
            self._again = begun + SHARE * (time.monotonic() - begun)
        return self._ended


def _check_task(job: Job, task: int) -> None:
    from qm.spool.view import array_of
    from qm.vocabulary.errors import RequestError

    record = job.record
    spec = array_of(record)
    if spec is None:
        raise RequestError(f"{record.name} ({record.id}) is no array: it has no tasks; leave --task out")
    if not any(task in part for part in spec.ranges):
        raise RequestError(f"{record.name} ({record.id}) has no task {task}; its tasks are {record.effective.array}")


def _copy(fd: int) -> None:
    while chunk := os.read(fd, _CHUNK):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _start_of_last_lines(fd: int, lines: int) -> int:
    """The offset at which the last lines begin, found from the end."""
    end = os.fstat(fd).st_size
    position, wanted = end, lines + 1
    while position > 0:
        start = max(0, position - _CHUNK)
        block = os.pread(fd, position - start, start)
        if position == end and not block.endswith(b"\n"):
            wanted -= 1
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            wanted -= 1
            if wanted <= 0:
                return start + at + 1
        position = start
    return 0
