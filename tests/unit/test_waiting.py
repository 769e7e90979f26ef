"""The waiting line: order, limits, reservations, and what a choice among many costs nobody."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from qm.judgement.waiting import Limits, Need, Occupied, Ticket, WaitingLine

GIB = 1 << 30


def ticket(
    key: str,
    width: int = 1,
    priority: int = 0,
    submitted: float = 0.0,
    order: int = 0,
    memory: int = 0,
    gpus: int = 0,
    wall_time: float | None = None,
    group: str = "",
    at_most: int | None = None,
) -> Ticket:
    return Ticket.of(key, Need(width, memory, gpus), priority, submitted, order, wall_time, group, at_most)


def line_of(limits: Limits | int, *tickets: Ticket, one_at_a_time: bool = False) -> WaitingLine:
    """A line with these tickets; those that say nothing of their arrival came in this order."""
    line = WaitingLine(limits if isinstance(limits, Limits) else Limits(limits, 8 * GIB, 2), one_at_a_time)
    for number, one in enumerate(tickets):
        line.add(one if one.order else one._replace(order=number))
    return line


def runs(width: int = 1, left: float | None = None, order: int = 0, **more: int | str) -> Occupied:
    group = str(more.pop("group", ""))
    return Occupied(Need(width, int(more.get("memory", 0)), int(more.get("gpus", 0))), order, left, group)


def drained(line: WaitingLine) -> list[str]:
    """The order of starts on an otherwise empty machine, one after the other."""
    started = []
    while (key := line.next_to_start([])) is not None:
        line.remove(key)
        started.append(key)
    return started


def all_at_once(line: WaitingLine, *running: Occupied, available: Callable[[], int] | None = None) -> list[str]:
    """Who starts now, one after the other, with nobody ending."""
    occupied, started = list(running), []
    tickets = {one.key: one for one in line.first(100)}
    while (key := line.next_to_start(occupied, available)) is not None:
        line.remove(key)
        started.append(key)
        occupied.append(Occupied(tickets[key].need, line.started(), tickets[key].wall_time, tickets[key].group))
    return started


# --- order ---------------------------------------------------------------------------------------------------


def test_the_oldest_first_within_one_priority() -> None:
    line = line_of(1, ticket("b", submitted=2), ticket("a", submitted=1), ticket("c", submitted=3))
    assert drained(line) == ["a", "b", "c"]


def test_a_higher_priority_first_whatever_the_age() -> None:
    line = line_of(1, ticket("old", submitted=1), ticket("high", priority=1, submitted=2), ticket("low", priority=-1))
    assert [one.key for one in line.first(100)] == ["high", "old", "low"]
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
    wanted = [t.key for t in sorted(tickets, key=lambda t: (t.rank, t.submitted, t.order))]
    assert drained(line_of(4, *tickets)) == wanted


def test_a_thousand_tickets_that_come_and_go_in_any_order_are_kept_in_order() -> None:
    line = line_of(1)
    for number in range(3000):
        scattered = number * 1237 % 3000
        line.add(ticket(f"j{scattered}", submitted=scattered, memory=scattered % 7))
    for number in range(0, 3000, 3):
        line.remove(f"j{number * 7 % 3000}")
    left = [f"j{number}" for number in range(3000) if number % 3]
    assert drained(line) == left


# --- limits --------------------------------------------------------------------------------------------------


def test_nothing_starts_on_a_full_machine() -> None:
    assert line_of(2, ticket("x")).next_to_start([runs(2)]) is None


def test_nothing_starts_on_a_machine_that_is_more_than_full_since_the_limit_was_lowered() -> None:
    assert line_of(2, ticket("x")).next_to_start([runs(3)]) is None


def test_memory_and_gpus_are_kept_to_as_processors_are() -> None:
    assert line_of(8, ticket("x", memory=3 * GIB)).next_to_start([runs(memory=6 * GIB)]) is None
    assert line_of(8, ticket("x", memory=2 * GIB)).next_to_start([runs(memory=6 * GIB)]) == "x"
    assert line_of(8, ticket("x", gpus=1)).next_to_start([runs(gpus=2)]) is None
    assert line_of(8, ticket("x", gpus=1)).next_to_start([runs(gpus=1)]) == "x"


def test_who_asks_for_no_memory_does_not_wait_for_any() -> None:
    assert line_of(8, ticket("x")).next_to_start([runs(memory=9 * GIB, gpus=3)]) == "x"


def test_a_paused_job_keeps_its_memory_and_leaves_its_processors() -> None:
    paused = Occupied(Need(0, 6 * GIB, 2), 0, 10.0)
    assert line_of(1, ticket("x")).next_to_start([paused]) == "x"
    assert line_of(1, ticket("x", memory=3 * GIB)).next_to_start([paused]) is None


def test_blocking_mode_starts_nothing_beside_a_running_job_but_beside_a_paused_one() -> None:
    line = line_of(8, ticket("x"), one_at_a_time=True)
    assert line.next_to_start([runs()]) is None
    assert line.next_to_start([runs(0)]) == "x"
    assert line.next_to_start([]) == "x"


def test_a_job_that_could_never_start_is_passed_over() -> None:
    line = line_of(4, ticket("huge", memory=9 * GIB), ticket("gpus", gpus=3), ticket("wide", width=5), ticket("x"))
    assert all_at_once(line) == ["x"]


def test_limits_may_be_set_anew() -> None:
    line = line_of(4, ticket("x", width=2))
    line.limits = Limits(1, GIB)
    assert line.next_to_start([]) is None
    line.limits = Limits(2, GIB)
    assert line.next_to_start([]) == "x"


# --- what the machine really has -------------------------------------------------------------------------------


def test_the_machine_is_asked_only_when_a_job_that_wants_memory_might_start() -> None:
    asked: list[None] = []

    def available() -> int:
        asked.append(None)
        return GIB

    assert line_of(2, ticket("x"), ticket("y", memory=GIB)).next_to_start([], available) == "x"
    assert line_of(2, ticket("x", memory=GIB)).next_to_start([runs(2)], available) is None
    assert not asked
    crowded = line_of(2, *(ticket(f"j{n}", memory=2 * GIB) for n in range(5)), ticket("x", memory=GIB))
    assert crowded.next_to_start([], available) is None
    assert len(asked) == 1


def test_while_others_use_the_memory_only_jobs_that_ask_for_none_pass_the_first() -> None:
    line = line_of(4, ticket("big", memory=4 * GIB), ticket("small", memory=GIB), ticket("none"))
    assert all_at_once(line, available=lambda: 3 * GIB) == ["none"]
    assert line.next_to_start([], lambda: 4 * GIB) == "big"


def test_a_later_job_that_the_machine_has_no_memory_for_is_passed_by_one_that_fits() -> None:
    line = line_of(4, ticket("wide", width=4), ticket("big", memory=4 * GIB, wall_time=5), ticket("x", wall_time=5))
    assert line.next_to_start([runs(2, left=10)], lambda: 3 * GIB) == "x"


# --- reservations ----------------------------------------------------------------------------------------------


def test_a_narrow_job_passes_a_wide_one_on_the_processors_that_it_leaves_over() -> None:
    line = line_of(4, ticket("wide", width=3), ticket("narrow"), ticket("second"))
    assert all_at_once(line, runs(2)) == ["narrow"]


def test_a_narrow_job_does_not_take_what_a_waiting_wide_one_needs() -> None:
    assert line_of(4, ticket("widest", width=4), ticket("narrow")).next_to_start([runs(2)]) is None


def test_a_short_job_passes_when_it_is_over_before_the_wide_one_can_start() -> None:
    line = line_of(
        4, ticket("wide", width=4), ticket("no wall time"), ticket("long", wall_time=61), ticket("short", wall_time=60)
    )
    assert all_at_once(line, runs(2, left=60.0)) == ["short"]


def test_what_is_left_over_at_the_shadow_time_may_be_taken_for_long() -> None:
    line = line_of(4, ticket("wide", width=3), ticket("a", wall_time=1e6), ticket("b"))
    assert all_at_once(line, runs(2, left=60.0), runs(1, left=90.0)) == []
    assert all_at_once(line, runs(3, left=60.0)) == ["a"]


def test_the_shadow_time_is_when_processors_memory_and_gpus_are_all_there() -> None:
    first = ticket("first", width=2, memory=6 * GIB, gpus=1)
    running = [runs(3, left=10), runs(1, left=20, memory=4 * GIB), runs(1, left=30, gpus=2)]
    for wall_time, expected in (30.0, "x"), (30.5, None):
        line = line_of(6, first, ticket("x", wall_time=wall_time, memory=4 * GIB))
        assert line.next_to_start(running) == expected


def test_what_should_have_ended_already_reserves_at_once() -> None:
    line = line_of(4, ticket("wide", width=4), ticket("short", wall_time=1))
    assert line.next_to_start([runs(2, left=-3.0)]) is None


def test_where_not_all_wall_times_are_known_the_reservation_counts_what_came_since() -> None:
    line = line_of(4, ticket("wide", width=3), ticket("short", wall_time=1), ticket("other", wall_time=1))
    assert all_at_once(line, runs(2), runs(1, left=5.0)) == ["short"]


def test_the_next_task_of_an_array_comes_to_the_head_anew() -> None:
    line = line_of(6, ticket("array", width=4), ticket("a"), ticket("b"))
    assert line.next_to_start([]) == "array"
    running = [runs(4, order=line.started())]  # its ticket stays: it has more tasks
    assert line.next_to_start(running) == "a"
    line.remove("a")
    narrow = runs(order=line.started())
    assert line.next_to_start([narrow]) == "array"
    assert line.next_to_start([narrow, runs(4, order=line.started())]) == "b"


# --- groups ------------------------------------------------------------------------------------------------------


def test_a_job_of_a_full_group_is_passed_over_and_reserves_nothing() -> None:
    line = line_of(4, ticket("io", width=2, group="io", at_most=1), ticket("x", width=3))
    assert line.next_to_start([runs(group="io")]) == "x"
    assert line.next_to_start([runs(group="other")]) == "io"


def test_a_group_of_the_configuration_limits_its_jobs() -> None:
    limits = Limits(8, GIB, groups={"io": 2})
    line = line_of(limits, *(ticket(f"io{n}", group="io", at_most=5 if n else None) for n in range(4)), ticket("x"))
    assert all_at_once(line) == ["io0", "io1", "x"]


def test_the_smaller_of_both_limits_of_a_group_counts() -> None:
    limits = Limits(8, GIB, groups={"io": 3})
    line = line_of(limits, *(ticket(f"io{n}", group="io", at_most=2) for n in range(4)))
    assert all_at_once(line) == ["io0", "io1"]


def test_nobody_passes_a_job_of_the_same_group_that_allows_fewer_beside_it() -> None:
    line = line_of(
        8, ticket("alone", group="io", at_most=1), *(ticket(f"io{n}", group="io", at_most=5) for n in range(2))
    )
    assert line.next_to_start([runs(group="io")]) is None
    assert all_at_once(line) == ["alone", "io0", "io1"]


def test_the_last_place_in_the_group_of_the_first_is_kept_for_it() -> None:
    first = ticket("wide", width=3, group="io", at_most=2)
    line = line_of(8, first, *(ticket(f"io{n}", group="io", at_most=2) for n in range(2)), ticket("x"))
    assert all_at_once(line, runs(6)) == ["io0", "x"]


# --- against a model -----------------------------------------------------------------------------------------


def _plain_choice(
    tickets: dict[str, Ticket], limits: Limits, running: list[Occupied], since: dict[str, int], now: int
) -> str | None:
    """The rule again, as plainly as it can be written: without groups and the machine's memory, over all tickets."""

    def room(jobs: list[Occupied], *more: Need) -> tuple[int, int]:
        needs = [job.need for job in jobs] + list(more)
        return limits.processors - sum(n.processors for n in needs), limits.memory - sum(n.memory for n in needs)

    def fits(need: Need, left: tuple[int, int]) -> bool:
        return need.processors <= left[0] and need.memory <= max(0, left[1])

    line = sorted(tickets.values())
    if not line or room(running)[0] < 1:
        return None
    first, *others = line
    if fits(first.need, room(running)):
        return first.key
    since.setdefault(first.key, now)
    until, beside = 0.0, room([job for job in running if job.order > since[first.key]], first.need)
    for end in sorted({job.left for job in running if job.left is not None}):
        staying = [job for job in running if job.left is None or job.left > end]
        if fits(first.need, room(staying)):
            until, beside = end, room(staying, first.need)
            break
    for other in others:
        in_time = (inf if other.wall_time is None else other.wall_time) <= until
        if fits(other.need, room(running)) and (in_time or fits(other.need, beside)):
            return other.key
    return None


class LineMachine(RuleBasedStateMachine):
    """The line against that: tickets come, change, leave and start in any order, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(4, 10)
        self.line = WaitingLine(self.limits)
        self.model: dict[str, Ticket] = {}
        self.since: dict[str, int] = {}
        self.running: list[Occupied] = []
        self.came = 0
        self.starts = 0

    @rule(
        keys=st.sets(st.sampled_from("abcdefghijkl"), min_size=1, max_size=4),
        width=st.integers(1, 3),
        memory=st.sampled_from([0, 0, 1, 6]),
        priority=st.integers(-1, 1),
        wall_time=st.none() | st.integers(1, 9),
    )
    def add(self, keys: set[str], width: int, memory: int, priority: int, wall_time: int | None) -> None:
        for key in sorted(keys):
            self.came += 1
            self.model[key] = ticket(key, width, priority, self.came, self.came, memory, wall_time=wall_time)
            self.line.add(self.model[key])

    @rule(key=st.sampled_from("abcdefghijkl"))
    def remove(self, key: str) -> None:
        self.model.pop(key, None)
        self.since.pop(key, None)
        self.line.remove(key)

    @rule()
    def start_all(self) -> None:
        while self.start():
            pass

    def start(self) -> bool:
        expected = _plain_choice(self.model, self.limits, self.running, self.since, self.starts)
        key = self.line.next_to_start(self.running)
        assert key == expected
        if key is None:
            return False
        chosen = self.model.pop(key)
        self.since.pop(key, None)
        self.line.remove(key)
        self.starts += 1
        assert self.line.started() == self.starts
        self.running.append(Occupied(chosen.need, self.starts, chosen.wall_time))
        assert sum(job.need.processors for job in self.running) <= 4
        assert sum(job.need.memory for job in self.running) <= 10
        return True

    @rule(which=st.integers(0, 3))
    def end(self, which: int) -> None:
        if which < len(self.running):
            self.running.pop(which)

    @rule(seconds=st.integers(1, 5))
    def pass_time(self, seconds: int) -> None:
        later = [job if job.left is None else job._replace(left=job.left - seconds) for job in self.running]
        self.running = [job for job in later if job.left is None or job.left > 0]

    @invariant()
    def the_line_holds_what_was_added(self) -> None:
        assert len(self.line) == len(self.model)
        assert all(key in self.line for key in self.model)
        assert self.line.first(len(self.line)) == sorted(self.model.values())

    @invariant()
    def an_idle_machine_never_lets_anybody_wait(self) -> None:
        if self.model and not self.running:
            first = min(self.model.values())
            assert self.line.next_to_start([]) == first.key
            self.since.pop(first.key, None)


TestLine = pytest.mark.filterwarnings("error")(LineMachine.TestCase)
TestLine.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
