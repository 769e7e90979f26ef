"""qm check: what is wrong with a job folder, without queueing it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from qm.vocabulary.errors import EX_DONE, EX_FAILED, ConfigError, JobFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qm.judgement.waiting import Limits
    from qm.vocabulary.jobfile import JobFile
    from qm.vocabulary.options import Options

HELP = "say what is wrong with job folders, without queueing them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="a job folder")


def run(args: argparse.Namespace) -> int:
    """Check each folder; 1 if any is invalid. Works without a configuration, too."""
    from qm.cli.common import complain
    from qm.spool.machine import limits
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
    there_is = limits(settings)
    for folder in args.folders:
        try:
            _check(folder, check_folder(folder, settings.job_files), there_is, settings.folder)
        except JobFileError as err:
            complain(str(err))
            status = EX_FAILED
    return status


def _check(folder: str, job_file: JobFile, there_is: Limits, root: str) -> None:
    """Say what is right and what is doubtful. JobFileError for what can never start."""
    import os
    import time

    from qm.cli.common import say
    from qm.judgement.contradictions import doubtful, impossible

    options = job_file.options
    if why := impossible(options, there_is):
        raise JobFileError(f"{folder}: {'; '.join(why)}")
    say(f"{folder}: ok ({job_file.name}, nb_proc {options.nb_proc}, script: {options.script.splitlines()[0]})")
    name = os.path.basename(os.path.abspath(folder))
    for note in (*job_file.notes, *doubtful(options, there_is, name, time.time()), *_not_there(options, name, root)):
        say(f"  note: {note}")


def _not_there(options: Options, name: str, root: str) -> Iterator[str]:
    """Jobs that it would wait for, but that nobody knows."""
    from qm.spool.view import View
    from qm.vocabulary.errors import NoSuchJob
    from qm.vocabulary.values import awaited

    others = [awaited(other)[0] for other in options.after]
    for other in [other for other in others if other != name] if root else ():
        try:
            View(root).find(other)
        except NoSuchJob:
            yield f"after = {other}: there is no such job yet; it would wait until there is"
