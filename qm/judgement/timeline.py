"""Charts of what has run: which job in which lane, and how many waited or ran how long.

Invariant: in a lane no two jobs overlap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

MOST_LANES = 256
"""A job that says it is wider is drawn this wide: no chart could show more."""

DURATIONS = (
    *(0, 1, 2, 5, 10, 20, 30),
    *(60 * minutes for minutes in (1, 2, 5, 10, 20, 30)),
    *(3600 * hours for hours in (1, 2, 4, 8, 12)),
    *(86400 * days for days in (1, 2, 4, 7, 14, 30)),
)
"""Seconds: the edges of bins about evenly spaced on a logarithmic scale, at times that people say."""


class Span(NamedTuple):
    """A job from `start` to `end` (not including it) on `width` processors: on those named, if any are."""

    start: float
    end: float
    width: int = 1
    processors: tuple[int, ...] = ()


class Bin(NamedTuple):
    """How many values are at least `low` and below `high`; the last bin has no `high`."""

    low: float
    high: float | None
    jobs: int


def lanes(spans: Sequence[Span]) -> list[tuple[int, ...]]:
    """For each job the lanes that it has, ascending.

    A job whose processors are known has the lanes with their numbers, as long as nobody else has them; all others, in
    the order of their starts, have the lowest that are free from their start to their end (first fit).
    """
    taken: dict[int, list[tuple[float, float]]] = {}
    found: list[tuple[int, ...]] = [()] * len(spans)
    order = sorted(range(len(spans)), key=lambda at: (spans[at].start, at))
    for at in order:
        span = spans[at]
        named = tuple(sorted(set(span.processors)))[:MOST_LANES]
        if named and all(_is_free(taken.get(lane, ()), span) for lane in named):
            found[at] = _take(taken, named, span)
    for at in order:
        if not found[at]:
            span = spans[at]
            found[at] = _take(taken, _first_fit(taken, span), span)
    return found


def _first_fit(taken: dict[int, list[tuple[float, float]]], span: Span) -> tuple[int, ...]:
    wanted = max(1, min(len(set(span.processors)) or span.width, MOST_LANES))
    free: list[int] = []
    lane = 0
    while len(free) < wanted:
        if _is_free(taken.get(lane, ()), span):
            free.append(lane)
        lane += 1
    return tuple(free)


def _take(taken: dict[int, list[tuple[float, float]]], wanted: tuple[int, ...], span: Span) -> tuple[int, ...]:
    for lane in wanted:
        insort(taken.setdefault(lane, []), (span.start, max(span.start, span.end)))
    return wanted


def _is_free(taken: Sequence[tuple[float, float]], span: Span) -> bool:
    """Does nobody have the lane between its start and its end? What is taken does not overlap, so neighbours tell."""
    after = bisect_left(taken, (span.start, span.start))
    if after < len(taken) and taken[after][0] < span.end:
        return False
    return after == 0 or taken[after - 1][1] <= span.start


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending numbers as (first, how many) of what lies side by side."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][0] + found[-1][1] == number:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((number, 1))
    return found


def bin_number(value: float, edges: Sequence[float] = DURATIONS) -> int:
    """Which of the bins a value belongs to."""
    return max(0, bisect_right(edges, value) - 1)


def bins(counts: Mapping[int, int], edges: Sequence[float] = DURATIONS) -> list[Bin]:
    """The bins with these numbers and what lies between them."""
    filled = [number for number, jobs in counts.items() if jobs and 0 <= number < len(edges)]
    if not filled:
        return []
    highs = [*edges[1:], None]
    return [Bin(edges[at], highs[at], counts.get(at, 0)) for at in range(min(filled), max(filled) + 1)]
