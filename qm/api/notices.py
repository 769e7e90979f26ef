"""File events for those who wait for jobs: which folders came into QM_Jobs or an end, which results into a folder.

Invariant: losing every event costs latency, never a result: the watcher looks for itself, too. A watch is on the
folder, not on its name, so it goes with a job from place to place.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

from qm.spool.paths import SpoolPaths
from qm.vocabulary.states import Place

PLACES = (Place.JOBS, Place.DONE, Place.LOST)


class Arrived(NamedTuple):
    """A folder of that name came into one of the places."""

    place: Place
    folder: str


class Written(NamedTuple):
    """A file of that name came into the folder that is watched under that number."""

    watch: int
    name: str


class Notices:
    """The events of one spool (inotify(7)). OSError or ImportError where there are none."""

    def __init__(self, paths: SpoolPaths) -> None:
        from inotify_simple import INotify, flags

        self._mask = flags.MOVED_TO | flags.ONLYDIR
        self._overflow = int(flags.Q_OVERFLOW)
        self._gone = int(flags.IGNORED)
        self._inotify = INotify(nonblocking=True)
        try:
            self._places = {self._inotify.add_watch(paths.places[place], self._mask): place for place in PLACES}
        except OSError:
            self._inotify.close()
            raise

    def fileno(self) -> int:
        """For poll(2)."""
        return int(self._inotify.fileno())

    def watch(self, folder: str) -> int | None:
        """Watch a job's folder; None when the system has no watches left, or the folder is gone."""
        try:
            return int(self._inotify.add_watch(folder, self._mask))
        except OSError:
            return None

    def forget(self, watch: int) -> None:
        """Watch that folder no more."""
        with contextlib.suppress(OSError):  # it is gone, and its watch with it
            self._inotify.rm_watch(watch)

    def read(self) -> Iterator[Arrived | Written | None]:
        """What there is now, in order; None when something was lost."""
        for watch, mask, _, name in self._inotify.read(timeout=0):
            if mask & self._overflow:
                yield None
            elif mask & self._gone:
                if watch in self._places:
                    yield None
            elif (place := self._places.get(watch)) is not None:
                yield Arrived(place, name)
            else:
                yield Written(watch, name)

    def close(self) -> None:
        """Give the descriptor back."""
        self._inotify.close()


def open_notices(paths: SpoolPaths, portable: bool) -> Notices | None:
    """The events of this system, or None where there are none (or none are wanted)."""
    if portable or not sys.platform.startswith("linux"):
        return None
    try:
        return Notices(paths)
    except (ImportError, OSError):
        return None  # e.g. none left for this user: looking each moment serves as well
