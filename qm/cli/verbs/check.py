"""qm check: what is wrong with a job folder, without queueing it."""

from __future__ import annotations

import argparse

from qm.vocabulary.errors import EX_DONE, EX_FAILED, ConfigError, JobFileError

HELP = "say what is wrong with job folders, without queueing them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="a job folder")


def run(args: argparse.Namespace) -> int:
    """Check each folder; 1 if any is invalid. Works without a configuration, too."""
    from qm.cli.common import complain, say
    from qm.spool.machine import usable_processors
    from qm.spool.settings import load_settings
    from qm.spool.submission import check_folder
    from qm.vocabulary.config import Settings

    try:
        settings = load_settings(args.config)
    except ConfigError:
        if args.config is not None:
            raise
        settings = Settings(file="", folder="")
    status = EX_DONE
    for folder in args.folders:
        try:
            job_file = check_folder(folder, settings.job_files)
        except JobFileError as err:
            complain(str(err))
            status = EX_FAILED
            continue
        options = job_file.options
        say(f"{folder}: ok ({job_file.name}, nb_proc {options.nb_proc}, script: {options.script.splitlines()[0]})")
        for note in job_file.notes:
            say(f"  note: {note}")
        limit = settings.max_processors or usable_processors()
        if options.nb_proc > limit:
            say(f"  note: nb_proc {options.nb_proc} is more than MaxNbProcessors {limit} and will be lowered to it")
    return status
