"""qm show: everything about one job."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from qm.vocabulary.errors import EX_DONE

if TYPE_CHECKING:
    from qm.spool.tasks import TaskEntry
    from qm.spool.view import JobView
    from qm.vocabulary.record import Record

HELP = "show everything about one job, or the tasks of an array"
MOST_FAILED = 20
"""Failed tasks that are listed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("name", metavar="NAME", help="a job's name or id")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print it as JSON")
    form.add_argument("--tasks", action="store_true", help="a table of the tasks of an array")
    form.add_argument("--csv", action="store_true", help="the tasks of an array as CSV")


def run(args: argparse.Namespace) -> int:
    """Show one job."""
    from qm.cli.common import as_json, open_spool, print_json, say, view_of

    settings, view = open_spool(args)
    job = view_of(view, view.find(args.name))
    if args.tasks or args.csv:
        return _show_tasks(job, args.csv)
    from qm.cli.situation import with_reasons

    (job,) = with_reasons(settings, view, [job])
    if args.json:
        print_json(as_json(job))
        return EX_DONE
    facts = _facts(job) + _task_facts(job) + (_record_facts(job.record) if job.record is not None else [])
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


def _show_tasks(job: JobView, as_csv: bool) -> int:
    """A line for each task."""
    import sys

    from qm.cli.common import complain, moment, table
    from qm.spool.tasks import csv_lines, read_values
    from qm.vocabulary.errors import EX_FAILED
    from qm.vocabulary.text import duration
    from qm.vocabulary.text import size as size_text

    entries = _tasks(job)
    if not entries:
        complain(f"{job.name} ({job.id}) is no array: it has no tasks")
        return EX_FAILED
    names, values = read_values(job.path)
    if as_csv:
        sys.stdout.writelines(csv_lines(entries, values, names))
        return EX_DONE
    rows = []
    for task, entry in entries.items():
        took = duration(entry.finished - entry.started) if entry.finished and entry.started else ""
        cpu = duration(entry.cpu_seconds) if entry.cpu_seconds is not None else ""
        peak = size_text(entry.peak_memory) if entry.peak_memory is not None else ""
        facts = (str(entry.attempt or ""), moment(entry.started), took, cpu, peak, entry.reason)
        rows.append((str(task), *values.get(task, ("",) * len(names)), str(entry.state), *facts))
    headers = ("TASK", *names, "STATE", "ATTEMPT", "STARTED", "TOOK", "CPU", "MEMORY", "REASON")
    width = len(names)
    for line in table(headers, rows, right=(0, width + 2, width + 4, width + 5, width + 6)):
        print(line)
    return EX_DONE


def _task_facts(job: JobView) -> list[tuple[str, str]]:
    """How many tasks are in which state, and which of them failed."""
    from collections import Counter

    from qm.spool.tasks import read_values
    from qm.vocabulary.states import ENDED, State

    entries = _tasks(job).values()
    if not entries:
        return []
    counts = Counter(entry.state for entry in entries)
    facts = [("tasks", f"{len(entries)}: " + ", ".join(f"{counts[state]} {state}" for state in State if counts[state]))]
    failed = [entry for entry in entries if entry.state in ENDED and entry.state is not State.DONE]
    names, values = read_values(job.path) if failed else ((), {})
    for entry in failed[:MOST_FAILED]:
        pairs = zip(names, values.get(entry.task, ()), strict=False)
        said = [*(f"{name} = {value}" for name, value in pairs), str(entry.state), *filter(None, [entry.reason])]
        facts.append((f"  task {entry.task}", ", ".join(said)))
    if len(failed) > MOST_FAILED:
        facts.append(("  …", f"and {len(failed) - MOST_FAILED} more (qm show --tasks)"))
    return facts


def _tasks(job: JobView) -> dict[int, TaskEntry]:
    """The tasks of an array in their order; none for another job."""
    from qm.spool import tasks
    from qm.spool.paths import JobPaths
    from qm.spool.view import array_of

    spec = array_of(job.record) if job.record is not None else None
    return tasks.with_waiting(tasks.read(JobPaths(job.path).tasks), spec) if spec is not None else {}


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
