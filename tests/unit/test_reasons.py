"""Why a job waits, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qm.judgement.reasons import Situation, Waiting, why_waiting
from qm.vocabulary.states import State

IDLE = Situation(served=True, draining=False, limit=8, used=0)


def why(situation: Situation, *jobs: Waiting) -> list[str]:
    return why_waiting(situation, jobs)


def pending(nb_proc: int = 1) -> Waiting:
    return Waiting(State.PENDING, nb_proc)


def test_the_first_job_that_fits_starts_next() -> None:
    assert why(replace(IDLE, used=6), pending(2)) == ["starts next"]


def test_a_job_too_wide_says_what_it_needs_and_what_is_free() -> None:
    assert why(replace(IDLE, used=6), pending(4)) == ["needs 4, 2 of 8 processors free"]


def test_a_job_wider_than_the_machine_is_counted_as_it_will_be_lowered() -> None:
    assert why(replace(IDLE, used=1), pending(50)) == ["needs 8, 7 of 8 processors free"]


def test_more_in_use_than_the_limit_says_none_free() -> None:
    assert why(replace(IDLE, used=12), pending(1)) == ["needs 1, 0 of 8 processors free"]


def test_later_jobs_count_those_before_them() -> None:
    held = Waiting(State.HELD, 1)
    assert why(replace(IDLE, used=8), pending(1), pending(1), held, pending(1))[1:] == [
        "1 job before it",
        "held, until it is released",
        "2 jobs before it",
    ]


@pytest.mark.parametrize(
    ("situation", "sentence"),
    [
        (replace(IDLE, served=False), "QueueManager is not running"),
        (replace(IDLE, draining=True), "draining: no job is started"),
        (replace(IDLE, one_at_a_time=True, used=1), "one job at a time: another one runs"),
        (replace(IDLE, one_at_a_time=True), "starts next"),
    ],
)
def test_what_stops_the_whole_queue_is_said(situation: Situation, sentence: str) -> None:
    assert why(situation, pending()) == [sentence]


def test_a_folder_that_arrives_and_one_that_is_deferred_say_so() -> None:
    jobs = Waiting(State.ARRIVING, 1), Waiting(State.DEFERRED, 1), Waiting(State.DEFERRED, 1, "runs again at 22:00")
    assert why(IDLE, *jobs) == ["is being copied in", "waits for its next run", "runs again at 22:00"]


def test_held_stays_held_also_without_a_daemon() -> None:
    assert why(replace(IDLE, served=False), Waiting(State.HELD, 1)) == ["held, until it is released"]
