"""The thread that watches the jobs of one queue for all who wait for them.

Invariants: every listener is called in this thread. Events only make it quick: what they tell is looked up, and each
moment it looks for itself, so that a job whose events were lost, or that runs on another machine, is followed, too.
While no crew is open it sleeps.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from functools import partial

from qm.api.absence import PATIENCE, Absence
from qm.api.crew import Crew
from qm.api.errors import DaemonAway
from qm.api.following import Following
from qm.api.notices import Arrived, Notices, open_notices
from qm.spool.view import View
from qm.vocabulary.states import Place

LOOK_EVERY = 1.0
"""Seconds between two looks where there are events."""
LOOK_OFTEN = 0.05
"""The same where there are none."""
SETTLED = 2.0
"""Seconds after which a folder's mtime tells that nothing came or went (file systems count in up to 2 s)."""

_log = logging.getLogger("qm")


class Watcher:
    """Follows crews from their submission to their end. The thread starts with the first of them."""

    def __init__(self, view: View, portable: bool, patience: float = PATIENCE) -> None:
        self._view = view
        self._portable = portable
        self._absence = Absence(view, patience)
        self._lock = threading.Lock()
        self._by_name: dict[str, list[Following]] = {}
        self._by_watch: dict[int, Following] = {}
        self._thread: threading.Thread | None = None
        self._notices: Notices | None = None
        self._bell: tuple[int, int] | None = None
        self._closed = False
        self._lost = ""
        self._look_at = 0.0
        self._seen: dict[Place, tuple[int, float]] = {}

    @property
    def thread(self) -> threading.Thread | None:
        """The thread, if it has begun."""
        return self._thread

    # --- called by others ----------------------------------------------------------------------------------

    def expect(self, crew: Crew, name: str) -> Following:
        """A crew is about to come into view under this name."""
        with self._lock:
            self._start()
            several = crew.was_open or len(crew.chunks) > 1  # else its end tells all
            watch = self._notices.watch(crew.folder) if several and self._notices is not None else None
            following = Following(crew, self._view, name, watch)
            self._by_name.setdefault(name, []).append(following)
            if watch is not None:
                self._by_watch[watch] = following
            if len(self._by_name) == 1:
                self._look_at = time.monotonic() + LOOK_OFTEN
                self._ring()
            return following

    def rename(self, following: Following, name: str) -> None:
        """It got another name, since its own was taken."""
        with self._lock:
            if following in self._by_name.get(following.name, ()):
                self._drop(following)
                following.name = name
                self._by_name.setdefault(name, []).append(following)
        self.look_now()

    def look_now(self) -> None:
        """Look after everybody at once, whatever was seen last time."""
        with self._lock:
            self._look_at = 0.0
            self._seen.clear()
            self._ring()

    def abandon(self, why: str) -> None:
        """Nobody will ever serve the queue again: everybody who waits, now or later, is told that."""
        with self._lock:
            self._lost = why
            self._ring()

    def forget(self, following: Following) -> None:
        """It came to nothing."""
        with self._lock:
            self._drop(following)
            self._unwatch(following)

    def close(self) -> None:
        """End the thread; may be called in it. Whoever still waits is told that nothing more will be heard."""
        with self._lock:
            self._closed = True
            thread = self._thread
            self._ring()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # --- the thread ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._closed:
            raise RuntimeError("this queue was closed; open another")
        if self._thread is None:
            self._notices = open_notices(self._view.paths, self._portable)
            self._bell = os.pipe()
            os.set_blocking(self._bell[0], False)
            os.set_blocking(self._bell[1], False)
            self._thread = threading.Thread(target=self._run, name="qm-watcher", daemon=True)
            self._thread.start()

    def _ring(self) -> None:
        if self._bell is not None:
            with contextlib.suppress(BlockingIOError):  # it has been rung a thousand times already
                os.write(self._bell[1], b"\0")

    def _run(self) -> None:
        assert self._bell is not None
        poll = select.poll()
        poll.register(self._bell[0], select.POLLIN)
        if self._notices is not None:
            poll.register(self._notices.fileno(), select.POLLIN)
        try:
            while not self._closed:
                poll.poll(self._pause())
                with contextlib.suppress(BlockingIOError):
                    os.read(self._bell[0], 4096)
                try:
                    self._turn()
                except OSError as err:  # a file server that is away, no descriptors: the next look tells
                    _log.warning("cannot look after the jobs of %s now: %s", self._view.paths.root, err)
                except Exception:  # noqa: BLE001 (a mistake of ours must not let everybody wait for ever)
                    _log.exception("an error while the jobs of %s were looked after", self._view.paths.root)
                    self._seen.clear()
            self._give_up(lambda what: DaemonAway(f"{what}: its queue was closed while it was waited for"))
        finally:
            with self._lock:
                self._closed = True
                if self._notices is not None:
                    self._notices.close()
                os.close(self._bell[0])
                os.close(self._bell[1])
                self._bell = None

    def _pause(self) -> float | None:
        """Milliseconds until the next look; None when nobody is waited for."""
        if not self._by_name:
            return None
        return max(0.0, self._look_at - time.monotonic()) * 1000 + 1

    def _turn(self) -> None:
        self._hear()
        if self._lost:
            self._give_up(lambda what: DaemonAway(f"{what}: {self._lost}"))
        now = time.monotonic()
        if now >= self._look_at and self._by_name and not self._closed:
            self._look_at = now + (LOOK_EVERY if self._notices is not None else LOOK_OFTEN)
            self._look()
            if (error := self._absence.look(now)) is not None:
                self._give_up(error)

    def _hear(self) -> None:
        for notice in self._notices.read() if self._notices is not None else ():
            if self._closed:
                return
            if notice is None:
                self._look_at = 0.0
                self._seen.clear()
            elif isinstance(notice, Arrived):
                for following in self._named(notice.folder):
                    self._do(following, partial(Following.arrived, place=notice.place, folder=notice.folder))
            elif (found := self._by_watch.get(notice.watch)) is not None:
                self._do(found, partial(Following.written, name=notice.name))

    def _named(self, folder: str) -> list[Following]:
        """Who may lie in a folder of that name: `name`, or `name.2` where that was taken."""
        found = self._by_name.get(folder, ())
        base, _, number = folder.rpartition(".")
        if number.isdigit():
            found = [*found, *self._by_name.get(base, ())]
        return list(found)

    def _do(self, following: Following, what: Callable[[Following], bool]) -> None:
        """Do something that may be the end of one; what goes wrong with one must not be the end of the others."""
        try:
            ended = what(following)
        except Exception:  # noqa: BLE001 (whatever it is)
            _log.exception("an error while %s was looked after", following.name)
            return
        if ended:
            with self._lock:
                self._drop(following)
                self._unwatch(following)

    def _look(self) -> None:
        waiting, active = self._names(Place.QUEUE), self._names(Place.JOBS)
        if waiting is None and active is not None:
            waiting = self._names(Place.QUEUE, always=True)
        if active is None and waiting is not None:
            active = self._names(Place.JOBS, always=True)
        for following in self._everybody():
            if self._closed:
                return
            self._do(following, lambda one: one.look(waiting, active))

    def _names(self, place: Place, always: bool = False) -> set[str] | None:
        """What lies there; None when nothing came or went since the last look."""
        directory = self._view.paths.places[place]
        try:
            changed = os.stat(directory).st_mtime_ns
            last, looked = self._seen.get(place, (0, 0.0))
            if not always and changed == last and looked - changed / 1e9 > SETTLED:
                return None
            self._seen[place] = (changed, time.time())
            return set(os.listdir(directory))
        except FileNotFoundError:
            return set()

    def _give_up(self, make: Callable[[str], Exception]) -> None:
        def give_up(following: Following) -> bool:
            following.give_up(make)
            return True

        for following in self._everybody():
            self._do(following, give_up)

    # --- who is followed -----------------------------------------------------------------------------------

    def _everybody(self) -> list[Following]:
        with self._lock:
            return [following for named in self._by_name.values() for following in named]

    def _drop(self, following: Following) -> None:
        named = self._by_name.get(following.name, [])
        if following in named:
            named.remove(following)
        if not named:
            self._by_name.pop(following.name, None)

    def _unwatch(self, following: Following) -> None:
        if following.watch is not None:
            self._by_watch.pop(following.watch, None)
            if self._notices is not None and not self._closed:
                self._notices.forget(following.watch)
