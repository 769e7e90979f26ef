"""Shell completion of verbs, options and job names (argcomplete)."""

from __future__ import annotations

import argparse
from typing import Any

from qm.spool.settings import load_settings
from qm.spool.view import View
from qm.vocabulary.errors import QMError
from qm.vocabulary.states import Place

NAME_ARGUMENTS = ("names", "name")


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and exit, when it was the shell that called (see argcomplete's documentation)."""
    import argcomplete

    _teach(parser)
    argcomplete.autocomplete(parser)


def _teach(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                _teach(verb)
        elif action.dest in NAME_ARGUMENTS:
            action.completer = job_names  # type: ignore[attr-defined]


def job_names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """The names of the jobs there are; folder names are near enough, and need no record to be read."""
    try:
        view = View(load_settings(getattr(parsed_args, "config", None)).folder)
    except QMError:
        return []
    return [name for place in Place for name in view.folders(place) if name.startswith(prefix)]
