"""QueueManager: the daemon as a program."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qm import __version__
from qm.vocabulary.errors import ConfigError, QMError

if TYPE_CHECKING:
    from qm.vocabulary.config import Settings


def parser(prog: str = "QueueManager") -> argparse.ArgumentParser:
    """The command line."""
    arguments = argparse.ArgumentParser(
        prog=prog,
        description="Serve the queue: start the jobs in QM_qJobs, file them in QM_dJobs or QM_lost+found.",
        epilog="Exit status: 0 stopped or empty, 75 another daemon serves this spool, 78 wrong configuration.",
    )
    arguments.add_argument(
        "-c",
        metavar="QMserv.cfg",
        dest="config",
        help="the configuration (else $QM_CONFIG, ./, ~/.config/qm/, /etc/qm/)",
    )
    add_options(arguments)
    arguments.add_argument("--version", action="version", version=f"QueueManager {__version__}")
    return arguments


def add_options(arguments: argparse.ArgumentParser) -> None:
    """What QueueManager and `qm daemon` have in common."""
    arguments.add_argument("--until-empty", action="store_true", help="exit once nothing arrives, waits or runs")
    arguments.add_argument(
        "--print-unit",
        action="store_true",
        help="print a systemd unit for this installation and configuration, and exit",
    )


def serve(config: str | None, until_empty: bool = False, step: Callable[[str], None] | None = None) -> int:
    """Read the configuration and serve. `step` is for crash tests (see qm.spool.spool.STEPS). Raises QMError."""
    from qm.daemon.logbook import open_log
    from qm.daemon.manager import Manager
    from qm.launchers.local import LocalLauncher
    from qm.spool.settings import find_config
    from qm.spool.spool import Spool
    from qm.vocabulary.states import Place

    file = find_config(config)
    settings = read_settings(file)
    spool = Spool(settings.folder, Place.DONE if settings.failed_jobs == "done" else Place.LOST, step)
    spool.prepare()
    try:
        log = open_log(spool.paths.log, settings.debug)
    except OSError as err:
        raise ConfigError(f"{spool.paths.log}: {err.strerror}; the daemon must be able to write its log") from err
    gc.set_threshold(50_000, 20, 50)  # thousands of records that live long: look for garbage less often
    launcher = LocalLauncher(settings.folder, settings.kill_grace, settings.portable, step=step, log=log)
    Manager(settings, spool, launcher, log, lambda: read_settings(file), until_empty).run()
    return 0


def read_settings(file: str) -> Settings:
    """The settings in a file, if this version can serve with them. ConfigError."""
    from qm.spool.settings import load_settings

    settings = load_settings(file)
    if settings.launch_type in ("slurm", "gridengine"):
        raise ConfigError(
            f"{file}: launch_type = {settings.launch_type} is not there yet; use non-blocking or blocking"
        )
    return settings


def run(args: argparse.Namespace) -> int:
    """Do what the command line says. Raises QMError."""
    if args.print_unit:
        from qm.cli.unit import unit_text

        print(unit_text(args.config), end="")
        return 0
    return serve(args.config, args.until_empty)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    try:
        return run(parser().parse_args(argv))
    except QMError as err:
        print(f"QueueManager: {err}", file=sys.stderr)
        return err.exit_status


if __name__ == "__main__":
    sys.exit(main())
