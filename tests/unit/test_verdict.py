"""The verdict on an ended run: a table of exits and what they mean, and whether it is run again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.judgement.verdict import Exit, Trial, Verdict, attempts_made, code_in_words, judge, signal_of
from qm.vocabulary.options import Options
from qm.vocabulary.record import Run
from qm.vocabulary.states import TRANSITIONS, Event, State


def verdict(
    exit_: Exit, wanted: Event | None = None, tries: int = 0, deferring: float = 0.0, **keys: object
) -> Verdict:
    options = Options(script="true", **keys)  # type: ignore[arg-type]
    return judge(exit_, Trial(options, tries, deferring, wanted, "asked for"))


def test_voided_starts_and_deferred_runs_are_no_attempts() -> None:
    states = ("pending", "deferred", "failed", "timeout", "lost")
    runs = [Run(number, 1.0, 2.0, state) for number, state in enumerate(states, 1)]
    assert attempts_made(runs) == 3
    assert attempts_made(()) == 0


# --- what it was ---------------------------------------------------------------------------------------------


def test_status_0_is_success() -> None:
    assert verdict(Exit(0)) == Verdict(Event.SUCCEED, "", State.DONE)


@pytest.mark.parametrize("status", [1, 7, 76, 127, 128, 255])
def test_another_status_is_a_failure_that_names_it(status: int) -> None:
    found = verdict(Exit(status))
    assert (found.event, found.outcome) == (Event.FAIL, State.FAILED)
    assert str(status) in found.reason


def test_a_reason_that_the_script_gives_stands_in_that_of_the_record() -> None:
    assert verdict(Exit(1, said="KeyError: 'x'")).reason == "exit status 1: KeyError: 'x'"
    assert verdict(Exit(75, said="no tide yet")).reason == "deferred: no tide yet"
    assert verdict(Exit(1, said="KeyError: 'x'"), Event.KILL).reason == "asked for"


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


def test_a_killed_job_is_killed_even_if_it_ended_with_0() -> None:
    assert verdict(Exit(0), Event.KILL) == Verdict(Event.KILL, "asked for", State.KILLED)


def test_work_that_was_done_in_the_last_second_counts_although_time_was_over() -> None:
    assert verdict(Exit(0), Event.RUN_OUT_OF_TIME).event is Event.SUCCEED


def test_a_limit_that_ended_a_job_is_the_reason_whatever_the_status() -> None:
    for exit_ in (Exit(143), Exit(1), Exit(75), Exit(None, 9), Exit(None)):
        assert verdict(exit_, Event.RUN_OUT_OF_TIME).event is Event.RUN_OUT_OF_TIME


def test_a_job_that_the_kernel_ended_for_its_memory_says_so() -> None:
    found = verdict(Exit(137, out_of_memory="the kernel did it"), attempts=9)
    assert (found.event, found.reason) == (Event.RUN_OUT_OF_MEMORY, "the kernel did it")


def test_a_job_that_lost_a_process_to_the_kernel_and_did_its_work_all_the_same_is_done() -> None:
    assert verdict(Exit(0, out_of_memory="the kernel did it")).event is Event.SUCCEED


def test_a_script_that_could_not_be_begun_has_not_run() -> None:
    assert verdict(Exit(None, begun=False)).event is Event.VOID


def test_a_script_that_could_not_be_begun_and_was_killed_is_killed() -> None:
    assert verdict(Exit(None, begun=False), Event.KILL).event is Event.KILL


# --- again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exit_", "wanted"), [(Exit(1), None), (Exit(143), Event.RUN_OUT_OF_TIME), (Exit(None, 9), None)]
)
def test_a_failure_or_a_timeout_is_tried_again_after_error_time(exit_: Exit, wanted: Event | None) -> None:
    found = verdict(exit_, wanted, tries=0, attempts=2, error_time=30.0)
    assert (found.event, found.wait) == (Event.TRY_AGAIN, 30.0)
    assert "attempt 1 of 2" in found.reason
    assert verdict(exit_, wanted, tries=1, attempts=2).event in (Event.FAIL, Event.RUN_OUT_OF_TIME)


def test_the_wait_grows_with_error_backoff() -> None:
    waits = [verdict(Exit(1), tries=tries, attempts=9, error_time=10.0, error_backoff=3.0).wait for tries in range(3)]
    assert waits == [10.0, 30.0, 90.0]


def test_even_the_strongest_backoff_comes_back_within_a_century() -> None:
    assert verdict(Exit(1), tries=10**6, attempts=10**7, error_time=600.0, error_backoff=1000.0).wait < 3.3e9


def test_retry_on_limits_it_to_these_statuses() -> None:
    assert verdict(Exit(3), attempts=2, retry_on=(3, 4)).event is Event.TRY_AGAIN
    assert verdict(Exit(5), attempts=2, retry_on=(3, 4)).event is Event.FAIL
    assert verdict(Exit(5), attempts=2, retry_on=()).event is Event.FAIL
    assert verdict(Exit(143), Event.RUN_OUT_OF_TIME, attempts=2, retry_on=(3,)).event is Event.RUN_OUT_OF_TIME


def test_gone_without_a_status_is_tried_again_at_once_while_attempts_are_left() -> None:
    found = verdict(Exit(None), attempts=2, retry_on=())
    assert (found.event, found.outcome, found.wait) == (Event.TRY_AGAIN, State.LOST, 0.0)


@pytest.mark.parametrize("event", [Event.KILL, Event.RUN_OUT_OF_MEMORY])
def test_what_a_person_or_too_much_memory_ended_is_final(event: Event) -> None:
    assert verdict(Exit(143), event, attempts=5).event is event


def test_status_75_defers_without_using_up_an_attempt() -> None:
    found = verdict(Exit(75), defer_time=60.0)
    assert (found.event, found.outcome, found.wait) == (Event.DEFER, State.DEFERRED, 60.0)


def test_after_defer_max_of_deferring_a_job_is_inactive() -> None:
    assert verdict(Exit(75), deferring=119.0, defer_max=120.0).event is Event.DEFER
    found = verdict(Exit(75), deferring=120.0, defer_max=120.0)
    assert (found.event, found.outcome) == (Event.EXPIRE, State.INACTIVE)


exits = st.builds(Exit, st.none() | st.integers(0, 255), st.none() | st.integers(1, 64), begun=st.booleans())
wishes = st.none() | st.sampled_from([Event.KILL, Event.RUN_OUT_OF_TIME, Event.RUN_OUT_OF_MEMORY])


@given(exits, wishes, st.integers(0, 4), st.integers(1, 4), st.none() | st.just((1, 2)), st.sampled_from([0.0, 5000.0]))
def test_every_exit_of_an_active_job_leads_along_the_table_with_a_reason(
    exit_: Exit, wanted: Event | None, tries: int, attempts: int, retry_on: tuple[int, ...] | None, deferring: float
) -> None:
    found = verdict(exit_, wanted, tries, deferring, attempts=attempts, retry_on=retry_on)
    for state in (State.RUNNING, State.PAUSED, State.SUBMITTED):
        assert found.event in TRANSITIONS[state]
    assert found.reason or found.event is Event.SUCCEED
    assert found.event is not Event.TRY_AGAIN or tries + 1 < attempts
    if found.event is Event.SUCCEED:
        assert exit_.status == 0
