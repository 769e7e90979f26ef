"""What the page of an array shows of its tasks: counts, a grid, the few that need a look, and how long they took.

Invariant: the page stays small: above MOST_CELLS tasks, a cell stands for a range of them. Colour is never the only
thing that tells: counts and lists say the same in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

from qm.spool.tasks import TaskEntry
from qm.vocabulary.states import State
from qm_web import words
from qm_web.cache.taskbook import Array

MOST_CELLS = 2000
RANGES = 1000
"""Cells of an array that has more tasks than that."""
LISTED = 20
"""Tasks of a kind that are listed one by one."""
BARS = 24

ORDER = (
    State.RUNNING,
    State.PAUSED,
    State.DONE,
    State.FAILED,
    State.TIMEOUT,
    State.OUT_OF_MEMORY,
    State.KILLED,
    State.LOST,
    State.DEFERRED,
    State.PENDING,
)
"""As counts are told."""
BAD = (State.FAILED, State.TIMEOUT, State.OUT_OF_MEMORY, State.KILLED, State.LOST)
NOW = (State.RUNNING, State.PAUSED)
MIXED = "part"
"""What a cell is of which some tasks are done and the others wait."""


@dataclass(frozen=True, slots=True)
class Cell:
    """`kind` is a state (or MIXED), `task` the one whose log it leads to, None if none has one yet."""

    kind: str
    task: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """Tasks that took `low` to `high` seconds; `height` is 0 to 1 of the highest bar."""

    low: float
    high: float
    number: int
    height: float


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the tasks took that are done: a sentence, and bars."""

    text: str
    bars: list[Bar]


@dataclass(frozen=True, slots=True)
class Grid:
    """Everything. `counts` are pairs of a state and a number; `listed` those that failed, then those that run."""

    total: int
    counts: list[tuple[str, int]]
    cells: list[Cell]
    per_cell: int
    listed: list[TaskEntry]
    more: int
    durations: Durations | None


def grid_of(array: Array) -> Grid:
    """What is shown of these tasks."""
    total = len(array.spec)
    begun = [array.entries[number] for number in array.spec if number in array.entries]
    found = Counter(entry.state for entry in begun)
    found[State.PENDING] += total - len(begun)
    per_cell = 1 if total <= MOST_CELLS else -(-total // RANGES)
    bad = [entry for entry in begun if entry.state in BAD]
    now = [entry for entry in begun if entry.state in NOW]
    return Grid(
        total=total,
        counts=[(state.value, found[state]) for state in ORDER if found[state]],
        cells=list(_cells(array, per_cell)),
        per_cell=per_cell,
        listed=bad[:LISTED] + now[:LISTED],
        more=max(0, len(bad) - LISTED) + max(0, len(now) - LISTED),
        durations=durations([took for entry in begun if entry.state is State.DONE and (took := seconds(entry))]),
    )


def seconds(entry: TaskEntry) -> float | None:
    """How long a task took, None for one that has not ended."""
    if entry.started is None or entry.finished is None or entry.finished < entry.started:
        return None
    return entry.finished - entry.started


# --- the grid ----------------------------------------------------------------------------------------------


def _cells(array: Array, per_cell: int) -> Iterable[Cell]:
    numbers = iter(array.spec)
    while part := list(islice(numbers, per_cell)):
        yield _one(array, part[0]) if per_cell == 1 else _range(array, part)


def _one(array: Array, task: int) -> Cell:
    entry = array.entries.get(task)
    values = array.values_text(task)
    name = f"task {task} ({values})" if values else f"task {task}"
    if entry is None:
        return Cell(State.PENDING.value, None, words.printable(f"{name}: {State.PENDING}"))
    return Cell(entry.state.value, task if entry.attempt else None, words.printable(f"{name}: {said(entry)}"))


def _range(array: Array, part: Sequence[int]) -> Cell:
    entries = [array.entries[task] for task in part if task in array.entries]
    found = Counter(entry.state for entry in entries)
    found[State.PENDING] += len(part) - len(entries)
    told = ", ".join(f"{found[state]} {state}" for state in ORDER if found[state])
    worst = next((state for state in (*BAD, *NOW) if found[state]), None)
    if worst is None:
        alone = [state for state in ORDER if found[state]]
        kind = alone[0].value if len(alone) == 1 else MIXED
        chosen = next((entry.task for entry in entries if entry.attempt), None)
    else:
        kind = worst.value
        chosen = next(entry.task for entry in entries if entry.state is worst)
    return Cell(kind, chosen, f"tasks {part[0]} to {part[-1]}: {told}")


def said(entry: TaskEntry) -> str:
    """`failed, exit status 3`; `done in 01:10`; `running`."""
    took = seconds(entry)
    if entry.state is State.DONE and took is not None:
        return f"done in {words.duration(took)}"
    why = outcome(entry)
    return f"{entry.state}, {why}" if why else str(entry.state)


def outcome(entry: TaskEntry) -> str:
    """Why a task ended as it did: the reason, or the exit status; empty where there is nothing to say."""
    return entry.reason or (f"exit status {entry.exit_status}" if entry.exit_status else "")


# --- durations ---------------------------------------------------------------------------------------------


def durations(took: list[float]) -> Durations | None:
    """How the durations are spread; None for fewer than two of them."""
    if len(took) < 2:
        return None
    low, high, middle = min(took), max(took), median(took)
    text = (
        f"{len(took)} tasks that are done took {words.duration(low)} to {words.duration(high)}, "
        f"half of them at most {words.duration(middle)}."
    )
    if high - low < 1e-3:
        return Durations(text, [])
    width = (high - low) / BARS
    numbers = Counter(min(BARS - 1, int((one - low) / width)) for one in took)
    most = max(numbers.values())
    bars = [Bar(low + at * width, low + (at + 1) * width, numbers[at], numbers[at] / most) for at in range(BARS)]
    return Durations(text, bars)
