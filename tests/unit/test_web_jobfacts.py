"""What a job's page says about it."""

from __future__ import annotations

from typing import Any

import pytest

from qm.spool.logreader import LogFile
from qm.spool.view import JobView
from qm.vocabulary.options import Options
from qm.vocabulary.record import Dependency, Record, Run, Tasks
from qm.vocabulary.states import PLACE_OF, Place, State
from qm_web.cache.index import Row
from qm_web.live import Active
from qm_web.routes.jobfacts import (
    attempts,
    facts,
    log_of,
    ranges,
    retry_label,
    signal_in_words,
    status_in_words,
    verbs,
)
from qm_web.routes.logs import columns, plain

NOW = 1_800_000_000.0
ALL = {"operate": True, "kill": True, "delete": True}


def row(state: State = State.RUNNING, **changes: Any) -> Row:
    """A job in this state, but for what is said."""
    plain_row = Row(
        key="abcdefghijkl",
        id="abcdefghijkl",
        name="job",
        place=PLACE_OF[state],
        folder="job",
        state=state,
        owner="me",
        info="",
        size="",
        nb_proc=1,
        priority=0,
        submitted=NOW - 100,
        started=None if PLACE_OF[state] is Place.QUEUE else NOW - 60,
        finished=None,
        reason="",
        attempt=1,
        exit_status=None,
        signal=None,
        cpu_seconds=None,
        peak_memory=None,
    )
    return plain_row._replace(**changes)


def view(record: Record | None) -> JobView:
    return JobView(
        Place.JOBS, "job", "/spool/QM_Jobs/job", "job", "abcdefghijkl", State.RUNNING, "me", "", "", 1, 0, NOW, None,
        None, "", None, "", record,
    )  # fmt: skip


def said(*args: Any, **kwargs: Any) -> dict[str, str]:
    return {fact.label: fact.text for fact in facts(*args, **kwargs)}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.ARRIVING, []),
        (State.PENDING, ["hold", "kill", "delete"]),
        (State.HELD, ["release", "kill", "delete"]),
        (State.DEFERRED, ["hold", "retry", "kill", "delete"]),
        (State.SUBMITTED, ["kill"]),
        (State.RUNNING, ["pause", "kill"]),
        (State.PAUSED, ["resume", "kill"]),
        (State.DONE, ["retry", "delete"]),
        (State.INVALID, ["retry", "delete"]),
    ],
)
def test_only_what_is_possible_in_a_state_is_offered(state: State, expected: list[str]) -> None:
    assert verbs(row(state), ALL) == expected


def test_only_what_the_visitor_may_is_offered() -> None:
    nothing = {"operate": False, "kill": False, "delete": False}
    assert verbs(row(State.RUNNING), nothing) == verbs(row(State.DONE), nothing) == []
    assert verbs(row(State.RUNNING), {**nothing, "operate": True}) == ["pause"]
    assert verbs(row(State.DONE), {**nothing, "operate": True}) == ["retry"]


def test_times_are_said_as_far_as_they_have_come() -> None:
    running = said(row(), None, Active(progress=0.5), NOW, True)
    assert (running["Waited"], running["Running for"], running["Left, about"]) == ("00:40", "01:00", "01:00")
    assert "Finished" not in running
    waiting = said(row(State.PENDING), None, Active(), NOW, True)
    assert waiting["Waited"] == "01:40"
    assert "Running for" not in waiting
    assert said(row(State.DONE, finished=NOW), None, Active(), NOW, True)["Took"] == "01:00"


def test_without_details_nothing_that_the_owner_wrote_is_said() -> None:
    secret = Options(script="secret", info="secret", chdir="secret")
    record = Record("abcdefghijkl", "job", "secret", State.RUNNING, NOW, options=secret, notes=("secret",))
    text = repr(facts(row(owner="secret", info="secret"), view(record), Active(), NOW, False))
    assert "secret" not in text
    assert "/spool" not in text


def test_options_are_said_with_units() -> None:
    options = Options(script="x", mem=2 << 30, wall_time=7200.0, env=(("SEED", "42"),))
    record = Record("abcdefghijkl", "job", "me", State.RUNNING, NOW, options=options, overrides={"priority": "5"})
    told = said(row(), view(record), Active(), NOW, True)
    assert (told["Option mem"], told["Option wall_time"]) == ("2.0 GiB", "02:00:00")
    assert (told["Option env_SEED"], told["Set priority"]) == ("42", "5")


def test_strange_values_in_a_record_are_left_out_or_escaped() -> None:
    record = Record(
        "abcdefghijkl", "job", "me\n", State.RUNNING, NOW,
        processors=("a", -1, 3, {}), gpus=(True, None), notes=("\x1b[31m\u202e",),  # type: ignore[arg-type]
        history=(Run(None, None, None, [], {}, "x", "y"),),  # type: ignore[arg-type]
    )  # fmt: skip
    odd = row(
        cpu_seconds=float("inf"), peak_memory=10**400, exit_status=10**30, signal=-(10**30), started=1.0, owner="\n"
    )
    told = said(odd, view(record), Active(), NOW, True)
    assert told["Processors"] == "1 (CPU 3)"
    assert all(text.isprintable() for text in told.values())
    assert "CPU time" not in told
    ended, now = attempts(odd, record, [], NOW)[::-1]
    assert (ended.state, ended.started, now.state) == ("", None, "running")


@pytest.mark.parametrize(
    ("status", "words"),
    [(None, ""), (0, "0: success"), (1, "1"), (127, "127: the command was not found"), ("0", ""), (-5, "-5")],
)
def test_an_exit_status_is_said_in_words(status: object, words: str) -> None:
    assert status_in_words(status) == words


def test_signals_are_named() -> None:
    assert status_in_words(137) == "137: perhaps ended by signal 9 (SIGKILL)"
    assert (signal_in_words(15), signal_in_words(None), signal_in_words(999)) == ("15 (SIGTERM)", "", "999")


def test_neighbouring_processors_are_said_as_ranges() -> None:
    assert ranges((0, 1, 2, 3, 8, 10, 11)) == "0-3, 8, 10-11"
    assert ranges(()) == ""


def test_an_attempt_leads_to_the_log_that_it_began() -> None:
    logs = [
        LogFile("process.log", 1, NOW, NOW - 10),
        LogFile("process.log.1", 1, NOW, NOW - 300),
        LogFile("process.log.2", 1, NOW, None),
    ]
    assert log_of(NOW - 9.5, logs) == "process.log"  # written to the second
    assert log_of(NOW - 300, logs) == "process.log.1"
    assert log_of(NOW - 100, logs) == "process.log.1"  # a deferred run goes on in it
    assert log_of(NOW - 999, logs) == log_of(None, logs) == log_of(NOW, []) == ""


def test_attempts_are_told_newest_first_with_the_present_one() -> None:
    runs = (Run(1, NOW - 500, NOW - 400, "failed", "exit status 1", 1), Run(2, NOW - 300, NOW - 200, "timeout"))
    record = with_history(runs)
    told = attempts(row(attempt=3), record, [], NOW)
    assert [(one.number, one.state, one.took) for one in told] == [
        (3, "running", "01:00"),
        (2, "timeout", "01:40"),
        (1, "failed", "01:40"),
    ]
    assert told[2].outcome == "exit status 1"


def with_history(runs: tuple[Run, ...]) -> Record:
    return Record("abcdefghijkl", "job", "me", State.RUNNING, NOW, history=runs)


# --- logs as plain text, and usage -------------------------------------------------------------------------


def test_a_log_without_scripts_is_plain_text() -> None:
    data = b"\x1b[31mred\x1b[0m\r\n10%\r20%\r 30%\nbad \xff\x00 \x1b]0;t\x07end\n"
    assert plain(data) == "red\n 30%\nbad \ufffd\ufffd end\n"


def test_the_end_of_a_log_begins_with_a_whole_line() -> None:
    assert plain(b"lf a line\nwhole\n", whole_log=False) == "whole\n"
    assert plain(b"no line end", whole_log=False) == "no line end"


def test_processors_in_use_are_not_made_up_between_attempts() -> None:
    rows = [(10.0, 5.0, 1), (15.0, 15.0, 2), (100.0, 1.0, 3), (105.0, 6.0, 4)]
    assert columns(rows, 5.0) == ([10.0, 15.0, 100.0, 105.0], [1.0, 2.0, None, 1.0], [1, 2, 3, 4])
    assert columns(rows, None)[1][0] is None


# --- what a job waits for, and arrays ------------------------------------------------------------------------


def test_a_waiting_job_says_what_it_comes_after_and_when_it_begins() -> None:
    after = (Dependency("prepare", "b" * 12, met=True), Dependency("clean", "c" * 12, True, True), Dependency("x\n"))
    record = Record("abcdefghijkl", "job", "me", State.PENDING, NOW, after=after, options=Options(after=("prepare",)))
    told = said(row(State.PENDING, not_before=NOW + 60), view(record), Active(), NOW, True)
    assert told["After"] == rf"prepare ({'b' * 12}, done), clean ({'c' * 12}, has ended), x\n (not there yet)"
    assert "Option after" not in told
    assert told["Not before"]
    assert "Not before" not in said(row(not_before=NOW + 60), None, Active(), NOW, True)


def test_a_paused_job_says_what_is_left_of_its_wall_time() -> None:
    record = Record("abcdefghijkl", "job", "me", State.PAUSED, NOW, wall_left=90.0)
    assert said(row(State.PAUSED), view(record), Active(), NOW, True)["Wall time left"] == "01:30"
    assert "Wall time left" not in said(row(), view(record), Active(), NOW, True)


def test_attempts_are_counted_anew_after_a_retry() -> None:
    record = Record("abcdefghijkl", "job", "me", State.RUNNING, NOW, options=Options(attempts=2), retried=2)
    assert said(row(attempt=3), view(record), Active(), NOW, True)["Attempt"] == "3 of at most 4"


def test_an_array_says_how_far_it_is_and_what_a_retry_runs() -> None:
    told = said(row(tasks=Tasks(100, 61, 2, 4)), None, Active(), NOW, False)
    assert told["Tasks"] == "61 / 100, 2 failed, 4 running"
    assert said(row(tasks=Tasks(0)), None, Active(), NOW, True).get("Tasks") is None
    labels = [retry_label(row(State.FAILED, tasks=Tasks(9, 1, failed))) for failed in (0, 1, 2)]
    assert labels == ["Retry", "Retry 1 failed task", "Retry 2 failed tasks"]
    assert retry_label(row(State.FAILED)) == "Retry"
