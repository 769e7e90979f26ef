"""qm wait: until jobs have ended."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from qm.vocabulary.errors import EX_DONE, EX_FAILED, EX_TEMPFAIL, NoSuchJob
from qm.vocabulary.states import State

if TYPE_CHECKING:
    from qm.spool.view import View
    from qm.vocabulary.record import Job, Record

HELP = "wait until jobs have ended"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.epilog = "Exit status: 0 all are done, 1 some ended otherwise, 66 unknown, 75 the timeout came first."
    parser.add_argument("names", metavar="NAME", nargs="*", help="a job's name or id")
    parser.add_argument("--all", action="store_true", help="every job that waits or runs now")
    parser.add_argument(
        "--exit-status", action="store_true", help="end with the job's own exit status, 128+n for signal n"
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="wait no longer than that")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not say how each job ended")


def run(args: argparse.Namespace) -> int:
    """Wait for all of them."""
    from qm.cli.common import complain, find_all, open_spool, say
    from qm.cli.main import usage_error

    if bool(args.names) == args.all:
        return usage_error("give job names, or --all")
    if args.exit_status and (args.all or len(args.names) != 1):
        return usage_error("--exit-status goes with one job")
    _, view = open_spool(args)
    jobs = _all_live(view) if args.all else find_all(view, args.names)
    deadline = time.monotonic() + args.timeout if args.timeout is not None else float("inf")
    ended: list[Record] = []
    for job in jobs:
        record = _until_ended(view, job, deadline)
        if record is None:
            complain(f"{job.record.name} has not ended within {args.timeout:g} s; it goes on")
            return EX_TEMPFAIL
        ended.append(record)
        if not args.quiet:
            why = f": {record.reason}" if record.reason else ""
            say(f"{record.name} {record.id} {record.state}{why}")
    if args.exit_status:
        return own_exit_status(ended[0])
    return EX_DONE if all(record.state.value == "done" for record in ended) else EX_FAILED


def own_exit_status(record: Record) -> int:
    """A job's own exit status as a shell would give it; without one (an array) 0 for done and 1 for anything else."""
    if record.exit_status is not None:
        return record.exit_status
    if record.state is State.DONE:
        return EX_DONE
    return 128 + record.signal if record.signal is not None else EX_FAILED


def _all_live(view: View) -> list[Job]:
    from qm.spool.view import LIVE

    found = (view.at(place, folder) for place in LIVE for folder in view.folders(place))
    return [job for job in found if job is not None]


def _until_ended(view: View, job: Job, deadline: float) -> Record | None:
    """The record of the end; None when the deadline came first. NoSuchJob when the job was taken away."""
    from qm.spool.view import PAST

    pause = 0.005
    missing = 0
    while True:
        now = view.follow(job)
        if now is not None:
            job, missing = now, 0
            if job.place in PAST:
                return job.record
        else:
            missing += 1
            if missing > 20:
                raise NoSuchJob(f"{job.record.name} ({job.record.id}) is gone: deleted, or taken out of the queue")
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)
        pause = min(pause * 1.3, 0.25)
