"""qm status: the queue, from the folders themselves; it needs no daemon."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qm.vocabulary.errors import EX_DONE
from qm.vocabulary.text import duration

if TYPE_CHECKING:
    from qm.spool.view import JobView, View
    from qm.vocabulary.config import Settings

HELP = "show the queue: what runs, what waits, what ended last"
ROWS = 10
"""Rows of waiting and of ended jobs shown unless --all is given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these jobs")
    parser.add_argument("-a", "--all", action="store_true", help=f"every job, not the first {ROWS} of each kind")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("-w", "--watch", action="store_true", help="keep it on the screen until Ctrl-C")
    form.add_argument("--json", action="store_true", help="print every job as JSON")


def run(args: argparse.Namespace) -> int:
    """Show it once, or until interrupted."""
    from qm.cli.common import open_spool, print_json

    settings, view = open_spool(args)
    if args.watch:
        from qm.cli.watch import watch

        return watch(settings, view, args.names)
    if args.json:
        print_json(_json(args, settings, view))
        return EX_DONE
    for line in _named(args.names, settings, view) if args.names else report(settings, view, args.all):
        print(line)
    return EX_DONE


def _json(args: argparse.Namespace, settings: Settings, view: View) -> list[dict[str, Any]]:
    from qm.cli.common import as_json
    from qm.cli.situation import with_reasons

    jobs = named_views(view, args.names) if args.names else [*view.active(), *view.waiting(), *view.ended()]
    return [as_json(job) for job in with_reasons(settings, view, jobs)]


def named_views(view: View, names: list[str]) -> list[JobView]:
    """The jobs of these names. NoSuchJob."""
    from qm.cli.common import find_all, view_of

    return [view_of(view, job) for job in find_all(view, names)]


def report(settings: Settings, view: View, everything: bool) -> list[str]:
    """The lines of the whole report."""
    active, waiting = view.active(), view.waiting()
    most = None if everything else ROWS
    ended = view.ended(most)
    lines = [daemon_line(settings, view, active)]
    if active:
        lines += ["", *running_table(active)]
    if waiting:
        from qm.cli.situation import reasons

        why = reasons(settings, view, active, waiting[:most])
        lines += ["", *waiting_table(waiting[:most], why), *_more(len(waiting), most, "waiting")]
    if ended:
        from qm.vocabulary.states import Place

        total = view.count(Place.DONE) + view.count(Place.LOST)
        lines += ["", *ended_table(ended), *_more(total, most, "ended")]
    if not (active or waiting or ended):
        lines += ["", "No jobs yet. Copy a job folder into QM_qJobs, or try:  qm submit -- echo hello"]
    return lines


def daemon_line(settings: Settings, view: View, active: list[JobView]) -> str:
    """Is the daemon alive, since when, and how much of the machine is in use?"""
    from qm.cli.common import moment
    from qm.cli.situation import used_processors
    from qm.spool.machine import disk_short, usable_processors

    limit = settings.max_processors or usable_processors()
    holder = view.daemon()
    if holder is None:
        who = "QueueManager is not running: nothing is started (start it with `QueueManager` or `qm daemon`)"
    else:
        who = f"QueueManager runs since {moment(holder.started)} (pid {holder.pid} on {holder.host})"
    draining = "; draining: no job is started (`qm undrain`)" if view.draining() else ""
    short = disk_short(settings.folder, settings.disk_reserve)
    full = f"; no job is started: {short}" if short else ""
    return f"{who}; {used_processors(active)} of {limit} processors in use{draining}{full}"


def running_table(jobs: list[JobView]) -> list[str]:
    """Jobs in QM_Jobs."""
    from qm.cli.common import table

    now = time.time()
    rows = []
    for job in jobs:
        elapsed = duration(now - job.started) if job.started else ""
        rows.append(
            (
                job.name,
                job.id,
                str(job.state),
                processors_text(job),
                elapsed,
                done_text(job),
                remaining_text(job, now),
                job.owner,
                job.reason or job.info,
            )
        )
    headers = ("RUNNING", "ID", "STATE", "PROC", "ELAPSED", "DONE", "LEFT", "OWNER", "INFO")
    return table(headers, rows, right=(3, 4, 5, 6))


def processors_text(job: JobView) -> str:
    """How many processors it has; an array those of its tasks that run."""
    return str(job.nb_proc * (job.tasks.running if job.tasks is not None else 1))


def done_text(job: JobView) -> str:
    """How far it is: `45%`, an array `61 / 100, 2 failed`."""
    if job.tasks is not None:
        return job.progress_text
    return f"{job.progress:4.0%}" if job.progress is not None else ""


def remaining_text(job: JobView, now: float) -> str:
    """How long it may still take, by its own word on progress, or by how quickly an array's tasks end."""
    from qm.judgement.progress import earlier_part, remaining

    if job.progress is None or job.started is None:
        return ""
    left = remaining(job.progress, now - job.started, earlier_part(job.tasks))
    return duration(left) if left is not None else ""


def waiting_table(jobs: Sequence[JobView], reasons: Sequence[str]) -> list[str]:
    """Jobs in QM_qJobs, in the order in which they will start, and why each waits."""
    from qm.cli.common import moment, table

    rows = [
        (
            job.name,
            job.id,
            str(job.state),
            str(job.nb_proc),
            str(job.priority),
            moment(job.submitted),
            job.owner,
            why,
            job.info,
        )
        for job, why in zip(jobs, reasons, strict=True)
    ]
    return table(("WAITING", "ID", "STATE", "PROC", "PRIO", "SINCE", "OWNER", "REASON", "INFO"), rows, right=(3, 4))


def ended_table(jobs: list[JobView]) -> list[str]:
    """Ended jobs, newest first."""
    from qm.cli.common import moment, table

    rows = []
    for job in jobs:
        took = duration(job.finished - job.started) if job.finished and job.started else ""
        rows.append((job.name, job.id, str(job.state), took, moment(job.finished), job.owner, job.reason or job.info))
    return table(("ENDED", "ID", "STATE", "TOOK", "AT", "OWNER", "REASON OR INFO"), rows, right=(3,))


def _named(names: list[str], settings: Settings, view: View) -> list[str]:
    from qm.cli.situation import with_reasons
    from qm.vocabulary.states import Place

    jobs = with_reasons(settings, view, named_views(view, names))
    lines: list[str] = []
    for places, make in (
        ((Place.JOBS,), running_table),
        ((Place.QUEUE,), lambda some: waiting_table(some, [job.reason for job in some])),
        ((Place.DONE, Place.LOST), ended_table),
    ):
        some = [job for job in jobs if job.place in places]
        if some:
            lines += [*([""] if lines else []), *make(some)]
    return lines


def _more(total: int, most: int | None, word: str) -> list[str]:
    return [f"… and {total - most} more {word} (qm status --all)"] if most is not None and total > most else []
