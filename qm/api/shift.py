"""What a pool knows of its calls, and of the crews at work on them.

Invariant: nothing here waits or does anything: crewpool.Crews changes it under its lock `_state`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qm.api.asyncresults import Sink
from qm.api.crew import Crew

FRESH = 8.0
"""Seconds without enough work after which a crew gets no more: some of its workers are about to end (10 s)."""


@dataclass(slots=True)
class Call:
    """One call. `numbers`: what it is called in each crew, by the crew's id."""

    function: Callable[..., Any]
    how: str
    sink: Sink
    numbers: dict[str, int] = field(default_factory=dict)
    cancelled: bool = False


@dataclass(slots=True)
class Shift:
    """One crew at work. `open`: chunks without an outcome, by call; `starved`: since when there are fewer than workers;
    `began`: since when there are workers at all.
    """

    crew: Crew
    workers: int
    calls: dict[int, Call] = field(default_factory=dict)
    open: Counter[int] = field(default_factory=Counter)
    starved: float | None = None
    began: float | None = None
    submitted: bool = False
    failed: bool = False

    def count(self, call: int, more: int, now: float) -> None:
        """Chunks of a call were added, or are over."""
        self.open[call] += more
        if self.open.total() >= self.workers:
            self.starved = None
        elif self.starved is None:
            self.starved = now

    def is_fresh(self, now: float) -> bool:
        """Are all of its workers there, or yet to come?"""
        return self.began is None or self.starved is None or now - max(self.starved, self.began) < FRESH
