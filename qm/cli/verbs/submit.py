"""qm submit: bring a folder into the queue, or make a job around a command."""

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
from qm.vocabulary.errors import EX_DONE, JobFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qm.spool.submission import Submitted
    from qm.spool.view import View

HELP = "queue job folders, or with `--` a command"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.usage = "qm submit [--move] [--name NAME] FOLDER…\n       qm submit [options] -- COMMAND…"
    parser.epilog = (
        "A COMMAND runs in the present directory and environment. Given as one word it is a shell command line "
        "(qm submit -- 'make && ./run'), given as several it is run with just these words."
    )
    parser.add_argument("--name", help="the job's name (default: the folder's or the command's)")
    parser.add_argument("--move", action="store_true", help="move the folders instead of copying them")
    parser.add_argument("--json", action="store_true", help="print name and id as JSON")
    command = parser.add_argument_group("for a command")
    add_job_options(command)
    parser.add_argument("folders", metavar="FOLDER", nargs="*", help="a job folder")


def run(args: argparse.Namespace) -> int:
    """Queue it and print `name id`, one line a job."""
    from qm.cli.common import complain, open_spool
    from qm.cli.main import usage_error
    from qm.spool.submission import submit_script

    if (args.command is None) == (not args.folders):
        return usage_error("give job folders, or `--` and a command (`qm submit -h`)")
    chosen = chosen_options(args)
    if args.command is None and chosen:
        return usage_error(
            "options of a job stand in its folder's job file; after queueing use `qm set NAME key=value`"
        )
    if args.name is not None and len(args.folders) > 1:
        return usage_error("--name goes with one folder")
    if args.command is not None and not (args.command and args.command[0].strip()):
        return usage_error("there is no command after `--`")
    if wrong := without_value(args):
        return usage_error(wrong)
    settings, view = open_spool(args)
    submitted: list[Submitted] = []
    try:
        if args.command is not None:
            script = _script(args, chosen)
            refuse_impossible(settings, view, chosen)
            name = args.name or command_name(args.command)
            submitted.append(submit_script(view.paths, name, script, own_environment()))
        else:
            submitted.extend(_submit_folders(args, settings.job_files, view))
    finally:  # of several folders, those that are queued are told, whatever happened to the next
        _tell(submitted, args.json)
    if view.daemon() is None:
        complain("no QueueManager is running; the job waits until one is started")
    return EX_DONE


def _tell(submitted: list[Submitted], as_json: bool) -> None:
    from qm.cli.common import print_json, say

    if as_json:
        print_json([{"name": job.name, "id": job.id} for job in submitted])
    else:
        for job in submitted:
            say(f"{job.name} {job.id}")


def _submit_folders(args: argparse.Namespace, names: tuple[str, ...], view: View) -> Iterator[Submitted]:
    """Every folder is checked before the first is queued, so that a mistake in one leaves all where they are."""
    import os
    import shlex

    from qm.cli.common import complain
    from qm.spool.submission import check_folder, check_name, submit_folder

    for folder in args.folders:
        if not os.path.isdir(folder):
            hint = f"to queue a command: qm submit -- {shlex.join(args.folders)}"
            raise JobFileError(f"{folder} is not a folder; {hint}")
        for note in check_folder(folder, names).notes:
            complain(f"{folder}: {note}")
        check_name(args.name or os.path.basename(os.path.abspath(folder)))
    for folder in args.folders:
        yield submit_folder(view.paths, folder, args.name, args.move)


def _script(args: argparse.Namespace, chosen: dict[str, str]) -> bytes:
    """A job.sh that runs the command where it was submitted. JobFileError for a wrong option."""
    import shlex

    words: list[str] = args.command
    line = words[0] if len(words) == 1 else shlex.join(words)
    return job_script(line.strip().splitlines()[0], chosen, line)
