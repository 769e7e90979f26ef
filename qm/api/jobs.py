"""The jobs of a spool, for Python: submit a folder, list jobs, find one.

Invariant: each job is given as a Handle, and nothing here changes one; a folder is submitted as `qm submit` does it.
"""

from __future__ import annotations

import os

from qm.api.classes import refuse_while_loading
from qm.api.handles import Handle
from qm.api.where import say_if_unserved, spot
from qm.spool.paths import SpoolPaths
from qm.spool.view import View
from qm.vocabulary.states import ENDED, State

ACTIVE = "active"
"""Every state in which a job has not ended."""
OVER = "ended"
"""Every state in which one has."""


def submit(
    folder: str | os.PathLike[str], *, move: bool = False, name: str | None = None, config: str | None = None
) -> Handle:
    """Queue a copy of a job folder, as `qm submit FOLDER` does; with `move`, the folder itself.

    JobFileError if its job file is wrong, QMError if it cannot be copied: then nothing was queued.
    """
    from qm.spool.submission import check_folder, submit_folder

    refuse_while_loading()
    where, path = spot(config), os.fspath(folder)
    check_folder(path, where.job_files)
    submitted = submit_folder(SpoolPaths(where.root), path, name, move)
    say_if_unserved(where.root, submitted.name)
    return Handle(where.root, submitted.id, submitted.name)


def jobs(state: str | None = None, *, config: str | None = None) -> list[Handle]:
    """The jobs of the spool: what runs, then what waits in the order in which it will start, then what ended, newest
    first. `state` is one of the states, `active` (has not ended) or `ended`. ValueError for another word."""
    matches_state("", state)
    view = View(spot(config).root)
    seen = view.active() if state not in ENDED and state != OVER else []
    seen += view.waiting() if state not in ENDED and state != OVER else []
    seen += view.ended() if state in (None, OVER) or state in ENDED else []
    root = view.paths.root
    return [Handle(root, one.id, one.name, one.place, one.folder) for one in seen if matches_state(one.state, state)]


def job(name: str, *, config: str | None = None) -> Handle:
    """The job of that name or id, found as the command line does: an id, else the newest that lives, else the newest
    that has ended. NoSuchJob."""
    view = View(spot(config).root)
    found = view.find(name)
    return Handle(view.paths.root, found.record.id, found.record.name, found.place, found.folder)


def matches_state(state: str, wanted: str | None) -> bool:
    """Is it the state that is asked for: one of them, `active`, `ended`, or None for any? ValueError."""
    if wanted is None:
        return True
    if wanted in (ACTIVE, OVER):
        return (state in ENDED) is (wanted == OVER)
    if wanted not in set(State):
        raise ValueError(f"{wanted!r} is no state; there are {', '.join(State)}, {ACTIVE} and {OVER}")
    return state == wanted
