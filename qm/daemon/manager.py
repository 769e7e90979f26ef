"""QueueManager's loop. It wakes for a file event, an ended process, a signal or the clock, and then looks.

Invariant: everything happens in this one thread, in the order in which `_turn` names it, so no two parts of
the daemon ever work on one job at a time. What must survive the daemon lies in the folders, not here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from types import FrameType

from qm.daemon.arrays import Arrays
from qm.daemon.dependencies import Dependencies
from qm.daemon.ending import Ending
from qm.daemon.filing import Filing
from qm.daemon.queue import Queue
from qm.daemon.reception import Reception
from qm.daemon.starting import Starting
from qm.daemon.takeover import TakeOver
from qm.daemon.verbs import Verbs
from qm.launchers.base import Launcher
from qm.spool import requests
from qm.spool.events import Inotify, News, open_events
from qm.spool.lock import Lock
from qm.spool.machine import doubts
from qm.spool.spool import Spool
from qm.vocabulary.config import Settings
from qm.vocabulary.errors import ConfigError, QMError, TryAgain
from qm.vocabulary.states import Place

LONGEST_STEP = 0.5
"""Seconds after which starting jobs, or finding out whom they wait for, goes on in the next turn."""
HOUSEKEEPING_EVERY = 600.0
"""Seconds between two clean-ups of old answers."""


class Manager:
    """One daemon on one spool. `reload` reads the configuration again; it raises ConfigError."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        launcher: Launcher,
        log: logging.Logger,
        reload: Callable[[], Settings],
        until_empty: bool = False,
    ) -> None:
        self.settings = settings
        self.log = log
        self._spool = spool
        self._launcher = launcher
        self._reload = reload
        self._until_empty = until_empty
        self._queue = Queue(settings)
        self._reception = Reception(settings, spool, self._queue, log)
        self._filing = Filing(spool, self._queue, log)
        self._arrays = Arrays(spool, self._queue, self._filing, launcher, log)
        self._ending = Ending(spool, self._queue, self._filing, self._arrays, launcher, log)
        self._starting = Starting(
            settings, spool, self._queue, self._reception, self._filing, self._arrays, self._ending, launcher, log
        )
        self._dependencies = Dependencies(spool, self._queue, self._reception, self._filing, log)
        self._verbs = Verbs(
            spool,
            self._queue,
            self._reception,
            self._filing,
            self._arrays,
            self._ending,
            self._dependencies,
            launcher,
            log,
        )
        self._take_over = TakeOver(
            spool, self._queue, self._reception, self._filing, self._arrays, self._ending, launcher, log
        )
        self._lock = Lock(spool.paths.lock)
        self._events: Inotify | None = None
        self._selector = selectors.DefaultSelector()
        self._bell: socket.socket | None = None
        self._stopped = ""
        self._unstarted = False
        self._hung_up = False
        self._scan_at = 0.0
        self._housekeeping_at = 0.0

    # --- the loop ------------------------------------------------------------------------------------------

    def run(self, signals: bool = True) -> None:
        """Serve until a signal or `stop` says so (or, with `until_empty`, until nothing is left to do).

        `signals` only in a program's main thread: elsewhere Python handles none. TryAgain if the spool is locked.
        """
        self._lock.take()
        try:
            with self._hearing() as bell, self._signals(bell) if signals else contextlib.nullcontext():
                self._begin()
                while not self._stopped:
                    due = self._turn()
                    if self._until_empty and self._is_empty():
                        self.log.info("the queue is empty")
                        break
                    self._sleep(due)
        except QMError:
            raise
        except Exception:  # whoever reads the log shall find why there is no daemon any more
            self.log.exception("an error in QueueManager itself ends it; what runs goes on running")
            raise
        finally:
            self._lock.release()
            self._selector.close()
            if self._events is not None:
                self._events.close()
        by = f" by {self._stopped}" if self._stopped else ""
        self.log.info("stopped%s; %d jobs go on running", by, len(self._queue.active))

    def stop(self, why: str) -> None:
        """Have `run` return soon; what runs goes on running. Any thread may say so."""
        self._stopped = why
        if (bell := self._bell) is not None:
            with contextlib.suppress(OSError):  # it has just ended, or was woken a thousand times already
                bell.send(b"\0")

    def _begin(self) -> None:
        self._spool.prepare()
        self._watch()
        self._take_over.run()
        self.log.info(
            "serving %s: %s, %d jobs waiting, %d active, %s",
            self._spool.paths.root,
            self._room(),
            len(self._queue.waiting),
            len(self._queue.active),
            "file events" if self._events is not None else f"a look every {self.settings.poll_interval:g} s",
        )

    def _room(self) -> str:
        """What jobs are given of this machine, in words; warns of what it does not have."""
        for doubt in doubts(self.settings):
            self.log.warning("%s", doubt)
        processors = self._queue.limit
        if self._queue.binds:
            return f"{processors} processors (each job has its own)"
        why = "there are fewer than that" if self.settings.limit_processors else "Limit_Processors is none"
        return f"{processors} processors (shared: {why})"

    def _turn(self) -> float:
        """One wake-up; returns until when nothing is due (monotonic)."""
        if self._hung_up:
            self._read_settings()
        news = self._news()
        if time.monotonic() >= self._scan_at or news.overflow:
            self._scan()
            news.requests = True
        if news.requests:
            self._obey()
        self._reception.hear(news)
        if news.left_jobs:
            self._ending.check_presence(news.left_jobs)
        self._ending.collect()
        self._start()  # before anything is filed, so that the processors have work meanwhile
        self._ending.file_ended()
        self._reception.look()
        if self._verbs.postponed:
            self._obey()
        if self._queue.came or self._queue.ended:
            self._dependencies.settle(time.monotonic() + LONGEST_STEP)
        wake_at = self._starting.wake()
        self._start()
        tick_at = self._launcher.tick()
        limit_at = self._ending.enforce()
        more_at = 0.0 if self._unstarted or self._queue.came or self._queue.ended else None
        due_at = self._reception.due()
        dues = (due_at, tick_at, limit_at, wake_at, more_at, self._starting.waits_until(), self._scan_at)
        return min(at for at in dues if at is not None)

    def _news(self) -> News:
        return self._events.read() if self._events is not None else News()

    def _scan(self) -> None:
        """What a look at the folders tells; the events may have been lost."""
        now = time.monotonic()
        self._scan_at = now + self.settings.poll_interval
        with self._patiently("look through the folders"):
            self._keep_hold()
            self._reception.scan()
            self._ending.check_presence({entry.job.folder for entry in self._queue.active.values()})
            self._filing.try_again()
            self._take_over.again()
            self._dependencies.try_again()
            self._starting.explain(self._verbs.draining)
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + HOUSEKEEPING_EVERY
            requests.forget_old_answers(self._spool.paths, time.time())

    def _obey(self) -> None:
        with self._patiently("look for requests"):
            self._verbs.obey_all()

    @contextlib.contextmanager
    def _patiently(self, what: str) -> Iterator[None]:
        """What the system is in the way of (no descriptors, a file server that is away) is tried at the next scan."""
        try:
            yield
        except (OSError, ConfigError) as err:
            self.log.warning("cannot %s now: %s", what, err)

    def _start(self) -> None:
        """Paused jobs that are to go on come before new ones: these wait until no processors are missing to those."""
        self._unstarted = False
        if not self._verbs.resume_paused():
            return
        until = time.monotonic() + LONGEST_STEP
        while not self._stopped and not self._verbs.draining and self._starting.start_next():
            if time.monotonic() > until:  # whatever cannot be started may be many: others wait for us, too
                self._unstarted = True
                return

    def _is_empty(self) -> bool:
        """Nothing arrives, waits or runs. What may not begin yet does not count: see Queue.is_idle."""
        if self._reception.busy() or not self._queue.is_idle() or self._filing.busy():
            return False
        with self._patiently("look through the folders"):
            self._reception.scan()
            return not self._reception.busy() and not self._verbs.pending()
        return False

    # --- waking and sleeping -------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._events = open_events(self._spool.paths, self.settings.portable)
        if self._events is not None:
            self._selector.register(self._events.fileno(), selectors.EVENT_READ)
        if (fd := self._launcher.fileno()) is not None:
            self._selector.register(fd, selectors.EVENT_READ)

    def _sleep(self, until: float) -> None:
        pause = max(0.0, until - time.monotonic())
        for key, _ in self._selector.select(pause):
            if key.data is not None:
                with contextlib.suppress(BlockingIOError):
                    while key.data.recv(4096):
                        pass

    @contextlib.contextmanager
    def _hearing(self) -> Iterator[socket.socket]:
        """What is written into the socket that it gives wakes the loop."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ, ours)
        self._bell = theirs
        try:
            yield theirs
        finally:
            self._bell = None
            self._selector.unregister(ours)
            ours.close()
            theirs.close()

    @contextlib.contextmanager
    def _signals(self, bell: socket.socket) -> Iterator[None]:
        """TERM and INT stop, HUP reads the settings, CHLD only wakes (where no process descriptor does)."""
        handlers = {"SIGTERM": self._on_stop, "SIGINT": self._on_stop, "SIGHUP": self._on_hangup}
        if self._launcher.fileno() is None:
            handlers["SIGCHLD"] = self._on_child
        former_fd = signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
        former = {
            number: signal.signal(number, handler)
            for name, handler in handlers.items()
            if (number := getattr(signal, name, None)) is not None
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(former_fd)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        self._stopped = signal.Signals(number).name  # no word to the log: it may be in the middle of another

    def _on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        self._hung_up = True

    def _on_child(self, _number: int, _frame: FrameType | None) -> None:
        """The wake-up is all there is to it."""

    # --- what may change under us --------------------------------------------------------------------------

    def _read_settings(self) -> None:
        self._hung_up = False
        try:
            settings = self._reload()
        except ConfigError as err:
            self.log.error("the settings stay as they are: %s", err)
            return
        if (settings.folder, settings.portable) != (self.settings.folder, self.settings.portable):
            self.log.error("the settings stay as they are: QM_FOLDER and Portable change only by a new start")
            return
        self.settings = self._starting.settings = settings
        self._reception.apply(settings)
        self._queue.apply(settings)
        self._launcher.kill_grace = settings.kill_grace
        self._spool.failed_to = Place.DONE if settings.failed_jobs == "done" else Place.LOST
        self.log.setLevel(logging.DEBUG if settings.debug else logging.INFO)
        self.log.info("the settings were read again: %s, %s", settings.file, self._room())

    def _keep_hold(self) -> None:
        """Somebody may have deleted `.qm/`, or one of the folders, under us."""
        paths = self._spool.paths
        os.stat(paths.root)  # a file system that is away is not made anew
        wanted = (*paths.places.values(), paths.requests, paths.answers)
        missing = [directory for directory in wanted if not os.path.isdir(directory)]
        locked = self._lock.still_ours()
        if locked and not missing:
            return
        self.log.warning("%s was removed: making it anew", missing[0] if locked else os.path.dirname(paths.lock))
        if not locked:
            self._lock.release()
            self._lock.take()
        try:
            self._spool.prepare()
        except TryAgain as err:  # a full disk; that the lock is another's ends this daemon, but not this
            self.log.warning("%s", err)
            return
        if self._events is not None:
            self._selector.unregister(self._events.fileno())
            self._events.close()
        self._events = open_events(self._spool.paths, self.settings.portable)
        if self._events is not None:
            self._selector.register(self._events.fileno(), selectors.EVENT_READ)
