"""Asking the daemon for visitors: wishes become request files, answers become outcomes.

Invariant: a wish touches the jobs that its keys name, and no other. A folder without an id (still arriving, or
QM 0.4's) is meant by where it lies, since other jobs may have its name.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from qm.spool.requests import await_answers, leave
from qm.vocabulary.errors import RequestError
from qm.vocabulary.requests import Request
from qm.vocabulary.text import printable
from qm_web.cache.index import Row
from qm_web.site import Site

PATIENCE = 2.0
"""Seconds that all answers together are waited for: a thread of the server waits with them."""

DOWN = "QueueManager is not running; the request is kept and will be obeyed when it starts"
LATE = "not asked for: to find so many jobs takes too long just now; try again with fewer"
SLOW = "no answer yet; the request is kept and will be obeyed"

OBEYED = {
    "kill": "killed, or being ended",
    "hold": "held",
    "release": "released",
    "pause": "paused",
    "resume": "go on as soon as processors are free",
    "retry": "queued again",
    "delete": "deleted",
    "set": "changed",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """A verb, the jobs it is for (none for drain and undrain), and what `set` is to change."""

    verb: str
    keys: tuple[str, ...] = ()
    args: Mapping[str, str] = field(default_factory=dict)


class Outcome(NamedTuple):
    """What became of a wish for one job. `ok` is None while nobody has answered."""

    key: str
    name: str
    ok: bool | None
    message: str


def find(site: Site, key: str) -> Row | None:
    """The job of a key; what cannot be a key is not looked for."""
    return site.index.find(key) if key.isascii() and key.isalnum() else None


def request_for(wish: Wish, row: Row) -> Request:
    """What is asked of the daemon. A folder without an id is meant by where it lies: `QM_dJobs/name`, no other."""
    if row.id:
        return Request(wish.verb, row.id, row.name, wish.args)
    return Request(wish.verb, "", f"{row.place}/{row.folder}", wish.args)


def doubtful(site: Site, verb: str, key: str, row: Row) -> str:
    """Why it cannot be told which folder is meant; "" if it can."""
    if row.key != key:  # found by the name of the folder that it had before it had an id
        return f"{row.name} has an id by now, and may be another job of that name: look again, and repeat what you did"
    if verb not in ("delete", "retry"):
        return ""
    folders = site.index.folders_of(key)
    if len(folders) < 2:
        return ""
    named = printable(", ".join(folders[:3]))
    return f"{len(folders)} folders say that they are this job ({named}): {verb} works when one is left"


def ask(site: Site, wish: Wish) -> list[Outcome]:
    """Leave all requests, then wait for their answers together, at most PATIENCE seconds; not at all for a daemon
    that is down. One outcome for each key, in their order; one for the queue.
    """
    begun = time.monotonic()
    outcomes: dict[str, Outcome] = {}
    asked: dict[str, tuple[str, str]] = {}
    for key in wish.keys or ("",):
        if time.monotonic() - begun > PATIENCE:
            outcomes[key] = Outcome(key, "", False, LATE)
            continue
        row = find(site, key) if key else None
        if key and row is None:
            outcomes[key] = Outcome(key, "", False, "there is no such job (any more)")
            continue
        name = row.name if row is not None else ""
        if row is not None and (doubt := doubtful(site, wish.verb, key, row)):
            outcomes[key] = Outcome(key, name, False, doubt)
            continue
        outcomes[key] = Outcome(key, name, None, SLOW)
        try:
            request = request_for(wish, row) if row is not None else Request(wish.verb)
            asked[leave(site.view.paths, request)] = (key, name)
        except RequestError as err:
            outcomes[key] = Outcome(key, name, False, str(err))
    served = site.live.daemon() is not None
    patience = PATIENCE - (time.monotonic() - begun)
    answers = await_answers(site.view.paths, asked, patience) if served else {}
    for request_name, (key, name) in asked.items():
        if (answer := answers.get(request_name)) is not None:
            outcomes[key] = Outcome(key, name, answer.ok, answer.message)
        elif not served:
            outcomes[key] = Outcome(key, name, None, DOWN)
    return list(outcomes.values())


def counted(number: int) -> str:
    """`1 job`, `3 jobs`."""
    return f"{number} job{'' if number == 1 else 's'}"


def summary(verb: str, outcomes: Sequence[Outcome]) -> str:
    """What became of it, in one or a few sentences."""
    if len(outcomes) == 1:
        (only,) = outcomes
        return f"{only.name}: {only.message}" if only.name and only.name not in only.message else only.message
    parts = []
    obeyed = sum(outcome.ok is True for outcome in outcomes)
    if obeyed:
        parts.append(f"{counted(obeyed)}: {OBEYED[verb]}.")
    kept = [outcome for outcome in outcomes if outcome.ok is None]
    if kept:
        parts.append(f"{counted(len(kept))}: {kept[0].message}.")
    refused = [outcome for outcome in outcomes if outcome.ok is False]
    if refused:
        told = "; ".join(dict.fromkeys(outcome.message for outcome in refused[:3]))
        more = " …" if len(refused) > 3 else ""
        parts.append(f"{counted(len(refused))} refused: {told}{more}")
    return " ".join(parts)
