"""How far calls are, on standard error: items done, items in all, time left.

On a terminal a bar by rich (by tqdm where rich is missing), in a notebook a line that changes, and elsewhere, as in a
log file, one line at the end of each call. Invariant: showing it costs nothing between two looks a fifth of a second
apart, and what goes wrong with showing it is no concern of the calls.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from qm.api.asyncresults import Outcome, Sink

EVERY = 0.2
"""Seconds between two changes of a line in a notebook."""


class Display(Protocol):
    """One call on the screen. `total` None: nobody knows yet."""

    def show(self, done: int, total: int | None) -> None: ...
    def close(self, line: str) -> None: ...


class Counted:
    """A sink that shows how many outcomes went through it."""

    def __init__(self, sink: Sink, name: str, total: int | None, display: Display) -> None:
        self._sink, self._name, self._total, self._display = sink, name, total, display
        self._lock = threading.Lock()
        self._done = self._failed = 0
        self._began = time.monotonic()
        self._closed = False
        display.show(0, total)

    def put(self, first: int, outcomes: Sequence[Outcome]) -> None:
        with self._lock:
            self._done += len(outcomes)
            self._failed += sum(not succeeded for succeeded, _ in outcomes)
            if not self._closed:
                self._display.show(self._done, self._total)
        self._sink.put(first, outcomes)

    def fail(self, error: BaseException) -> None:
        self._sink.fail(error)

    def close(self) -> None:
        """The call is over."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            failed = f", {self._failed} failed" if self._failed else ""
            of = f" of {self._total}" if self._total is not None else ""
            self._display.close(f"{self._name}: {self._done}{of} in {time.monotonic() - self._began:.1f} s{failed}")


def display(name: str) -> Display:
    """What suits the place where this program writes to."""
    if _in_notebook():
        return _Notebook(name)
    if sys.stderr is not None and sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            return _Rich(name)
        with contextlib.suppress(ImportError):
            return _Tqdm(name)
    return _Line()


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


class _Line:
    """Nothing but the line at the end."""

    def show(self, done: int, total: int | None) -> None:
        """Nobody looks."""

    def close(self, line: str) -> None:
        if sys.stderr is not None:
            print(line, file=sys.stderr)


class _Rich:
    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(name, total=None)
        self._progress.start()

    def show(self, done: int, total: int | None) -> None:
        self._progress.update(self._task, completed=done, total=total)

    def close(self, line: str) -> None:
        self._progress.stop()


class _Tqdm:
    def __init__(self, name: str) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(desc=name, file=sys.stderr)

    def show(self, done: int, total: int | None) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self, line: str) -> None:
        self._bar.close()


class _Notebook:
    """A line of text that IPython replaces; needs no widgets."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        from IPython.display import display as show  # type: ignore[import-not-found,unused-ignore]

        self._name = name
        self._clock = clock
        self._began = self._last = clock()
        self._handle: Any = show({"text/plain": name}, raw=True, display_id=True)

    def show(self, done: int, total: int | None) -> None:
        now = self._clock()
        if now - self._last >= EVERY:
            self._last = now
            self._replace(line(self._name, done, total, now - self._began))

    def close(self, line: str) -> None:
        self._replace(line)

    def _replace(self, text: str) -> None:
        self._handle.update({"text/plain": text}, raw=True)


def line(name: str, done: int, total: int | None, elapsed: float, width: int = 40) -> str:
    """A bar in characters: `square ████████          20/80, 12 s left`."""
    if not total:
        return f"{name} {done}"
    bar = "█" * (width * done // total)
    left = f", {elapsed * (total - done) / done:.0f} s left" if done else ""
    return f"{name} {bar:<{width}} {done}/{total}{left}"
