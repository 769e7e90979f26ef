"""QueueManager.log: one line an event, rotated; on a terminal the same lines are shown."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
import time

from qm.vocabulary.text import printable

MAX_BYTES = 5_000_000
KEPT = 4
"""Rotated files beside the current one."""


class _Line(logging.Formatter):
    """Names are hostile: nothing in them may begin a new line or colour the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._when = ""

    def format(self, record: logging.LogRecord) -> str:
        if int(record.created) != self._second:
            self._second = int(record.created)
            self._when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self._second))
        line = f"{self._when} {record.levelname.lower():7} {printable(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _File(logging.handlers.RotatingFileHandler):
    """Counts what it writes instead of asking the system before every line: it is the only writer."""

    def __init__(self, path: str) -> None:
        super().__init__(path, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8", errors="backslashreplace")
        self._written = os.stat(path).st_size

    def shouldRollover(self, record: logging.LogRecord) -> int:
        return self._written >= MAX_BYTES

    def doRollover(self) -> None:
        super().doRollover()
        self._written = 0

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        self._written += len(record.msg) + 60  # near enough: what is wanted is a file that does not grow for ever

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk must not stop the daemon, nor fill the terminal."""


def open_log(path: str, debug: bool) -> logging.Logger:
    """The daemon's log. Raises OSError when the file cannot be opened."""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # facts that no line shows
    logging._srcfile = ""  # nor which line of the program spoke (the logging HOWTO, "Optimization")
    log = logging.Logger("QueueManager", logging.DEBUG if debug else logging.INFO)
    handlers: list[logging.Handler] = [_File(path)]
    if sys.stderr is not None:  # it may have been closed
        shown = logging.StreamHandler(sys.stderr)
        shown.setLevel(logging.DEBUG if debug else logging.INFO if sys.stderr.isatty() else logging.WARNING)
        handlers.append(shown)
    for added in handlers:
        added.setFormatter(_Line())
        log.addHandler(added)
    return log
