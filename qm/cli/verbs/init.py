"""qm init: a new spool with a commented QMserv.cfg."""

from __future__ import annotations

import argparse

from qm.vocabulary.errors import EX_DONE, EX_FAILED, ConfigError

HELP = "make a new spool: the four folders and a commented QMserv.cfg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("directory", metavar="DIR", nargs="?", default=".", help="where (default: here)")


def run(args: argparse.Namespace) -> int:
    """Make it; a QMserv.cfg that is there already is left as it is."""
    import os
    import shlex

    from qm.cli.common import complain, say
    from qm.spool.files import write_whole
    from qm.spool.settings import FILE_NAME
    from qm.vocabulary.config import default_config
    from qm.vocabulary.states import Place

    directory = os.path.abspath(args.directory)
    file = os.path.join(directory, FILE_NAME)
    try:
        for place in Place:
            os.makedirs(os.path.join(directory, place.value), exist_ok=True)
        if os.path.lexists(file):
            complain(f"{file} is there already and stays as it is")
            return EX_FAILED
        write_whole(file, default_config().encode())
    except OSError as err:
        raise ConfigError(f"{err.filename or directory}: {err.strerror}; a spool must be writable") from err
    here = os.path.relpath(file)
    here = file if here.startswith("..") else here
    option = "" if here == FILE_NAME else f" -c {shlex.quote(here)}"
    say(f"made a spool in {directory}")
    say(f"start the daemon:  QueueManager{option}")
    say(f"run a first job:   qm{option} submit -- echo hello")
    say(f"look at it:        WEB_QMserver{option}, then http://127.0.0.1:8080/")
    return EX_DONE
