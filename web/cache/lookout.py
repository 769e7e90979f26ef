"""What has changed in the four folders since they were last looked at.

Invariant: looking costs a bounded share of the time, however many jobs there are: with few, everything is looked at on
every call; with 100,000, a piece at a time. A change is seen late then, never missed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from qm.spool.view import LIVE, PAST, View
from qm.vocabulary.states import Place

UNREAD = -1
"""The stamp of a job that is known to be there, and not read yet."""
UNSURE = -2
"""The stamp of a record so young that another one may follow with the same time."""

YOUNG = 2.0
"""Seconds for which a folder's mtime may hide a later change (the coarsest clock of a file system in use)."""
LIST_SHARE, SWEEP_SHARE = 10.0, 20.0
"""What took so long comes again only after so many times as long."""
SLOW = 0.03
"""Seconds: who wants a page need not wait for listings that take longer."""
CHEAP = 0.004
"""Seconds: a listing that takes less may come every time."""
_FEW = 64
"""Folders that are looked at between two looks at the clock."""

Known = dict[Place, dict[str, int]]


class Difference(NamedTuple):
    """Names that came into a place, and names that left it."""

    new: list[str]
    gone: list[str]


NOTHING = Difference([], [])


class Sweep:
    """A walk over the known folders of some places, a piece at a time."""

    def __init__(self, places: tuple[Place, ...], piece: float) -> None:
        self.places = places
        self.piece = piece
        """Seconds that one piece of it may take."""
        self.left: list[tuple[Place, str]] = []
        self.not_before = 0.0
        self.hurry = True
        """Something may have changed: this round in larger pieces."""


class Lookout:
    """Compares a spool with `known`: for each place the folders that are known and their stamps.

    `clock` is monotonic, `now` UTC epoch seconds. Only one thread at a time may use it.
    """

    def __init__(self, view: View, known: Known, clock: Callable[[], float], now: Callable[[], float]) -> None:
        self._view = view
        self._known = known
        self._clock = clock
        self._now = now
        self._listed: dict[Place, tuple[float, bool]] = {}
        self._not_before: dict[Place, float] = {}
        self._took: dict[Place, float] = {}
        self._sweeps = (Sweep(LIVE, 0.010), Sweep(PAST, 0.001))

    def is_slow(self) -> bool:
        """Is a look now likely to keep somebody waiting? Of places that were never listed that is expected."""
        due = (place for place in Place if self._is_due(place) and not self._is_known(place, self._view.changed(place)))
        return sum(self._took.get(place, SLOW) for place in due) >= SLOW

    def _is_due(self, place: Place) -> bool:
        return self._clock() >= self._not_before.get(place, 0.0)

    def _is_known(self, place: Place, changed: float) -> bool:
        return self._listed.get(place) == (changed, True)

    def listed(self, place: Place, at_once: bool = False) -> Difference:
        """What came and went; nothing when the folder has not changed, or was listed at great cost just now."""
        begun = self._clock()
        changed = self._view.changed(place)
        if self._is_known(place, changed) or not (at_once or self._is_due(place)):
            return NOTHING
        before, _ = self._listed.get(place, (-1.0, False))
        settled = self._now() - changed >= YOUNG
        try:
            new, gone = self._view.came_and_went(place, self._known[place])
        except OSError:  # it may not be read, or a file server is away: what was known stands
            return NOTHING
        if changed != before and not new and not gone:  # one may have left and come back under its name
            self._hurry(place)
        self._listed[place] = (changed, settled)
        took = self._took[place] = self._clock() - begun
        if took > CHEAP:
            self._not_before[place] = begun + took + took * LIST_SHARE
        return Difference(new, gone)

    def moved(self, folders: list[str]) -> list[tuple[Place, str]]:
        """Where jobs that left the live places are now, found without listing what is large."""
        return [
            (place, folder)
            for folder in folders
            for place in PAST
            if folder not in self._known[place] and self._view.stamp(place, folder)
        ]

    def swept(self) -> list[tuple[Place, str]]:
        """Known folders whose record is not the one that was read."""
        return [changed for sweep in self._sweeps for changed in self._piece(sweep)]

    def _hurry(self, place: Place) -> None:
        for sweep in self._sweeps:
            if place in sweep.places and place in PAST and not sweep.hurry:
                sweep.hurry, sweep.left = True, []

    def _piece(self, sweep: Sweep) -> list[tuple[Place, str]]:
        """Look at some folders; all of them, if that is quick."""
        begun = self._clock()
        if begun < sweep.not_before:
            return []
        if not sweep.left:
            sweep.left = [(place, folder) for place in sweep.places for folder in tuple(self._known[place])]
        until = begun + (max(0.008, sweep.piece) if sweep.hurry else sweep.piece)
        changed = []
        while sweep.left and (now := self._clock()) < until:
            for place, folder in sweep.left[-_FEW:]:
                stamp = self._known[place].get(folder, UNREAD)
                if stamp != UNREAD and self._view.stamp(place, folder) != stamp:
                    changed.append((place, folder))
            del sweep.left[-_FEW:]
        now = self._clock()
        sweep.hurry = sweep.hurry and bool(sweep.left)
        sweep.not_before = now + (now - begun) * SWEEP_SHARE
        return changed
