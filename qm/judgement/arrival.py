"""Arrival: when is a folder complete, and may it become a job?

Invariant: a folder is judged complete only when it came by rename, or when nothing in its tree has changed
for `settle_time` on the monotonic clock and nobody who can be seen holds a file in it open for writing.
All times here are seconds of the monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qm.vocabulary.record import Survey

COPYING_SUFFIXES = (".tmp", ".part", "~")
COPYING_PREFIXES = (".", "@")
LOOK_AT_MOST_OFTEN = 0.02
"""The share of the daemon's time that looking at one arriving tree may take: a large one is looked at less often."""


def marks_a_copy(name: str) -> bool:
    """Does this name say that the folder is not a job, or not yet one (DESIGN section 2)?"""
    return name.startswith(COPYING_PREFIXES) or name.endswith(COPYING_SUFFIXES)


class Look(Enum):
    """What to do with an arriving folder after a look at it."""

    WAIT = "wait"
    ACCEPT = "accept"
    REJECT = "reject"


@dataclass(slots=True)
class Arrival:
    """One folder on its way in: what it looked like last, since when it looks so, when to look again."""

    name: str
    renamed: bool
    since: float
    look_at: float
    survey: Survey | None = None

    def stir(self, now: float) -> None:
        """Something happened to it: it settles anew."""
        self.survey = None
        self.since = now
        self.look_at = now


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look at the tree found; `cost` is how many seconds the looking took."""

    survey: Survey
    has_job_file: bool
    cost: float = 0.0


def judge(arrival: Arrival, sight: Sight, now: float, settle_time: float, grace: float) -> Look:
    """Judge one look, and set when the next one is due.

    A folder without a job file is given `grace` seconds without any change before it is rejected: the job
    file may be what arrives last.
    """
    if sight.survey != arrival.survey:
        arrival.survey, arrival.since = sight.survey, now
    still = now - arrival.since
    if sight.has_job_file:
        if arrival.renamed or still >= settle_time:
            return Look.ACCEPT
        wanted = settle_time
    else:
        arrival.renamed = False  # what comes now comes by copy, and has to settle
        if still >= grace:
            return Look.REJECT
        wanted = grace
    pause = settle_time / 4 if still < settle_time else settle_time
    soonest = now + sight.cost / LOOK_AT_MOST_OFTEN + 0.01
    arrival.look_at = max(min(now + pause, arrival.since + wanted), soonest)
    return Look.WAIT
