"""Arrival, judged with no folder and no clock: looks at made-up moments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.judgement.arrival import LOOK_AT_MOST_OFTEN, Arrival, Look, Sight, judge, marks_a_copy
from qm.vocabulary.record import Survey

SETTLE, GRACE = 1.0, 60.0


def arriving(renamed: bool = False, now: float = 0.0) -> Arrival:
    return Arrival("job", renamed, since=now, look_at=now)


def seen(size: int = 1, job_file: bool = True, cost: float = 0.0) -> Sight:
    return Sight(Survey(1, size, 0, 0), job_file, cost)


def look(arrival: Arrival, sight: Sight, now: float) -> Look:
    return judge(arrival, sight, now, SETTLE, GRACE)


@pytest.mark.parametrize("name", [".hidden", "@copy", "x.tmp", "x.part", "x~", ".", "..", "..x", "@", "~", ".tmp"])
def test_names_that_mark_a_copy_are_known(name: str) -> None:
    assert marks_a_copy(name)


@pytest.mark.parametrize(
    "name", ["x", "x.tmp.y", "part", "tmp", "~x", "x@y", "a.b", "x.TMP", "x.partial", "-rf", " .x"]
)
def test_other_names_are_jobs(name: str) -> None:
    assert not marks_a_copy(name)


def test_a_renamed_folder_is_accepted_at_the_first_look() -> None:
    assert look(arriving(renamed=True), seen(), 0.0) is Look.ACCEPT


def test_a_copied_folder_is_accepted_once_it_was_still_for_the_settle_time() -> None:
    arrival = arriving()
    assert look(arrival, seen(), 0.0) is Look.WAIT
    assert look(arrival, seen(), SETTLE - 0.01) is Look.WAIT
    assert look(arrival, seen(), SETTLE) is Look.ACCEPT


def test_every_change_begins_the_settle_time_anew() -> None:
    arrival = arriving()
    for step in range(20):
        assert look(arrival, seen(size=step), step * 0.9) is Look.WAIT
    assert look(arrival, seen(size=19), 19 * 0.9 + SETTLE) is Look.ACCEPT


@pytest.mark.parametrize("changed", [Survey(2, 1, 0, 0), Survey(1, 2, 0, 0), Survey(1, 1, 5, 0), Survey(1, 1, 0, 5)])
def test_count_size_mtime_and_ctime_each_count_as_a_change(changed: Survey) -> None:
    arrival = arriving()
    look(arrival, Sight(Survey(1, 1, 0, 0), True), 0.0)
    assert look(arrival, Sight(changed, True), SETTLE + 1) is Look.WAIT


def test_a_stir_makes_a_folder_settle_anew_even_if_it_looks_the_same() -> None:
    arrival = arriving()
    look(arrival, seen(), 0.0)
    arrival.stir(0.9)
    assert look(arrival, seen(), 1.5) is Look.WAIT
    assert look(arrival, seen(), 2.5) is Look.ACCEPT


def test_a_folder_without_a_job_file_is_waited_for_and_then_rejected() -> None:
    arrival = arriving()
    assert look(arrival, seen(job_file=False), 0.0) is Look.WAIT
    assert look(arrival, seen(job_file=False), GRACE - 0.01) is Look.WAIT
    assert look(arrival, seen(job_file=False), GRACE) is Look.REJECT


def test_any_change_begins_the_grace_anew() -> None:
    arrival = arriving()
    look(arrival, seen(size=1, job_file=False), 0.0)
    look(arrival, seen(size=2, job_file=False), GRACE - 1)
    assert look(arrival, seen(size=2, job_file=False), GRACE + 1) is Look.WAIT


def test_a_job_file_that_comes_last_has_to_settle_even_in_a_renamed_folder() -> None:
    arrival = arriving(renamed=True)
    assert look(arrival, seen(job_file=False), 0.0) is Look.WAIT
    assert look(arrival, seen(size=2), 5.0) is Look.WAIT
    assert look(arrival, seen(size=2), 5.0 + SETTLE) is Look.ACCEPT


def test_a_tree_that_takes_long_to_look_at_is_looked_at_less_often() -> None:
    arrival = arriving()
    look(arrival, seen(cost=0.5), 10.0)
    assert arrival.look_at >= 10.0 + 0.5 / LOOK_AT_MOST_OFTEN


sizes = st.integers(0, 2)
moments = st.lists(st.tuples(st.floats(0.001, 3.0), sizes, st.booleans()), min_size=1, max_size=40)


@given(moments)
def test_no_copied_folder_is_accepted_or_rejected_before_it_was_still_long_enough(
    looks: list[tuple[float, int, bool]],
) -> None:
    arrival, now = arriving(), 0.0
    unchanged_since, last = 0.0, None
    for pause, size, job_file in looks:
        now += pause
        if (size, job_file) != last and (last is None or size != last[0]):
            unchanged_since = now
        last = (size, job_file)
        found = judge(arrival, seen(size, job_file), now, 1.0, 4.0)
        if found is Look.ACCEPT:
            assert job_file and now - unchanged_since >= 1.0
            return
        if found is Look.REJECT:
            assert not job_file and now - unchanged_since >= 4.0
            return


@given(st.booleans(), st.booleans(), st.floats(0.01, 5.0), st.floats(0.0, 100.0), st.floats(0.0, 0.1))
def test_a_folder_that_does_not_change_is_decided_soon_after_its_time(
    renamed: bool, job_file: bool, settle: float, grace: float, cost: float
) -> None:
    arrival, now = arriving(renamed), 0.0
    while (found := judge(arrival, seen(job_file=job_file, cost=cost), now, settle, grace)) is Look.WAIT:
        assert arrival.look_at > now, "time must pass between two looks"
        now = arrival.look_at
    assert found is (Look.ACCEPT if job_file else Look.REJECT)
    wanted = (0.0 if renamed else settle) if job_file else grace
    assert now <= wanted + cost / LOOK_AT_MOST_OFTEN + 0.02
