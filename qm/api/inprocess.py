"""`launcher="local"`: the daemon's scheduler and launcher in a thread of this process, on a spool of its own.

Invariants: nothing of the process is changed for that: no signal handler, no logger, no garbage collector's setting,
nobody else's children. When the queue is closed, or the process ends, nothing is left: no thread, no job, no folder.
Workers end by themselves when this process dies without a word.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shutil
import stat
import tempfile
import threading
import time

from qm.api.errors import DaemonAway
from qm.api.marks import process_mark
from qm.api.queue import JobQueue
from qm.daemon.manager import Manager
from qm.launchers.local import LocalLauncher
from qm.spool.lock import holder_of
from qm.spool.paths import SpoolPaths
from qm.spool.spool import Spool
from qm.vocabulary.config import Settings, read_settings
from qm.vocabulary.errors import QMError, TryAgain

PREFIX = "qm-local-"
"""Of the private folder's name; then comes the process's number."""
YOUNG = 60.0
"""Seconds: a younger folder may be another's that has not taken its lock yet."""
KILL_GRACE = 1
"""Seconds between TERM and KILL for workers when the queue is closed."""
PAUSE = "0.001"
"""Seconds between two looks of an idle worker, at most: this disk is local, and the worker ends after 10 s of that."""
PATIENCE = 10.0
"""Seconds that closing waits for the end of what runs, at most."""

CONFIG = """\
[QMServer]
QM_FOLDER : {folder}
MaxNbProcessors : {processors}
Limit_Processors : none
Kill_Grace : {grace}
Poll_Interval : {poll}
Disk_Reserve : 0
Portable : {portable}
"""
"""Processors are not handed out one by one: this scheduler does not know what else runs on the machine."""


class LocalQueue(JobQueue):
    """A queue without a daemon. `processors`: how many its jobs may have together; None: those of this process."""

    def __init__(self, processors: int | None = None, portable: bool = False) -> None:
        from qm.spool.machine import usable_processors

        try:
            _forget_the_dead()
            folder = os.path.realpath(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        except OSError as err:
            raise QMError(f"no folder for a local queue: {err}; set TMPDIR to one that can be written") from err
        super().__init__(_settings(folder, processors or usable_processors(), portable))
        self._failure: BaseException | None = None
        self._closing = threading.Lock()
        self._is_closing = False
        self._closed = threading.Event()
        self._log = _log(f"{folder}/QueueManager.log")
        spool = Spool(folder)
        self._launcher = LocalLauncher(folder, self.settings.kill_grace, portable, adopts=False)
        self._manager = Manager(self.settings, spool, self._launcher, self._log, lambda: self.settings)
        self._thread = threading.Thread(target=self._serve, name="qm-local", daemon=True)
        try:
            spool.prepare()
            self._thread.start()
            self._await_service()
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)

    def _serve(self) -> None:
        try:
            self._manager.run(signals=False)
        except BaseException as err:  # noqa: BLE001 (told to whoever waits: see `check`)
            self._failure = err
            self.watcher.abandon(self._end_of_service())

    def _await_service(self) -> None:
        """Until the lock is held, so that nobody takes the queue for one without a daemon. TryAgain."""
        deadline = time.monotonic() + PATIENCE
        while self.view.daemon() is None:
            if self._failure is not None or time.monotonic() > deadline:
                raise TryAgain(f"the local queue in {self.root} cannot begin: {self._failure}") from self._failure
            time.sleep(0.001)

    def check(self) -> None:
        """As for any queue; DaemonAway when its scheduler has ended by an error of its own."""
        if self._failure is not None:
            raise DaemonAway(self._end_of_service()) from self._failure
        super().check()

    def check_once(self) -> None:
        """The same each time: nobody starts this scheduler again."""
        if self._failure is not None:
            self.check()
        super().check_once()

    def _end_of_service(self) -> str:
        error = self._failure
        return f"the local queue in {self.root} has ended by an error: {type(error).__name__}: {error}"

    def variables(self) -> dict[str, str]:
        """Workers look whether this process lives, and for new work more often than on a file server."""
        return {"QM_OWNER": process_mark(os.getpid()), "QM_WORKER_PAUSE": PAUSE}

    def close(self) -> None:
        """End what runs, within PATIENCE seconds, and leave nothing behind. May be called again, and in any thread."""
        if os.getpid() != self._pid:  # a forked child: all of it is its parent's
            return
        with self._closing:
            first, self._is_closing = not self._is_closing, True
        if first:
            try:
                self._end()
            finally:
                self._closed.set()
        elif threading.current_thread() is not self.watcher.thread:  # for which the first may be waiting
            self._closed.wait(2 * PATIENCE)
            super().close()

    def _end(self) -> None:
        super().close()
        self._manager.stop("close()")
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)
        if not self._thread.is_alive():
            self._launcher.close(PATIENCE)
        for handler in self._log.handlers:
            handler.close()
        shutil.rmtree(self.root, ignore_errors=True)
        atexit.unregister(self.close)


def _forget_the_dead() -> None:
    """Remove what processes left that were ended without a word; nothing that is young, or whose lock is held."""
    directory = tempfile.gettempdir()
    for name in os.listdir(directory):
        pid = name.removeprefix(PREFIX).partition("-")[0]
        if not name.startswith(PREFIX) or not pid.isdigit() or process_mark(int(pid)):
            continue
        folder = f"{directory}/{name}"
        with contextlib.suppress(OSError):
            facts = os.lstat(folder)
            ours = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
            if ours and time.time() - facts.st_mtime > YOUNG and holder_of(SpoolPaths(folder).lock) is None:
                shutil.rmtree(folder, ignore_errors=True)


def _settings(folder: str, processors: int, portable: bool) -> Settings:
    text = CONFIG.format(
        folder=folder, processors=processors, grace=KILL_GRACE, poll=0.05 if portable else 1, portable=portable
    )
    return read_settings(text, f"{folder}/QMserv.cfg")


def _log(path: str) -> logging.Logger:
    """A logger that no other knows, into a file of the private spool."""
    log = logging.Logger("QueueManager", logging.INFO)
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    log.addHandler(handler)
    return log
