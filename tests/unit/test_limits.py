"""Whether a running job is over its memory, or seems dead; and what can be said of options before anything runs."""

from __future__ import annotations

import pytest

from qm.judgement.contradictions import doubtful, impossible
from qm.judgement.limits import ACTIVE_CPU, Pulse, Usage, over_memory, pulse_after, zombie
from qm.judgement.outcome import NAMED, outcome
from qm.judgement.waiting import Limits
from qm.vocabulary.options import Options
from qm.vocabulary.states import State

MB = 1 << 20


# --- memory --------------------------------------------------------------------------------------------------


def test_a_job_over_its_memory_is_told_with_both_numbers() -> None:
    said = over_memory(Usage(1.0, 300 * MB, 0), 200 * MB)
    assert "300.0 MiB" in said and "200.0 MiB" in said


@pytest.mark.parametrize(
    ("usage", "mem"),
    [
        (Usage(1.0, 200 * MB, 0), 200 * MB),
        (Usage(1.0, 300 * MB, 0), None),
        (Usage(1.0, 300 * MB, 0, limited=True), 200 * MB),
    ],
)
def test_a_job_below_its_memory_or_without_a_limit_or_limited_by_the_kernel_is_left_alone(
    usage: Usage, mem: int | None
) -> None:
    assert over_memory(usage, mem) == ""


def test_a_job_of_which_the_kernel_ended_a_process_is_over_its_memory() -> None:
    assert "ended 2 of its processes" in over_memory(Usage(1.0, MB, 0, limited=True, oom_kills=2), 200 * MB)


# --- zombies -------------------------------------------------------------------------------------------------

ASKED = Options(script="true", zombie_time=10.0)


def test_a_job_without_output_and_cpu_for_zombie_time_seems_dead() -> None:
    pulse = pulse_after(Pulse(0.0, 1.0, 7), Usage(1.0, 0, 7), 9.9)
    assert zombie(pulse, 9.9, ASKED) == ""
    assert "no output and no CPU for 00:10" in zombie(pulse, 10.0, ASKED)


def test_nobody_asked_about_a_job_without_zombie_time() -> None:
    assert zombie(Pulse(0.0), 1e9, Options(script="true")) == ""


@pytest.mark.parametrize("usage", [Usage(1.0 + ACTIVE_CPU, 0, 7), Usage(1.0, 0, 8)])
def test_output_or_cpu_is_a_sign_of_life(usage: Usage) -> None:
    pulse = pulse_after(Pulse(0.0, 1.0, 7), usage, 9.0)
    assert zombie(pulse, 18.9, ASKED) == ""


def test_cpu_is_counted_up_however_little_each_look_finds() -> None:
    pulse = Pulse(0.0)
    for second in range(1, 30):
        pulse = pulse_after(pulse, Usage(second * ACTIVE_CPU / 4, 0, 0), float(second))
    assert zombie(pulse, 30.0, ASKED) == ""


# --- what cannot be ------------------------------------------------------------------------------------------

LIMITS = Limits(4, 8 << 30, 1)


def test_more_than_the_machine_has_of_memory_or_gpus_can_never_start() -> None:
    said = impossible(Options(script="x", mem=9 << 30, gpus=2), LIMITS)
    assert ["MaxMemory" in said[0], "MaxGPUs" in said[1]] == [True, True]
    assert impossible(Options(script="x", mem=8 << 30, gpus=1, nb_proc=99), LIMITS) == []


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (Options(script="x", nb_proc=5), "lowered to 4"),
        (Options(script="x", begin="2020-01-01"), "in the past"),
        (Options(script="x", after=("a", "afterany:me")), "its own name"),
        (Options(script="x", array="0-9", output="out.txt"), "%a"),
        (Options(script="x", wall_time=0.0), "no limit"),
        (Options(script="x", group="io"), "[Group io]"),
    ],
)
def test_what_is_surely_not_meant_is_told(options: Options, word: str) -> None:
    (said,) = doubtful(options, LIMITS, "me", 1.7e9)
    assert word in said


def test_a_job_in_order_is_told_nothing() -> None:
    options = Options(
        script="x", nb_proc=4, begin="22:00", after=("a",), array="0-9", output="out-%a.txt", wall_time=9.0
    )
    assert doubtful(options, LIMITS, "me", 1.7e9) == []
    assert doubtful(Options(script="x", group="io", max_parallel=2), LIMITS, "me", 1.7e9) == []
    assert doubtful(Options(script="x", group="io"), LIMITS._replace(groups={"io": 2}), "me", 1.7e9) == []


# --- arrays --------------------------------------------------------------------------------------------------


def test_an_array_is_done_when_all_its_tasks_are() -> None:
    assert outcome(9, {}) == (State.DONE, "")


def test_an_array_names_the_tasks_that_failed() -> None:
    state, said = outcome(9, {4: State.FAILED, 2: State.TIMEOUT})
    assert (state, said) == (State.FAILED, "2 of 9 tasks did not succeed: tasks 2, 4")


def test_an_array_whose_bad_tasks_all_ended_in_one_way_ended_that_way() -> None:
    assert outcome(9, {4: State.TIMEOUT})[0] is State.TIMEOUT


def test_of_many_failed_tasks_the_first_are_named() -> None:
    _, said = outcome(999, dict.fromkeys(range(100), State.FAILED))
    assert said.endswith(f"{NAMED - 1} and {100 - NAMED} more")
