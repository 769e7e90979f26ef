"""Lanes and bins: what charts of the past are made of."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from qm.judgement.timeline import DURATIONS, MOST_LANES, Bin, Span, bin_number, bins, lanes, runs

TIMES = st.floats(0, 1000, allow_nan=False)
SPANS = st.lists(
    st.builds(
        lambda start, length, width, processors: Span(start, start + length, width, tuple(processors)),
        TIMES,
        st.floats(0, 100, allow_nan=False),
        st.integers(1, 6),
        st.lists(st.integers(0, 8), max_size=4),
    ),
    max_size=40,
)


@given(SPANS)
def test_in_a_lane_no_two_jobs_overlap(spans: list[Span]) -> None:
    by_lane: dict[int, list[Span]] = {}
    for span, found in zip(spans, lanes(spans), strict=True):
        for lane in found:
            by_lane.setdefault(lane, []).append(span)
    for jobs in by_lane.values():
        jobs.sort(key=lambda span: (span.start, span.end))
        for one, next_one in pairwise(jobs):
            assert one.end <= next_one.start


@given(SPANS)
def test_a_job_has_as_many_lanes_as_processors(spans: list[Span]) -> None:
    for span, found in zip(spans, lanes(spans), strict=True):
        assert len(set(found)) == len(found) == (len(set(span.processors)) or span.width)
        assert list(found) == sorted(found)


@given(st.lists(st.builds(lambda start, length: Span(start, start + length), TIMES, TIMES), max_size=30))
def test_first_fit_needs_no_more_lanes_than_jobs_ran_at_once(spans: list[Span]) -> None:
    used = {lane for found in lanes(spans) for lane in found}
    at_once = max((sum(one.start <= now.start < one.end or one is now for one in spans) for now in spans), default=0)
    assert used == set(range(len(used)))
    assert len(used) <= at_once


def test_known_processors_are_kept_and_others_go_around_them() -> None:
    spans = [Span(0, 10, 1), Span(5, 15, 2, (0, 3)), Span(20, 30, 1)]
    assert lanes(spans) == [(1,), (0, 3), (0,)]


def test_a_processor_claimed_twice_is_given_to_the_first() -> None:
    assert lanes([Span(0, 10, 1, (2,)), Span(5, 15, 1, (2,))]) == [(2,), (0,)]


def test_a_job_of_absurd_width_is_drawn_as_wide_as_charts_go() -> None:
    assert len(lanes([Span(0, 1, 1 << 30)])[0]) == MOST_LANES


def test_lanes_side_by_side_are_one_bar() -> None:
    assert runs((0, 1, 2, 5, 7, 8)) == [(0, 3), (5, 1), (7, 2)]
    assert runs(()) == []


def counted(values: list[float]) -> list[Bin]:
    """The bins of these values."""
    return bins(Counter(map(bin_number, values)))


@given(st.lists(st.floats(-5, 1e8, allow_nan=False), min_size=1))
def test_every_value_is_counted_in_the_bin_it_belongs_to(values: list[float]) -> None:
    all_found = counted(values)
    assert sum(found.jobs for found in all_found) == len(values)
    for found in all_found:
        high = found.high if found.high is not None else float("inf")
        assert found.jobs == sum(found.low <= max(0.0, value) < high for value in values)
    assert all_found[0].jobs and all_found[-1].jobs


def test_bins_follow_on_each_other_and_nothing_has_none() -> None:
    assert counted([]) == []
    assert counted([0.5, 3, 3]) == [Bin(0, 1, 1), Bin(1, 2, 0), Bin(2, 5, 2)]
    assert counted([1e9]) == [Bin(DURATIONS[-1], None, 1)]
