"""Nothing is lost, nothing runs twice: the daemon is killed (SIGKILL) at named steps and at random moments.

Whatever was killed when, in the end every job has ended once, with its own status, in one folder, under one id,
with one line in the history, and each of its runs (attempts, runs after a deferral, tasks of an array) was executed
once. Each script says in a ledger outside the spool that it began and how it ended.

QM_KILLS  how often the daemon is killed at random moments (default 40; `make test-crash`: 500)
QM_SEED   repeats the choices of an earlier run; a failure shows its seed
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accounts import Books, Kind
from harness import PATIENCE, TestSpool, lines_of, until
from kinds import (
    ALWAYS_FAILS,
    DEFERS_TWICE,
    KILLED_BY_ITSELF,
    LEAVES_BOTH,
    ONE_BAD,
    ONE_TASK_TOO_LONG,
    STUBBORN,
    THREE,
    TOO_LONG,
    ZERO,
)
from life import Life
from nursery import TESTS, Nursery

from qm.launchers.shim import NOT_BEGUN, shim_words
from qm.spool import requests, tasks
from qm.spool.spool import STEPS, Spool

KILLS = int(os.environ.get("QM_KILLS", "40"))
SEED = os.environ.get("QM_SEED", "")
PACKAGE = TESTS.parent / "qm"


@pytest.fixture(scope="module")
def nursery_of_all() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def nursery(nursery_of_all: Nursery) -> Iterator[Nursery]:
    yield nursery_of_all
    nursery_of_all.clear()


# --- at named steps ------------------------------------------------------------------------------------------


def test_steps_names_every_step_that_the_code_takes_and_no_other() -> None:
    taken = set()
    for file in PACKAGE.rglob("*.py"):
        taken |= set(re.findall(r'\b_?step\("([^"]+)"\)', file.read_text(encoding="utf-8")))
    assert taken == set(STEPS)
    assert len(STEPS) == len(set(STEPS))


OTHER_FILE_SYSTEM = Path("/dev/shm")
EARLIER_CRASH = {"void: marked": "claim: moved", "unclaim: moved": "claim: moved"}
"""Steps that only a daemon takes that comes after one that died at another step."""
TIMES = {"void": (1,), "request": (1, 2), "requeue": (1, 2)}
"""Steps that the scenario reaches less than three times; elsewhere it dies at the first or at the third time."""


def _cases() -> Iterator[tuple[str, str, int, bool]]:
    """A step of an earlier daemon, the step, the how manieth time; the later ones without file events."""
    for step in STEPS:
        for portable, n in enumerate(TIMES.get(step.partition(":")[0], (1, 3))):
            yield EARLIER_CRASH.get(step, ""), step, n, bool(portable)
    yield "", "claim: moved", 2, False  # an array that runs again
    yield "task: written", "void: marked", 1, False
    yield "start: spawned", "again: record written", 1, True


@pytest.fixture
def books(make_spool: Callable[..., TestSpool]) -> Books:
    return Books(make_spool(MaxNbProcessors=2))


@pytest.fixture
def failed_jobs_go_to_another_file_system(books: Books) -> Iterator[None]:
    """QM_lost+found becomes a link to a folder in /dev/shm."""
    if not OTHER_FILE_SYSTEM.is_dir() or os.stat(OTHER_FILE_SYSTEM).st_dev == os.stat(books.spool.root).st_dev:
        pytest.skip("there is no second file system to file jobs on")
    with tempfile.TemporaryDirectory(dir=OTHER_FILE_SYSTEM) as elsewhere:
        books.spool.lost.rmdir()
        books.spool.lost.symlink_to(elsewhere)
        yield


@pytest.mark.parametrize(("earlier", "step", "occurrence", "portable"), list(_cases()))
def test_a_daemon_that_dies_at_a_step_loses_no_job_and_runs_none_twice(
    earlier: str,
    step: str,
    occurrence: int,
    portable: bool,
    books: Books,
    nursery: Nursery,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if step.startswith(("cross:", "delete:")):
        request.getfixturevalue("failed_jobs_go_to_another_file_system")
    if portable:
        books.spool.configure(MaxNbProcessors=2, Portable=True, Poll_Interval=0.1)
    go = tmp_path / "go"
    _first_life(books, nursery)
    _submit_all(books, go)
    for deadly, times in ((earlier, 1), (step, occurrence)):
        if deadly:
            nursery.start(books.spool.config, deadly, times)
            go.touch()
            status = nursery.died(PATIENCE)
            assert status is not None, f"{deadly!r} was not reached {times} times:\n{books.spool.log()}"
            assert status == -signal.SIGKILL, lines_of(books.spool.root / "said")
    _last_life(books, nursery)
    books.check(processors=2)


def _first_life(books: Books, nursery: Nursery) -> None:
    """Two jobs end and are to be retried, one is held and is to be killed."""
    again = [books.submit("again", THREE), books.submit("array-again", ONE_BAD)]
    held = books.submit("held", Kind("exit 0", "killed", None), hold="yes")
    nursery.start(books.spool.config)
    for job in again:
        books.spool.wait_for(job.name)
    until(lambda: (books.spool.queue / "held/.qm/job.json").exists(), "the held job to be accepted")
    assert nursery.end(signal.SIGTERM) == 0, lines_of(books.spool.root / "said")
    for job in again:
        job.retries.append(books.ask("retry", job.name))
    held.kills.append(books.ask("kill", "held"))


def _submit_all(books: Books, go: Path) -> None:
    """Jobs of several kinds; `long` lives until the daemon has died at least once."""
    books.submit("long", Kind(f"until [ -e {go} ]; do sleep 0.02; done; sleep 0.2; exit 4", "failed", 4))
    books.submit("zero", ZERO)
    books.submit("attempts", ALWAYS_FAILS)
    books.submit("deferred", DEFERS_TWICE)
    books.submit("array", STUBBORN)
    books.submit("signalled", KILLED_BY_ITSELF)
    books.submit("copied", ZERO, "cp")
    books.submit("invalid", Kind("exit 0", "invalid", None), nb_proc="twelve")
    books.submit("parent", LEAVES_BOTH)
    books.submit("slow", TOO_LONG)
    for name in ("one-by-one", "two-by-one"):
        books.submit(name, ZERO, group="single", max_parallel=1)
    books.submit("next", ZERO, after="deferred")
    books.submit("after-next", ZERO, after="next")
    books.submit("after-array", ZERO, after="array")
    books.submit("never", ZERO, after="long")


def _last_life(books: Books, nursery: Nursery) -> None:
    """A daemon that nobody kills, until everything has ended."""
    nursery.start(books.spool.config)
    until(
        lambda: not books.unsettled() and not any(requests.pending(books.paths)),
        "everything to end",
        3 * PATIENCE,
    )
    assert nursery.end(signal.SIGTERM) == 0, lines_of(books.spool.root / "said")
    assert not [line for line in lines_of(books.spool.root / "said") if "Traceback" in line]
    assert not books.spool.processes(), "a job left processes behind"


def test_a_shim_that_is_late_begins_no_task_that_a_later_daemon_has_started_anew(
    books: Books, nursery: Nursery, tmp_path: Path
) -> None:
    """On a busy machine a daemon that died may be followed by another one before its last shim has begun."""
    go = tmp_path / "go"
    kind = Kind(f"until [ -e {go} ]; do sleep 0.02; done", "done", 0, {0: ("done",), 1: ("done",)}, {"array": "0-1"})
    books.submit("array", kind)
    nursery.start(books.spool.config, "task: written")
    assert nursery.died(PATIENCE) == -signal.SIGKILL
    nursery.start(books.spool.config)
    until(lambda: len(books.ledger.read()) == 2, "both tasks to begin")
    twice = tmp_path / "twice"
    late = shim_words(str(books.spool.jobs / "array"), "0.1", "mark", ("", ""), "", ["touch", str(twice)])
    assert subprocess.run(late, check=False).returncode in NOT_BEGUN and not twice.exists()
    go.touch()
    assert nursery.end(signal.SIGTERM) == 0
    _last_life(books, nursery)
    books.check(processors=2)


@pytest.mark.parametrize("kind", [TOO_LONG, ONE_TASK_TOO_LONG], ids=["job", "array"])
def test_what_was_ended_for_its_wall_time_is_a_timeout_though_the_daemon_died_before_it_was_over(
    kind: Kind, books: Books, nursery: Nursery
) -> None:
    books.submit("slow", kind)
    nursery.start(books.spool.config, "end: noticed")
    assert nursery.died(PATIENCE) == -signal.SIGKILL
    _last_life(books, nursery)
    books.check(processors=2)


@pytest.mark.parametrize("array", ["", "5"], ids=["job", "array"])
def test_what_failed_in_time_is_no_timeout_though_its_wall_time_was_over_before_the_next_daemon_came(
    array: str, books: Books, nursery: Nursery, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    keys = {"wall_time": 3600, **({"array": array} if array else {})}
    runs = {5 if array else None: ("failed",)}
    books.submit("failing", Kind(f"until [ -e {go} ]; do sleep 0.02; done; exit 3", "failed", 3, runs, keys))
    nursery.start(books.spool.config)
    until(books.ledger.read, "it to begin")
    nursery.end(signal.SIGKILL)
    go.touch()
    until(lambda: not books.spool.processes(), "it to end")
    folder = books.spool.jobs / "failing"
    if array:  # an hour passes
        entry = tasks.read(str(folder / ".qm/tasks.jsonl"))[5]
        tasks.append(str(folder / ".qm/tasks.jsonl"), [entry._replace(wall_end=0.5)])
    else:
        (folder / ".qm/job.json").write_text(json.dumps({**books.spool.record(folder), "wall_end": 0.5}))
    _last_life(books, nursery)
    books.check(processors=2)


def test_a_daemon_with_the_pid_of_one_that_was_killed_while_it_tried_the_folders_starts(books: Books) -> None:
    """In a container a restarted daemon has often the same pid."""
    for place in (books.spool.queue, books.spool.jobs):
        (place / f".qm-probe.{os.getpid()}").mkdir()
        Spool(str(books.spool.root)).prepare()
    assert books.found() == []


# --- at random moments ---------------------------------------------------------------------------------------

STARTS = ("accept", "claim", "start", "task", "end", "again", "file", "request")
COMMON = [step for step in STEPS if step.startswith(STARTS)]
"""The steps that most lives of a daemon take; the others are taken when others have died at these."""


def _one_life(nursery: Nursery, books: Books, chance: random.Random, feed: Callable[[], None]) -> bool:
    """Start a daemon and kill it, at a random moment or at a random step; was it at a step?"""
    step = chance.choice(COMMON) if chance.random() < 0.4 else ""
    if step:
        feed()
    nursery.start(books.spool.config, step, chance.choice((1, 1, 1, 2, 4)))
    until_killed = 0.6 if step else chance.uniform(0, 0.45 if chance.random() < 0.6 else 0.2)
    fed_at = chance.uniform(0, until_killed)
    begun = time.monotonic()
    status = nursery.died(fed_at)
    feed()
    if status is None:
        status = nursery.died(max(0.0, until_killed - (time.monotonic() - begun)))
    died_itself = status is not None
    if status is None:
        status = nursery.end(signal.SIGKILL)
    assert status == -signal.SIGKILL, f"it ended by itself with {status}: {lines_of(books.spool.root / 'said')}"
    return died_itself


@pytest.mark.crash
@pytest.mark.parametrize("manner", ["events", "portable", "elsewhere"])
def test_a_daemon_killed_at_any_moment_loses_no_job_and_runs_none_twice(
    manner: str, books: Books, nursery: Nursery, request: pytest.FixtureRequest
) -> None:
    """With file events; with what every system has; and with failed jobs filed on another file system."""
    seed = SEED or os.urandom(4).hex()
    print(f"QM_SEED={seed}")
    chance = random.Random(f"{seed} {manner}")
    portable = manner == "portable"
    books.spool.configure(MaxNbProcessors=4, Portable=portable, Settle_Time=0.1, Poll_Interval=0.1 if portable else 0.5)
    if manner == "elsewhere":
        request.getfixturevalue("failed_jobs_go_to_another_file_system")
    life = Life(books, chance)
    kills = max(1, round(KILLS / 3))  # the three tests share them
    at_steps = sum(_one_life(nursery, books, chance, life.feed) for _ in range(kills))
    life.undo()
    _last_life(books, nursery)
    books.check()
    print(f"{kills} kills, {at_steps} at named steps, {len(books.jobs)} jobs")
