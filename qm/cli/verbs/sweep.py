"""qm sweep: one command over many values, as one array job."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from qm.cli.making import (
    add_job_options,
    chosen_options,
    command_name,
    job_script,
    own_environment,
    refuse_impossible,
    without_value,
)
from qm.vocabulary.errors import EX_DONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qm.judgement.sweep import Sweep, Variable

HELP = "queue one command over slices, values, lines of a file or files, as an array"

COMMANDS = "commands.txt"
"""Line i+1 is the command of task i."""
BODY = f"""\
# Task i runs line i+1 of {COMMANDS}; its values stand in sweep.csv.
qm_file=$QM_JOB_DIR/{COMMANDS}
qm_command=$(LC_ALL=C sed -n "$((QM_ARRAY_TASK_ID + 1)){{p;q;}}" "$qm_file") || exit
[ -n "$qm_command" ] || {{ echo "$qm_file has no line for task $QM_ARRAY_TASK_ID" >&2; exit 66; }}
exec /bin/sh -c "$qm_command\""""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.usage = "qm sweep [options] 'COMMAND {slice} {NAME}' --slice A:B --values NAME=a,b …"
    parser.epilog = (
        "COMMAND is one shell command line, run in the present directory and environment, once for every combination "
        "of the values; {NAME} stands for a value and is quoted for the shell, {{NAME}} for {NAME} itself."
    )
    parser.add_argument("template", metavar="COMMAND", help="a shell command line with {slice} or {NAME} in it")
    values = parser.add_argument_group("values (the first one given varies slowest)")
    for kind, form, text in (
        ("slice", "[NAME=]A:B[:STEP]", "whole numbers from A to B, both included; 00:99 keeps its zeros"),
        ("values", "NAME=a,b,c", "these values"),
        ("lines", "NAME=FILE", "the lines of a file (-: of standard input)"),
        ("glob", "NAME=PATTERN", "the files that a pattern matches, sorted"),
    ):
        values.add_argument(
            f"--{kind}", dest="sources", action="append", default=[], metavar=form, type=_source(kind), help=text
        )
    job = parser.add_argument_group("the job")
    job.add_argument("--name", help="the job's name (default: the command's)")
    job.add_argument("--at-a-time", type=int, metavar="N", help="at most N tasks at a time (default: as many as fit)")
    add_job_options(job)
    parser.add_argument("--dry-run", action="store_true", help="print the commands, one a line; queue nothing")
    parser.add_argument("--json", action="store_true", help="print name, id and the number of tasks as JSON")


def run(args: argparse.Namespace) -> int:
    """Queue it and print `name id`."""
    from qm.cli.common import complain, open_spool, print_json, say
    from qm.cli.main import usage_error
    from qm.judgement.sweep import SweepError, make_sweep
    from qm.spool.submission import submit_script
    from qm.spool.tasks import SWEEP_TABLE

    chosen = chosen_options(args)
    if wrong := without_value(args) or _contradiction(args, chosen):
        return usage_error(wrong)
    try:
        sweep = make_sweep(args.template, [_variable(kind, text) for kind, text in args.sources])
    except SweepError as err:
        return usage_error(str(err))
    for name in sweep.unused:
        complain(f"the command does not use {{{name}}}: the same command is run for each of its values")
    limit = f"%{args.at_a_time}" if args.at_a_time is not None else ""
    chosen["array"] = f"0-{sweep.size - 1}{limit}"
    script = job_script(args.template.strip(), chosen, BODY)
    if args.dry_run:
        _print_commands(sweep)
        return EX_DONE
    settings, view = open_spool(args)
    refuse_impossible(settings, view, chosen)
    files = {COMMANDS: _bytes(f"{command}\n" for command in sweep.commands()), SWEEP_TABLE: _bytes(_table(sweep))}
    job = submit_script(view.paths, args.name or command_name([args.template]), script, own_environment(), files)
    if args.json:
        print_json({"name": job.name, "id": job.id, "tasks": sweep.size})
    else:
        say(f"{job.name} {job.id}")
    if view.daemon() is None:
        complain("no QueueManager is running; the job waits until one is started")
    return EX_DONE


class _source:  # noqa: N801 (argparse calls it as a function, and names it by its class in messages)
    """Keeps with a value which option it was given to: the order among all of them counts."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, text: str) -> tuple[str, str]:
        return self.kind, text


def _contradiction(args: argparse.Namespace, chosen: dict[str, str]) -> str:
    for key in ("array", "script"):
        if key in chosen:
            return f"-o {key}=…: a sweep makes its own {key}; --at-a-time says how many tasks may run together"
    if args.at_a_time is not None and args.at_a_time < 1:
        return f"--at-a-time {args.at_a_time}: give 1 or more"
    return ""


def _variable(kind: str, text: str) -> Variable:
    """The values that an option stands for. SweepError, OSError for a file that cannot be read."""
    from qm.judgement.sweep import SweepError, Variable, lines_of, named, slice_of, values_of

    if kind == "slice":
        return slice_of(text)
    if kind == "values":
        return values_of(text)
    if kind == "lines":
        name, file = named(text, "--lines", "FILE")
        variable = lines_of(name, _read(file))
        if not variable.values:
            raise SweepError(f"--lines {text}: there is no line in it")
        return variable
    import glob

    name, pattern = named(text, "--glob", "PATTERN")
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise SweepError(f"--glob {text}: no file matches it here")
    return Variable(name, found)


def _read(file: str) -> str:
    import os
    import sys

    if file == "-":
        return os.fsdecode(sys.stdin.buffer.read())
    with open(file, "rb") as lines:
        return os.fsdecode(lines.read())


def _table(sweep: Sweep) -> Iterator[str]:
    from qm.spool.tasks import csv_line

    yield csv_line(("task", *sweep.names))
    for task, row in enumerate(sweep.rows()):
        yield csv_line((task, *row))


def _bytes(lines: Iterator[str]) -> bytes:
    import os

    return b"".join(map(os.fsencode, lines))


def _print_commands(sweep: Sweep) -> None:
    """As they are, so that a shell can read them; on a terminal nothing may move the cursor."""
    import os
    import sys

    from qm.cli.common import say

    for command in sweep.commands():
        if sys.stdout.isatty():
            say(command)
        else:
            sys.stdout.buffer.write(os.fsencode(command) + b"\n")
