"""kill, hold, release, pause, resume, retry, delete, set, drain, undrain: what the daemon is asked to do.

Invariant: the request lies in a file before anything is said, so it is obeyed even when this program is
interrupted, or when no daemon runs yet (exit status 75 says so).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from qm.vocabulary.errors import EX_DONE, EX_FAILED, EX_TEMPFAIL, TryAgain

HELPS = {
    "kill": "end jobs with all their processes; waiting ones leave the queue (both go to QM_lost+found)",
    "hold": "keep waiting jobs from starting",
    "release": "let held jobs start",
    "pause": "stop running jobs where they stand and free their processors",
    "resume": "let paused jobs go on, as soon as processors are free",
    "retry": "queue ended jobs again",
    "delete": "delete ended or waiting jobs, folder and all",
}


def add_verbs(verbs: Any) -> None:
    """Add the verbs of this file to the command line."""
    for verb, text in HELPS.items():
        added = verbs.add_parser(verb, help=text, description=text)
        added.add_argument("names", metavar="NAME", nargs="+", help="a job's name or id")
        added.set_defaults(run=run_jobs)
    text = "change a waiting job: any key of its job file"
    added = verbs.add_parser("set", help=text, description=text)
    added.add_argument("name", metavar="NAME", help="a job's name or id")
    added.add_argument("changes", metavar="key=value", nargs="+", help="for instance priority=5 nb_proc=2")
    added.set_defaults(run=run_set)
    for verb, text in {
        "drain": "start no more jobs (what runs goes on; survives restarts)",
        "undrain": "start jobs again",
    }.items():
        added = verbs.add_parser(verb, help=text, description=text)
        added.set_defaults(run=run_queue)


def run_jobs(args: argparse.Namespace) -> int:
    """Ask for every job named; the answers come in the order of the names."""
    return _ask_all(args, args.names, {})


def run_set(args: argparse.Namespace) -> int:
    """Ask for a change of one waiting job."""
    from qm.cli.main import usage_error

    changes: dict[str, str] = {}
    for change in args.changes:
        key, equals, value = change.partition("=")
        if not key or not equals:
            return usage_error(f"{change!r} is not key=value")
        changes[key.strip()] = value.strip()
    return _ask_all(args, [args.name], changes)


def run_queue(args: argparse.Namespace) -> int:
    """Ask for something that concerns the whole queue."""
    from qm.cli.common import open_spool, say
    from qm.spool.requests import ask
    from qm.vocabulary.requests import Request

    _, view = open_spool(args)
    reply = ask(view.paths, Request(args.verb))
    say(reply.message)
    return EX_DONE if reply.ok else EX_FAILED


def _ask_all(args: argparse.Namespace, names: list[str], changes: Mapping[str, str]) -> int:
    from qm.cli.common import complain, find_all, open_spool, say
    from qm.spool.requests import await_answer, leave
    from qm.vocabulary.requests import Request

    _, view = open_spool(args)
    jobs = find_all(view, names)
    left = [leave(view.paths, Request(args.verb, job.record.id, job.record.name, changes)) for job in jobs]
    status = EX_DONE
    for name in left:
        try:
            reply = await_answer(view.paths, name)
        except TryAgain as err:
            complain(str(err))
            status = EX_TEMPFAIL
            continue
        if reply.ok:
            say(reply.message)
        else:
            complain(reply.message)
            status = status or EX_FAILED
    return status
