"""qm daemon: QueueManager under another name."""

from __future__ import annotations

import argparse

HELP = "serve the queue (the same as QueueManager)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    from qm.cli.queuemanager import add_options

    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped."""
    from qm.cli.queuemanager import run as serve

    return serve(args)
