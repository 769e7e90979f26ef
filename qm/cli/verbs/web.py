"""qm web: WEB_QMserver under another name."""

from __future__ import annotations

import argparse

HELP = "serve the dashboard (the same as WEB_QMserver)"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """This verb has no arguments of its own."""


def run(args: argparse.Namespace) -> int:
    """Serve until stopped."""
    from qm_web.main import main

    return main(["-c", args.config] if args.config is not None else [])
