"""qm show: everything about one job."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from qm.vocabulary.errors import EX_DONE

if TYPE_CHECKING:
    from qm.spool.view import JobView
    from qm.vocabulary.record import Record

HELP = "show everything about one job"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("name", metavar="NAME", help="a job's name or id")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    """Show one job."""
    from qm.cli.common import as_json, open_spool, print_json, say, view_of

    _, view = open_spool(args)
    job = view_of(view, view.find(args.name))
    if args.json:
        print_json(as_json(job))
        return EX_DONE
    facts = _facts(job) + (_record_facts(job.record) if job.record is not None else [])
    width = max(len(label) for label, _ in facts)
    for label, value in facts:
        if value:
            say(f"{label:{width}}  {value}")
    return EX_DONE


def _facts(job: JobView) -> list[tuple[str, str]]:
    from qm.cli.common import moment
    from qm.vocabulary.text import duration

    took = duration(job.finished - job.started) if job.finished and job.started else ""
    progress = f"{job.progress:.0%}  {job.progress_text}" if job.progress is not None else ""
    return [
        ("name", job.name),
        ("id", job.id),
        ("state", str(job.state)),
        ("reason", job.reason),
        ("folder", job.path),
        ("owner", job.owner),
        ("info", job.info),
        ("size", job.size),
        ("processors", str(job.nb_proc)),
        ("priority", str(job.priority)),
        ("progress", progress),
        ("submitted", moment(job.submitted)),
        ("started", moment(job.started)),
        ("finished", moment(job.finished)),
        ("took", took),
    ]


def _record_facts(record: Record) -> list[tuple[str, str]]:
    from qm.vocabulary.optiontext import option_facts
    from qm.vocabulary.text import duration
    from qm.vocabulary.text import size as size_text

    facts = [
        ("exit status", str(record.exit_status) if record.exit_status is not None else ""),
        ("signal", str(record.signal) if record.signal is not None else ""),
        ("attempt", str(record.attempt) if record.attempt else ""),
        ("CPU time", duration(record.cpu_seconds) if record.cpu_seconds is not None else ""),
        ("peak memory", size_text(record.peak_memory) if record.peak_memory is not None else ""),
        ("launcher", record.launcher),
        ("job file", record.job_file),
    ]
    facts += [(f"  {key}", value) for key, value in option_facts(record.options)]
    facts += [(f"  set {key}", value) for key, value in record.overrides.items()]
    facts += [("note", note) for note in record.notes]
    for run in record.history[:-1]:
        facts.append((f"attempt {run.attempt}", f"{run.state}: {run.reason}" if run.reason else run.state))
    return facts
