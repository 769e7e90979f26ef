"""A listener for crews that remembers what it was told, and functions for workers to run."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness import PATIENCE

from qm.api.crew import Crew
from qm.api.listener import End
from qm.api.outcomes import Outcomes
from qm.api.queue import JobQueue
from qm.api.workfiles import MAP


class Told:
    """What a listener was told, in order; `wait` for the end."""

    def __init__(self) -> None:
        self.outs: dict[int, Outcomes] = {}
        self.twice: list[int] = []
        self.ends: list[End] = []
        self.began_times = 0
        self.over = threading.Event()

    def began(self, crew: Crew) -> None:
        self.began_times += 1

    def out(self, crew: Crew, chunk: int, outcomes: Outcomes) -> None:
        if chunk in self.outs or self.ends:
            self.twice.append(chunk)
        self.outs[chunk] = outcomes

    def ended(self, crew: Crew, end: End) -> None:
        self.ends.append(end)
        self.over.set()

    def wait(self) -> End:
        assert self.over.wait(PATIENCE), f"no end; so far: {self.outs}"
        assert not self.twice
        assert len(self.ends) == 1
        return self.ends[0]

    def values(self) -> list[Any]:
        """All values in order of their chunks; fails if there was an exception."""
        found = [outcome for number in sorted(self.outs) for outcome in self.outs[number]]
        assert all(ok for ok, _ in found), found
        return [value for _, value in found]

    def error(self, chunk: int = 0) -> BaseException:
        """The exception of a chunk of one item."""
        [(ok, value)] = self.outs[chunk]
        assert not ok, value
        assert isinstance(value, BaseException)
        return value


def submitted(
    queue: JobQueue,
    function: Callable[[Any], Any],
    chunks: Sequence[Sequence[Any]],
    *,
    close: bool = True,
    name: str = "test",
    **more: Any,
) -> tuple[Crew, Told]:
    """A crew that runs a function over the items of some chunks."""
    told = Told()
    crew = queue.crew(name, told, **more)
    call = crew.add_call(function, MAP)
    first = 0
    for items in chunks:
        crew.add_chunk(call, items, first)
        first += len(items)
    if close:
        crew.close()
    crew.submit()
    return crew, told


def wait_for_file(path: str) -> str:
    """Return the path once something is there."""
    deadline = time.monotonic() + PATIENCE
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.005)
    return path


def die_of_three(number: int) -> int:
    """End the process by 3, return any other number."""
    if number == 3:
        os._exit(9)
    return number
