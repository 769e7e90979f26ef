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
    """What happened since the last look. `renamed` names came whole, `stirred` ones did not: the last event counts.

    `renames` maps the names that folders had to those they have now.
    """

    renamed: dict[str, None] = field(default_factory=dict)
    stirred: dict[str, None] = field(default_factory=dict)
    renames: dict[str, str] = field(default_factory=dict)
    former: dict[str, str] = field(default_factory=dict)
    left_queue: set[str] = field(default_factory=set)
    left_jobs: set[str] = field(default_factory=set)
    requests: bool = False
    overflow: bool = False


class Inotify:
    """Watches QM_qJobs, QM_Jobs and the requests."""

    def __init__(self, paths: SpoolPaths) -> None:
        from inotify_simple import INotify, flags

        self._overflow = int(flags.Q_OVERFLOW | flags.IGNORED)
        self._left = int(flags.MOVED_FROM | flags.DELETE)
        self._moved_from, self._moved_to = int(flags.MOVED_FROM), int(flags.MOVED_TO)
        self._created = int(flags.CREATE)
        self._recent: dict[int, str] = {}
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
        news = News()
        recent, moved_from = self._recent, self._recent.copy()  # the second half of a rename may come a read later
        for watch, mask, cookie, name in self._inotify.read(timeout=0):
            if mask & self._overflow:
                news.overflow = True
            elif watch == self._queue:
                self._queue_event(mask, cookie, name, moved_from, news)
            elif watch == self._requests:
                news.requests = True
            elif mask & self._left:
                news.left_jobs.add(name)
        self._recent = {cookie: name for cookie, name in moved_from.items() if cookie not in recent}
        return news

    def _queue_event(self, mask: int, cookie: int, name: str, moved_from: dict[int, str], news: News) -> None:
        if mask & self._left:
            news.left_queue.add(name)
            if mask & self._moved_from:
                moved_from[cookie] = name
        elif mask & self._moved_to:
            old = moved_from.get(cookie)
            news.stirred.pop(name, None)
            if old is None or marks_a_copy(old):
                news.renamed[name] = None
            else:
                first = news.former.pop(old, old)
                news.former[name] = first
                news.renames[first] = name
        elif mask & self._created:
            news.renamed.pop(name, None)
            news.stirred[name] = None


def open_events(paths: SpoolPaths, portable: bool) -> Inotify | None:
    """The events of this system, or None where there are none (or none are wanted)."""
    if portable or not sys.platform.startswith("linux"):
        return None
    try:
        return Inotify(paths)
    except (ImportError, OSError):
        return None  # e.g. no watches left for this user: polling serves as well
