"""Why a job waits, in words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest

from qm.judgement.reasons import Situation, Waiting, group_of, occupied_of, waiting_of, why_waiting
from qm.judgement.waiting import Limits, Need, Occupied
from qm.vocabulary.options import Options
from qm.vocabulary.record import Dependency, Record, Tasks
from qm.vocabulary.states import State

GIB = 1 << 30
IDLE = Situation(served=True, draining=False, limits=Limits(8, 8 * GIB, 2), running=())


def why(situation: Situation, *jobs: Waiting) -> list[str]:
    return why_waiting(situation, jobs)


def used(processors: int, memory: int = 0, gpus: int = 0, group: str = "") -> Situation:
    return replace(IDLE, running=(Occupied(Need(processors, memory, gpus), 0, group=group),))


def pending(
    processors: int = 1, memory: int = 0, gpus: int = 0, group: str = "", at_most: int | None = None
) -> Waiting:
    return Waiting(State.PENDING, Need(processors, memory, gpus), group=group, at_most=at_most)


# --- room ------------------------------------------------------------------------------------------------------


def test_the_first_job_that_fits_starts_next() -> None:
    assert why(used(6), pending(2)) == ["starts next"]


def test_a_job_too_wide_says_what_it_needs_and_what_is_free() -> None:
    assert why(used(6), pending(4)) == ["2 of 8 processors free, needs 4"]


def test_a_job_wider_than_the_machine_is_counted_as_it_will_be_lowered() -> None:
    assert why(used(1), pending(50)) == ["7 of 8 processors free, needs 8"]


def test_more_in_use_than_the_limit_says_none_free() -> None:
    assert why(used(12), pending(1)) == ["0 of 8 processors free, needs 1"]


def test_memory_and_gpus_that_are_not_free_are_told() -> None:
    assert why(used(1, 7 * GIB), pending(memory=2 * GIB)) == ["1.0 GiB of 8.0 GiB memory free, needs 2.0 GiB"]
    assert why(used(1, gpus=2), pending(gpus=1)) == ["0 of 2 GPUs free, needs 1"]


def test_memory_that_others_have_is_told() -> None:
    situation = replace(IDLE, available=GIB)
    assert why(situation, pending(memory=4 * GIB)) == ["the machine has 1.0 GiB of memory left, needs 4.0 GiB"]
    assert why(situation, pending()) == ["starts next"]


def test_what_could_never_start_says_so_and_nobody_waits_for_it() -> None:
    found = why(IDLE, pending(memory=9 * GIB), pending(gpus=3), pending())
    assert found == ["needs 9.0 GiB of memory, MaxMemory is 8.0 GiB", "needs 3 GPUs, MaxGPUs is 2", "starts next"]


def test_later_jobs_count_those_before_them() -> None:
    held = Waiting(State.HELD)
    assert why(used(8), pending(1), pending(1), held, pending(1))[1:] == [
        "1 job before it",
        "held, until it is released",
        "2 jobs before it",
    ]


def test_a_later_job_says_what_it_lacks_itself_only_if_others_might_start() -> None:
    found = why(used(6), pending(4), pending(2), pending(3))
    assert found[1:] == ["1 job before it", "2 of 8 processors free, needs 3; 2 jobs before it"]


@pytest.mark.parametrize(
    ("situation", "sentence"),
    [
        (replace(IDLE, served=False), "QueueManager is not running"),
        (replace(IDLE, draining=True), "draining: no job is started"),
        (replace(used(1), one_at_a_time=True), "one job at a time: another one runs"),
        (replace(IDLE, one_at_a_time=True), "starts next"),
        (replace(used(0), one_at_a_time=True), "starts next"),
        (replace(IDLE, disk_short="80.0 MiB of disk free, Disk_Reserve is 100.0 MiB"),) * 2,
    ],
)
def test_what_stops_the_whole_queue_is_said(situation: Situation, sentence: str | Situation) -> None:
    expected = sentence if isinstance(sentence, str) else sentence.disk_short
    assert why(situation, pending()) == [expected]


# --- before they stand in line -----------------------------------------------------------------------------------


def test_a_folder_that_arrives_and_one_that_is_deferred_say_so() -> None:
    jobs = Waiting(State.ARRIVING), Waiting(State.DEFERRED), Waiting(State.DEFERRED, reason="runs again at 22:00")
    assert why(IDLE, *jobs) == ["is being copied in", "waits for its next run", "runs again at 22:00"]


def test_held_stays_held_also_without_a_daemon() -> None:
    assert why(replace(IDLE, served=False), Waiting(State.HELD)) == ["held, until it is released"]


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        ((Dependency("prepare", "a" * 12),), "after `prepare`"),
        ((Dependency("a", "a" * 12), Dependency("b", "b" * 12, any_end=True)), "after `a`, `b`"),
        ((Dependency("prepare"),), "after `prepare`, which is not there yet"),
        ((Dependency("a"), Dependency("b")), "after `a`, `b`, which are not there yet"),
        ((Dependency("a", "a" * 12), Dependency("b")), "after `a`; after `b`, which is not there yet"),
        ((Dependency("a", "a" * 12, met=True),), "starts next"),
    ],
)
def test_what_comes_first_is_named(after: tuple[Dependency, ...], sentence: str) -> None:
    assert why(IDLE, Waiting(State.PENDING, after=after)) == [sentence]


def test_a_full_group_is_told_and_nobody_waits_for_its_jobs() -> None:
    limits = IDLE.limits._replace(groups={"io": 2})
    io = Occupied(Need(1), 0, group="io")
    situation = replace(IDLE, limits=limits, running=(io, io))
    found = why(situation, pending(group="io"), pending(group="net", at_most=1), pending())
    assert found == ["group `io` has its 2 running", "starts next", "1 job before it"]


def test_a_job_behind_another_of_its_group_that_allows_fewer_says_so() -> None:
    found = why(used(1, group="io"), pending(group="io", at_most=1), pending(group="io", at_most=5))
    assert found == ["group `io` has its 1 running", "behind another job of group `io`"]


@pytest.fixture
def in_kathmandu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "NPT-5:45")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> float:
    return datetime.fromisoformat(f"{text}+05:45").timestamp()


@pytest.mark.usefixtures("in_kathmandu")
def test_when_a_job_begins_is_told_by_the_local_clock_with_the_date_unless_it_is_today() -> None:
    now = replace(IDLE, now=at("2026-01-31T21:00:00"))
    tonight, exactly, tomorrow = at("2026-01-31T22:00:00"), at("2026-01-31T22:00:05"), at("2026-02-01T00:00:00")
    assert why(now, *(Waiting(State.PENDING, not_before=moment) for moment in (tonight, exactly, tomorrow, 5.0))) == [
        "begins at 22:00",
        "begins at 22:00:05",
        "begins at 2026-02-01 00:00",
        "starts next",
    ]


@pytest.mark.usefixtures("in_kathmandu")
def test_when_a_deferred_job_runs_again_is_told_after_the_reason() -> None:
    now = replace(IDLE, now=at("2026-01-31T21:00:00"))
    job = Waiting(State.DEFERRED, not_before=at("2026-01-31T22:00:00"))
    assert why(now, job) == ["runs again at 22:00:00"]
    assert why(now, replace(job, reason="exit status 3")) == ["exit status 3; runs again at 22:00:00"]
    assert why(replace(now, now=at("2026-01-31T22:00:00")), job) == ["starts next"], "it stands in line again"


@pytest.mark.usefixtures("in_kathmandu")
def test_several_hindrances_are_told_in_one_sentence() -> None:
    situation = replace(used(6, group="io"), now=at("2026-01-31T21:00:00"))
    job = replace(
        pending(4, group="io", at_most=1),
        after=(Dependency("prepare", "a" * 12),),
        not_before=at("2026-01-31T22:00:00"),
    )
    told = "2 of 8 processors free, needs 4; after `prepare`; group `io` has its 1 running; begins at 22:00"
    assert why(situation, job) == [told]


# --- from records ------------------------------------------------------------------------------------------------


def record(options: Options, state: State = State.PENDING, tasks: Tasks | None = None) -> Record:
    return Record("a" * 12, "corr", "ada", state, 1.0, nb_proc=3, options=options, tasks=tasks)


def test_jobs_of_one_name_that_limit_themselves_are_a_group() -> None:
    assert group_of(Options(group="io"), "corr") == "io"
    assert group_of(Options(max_parallel=2), "corr") == "corr"
    assert group_of(Options(), "corr") == ""


def test_a_record_tells_all_that_its_job_waits_for() -> None:
    options = Options(mem=GIB, gpus=1, max_parallel=2, after=("first", "afterany:second"))
    bound = record(options)._replace(after=(Dependency("first", "b" * 12),), not_before=5.0, overrides={"mem": "2G"})
    found = waiting_of(bound)
    assert found.need == Need(3, 2 * GIB, 1)
    assert (found.state, found.name, found.group, found.at_most) == (State.PENDING, "corr", "corr", 2)
    assert found.not_before == 5.0
    assert [one.name for one in found.after] == ["first", "second"]


def test_a_paused_job_has_no_processors_but_keeps_the_rest() -> None:
    options = Options(mem=GIB, gpus=1, group="io")
    assert occupied_of(record(options, State.RUNNING), 7) == [Occupied(Need(3, GIB, 1), 7, group="io")]
    assert occupied_of(record(options, State.PAUSED)) == [Occupied(Need(0, GIB, 1), 0, group="io")]


def test_an_array_has_as_much_as_its_running_tasks() -> None:
    occupied = occupied_of(record(Options(array="0-99"), State.RUNNING, Tasks(100, 61, 2, 3)))
    assert occupied == [Occupied(Need(3), 0)] * 3


def test_a_job_that_would_fit_is_told_for_whom_the_free_processors_are_kept() -> None:
    wide, narrow = replace(pending(4), name="wide"), replace(pending(1), name="narrow")
    told = why(used(6), wide, narrow, narrow)
    assert told[1] == "1 job before it; what is free is kept for `wide`"
    assert told[2] == "2 jobs before it; what is free is kept for `wide`"
    assert "kept" not in why(IDLE, narrow, narrow)[1], "the first starts in a moment"
