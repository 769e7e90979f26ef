"""The verdict on an ended run: a table of exits and what they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.judgement.verdict import Exit, Verdict, attempts_made, code_in_words, judge, signal_of
from qm.vocabulary.record import Run
from qm.vocabulary.states import TRANSITIONS, Event, State


def verdict(exit_: Exit, wanted: Event | None = None, attempts_left: int = 0) -> Verdict:
    return judge(exit_, wanted, "asked for", attempts_left)


def test_a_start_that_was_voided_is_no_attempt() -> None:
    runs = (Run(1, 1.0, 2.0, "pending"), Run(2, 3.0, 4.0, "deferred"), Run(3, 5.0, 6.0, "failed"))
    assert attempts_made(runs) == 2
    assert attempts_made(()) == 0


def test_status_0_is_success() -> None:
    assert verdict(Exit(0)) == Verdict(Event.SUCCEED, "")


@pytest.mark.parametrize("status", [1, 7, 75, 127, 128, 255])
def test_another_status_is_a_failure_that_names_it(status: int) -> None:
    found = verdict(Exit(status))
    assert found.event is Event.FAIL
    assert str(status) in found.reason


def test_status_143_is_told_as_it_is_because_a_shell_cannot_tell_it_from_a_signal() -> None:
    assert code_in_words(Exit(143)) == "143 (signal 15?)"
    found = verdict(Exit(143))
    assert found.event is Event.FAIL
    assert "143 (signal 15?)" in found.reason
    assert found.signal == 15


@pytest.mark.parametrize(
    ("status", "signal"), [(0, None), (1, None), (128, None), (129, 1), (137, 9), (192, 64), (193, None)]
)
def test_only_statuses_above_128_may_stand_for_signals(status: int, signal: int | None) -> None:
    assert signal_of(status) == signal


@pytest.mark.parametrize(
    ("exit_", "words"), [(Exit(0), "0"), (Exit(3), "3"), (Exit(None, 9), "none (signal 9)"), (Exit(None), "none")]
)
def test_the_last_line_of_the_log_says_the_status_or_that_there_is_none(exit_: Exit, words: str) -> None:
    assert code_in_words(exit_) == words


def test_a_shim_ended_by_a_signal_is_a_failure_not_a_loss() -> None:
    found = verdict(Exit(None, 9))
    assert (found.event, found.signal) == (Event.FAIL, 9)


def test_gone_without_a_status_is_lost() -> None:
    assert verdict(Exit(None)).event is Event.LOSE


def test_gone_without_a_status_is_tried_again_while_attempts_are_left() -> None:
    assert verdict(Exit(None), attempts_left=1).event is Event.TRY_AGAIN


def test_a_failure_of_the_script_is_never_a_loss_whatever_attempts_are_left() -> None:
    assert verdict(Exit(1), attempts_left=5).event is Event.FAIL


def test_a_killed_job_is_killed_even_if_it_ended_with_0() -> None:
    assert verdict(Exit(0), Event.KILL) == Verdict(Event.KILL, "asked for", None)


def test_work_that_was_done_in_the_last_second_counts_although_time_was_over() -> None:
    assert verdict(Exit(0), Event.RUN_OUT_OF_TIME).event is Event.SUCCEED


def test_a_limit_that_ended_a_job_is_the_reason_whatever_the_status() -> None:
    for exit_ in (Exit(143), Exit(1), Exit(None, 9), Exit(None)):
        assert verdict(exit_, Event.RUN_OUT_OF_TIME).event is Event.RUN_OUT_OF_TIME


def test_a_script_that_could_not_be_begun_has_not_run() -> None:
    assert verdict(Exit(None, begun=False)).event is Event.VOID


def test_a_script_that_could_not_be_begun_and_was_killed_is_killed() -> None:
    assert verdict(Exit(None, begun=False), Event.KILL).event is Event.KILL


exits = st.builds(Exit, st.none() | st.integers(0, 255), st.none() | st.integers(1, 64), begun=st.booleans())
wishes = st.none() | st.sampled_from([Event.KILL, Event.RUN_OUT_OF_TIME, Event.RUN_OUT_OF_MEMORY])


@given(exits, wishes, st.integers(0, 3))
def test_every_exit_of_an_active_job_leads_along_the_table_with_a_reason(
    exit_: Exit, wanted: Event | None, left: int
) -> None:
    found = verdict(exit_, wanted, left)
    for state in (State.RUNNING, State.PAUSED, State.SUBMITTED):
        assert found.event in TRANSITIONS[state]
    assert found.reason or found.event is Event.SUCCEED
    if found.event is Event.SUCCEED:
        assert exit_.status == 0
