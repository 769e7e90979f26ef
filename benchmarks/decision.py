"""How long the choice of the next job takes, for one free processor among many that wait.

No daemon: the waiting line alone, asked many times in one process. Each mix has one processor of eight free; where
somebody may start he leaves the line and a new one comes to its end, so that the line stays as long as it was.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator

from common import Settings, Table, percentile

from qm.judgement.waiting import Limits, Need, Occupied, Ticket, WaitingLine

GIB = 1 << 30
LIMITS = Limits(8, 64 * GIB, 2, {"io": 1})
BUSY = tuple(Occupied(Need(1), number) for number in range(7))
ENDING = tuple(Occupied(Need(1), number, 600.0 * number) for number in range(1, 8))
ASKED = 2000
TARGET = "2"

Jobs = Iterator[Ticket]
Mix = tuple[str, Callable[[random.Random], Jobs], tuple[Occupied, ...]]


def job(number: int, width: int = 1, memory: int = 0, wall_time: float | None = None, group: str = "") -> Ticket:
    at_most = 1 if group else None
    return Ticket.of(f"j{number}", Need(width, memory), 0, float(number), number, wall_time, group, at_most)


def equal(_: random.Random) -> Jobs:
    number = 0
    while True:
        yield job(number := number + 1)


def widths(dice: random.Random) -> Jobs:
    for one in equal(dice):
        yield job(one.order, dice.randint(1, 8))


def classes(dice: random.Random) -> Jobs:
    """Nearly each of a kind of its own."""
    for one in equal(dice):
        wall_time = dice.choice((None, dice.uniform(60, 1e5)))
        yield job(one.order, dice.randint(1, 8), dice.randrange(32 * GIB), wall_time)


def groups(dice: random.Random) -> Jobs:
    """The first half are of a group that is full; of the others each tenth is."""
    for one in equal(dice):
        yield job(one.order, group="io" if one.order <= 10_000 or one.order % 10 == 0 else f"g{one.order % 1000}")


def none_passes(dice: random.Random) -> Jobs:
    """The first needs the whole machine, and nobody gives a wall_time."""
    yield job(1, 8)
    yield from (job(one.order + 1) for one in equal(dice))


def too_long(dice: random.Random) -> Jobs:
    """The first needs the whole machine, and of many different wall times none is short enough."""
    yield job(1, 8, wall_time=3600)
    yield from (job(one.order + 1, wall_time=dice.uniform(5000, 1e6)) for one in equal(dice))


def few_short(dice: random.Random) -> Jobs:
    """The same, but one of a thousand is short enough."""
    for one in too_long(dice):
        yield one._replace(wall_time=60.0) if one.order % 1000 == 500 else one


def short_and_large(dice: random.Random) -> Jobs:
    """The first needs the whole machine; half are short but ask for too much memory, half are long."""
    yield job(1, 8, wall_time=3600)
    for one in equal(dice):
        yield job(one.order + 1, memory=60 * GIB, wall_time=60) if dice.random() < 0.5 else job(one.order + 1)


MIXES: tuple[Mix, ...] = (
    ("equal jobs", equal, BUSY),
    ("8 widths", widths, BUSY),
    ("8 widths, any memory and wall time", classes, ENDING),
    ("a full group first, 1,000 others", groups, (*BUSY[1:], BUSY[0]._replace(group="io"))),
    ("first too wide, no wall times", none_passes, BUSY),
    ("first too wide, others too long", too_long, ENDING),
    ("first too wide, few short enough", few_short, ENDING),
    ("first too wide, short ones too large", short_and_large, (*ENDING[1:], Occupied(Need(1, 32 * GIB), 1, 600.0))),
)


def measure(settings: Settings) -> Table:
    """Median and p99 of each mix, in milliseconds."""
    waiting = settings.count(20_000, 2000)
    asked = 200 if settings.quick else ASKED
    rows = []
    for name, jobs, running in MIXES:
        seconds, started = ask(jobs(random.Random(4)), running, waiting, asked)
        milliseconds = [1e3 * one for one in seconds]
        middle, slow = statistics.median(milliseconds), percentile(milliseconds, 99)
        rows.append([name, f"{middle:.3f}", f"{slow:.3f}", TARGET, str(started)])
    return Table(
        f"decision: which of {waiting} waiting jobs is next, for one free processor of 8",
        ("mix", "median, ms", "p99, ms", "target", "started"),
        rows,
        [f"asked {asked} times; `started`: how often somebody was found, who left while another came"],
    )


def ask(jobs: Jobs, running: tuple[Occupied, ...], waiting: int, asked: int) -> tuple[list[float], int]:
    """How many seconds each choice took, and how often there was somebody to choose."""
    line = WaitingLine(LIMITS)
    for _ in range(waiting):
        line.add(next(jobs))
    seconds, started = [], 0
    for _ in range(asked):
        begun = time.perf_counter()
        key = line.next_to_start(running, lambda: 60 * GIB)
        seconds.append(time.perf_counter() - begun)
        if key is not None:
            started += 1
            line.remove(key)
            line.add(next(jobs))
    return seconds, started
