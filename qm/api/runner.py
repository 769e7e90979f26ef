"""What Pool needs of whatever carries out its calls: crewpool.Crews (jobs of QM) and workdir.WorkDirs (Grid Engine).

Invariant: the outcomes of every chunk that was added to a call are put into the call's sink, unless the call is
cancelled or the runner terminated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from qm.api.asyncresults import Sink


class Kept(NamedTuple):
    """What becomes of folders at the end. `always`: they stay. `work_dir`: where those that stay are to be found."""

    always: bool
    work_dir: str | None
    logger: logging.Logger


class Runner(Protocol):
    """What carries out the calls of one pool. Any thread may call its methods."""

    workers: int
    """How many it asks for."""
    streams: bool
    """Does a call run while its arguments still come?"""

    stays: bool
    """Do its workers outlive a call, so that somebody has to end them?"""

    def begin(self, function: Callable[..., Any], how: str, sink: Sink) -> int:
        """A new call; returns its number. OSError, QMError, and what pickling raises: nothing has begun."""

    def add(self, call: int, items: Sequence[Any], first: int) -> None:
        """A chunk of it: its items from index `first` on. OSError, QMError, and what pickling raises."""

    def complete(self, call: int) -> None:
        """What was added may run."""

    def cancel(self, call: int) -> None:
        """Nothing more of it is wanted."""

    def forget(self, call: int) -> None:
        """All of its outcomes are there. Waits for nothing."""

    def close(self) -> None:
        """No more calls will come."""

    def terminate(self) -> None:
        """End everything. May be called again."""

    def join(self) -> None:
        """Wait for the end of everything."""
