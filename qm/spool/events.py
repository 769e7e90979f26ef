"""File events: what wakes the daemon. They only wake it; a scan decides.

Invariant: losing every event costs latency, never a job. Where the system has no inotify(7) the daemon scans
every Poll_Interval; `open_events` then returns None.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from qm.judgement.arrival import marks_a_copy
from qm.spool.paths import SpoolPaths
from qm.vocabulary.states import Place


@dataclass(slots=True)
class News:
    """What happened since the last look. `renamed` names came whole; `renames` maps old names to new ones."""

    renamed: dict[str, None] = field(default_factory=dict)
    stirred: dict[str, None] = field(default_factory=dict)
    renames: dict[str, str] = field(default_factory=dict)
    left_queue: set[str] = field(default_factory=set)
    left_jobs: set[str] = field(default_factory=set)
    requests: bool = False
    overflow: bool = False


class Inotify:
    """Watches QM_qJobs, QM_Jobs and the requests."""

    def __init__(self, paths: SpoolPaths) -> None:
        from inotify_simple import INotify, flags

        self._flags = flags
        self._inotify = INotify(nonblocking=True)
        arriving = flags.MOVED_TO | flags.CREATE | flags.MOVED_FROM | flags.DELETE | flags.ONLYDIR
        leaving = flags.MOVED_FROM | flags.DELETE | flags.ONLYDIR
        self._queue = self._inotify.add_watch(paths.places[Place.QUEUE], arriving)
        self._jobs = self._inotify.add_watch(paths.places[Place.JOBS], leaving)
        self._requests = self._inotify.add_watch(paths.requests, flags.MOVED_TO | flags.ONLYDIR)

    def fileno(self) -> int:
        """For the selector."""
        return int(self._inotify.fileno())

    def close(self) -> None:
        """Stop watching."""
        self._inotify.close()

    def read(self) -> News:
        """Everything that is there now; never blocks."""
        flags = self._flags
        news = News()
        moved_from: dict[int, str] = {}
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                news.overflow = True
            elif event.wd == self._requests:
                news.requests = True
            elif event.wd == self._jobs:
                if event.mask & (flags.MOVED_FROM | flags.DELETE):
                    news.left_jobs.add(event.name)
            elif event.wd == self._queue:
                self._queue_event(event.mask, event.cookie, event.name, moved_from, news)
            if event.mask & flags.IGNORED:
                news.overflow = True
        return news

    def _queue_event(self, mask: int, cookie: int, name: str, moved_from: dict[int, str], news: News) -> None:
        flags = self._flags
        if mask & (flags.MOVED_FROM | flags.DELETE):
            news.left_queue.add(name)
            if mask & flags.MOVED_FROM:
                moved_from[cookie] = name
        elif mask & flags.CREATE:
            news.stirred[name] = None
        elif mask & flags.MOVED_TO:
            old = moved_from.get(cookie)
            if old is None or marks_a_copy(old):
                news.renamed[name] = None
            else:
                news.renames[old] = name


def open_events(paths: SpoolPaths, portable: bool) -> Inotify | None:
    """The events of this system, or None where there are none (or none are wanted)."""
    if portable or not sys.platform.startswith("linux"):
        return None
    try:
        return Inotify(paths)
    except (ImportError, OSError):
        return None  # e.g. no watches left for this user: polling serves as well
