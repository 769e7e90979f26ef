"""What `qm submit --` and `qm sweep` share: a job's options on the command line, and the job.sh made of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from qm.vocabulary.errors import JobFileError

if TYPE_CHECKING:
    from qm.spool.view import View
    from qm.vocabulary.config import Settings

SHORT = {"nb_proc": ("-n", "--nb-proc"), "mem": ("--mem",), "priority": ("--priority",), "info": ("--info",)}
"""Keys with an option of their own; every other key goes by `-o key=value`."""


def add_job_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The options of a job that is made of a command."""
    for key, names in SHORT.items():
        parser.add_argument(*names, dest=key, metavar=key.upper(), help=f"the job's {key}")
    parser.add_argument("--hold", action="store_const", const="yes", help="queue it, but do not start it yet")
    parser.add_argument(
        "-o", dest="options", metavar="key=value", action="append", default=[], help="any key of a job file"
    )


def chosen_options(args: argparse.Namespace) -> dict[str, str]:
    """The keys given on the command line, as a job file would have them."""
    chosen = {key: value for key in (*SHORT, "hold") if (value := getattr(args, key)) is not None}
    for option in args.options:
        key, _, value = option.partition("=")
        chosen[key.strip()] = value.strip()
    return chosen


def without_value(args: argparse.Namespace) -> str:
    """What is wrong with the first `-o` that is no key=value; "" when there is none."""
    return next((f"-o {option}: give key=value" for option in args.options if "=" not in option), "")


def job_script(info: str, chosen: Mapping[str, str], body: str) -> bytes:
    """A job.sh that runs `body` in the present directory. JobFileError for options that no job file may have.

    What is odd about them is said on standard error.
    """
    import os
    import shlex

    from qm.cli.common import complain
    from qm.vocabulary.jobfile import read_job_file
    from qm.vocabulary.options import read_options
    from qm.vocabulary.text import printable

    keys = {"info": printable(info)}
    here = os.getcwd()
    if here.isprintable() and here == here.strip():
        keys["chdir"] = here
    else:  # no line of a job file can hold it
        body = f"cd -- {shlex.quote(here)} || exit\n{body}"
    keys |= chosen
    for key, value in keys.items():
        if "\n" in value or "\r" in value:
            raise JobFileError(f"{key} must be one line: {value!r}")
    read_options([("script", "true", 0), *((key, value, 0) for key, value in chosen.items())], "the command line")
    head = "".join(f"#QM {key} = {value}\n" for key, value in keys.items())
    script = os.fsencode(f"#!/bin/sh\n{head}{body}\n")
    for note in read_job_file("job.sh", script).notes:
        complain(note)
    return script


def refuse_impossible(settings: Settings, view: View, chosen: Mapping[str, str]) -> None:
    """JobFileError for more memory or GPUs than this machine has for jobs, if it is this one that will run them."""
    import socket

    from qm.judgement.contradictions import impossible
    from qm.spool.machine import limits
    from qm.vocabulary.options import Options, with_overrides

    asked = {key: chosen[key] for key in ("mem", "gpus") if key in chosen}
    holder = view.daemon() if asked else None
    if holder is not None and holder.host == socket.gethostname():
        options = with_overrides(Options(script="true"), asked)
        if why := impossible(options, limits(settings)):
            raise JobFileError("; ".join(why))


def own_environment() -> dict[bytes, bytes]:
    """The environment that is kept with the job, so that it runs in its submitter's."""
    import os

    return {os.fsencode(key): os.fsencode(value) for key, value in os.environ.items()}


def command_name(words: list[str]) -> str:
    """A job's name made from its command: the program's, without what would mark a folder as a copy in progress."""
    import os

    from qm.spool.submission import tidy_name

    first = words[0] if len(words) > 1 else words[0].split()[0]
    return tidy_name(os.path.basename(first), "command")
