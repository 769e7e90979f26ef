"""The waiting line: no job waits for ever, whatever stream of others passes by, and nothing is more than the limits."""

from __future__ import annotations

import heapq
from collections import Counter
from math import inf
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from qm.judgement.waiting import Limits, Need, Occupied, Ticket, WaitingLine


class Come(NamedTuple):
    """A job of a made-up stream: it comes `pause` seconds after the one before it, and runs `length` seconds.

    `margin` times its length is its wall_time, None for none.
    """

    pause: float
    length: float
    need: Need
    margin: float | None = None
    group: str = ""
    at_most: int | None = None
    priority: int = 0


class Simulation:
    """A machine in made-up time: jobs come, start as the line says, and run as long as they do.

    Others use `others` bytes of its memory.
    """

    def __init__(self, limits: Limits, others: int = 0) -> None:
        self.limits = limits
        self.others = others
        self.now = 0.0
        self.line = WaitingLine(limits)
        self.running: list[tuple[float, int, str]] = []  # a heap: end, number of its start, key
        self.jobs: dict[str, Come] = {}
        self.started: dict[str, float] = {}
        self.starts = 0
        self.occupied: dict[str, tuple[Occupied, float | None]] = {}  # and when its wall_time is over

    def come(self, job: Come) -> str:
        self.pass_time(job.pause)
        key = f"j{len(self.jobs)}"
        self.jobs[key] = job
        wall_time = None if job.margin is None else job.length * job.margin
        self.line.add(
            Ticket.of(key, job.need, job.priority, self.now, len(self.jobs), wall_time, job.group, job.at_most)
        )
        self.start()
        return key

    def available(self) -> int:
        used = sum(one.need.memory for one, _ in self.occupied.values())
        return self.limits.memory - self.others - used

    def start(self) -> None:
        while (key := self.line.next_to_start(self.seen(), self.available)) is not None:
            job = self.jobs[key]
            self.line.remove(key)
            assert key not in self.started
            self.started[key] = self.now
            order = self.line.started()
            wall_end = None if job.margin is None else self.now + job.length * job.margin
            self.occupied[key] = Occupied(job.need, order, None, job.group), wall_end
            heapq.heappush(self.running, (self.now + job.length, order, key))
            self.check(job)

    def seen(self) -> list[Occupied]:
        return [one._replace(left=None if end is None else end - self.now) for one, end in self.occupied.values()]

    def check(self, job: Come) -> None:
        needs = [one.need for one, _ in self.occupied.values()]
        assert sum(need.processors for need in needs) <= self.limits.processors
        assert sum(need.memory for need in needs) <= self.limits.memory - self.others
        assert sum(need.gpus for need in needs) <= self.limits.gpus
        if job.group:
            count = Counter(one.group for one, _ in self.occupied.values())[job.group]
            assert count <= min(self.limits.groups.get(job.group, inf), job.at_most or inf)

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while self.running and self.running[0][0] <= until:
            self.now, _, key = heapq.heappop(self.running)
            del self.occupied[key]
            self.start()
        self.now = until

    def waits_in_stream(self, key: str, stream: list[Come], rounds: int) -> bool:
        """Does the job still wait after the stream has passed so many times?"""
        for _ in range(rounds):
            for job in stream:
                self.come(job)
                if key in self.started:
                    return False
        return True


LIMITS = Limits(6, 12, 2, {"io": 2})
lengths = st.integers(1, 40).map(lambda tenths: tenths / 4)
needs = st.builds(Need, st.integers(1, 6), st.integers(0, 8), st.integers(0, 2))
narrow = st.builds(Need, st.integers(1, 2), st.integers(0, 3), st.integers(0, 1))
wide = st.builds(Need, st.integers(3, 5), st.integers(0, 9), st.integers(0, 2))
margins = st.none() | st.sampled_from([1.0, 1.5, 10.0])


def jobs(need: st.SearchStrategy[Need], most_pause: int = 8) -> st.SearchStrategy[Come]:
    """Jobs of any kind, with priorities of at most 0."""
    return st.builds(
        Come,
        st.integers(0, most_pause).map(lambda quarters: quarters / 4),
        lengths,
        need,
        margins,
        st.sampled_from(["", "", "io", "net"]),
        st.none() | st.integers(1, 3),
        st.integers(-1, 0),
    )


@given(
    before=st.lists(jobs(needs), max_size=8),
    waiting=jobs(wide, 0),
    stream=st.lists(jobs(narrow, 2), min_size=1, max_size=8),
    others=st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_every_job_starts_some_day_whatever_stream_of_others_follows(
    before: list[Come], waiting: Come, stream: list[Come], others: int
) -> None:
    machine = Simulation(LIMITS, others)
    for job in before:
        machine.come(job)
    key = machine.come(waiting._replace(priority=0))
    stream[0] = stream[0]._replace(pause=0.25)  # time must pass
    assert not machine.waits_in_stream(key, stream, 4000 // len(stream))


@given(
    before=st.lists(jobs(needs), max_size=6),
    wide=needs,
    stream=st.lists(jobs(narrow), min_size=25, max_size=25),
)
@settings(max_examples=60, deadline=None)
def test_with_wall_times_nobody_delays_the_first_beyond_its_shadow_time(
    before: list[Come], wide: Need, stream: list[Come]
) -> None:
    machine = Simulation(LIMITS)
    for job in before:
        machine.come(job._replace(margin=1.0, pause=0.0, group=""))
    machine.line = WaitingLine(LIMITS)  # who has not started by now goes away
    expected = 0.0
    staying = [(end, machine.occupied[key][0].need) for end, _, key in sorted(machine.running)]
    while any(sum(amounts) > most for *amounts, most in zip(wide, *(need for _, need in staying), LIMITS)):  # noqa: B905
        expected, _ = staying.pop(0)
    key = machine.come(Come(0.0, 1.0, wide, priority=1))
    for job in stream:
        machine.come(job)
    machine.pass_time(20.0)
    assert machine.started[key] <= expected


def test_an_endless_stream_of_narrow_jobs_does_not_hold_back_a_wide_one() -> None:
    machine = Simulation(Limits(6, 0))
    for _ in range(6):
        machine.come(Come(2.0, 12.0, Need(1)))
    wide = machine.come(Come(0.0, 1.0, Need(4)))
    assert not machine.waits_in_stream(wide, [Come(0.1, 12.0, Need(1))], 1000)
    assert len(machine.started) == 9, "only two of those that came after it fit beside it"


def test_a_wide_job_of_a_group_does_not_lose_its_turn_to_short_ones_of_its_group() -> None:
    machine = Simulation(Limits(8, 0, groups={"io": 1}))
    for _ in range(8):
        machine.come(Come(1.2, 10.0, Need(1), margin=1.0))
    wide = machine.come(Come(0.0, 1.0, Need(4), group="io"))
    stream = [Come(0.25, 2.0, Need(1), margin=1.0, group="io"), Come(0.25, 10.0, Need(1), margin=1.0)]
    assert not machine.waits_in_stream(wide, stream, 500)


def test_a_job_that_waits_for_memory_that_others_use_gets_what_becomes_free() -> None:
    machine = Simulation(Limits(8, 16), others=4)
    for _ in range(10):
        machine.come(Come(0.5, 10.0, Need(1, 1)))
    big = machine.come(Come(0.0, 1.0, Need(1, 8)))
    assert not machine.waits_in_stream(big, [Come(0.5, 10.0, Need(1, 1))], 500)


@given(st.lists(jobs(needs), max_size=60))
@settings(deadline=None)
def test_every_job_of_a_stream_that_ends_is_started_once(stream: list[Come]) -> None:
    machine = Simulation(LIMITS)
    for job in stream:
        machine.come(job)
    machine.pass_time(10_000)
    assert sorted(machine.started) == sorted(machine.jobs)
    assert not machine.running and len(machine.line) == 0


@given(st.lists(st.tuples(st.integers(0, 8), lengths), min_size=2, max_size=40), needs, margins)
@settings(deadline=None)
def test_equal_jobs_start_in_the_order_of_their_arrival(
    arrivals: list[tuple[int, float]], need: Need, margin: float | None
) -> None:
    machine = Simulation(LIMITS)
    others = Come(0.0, 3.0, Need(2), margin)
    for quarters, length in arrivals:
        machine.come(others)
        machine.come(Come(quarters / 4, length, need, None))
    machine.pass_time(10_000)
    order = [key for key in machine.started if machine.jobs[key] != others]
    assert order == sorted(order, key=lambda key: int(key[1:]))
