"""When a job may start that is not to start at once, and who is woken when, whatever happens to the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from harness import Clock
from hypothesis import given
from hypothesis import strategies as st

from qm.daemon.sleepers import Sleepers
from qm.judgement.delays import begin_at, longest_wait
from qm.vocabulary.options import Options
from qm.vocabulary.record import Record, Run
from qm.vocabulary.states import State


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A place with daylight saving: clocks went forward on 29 March 2026 and go back on 25 October."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> float:
    """A moment by the local clock."""
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("begin", "now", "moment"),
    [
        ("22:00", "2026-01-31T12:00:00", "2026-01-31T22:00:00"),
        ("22:00", "2026-01-31T22:00:00", "2026-01-31T22:00:00"),
        ("22:00", "2026-01-31T22:00:01", "2026-02-01T22:00:00"),
        ("6:30:15", "2026-01-31T12:00:00", "2026-02-01T06:30:15"),
        ("03:00", "2026-03-28T12:00:00", "2026-03-29T03:00:00"),
        ("12:00", "2026-10-24T13:00:00", "2026-10-25T12:00:00"),
        ("+2h", "2026-01-31T12:00:00", "2026-01-31T14:00:00"),
        ("+90", "2026-01-31T12:00:00", "2026-01-31T12:01:30"),
        ("2026-02-03", "2026-01-31T12:00:00", "2026-02-03T00:00:00"),
        ("2026-02-03 07:08", "2026-01-31T12:00:00", "2026-02-03T07:08:00"),
        ("2020-02-03T07:08:09", "2026-01-31T12:00:00", "2020-02-03T07:08:09"),
    ],
)
def test_begin_is_a_moment(begin: str, now: str, moment: str) -> None:
    assert begin_at(begin, at(now)) == at(moment)


def test_now_and_nothing_are_at_once() -> None:
    assert begin_at("", 1e9) is None and begin_at("now", 1e9) is None


def waiting(state: State, *runs: str, **keys: object) -> Record:
    """A waiting job with these runs behind it."""
    options = Options(script="true", **keys)  # type: ignore[arg-type]
    history = tuple(Run(number, 0.0, 1.0, was) for number, was in enumerate(runs, 1))
    return Record("a", "a", "me", state, 0.0, options=options, history=history)


def test_what_waits_for_a_time_to_pass_waits_no_longer_than_it_was_to() -> None:
    assert longest_wait(waiting(State.PENDING, begin="+2h")) == 7200
    assert longest_wait(waiting(State.DEFERRED, "deferred", defer_time=20.0)) == 20
    assert longest_wait(waiting(State.DEFERRED, "failed", error_time=20.0, error_backoff=2.0, attempts=3)) == 80
    assert longest_wait(waiting(State.DEFERRED, "failed", error_backoff=9e11, attempts=999)) < 3.3e9


def test_what_waits_for_the_clock_on_the_wall_follows_it() -> None:
    assert longest_wait(waiting(State.PENDING, begin="22:00")) is None
    assert longest_wait(waiting(State.PENDING, begin="2026-02-03")) is None


# --- who is woken when ---------------------------------------------------------------------------------------


@pytest.fixture
def wall() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def passing() -> Clock:
    return Clock(5.0)


@pytest.fixture
def sleepers(wall: Clock, passing: Clock) -> Sleepers:
    return Sleepers(wall, passing)


def test_nobody_is_woken_early_and_everybody_once(sleepers: Sleepers, wall: Clock, passing: Clock) -> None:
    sleepers.sleep("time", 1010.0, longest=10.0)
    sleepers.sleep("moment", 1020.0, longest=None)
    assert (sleepers.due(), sleepers.rest()) == ([], 10.0)
    wall.time, passing.time = 1010.0, 15.0
    assert (sleepers.due(), sleepers.rest()) == (["time"], 10.0)
    wall.time, passing.time = 1020.0, 25.0
    assert (sleepers.due(), sleepers.due(), sleepers.rest()) == (["moment"], [], None)


def test_a_clock_that_jumps_does_not_wake_who_waits_for_a_time_to_pass(
    sleepers: Sleepers, wall: Clock, passing: Clock
) -> None:
    sleepers.sleep("x", 1600.0, longest=600.0)
    wall.time += 365 * 86400
    assert sleepers.due() == []
    wall.time = 0.0
    passing.time += 600.0
    assert sleepers.due() == ["x"]


def test_a_clock_that_was_set_back_before_a_restart_does_not_make_anybody_wait_longer(
    sleepers: Sleepers, wall: Clock, passing: Clock
) -> None:
    wall.time = 10.0  # the record says 1600, of a clock that was wrong
    sleepers.sleep("x", 1600.0, longest=600.0)
    assert sleepers.rest() == 600.0


def test_the_clock_on_the_wall_decides_for_who_waits_for_a_moment(sleepers: Sleepers, wall: Clock) -> None:
    sleepers.sleep("x", 1600.0, longest=None)
    wall.time = 1601.0
    assert sleepers.due() == ["x"]


def test_who_was_woken_or_sent_to_sleep_anew_is_not_woken_by_the_old_time(sleepers: Sleepers, passing: Clock) -> None:
    sleepers.sleep("gone", 1001.0, longest=1.0)
    sleepers.sleep("later", 1001.0, longest=1.0)
    sleepers.wake("gone")
    sleepers.wake("never there")
    sleepers.sleep("later", 1100.0, longest=100.0)
    passing.time += 2.0
    assert sleepers.due() == []
    assert "later" in sleepers and "gone" not in sleepers


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 50), st.booleans()), max_size=20))
def test_everybody_is_due_in_the_end_and_only_once(calls: list[tuple[str, float, bool]]) -> None:
    wall, passing = Clock(1000.0), Clock(0.0)
    sleepers = Sleepers(wall, passing)
    for key, wait, moment in calls:
        sleepers.sleep(key, 1000.0 + wait, None if moment else wait)
    wall.time, passing.time = 2000.0, 1000.0
    assert sorted(sleepers.due()) == sorted({key for key, _, _ in calls})
    assert sleepers.rest() is None
