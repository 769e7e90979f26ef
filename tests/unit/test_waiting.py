"""The waiting line: order, limits, and that no job waits for ever, whatever stream of others passes by."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from qm.judgement.waiting import Occupied, Ticket, WaitingLine


def line_of(limit: int, *tickets: Ticket, one_at_a_time: bool = False) -> WaitingLine:
    line = WaitingLine(limit, one_at_a_time)
    for ticket in tickets:
        line.add(ticket)
    return line


def ticket(key: str, width: int = 1, priority: int = 0, submitted: float = 0.0, order: int = 0) -> Ticket:
    return Ticket.of(key, width, priority, submitted, order)


def drained(line: WaitingLine) -> list[str]:
    """The order of starts on an otherwise empty machine, one after the other."""
    started = []
    while (key := line.next_to_start([])) is not None:
        line.remove(key)
        started.append(key)
    return started


# --- order ---------------------------------------------------------------------------------------------------


def test_the_oldest_first_within_one_priority() -> None:
    line = line_of(1, ticket("b", submitted=2), ticket("a", submitted=1), ticket("c", submitted=3))
    assert drained(line) == ["a", "b", "c"]


def test_a_higher_priority_first_whatever_the_age() -> None:
    line = line_of(1, ticket("old", submitted=1), ticket("high", priority=1, submitted=2), ticket("low", priority=-1))
    assert drained(line) == ["high", "old", "low"]


def test_jobs_of_one_instant_start_in_the_order_they_were_noticed() -> None:
    line = line_of(1, ticket("z", order=1), ticket("a", order=2), ticket("m", order=3))
    assert drained(line) == ["z", "a", "m"]


def test_a_second_ticket_replaces_the_first() -> None:
    line = line_of(4, ticket("x", width=4), ticket("y", submitted=1), ticket("x", width=1, priority=-5))
    assert len(line) == 2
    assert drained(line) == ["y", "x"]


def test_who_left_is_not_started_and_may_come_back() -> None:
    line = line_of(1, ticket("x"))
    line.remove("x")
    line.remove("never there")
    assert "x" not in line and line.next_to_start([]) is None
    line.add(ticket("x"))
    assert line.next_to_start([]) == "x"


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(-2, 2), st.floats(0, 9)), max_size=30))
def test_jobs_start_by_rank_then_arrival(jobs: list[tuple[int, int, float]]) -> None:
    tickets = [ticket(f"j{n}", width, rank, came, n) for n, (width, rank, came) in enumerate(jobs)]
    line = line_of(4, *tickets)
    wanted = [t.key for t in sorted(tickets, key=lambda t: (t.rank, t.submitted, t.order))]
    assert drained(line) == wanted


# --- limits --------------------------------------------------------------------------------------------------


def test_nothing_starts_on_a_full_machine() -> None:
    assert line_of(2, ticket("x")).next_to_start([Occupied(2, 0.0)]) is None


def test_nothing_starts_on_a_machine_that_is_more_than_full_since_the_limit_was_lowered() -> None:
    assert line_of(2, ticket("x")).next_to_start([Occupied(3, 0.0)]) is None


def test_blocking_mode_starts_nothing_beside_a_running_job() -> None:
    line = line_of(8, ticket("x"), one_at_a_time=True)
    assert line.next_to_start([Occupied(1, 0.0)]) is None
    assert line.next_to_start([]) == "x"


def test_a_narrow_job_passes_a_wide_one_on_the_processors_that_it_leaves_over() -> None:
    line = line_of(4, ticket("wide", width=3, submitted=10), ticket("narrow", submitted=11))
    assert line.next_to_start([Occupied(2, started=1)]) == "narrow"


def test_a_narrow_job_does_not_take_what_a_waiting_wide_one_needs() -> None:
    line = line_of(4, ticket("widest", width=4, submitted=10), ticket("narrow", submitted=11))
    assert line.next_to_start([Occupied(2, started=1)]) is None
    line = line_of(4, ticket("wide", width=3, submitted=10), ticket("narrow", submitted=12))
    assert line.next_to_start([Occupied(2, started=1), Occupied(1, started=11)]) is None


# --- nobody starves ------------------------------------------------------------------------------------------


@dataclass
class Simulation:
    """A machine in made-up time: jobs come, start as the line says, and run as long as they were told to."""

    limit: int
    now: float = 0.0

    def __post_init__(self) -> None:
        self.line = WaitingLine(self.limit)
        self.running: list[tuple[float, int, float]] = []
        self.lengths: dict[str, float] = {}
        self.widths: dict[str, int] = {}
        self.started: list[str] = []

    def come(self, width: int, length: float, priority: int = 0) -> str:
        key = f"j{len(self.lengths)}"
        self.lengths[key], self.widths[key] = length, width
        self.line.add(Ticket.of(key, width, priority, self.now, len(self.lengths)))
        self.start()
        return key

    def start(self) -> None:
        while (key := self.line.next_to_start([Occupied(w, at) for _, w, at in self.running])) is not None:
            self.line.remove(key)
            self.started.append(key)
            heapq.heappush(self.running, (self.now + self.lengths[key], self.widths[key], self.now))
            assert sum(width for _, width, _ in self.running) <= self.limit

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while self.running and self.running[0][0] <= until:
            self.now = self.running[0][0]
            heapq.heappop(self.running)
            self.start()
        self.now = until


@given(
    limit=st.integers(1, 6),
    before=st.lists(st.tuples(st.integers(1, 6), st.floats(0.1, 10)), max_size=8),
    width=st.integers(1, 6),
    stream=st.lists(st.tuples(st.floats(0.01, 2), st.integers(1, 6), st.floats(0.1, 10)), min_size=60, max_size=60),
)
@settings(max_examples=50, deadline=None)
def test_a_wide_job_starts_when_all_before_it_has_ended_whatever_stream_of_others_follows(
    limit: int,
    before: list[tuple[int, float]],
    width: int,
    stream: list[tuple[float, int, float]],
) -> None:
    machine = Simulation(limit)
    for other, length in before:
        machine.come(min(other, limit), length)
    longest = sum(length for _, length in before)  # at the latest: all that came before it, one after the other
    wide = machine.come(min(width, limit), 1.0)
    arrived = machine.now
    for pause, other, length in stream:
        machine.pass_time(pause)
        machine.come(min(other, limit), length)
        if machine.now > arrived + longest:
            break
    machine.pass_time(max(0.0, arrived + longest - machine.now) + 0.001)
    assert wide in machine.started


def test_an_endless_stream_of_narrow_jobs_does_not_hold_back_a_wide_one() -> None:
    machine = Simulation(4)
    for _ in range(4):
        machine.come(1, 10.0)
        machine.pass_time(2.5)
    wide = machine.come(4, 1.0)
    for _ in range(1000):
        machine.pass_time(0.1)
        machine.come(1, 10.0)
    assert wide in machine.started
    assert machine.started.index(wide) == 4, "it starts before whoever came after it and does not fit beside it"


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5), st.floats(0.1, 8), st.integers(-1, 1)), max_size=60))
@settings(deadline=None)
def test_every_job_of_a_stream_that_ends_is_started_once(stream: list[tuple[float, int, float, int]]) -> None:
    machine = Simulation(5)
    for pause, width, length, priority in stream:
        machine.pass_time(pause)
        machine.come(width, length, priority)
    machine.pass_time(10_000)
    assert sorted(machine.started) == sorted(machine.lengths)
    assert not machine.running and len(machine.line) == 0


# --- against a model -----------------------------------------------------------------------------------------


class LineMachine(RuleBasedStateMachine):
    """The heaps against a plain list: tickets come, change, leave and start in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.line = WaitingLine(4)
        self.model: dict[str, Ticket] = {}
        self.running: list[Occupied] = []
        self.now = 0.0

    @rule(key=st.sampled_from("abcdefgh"), width=st.integers(1, 4), priority=st.integers(-1, 1))
    def add(self, key: str, width: int, priority: int) -> None:
        self.now += 1
        self.model[key] = ticket(key, width, priority, self.now, int(self.now))
        self.line.add(self.model[key])

    @rule(key=st.sampled_from("abcdefgh"))
    def remove(self, key: str) -> None:
        self.model.pop(key, None)
        self.line.remove(key)

    @rule()
    def start(self) -> None:
        self.now += 1
        key = self.line.next_to_start(self.running)
        if key is None:
            return
        chosen = self.model.pop(key)
        self.line.remove(key)
        earlier = [t for t in self.model.values() if (t.rank, t.order) < (chosen.rank, chosen.order)]
        free = 4 - sum(job.width for job in self.running)
        assert chosen.width <= free
        assert not earlier or min(earlier).width > free, "passed only by what fits while the first does not"
        self.running.append(Occupied(chosen.width, self.now))

    @rule(which=st.integers(0, 3))
    def end(self, which: int) -> None:
        if which < len(self.running):
            self.running.pop(which)

    @invariant()
    def the_line_holds_what_was_added(self) -> None:
        assert len(self.line) == len(self.model)
        assert all(key in self.line for key in self.model)

    @invariant()
    def an_idle_machine_never_lets_anybody_wait(self) -> None:
        if self.model:
            assert self.line.next_to_start([]) == min(self.model.values()).key


TestLine = pytest.mark.filterwarnings("error")(LineMachine.TestCase)
TestLine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
