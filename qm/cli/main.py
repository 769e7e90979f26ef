"""qm: the command line.

Each verb is a module of `qm.cli.verbs` with HELP, `add_arguments(parser)` and `run(args) -> exit status`.
What a verb needs beyond its arguments it imports when it runs, so that `qm --help` stays quick.
"""

# PYTHON_ARGCOMPLETE_OK
from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from qm import __version__
from qm.cli.verbs import ask, check, daemon, init, log, show, status, submit, sweep, wait, web
from qm.vocabulary.errors import EX_FAILED, EX_USAGE, QMError

DESCRIPTION = "Copy a job folder into QM_qJobs, and it runs."
EPILOG = """\
NAME is a job's id, or the name it was submitted under (the newest of that name).

Exit status: 0 done, 1 it failed, 2 wrong usage, 66 no such job, 75 try again, 78 wrong configuration.
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    arguments = argparse.ArgumentParser(
        prog="qm",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument(
        "-c",
        metavar="QMserv.cfg",
        dest="config",
        help="the configuration (else $QM_CONFIG, ./, ~/.config/qm/, /etc/qm/)",
    )
    arguments.add_argument("--version", action="version", version=f"qm {__version__}")
    verbs = arguments.add_subparsers(dest="verb", metavar="VERB", required=True)
    modules = {
        "init": init,
        "check": check,
        "submit": submit,
        "sweep": sweep,
        "status": status,
        "show": show,
        "log": log,
        "wait": wait,
    }
    for name, module in modules.items():
        added = verbs.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(added)
        added.set_defaults(run=module.run)
    ask.add_verbs(verbs)
    for name, program in {"daemon": daemon, "web": web}.items():
        added = verbs.add_parser(name, help=program.HELP, description=program.HELP)
        program.add_arguments(added)
        added.set_defaults(run=program.run)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status. No traceback reaches a user for what a user can cause."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no error
    arguments = parser()
    if "_ARGCOMPLETE" in os.environ:
        from qm.cli.completion import complete

        complete(arguments)
    args = arguments.parse_args(*_without_command(sys.argv[1:] if argv is None else argv))
    try:
        status_: int = args.run(args)
        sys.stdout.flush()
        return status_
    except QMError as err:
        return _complain(str(err), err.exit_status)
    except BrokenPipeError:  # `qm status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_FAILED
    except KeyboardInterrupt:
        return 130
    except OSError as err:
        where = f"{err.filename}: " if err.filename is not None else ""
        return _complain(f"{where}{err.strerror or err}", EX_FAILED)


def _without_command(argv: Sequence[str]) -> tuple[Sequence[str], argparse.Namespace]:
    """Keep what follows `--` in `qm submit … -- COMMAND` away from argparse: those words are not ours."""
    rest = argparse.Namespace(command=None)
    if "--" in argv and "submit" in argv[: (at := argv.index("--"))]:
        rest.command = list(argv[at + 1 :])
        argv = argv[:at]
    return argv, rest


def usage_error(text: str) -> int:
    """Say what was wrong with the command line."""
    return _complain(text, EX_USAGE)


def _complain(text: str, status_: int) -> int:
    from qm.cli.common import complain

    complain(text)
    return status_


if __name__ == "__main__":
    sys.exit(main())
