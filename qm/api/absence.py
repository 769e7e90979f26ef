"""Is there still a daemon, and a queue at all? For how long has there been none?"""

from __future__ import annotations

import os
from collections.abc import Callable

from qm.api.errors import DaemonAway, FolderGone
from qm.spool.view import View

LOOK_EVERY = 1.0
"""Seconds between two looks."""
PATIENCE = 30.0
"""Seconds that a daemon may be away before nobody waits for it any more."""


class Absence:
    """Looks for a queue's daemon now and then; `patience` in seconds."""

    def __init__(self, view: View, patience: float) -> None:
        self._view = view
        self._patience = patience
        self._pause = min(LOOK_EVERY, patience)
        self._look_at = 0.0
        self._away = 0.0
        """Seconds, in looks: by the clock it would be long for a process that was stopped itself in between."""

    def look(self, now: float) -> Callable[[str], Exception] | None:
        """What to tell those who wait, given what they wait for; None while they are to go on waiting."""
        if now < self._look_at:
            return None
        self._look_at = now + self._pause
        root = self._view.paths.root
        if self._view.daemon() is not None:
            self._away = 0.0
            return None
        try:
            os.stat(root)
        except FileNotFoundError:
            return lambda what: FolderGone(f"{what}: QM_FOLDER {root} was removed")
        except OSError:
            pass  # a file server that is away, for now
        self._away += self._pause
        if self._away <= self._patience:
            return None
        self._away = 0.0
        text = f"no QueueManager has served {root} for {self._patience:g} s; jobs may still run"
        return lambda what: DaemonAway(f"{what}: {text}")
