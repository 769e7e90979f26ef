"""qm log: process.log, also while the job runs and across its move to done."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from qm.vocabulary.errors import EX_DONE, EX_FAILED

if TYPE_CHECKING:
    from qm.spool.view import View
    from qm.vocabulary.record import Job

HELP = "show a job's process.log"
LOOK_EVERY = 0.1
"""Seconds between two looks for more."""
_CHUNK = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("name", metavar="NAME", help="a job's name or id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    parser.add_argument("-n", "--lines", type=int, metavar="N", help="only the last N lines")


def run(args: argparse.Namespace) -> int:
    """Print it; what it says is the job's own output, byte for byte."""
    from qm.cli.common import complain, open_spool

    _, view = open_spool(args)
    job = view.find(args.name)
    fd = _open(view, job)
    while fd is None and args.follow and not _is_over(view, job):
        time.sleep(LOOK_EVERY)
        job = view.follow(job) or job
        fd = _open(view, job)
    if fd is None:
        complain(f"{job.record.name} ({job.record.id}) has no log yet: it is {job.record.state}")
        return EX_FAILED
    try:
        if args.lines is not None:
            os.lseek(fd, _start_of_last_lines(fd, args.lines), os.SEEK_SET)
        _copy(fd)
        while args.follow:
            over = _is_over(view, job)
            _copy(fd)
            if over:
                break
            time.sleep(LOOK_EVERY)
    finally:
        os.close(fd)
    return EX_DONE


def _open(view: View, job: Job) -> int | None:
    """The descriptor stays good when the folder moves."""
    from qm.spool.files import open_regular

    where = view.follow(job) or job
    try:
        return open_regular(view.paths.job(where.place, where.folder).log)
    except OSError:
        return None


def _is_over(view: View, job: Job) -> bool:
    from qm.spool.view import PAST

    where = view.follow(job)
    return where is None or where.place in PAST


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
