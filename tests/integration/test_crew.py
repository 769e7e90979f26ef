"""Crews on a real daemon: what comes of chunks is told once, whatever happens to workers, jobs and the daemon."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import TestSpool, until
from listening import Told, die_of_three, submitted, wait_for_file

from qm.api.crew import Crew
from qm.api.errors import (
    CrewEnded,
    DaemonAway,
    FolderGone,
    JobFailed,
    NoDaemon,
    RemoteError,
    RemoteTraceback,
    SetupFailed,
)
from qm.api.outcomes import Outcomes
from qm.api.queue import JobQueue, job_options, open_queue
from qm.api.watching import Watcher
from qm.api.workfiles import CALL, MAP
from qm.vocabulary.states import State

IDLE = {"QM_WORKER_IDLE": "0.3"}


@contextmanager
def queue_of(spool: TestSpool, patience: float = 30.0) -> Iterator[JobQueue]:
    queue = open_queue("spool", str(spool.config))
    queue.watcher = Watcher(queue.view, queue.settings.portable, patience)
    try:
        yield queue
    finally:
        queue.close()


@pytest.fixture
def queue(spool: TestSpool) -> Iterator[JobQueue]:
    with queue_of(spool) as opened:
        yield opened


def test_a_single_call_is_a_job_of_its_own_that_people_can_read(spool: TestSpool, queue: JobQueue) -> None:
    told = Told()
    crew = queue.crew("sums_1", told, options=job_options(priority=3), labels={"executor": "sums", "number": "1"})
    crew.add_chunk(crew.add_call(divmod, CALL), [((17, 5), {})])
    crew.close()
    crew.submit()
    end = told.wait()
    assert (end.state, end.exit_status, end.unclaimed, end.error) == ("done", 0, (), None)
    assert told.values() == [(3, 2)]
    assert told.began_times == 1
    assert end.folder == str(spool.done / "sums_1") == crew.folder
    text = (spool.done / "sums_1" / "proc_config.cfg").read_text()
    assert "info : divmod\n" in text
    assert "priority : 3\n" in text
    assert "array" not in text
    assert "[Call]\nfunction : divmod\nexecutor : sums\nnumber : 1\n" in text
    assert os.stat(spool.done / "sums_1" / ".qm" / "env").st_mode & 0o777 == 0o600


def test_every_chunk_of_an_array_of_workers_is_told_once(any_spool: TestSpool) -> None:
    with queue_of(any_spool) as queue:
        chunks = [range(first, first + 3) for first in range(0, 60, 3)]
        _, told = submitted(queue, lambda number: number * number, chunks, workers=2)
        assert told.wait().state == "done"
        assert told.values() == [number * number for number in range(60)]


def test_an_exception_comes_back_with_the_item_and_the_traceback_of_the_other_side(queue: JobQueue) -> None:
    def fail(number: int) -> int:
        return number // (number - 17)

    _, told = submitted(queue, fail, [[16], [17]])
    told.wait()
    error = told.error(1)
    assert type(error) is ZeroDivisionError
    assert isinstance(error.__cause__, RemoteTraceback)
    assert error.__cause__.text.startswith("task 1 of ")
    assert "in fail" in error.__cause__.text


class _Unloadable:
    """Loading it raises what would end a thread that is not prepared for it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return _raise, (self.error,)


def _raise(error: BaseException) -> None:
    if "QM_WORKER" not in os.environ:
        raise error


def _return_unloadable(kind: int) -> Any:
    return [_Unloadable(SystemExit(3)), _Unloadable(ValueError("no")), 5][kind]


def test_a_result_that_cannot_be_loaded_is_an_error_and_the_watcher_lives(queue: JobQueue) -> None:
    _, told = submitted(queue, _return_unloadable, [[0], [1], [2]])
    told.wait()
    assert isinstance(told.error(0), RemoteError)
    assert isinstance(told.error(1), RemoteError)
    assert "cannot be loaded here" in str(told.error(1))
    assert told.outs[2] == [(True, 5)]


def test_an_error_in_a_listener_hurts_no_other(queue: JobQueue) -> None:
    class Bad(Told):
        def out(self, crew: Crew, chunk: int, outcomes: Outcomes) -> None:
            raise LookupError("in the listener")

    crew = queue.crew("bad", bad := Bad())
    crew.add_chunk(crew.add_call(abs, MAP), [-1])
    crew.close()
    crew.submit()
    _, told = submitted(queue, abs, [[-2]])
    told.wait()
    bad.wait()
    assert told.values() == [2]


def test_a_worker_that_dies_costs_its_chunk_and_no_other(queue: JobQueue) -> None:
    _, told = submitted(queue, die_of_three, [[number] for number in range(8)], workers=2)
    assert told.wait().state == "done"
    error = told.error(3)
    assert isinstance(error, JobFailed)
    assert "task 3 of die_of_three" in str(error)
    assert "exit status 9" in str(error)
    assert [told.outs[number] for number in (0, 1, 2, 4, 5, 6, 7)] == [[(True, n)] for n in (0, 1, 2, 4, 5, 6, 7)]


def test_a_chunk_is_tried_as_often_as_the_option_attempts_says(tmp_path: Path, queue: JobQueue) -> None:
    def die_once(path: str) -> int:
        with open(path, "a") as file:
            file.write("x")
        if os.path.getsize(path) == 1:
            os._exit(1)
        return os.path.getsize(path)

    paths = [str(tmp_path / name) for name in "ab"]
    _, told = submitted(queue, die_once, [[path] for path in paths], options=job_options(attempts=2))
    told.wait()
    assert told.values() == [2, 2]


def test_a_job_that_fails_is_told_with_state_status_and_the_end_of_its_log(spool: TestSpool, queue: JobQueue) -> None:
    def speak_and_die(status: int) -> None:
        os.write(1, b"these were my last words\n")
        os._exit(status)

    _, told = submitted(queue, speak_and_die, [[7]], name="dies")
    assert told.wait().state == "failed"
    error = told.error()
    assert isinstance(error, JobFailed)
    assert (error.state, error.exit_status) == ("failed", 7)
    assert error.log == "these were my last words"
    assert error.folder == str(spool.lost / "dies")
    assert isinstance(pickle.loads(pickle.dumps(error)), JobFailed)


def test_a_job_that_somebody_kills_is_told_as_killed(spool: TestSpool, queue: JobQueue) -> None:
    crew, told = submitted(queue, wait_for_file, [[str(spool.root / "never")]])
    until(lambda: told.began_times, "the job to begin")
    spool.qm("kill", crew.id)
    assert told.wait().state == "killed"
    error = told.error()
    assert isinstance(error, JobFailed)
    assert error.state == "killed"


@pytest.mark.parametrize("hold", [True, False])
def test_what_we_kill_ourselves_is_cancelled(spool: TestSpool, queue: JobQueue, hold: bool) -> None:
    options = job_options(hold=hold)
    crew, told = submitted(queue, wait_for_file, [[str(spool.root / "never")]], options=options)
    until(lambda: hold or told.began_times, "the job to begin")
    crew.kill()
    assert told.wait().state == "killed"
    assert isinstance(told.error(), CancelledError)
    assert told.began_times == (0 if hold else 1)


def test_what_is_killed_at_once_is_killed(queue: JobQueue) -> None:
    made = []
    for number in range(40):  # the request may be read before the daemon has heard of the folder
        made.append(submitted(queue, abs, [[1]], options=job_options(hold=True), name=f"killed_{number}"))
        made[-1][0].kill()
    assert {told.wait().state for _, told in made} == {"killed"}


def test_an_open_crew_takes_calls_while_it_waits_and_while_it_runs(spool: TestSpool, queue: JobQueue) -> None:
    gate = spool.root / "gate"
    crew, told = submitted(queue, wait_for_file, [[str(gate)]], close=False, workers=2, environment=IDLE)
    crew.add_chunk(0, [str(gate)], 1)
    call = crew.add_call(lambda number: number + 1, MAP)
    crew.add_chunk(call, [1, 2])
    until(lambda: told.began_times, "the job to begin")
    gate.touch()
    until(lambda: len(told.outs) == 3, "the results of what was added before it ran")
    crew.add_chunk(call, [3, 4], 2)
    crew.close()
    assert told.wait().state == "done"
    assert told.values() == [str(gate), str(gate), 2, 3, 4, 5]
    with pytest.raises(CrewEnded):
        crew.add_chunk(call, [5])


def test_a_successor_goes_on_with_what_came_too_late_for_the_workers(spool: TestSpool, queue: JobQueue) -> None:
    crew, told = submitted(queue, str, [[1]], close=False, environment=IDLE, options=job_options(hold=True))
    late = crew.add_chunk(0, [2, 3], 1)
    handing_over = crew.hand_over
    crew.hand_over = lambda directory: "QM_Jobs" in directory or handing_over(directory)  # type: ignore[method-assign]
    until(lambda: spool.status()[0]["state"] == State.HELD.value, "the job to wait")
    queue.request("release", crew.id)
    end = told.wait()
    assert (end.state, end.unclaimed) == ("done", (late,))
    crew.listener, crew.plan = again, _ = Told(), crew.plan._replace(options={})
    heir = crew.successor(end)
    later = heir.add_chunk(0, [4], 3)
    heir.submit()
    again.wait()
    assert again.outs == {late: [(True, "2"), (True, "3")], later: [(True, "4")]}
    assert not list(spool.queue.iterdir())


def test_nothing_more_comes_of_a_cancelled_call(spool: TestSpool, queue: JobQueue) -> None:
    crew, told = submitted(queue, wait_for_file, [[str(spool.root / "never")]] * 3, close=False, environment=IDLE)
    until(lambda: told.began_times, "the job to begin")
    other = crew.add_call(abs, MAP)
    crew.cancel_call(0)
    number = crew.add_chunk(other, [-7])
    until(lambda: number in told.outs, "the result of the other call")
    crew.close()
    assert told.wait().state == "done"
    assert told.outs == {number: [(True, 7)]}


def test_an_initializer_that_fails_breaks_the_crew(queue: JobQueue) -> None:
    def initialize(text: str) -> None:
        raise LookupError(text)

    _, told = submitted(queue, abs, [[1], [2]], workers=2, setup=(initialize, ("not here",)))
    end = told.wait()
    assert isinstance(end.error, SetupFailed)
    assert "LookupError: not here" in str(told.error(1))
    assert isinstance(told.error(0).__cause__, LookupError)


def test_without_a_daemon_the_first_submit_says_so_at_once(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    with queue_of(spool) as queue, pytest.raises(NoDaemon, match='launcher="local"'):
        submitted(queue, abs, [[1]])


def test_a_daemon_that_stays_away_breaks_whoever_waits(spool: TestSpool) -> None:
    with queue_of(spool, patience=0.5) as queue:
        _, told = submitted(queue, abs, [[1]], options=job_options(hold=True))
        spool.stop()
        end = told.wait()
        assert isinstance(end.error, DaemonAway)
        assert isinstance(told.error(), DaemonAway)


def test_a_daemon_that_comes_back_in_time_breaks_nothing(any_spool: TestSpool) -> None:
    with queue_of(any_spool) as queue:
        _, told = submitted(queue, abs, [[-1]], options=job_options(hold=True, info="waits"))
        any_spool.stop()
        _, second = submitted(queue, abs, [[-2]])
        any_spool.start()
        second.wait()
        any_spool.qm("release", "test")
        told.wait()
        assert (told.values(), second.values()) == ([1], [2])


def test_a_folder_that_is_taken_away_is_gone(spool: TestSpool, queue: JobQueue) -> None:
    _, told = submitted(queue, abs, [[1]], options=job_options(hold=True))
    until(lambda: spool.status()[0]["state"] == State.HELD.value, "the job to wait")
    shutil.rmtree(spool.queue / "test")
    end = told.wait()
    assert isinstance(end.error, FolderGone)
    assert "test" in str(told.error())


def test_a_job_that_is_renamed_while_it_waits_is_followed(spool: TestSpool, queue: JobQueue) -> None:
    _, told = submitted(queue, abs, [[-5]], options=job_options(hold=True))
    until(lambda: spool.status()[0]["state"] == State.HELD.value, "the job to wait")
    os.rename(spool.queue / "test", spool.queue / "another")
    until(lambda: spool.status()[0]["name"] == "another", "the new name")
    spool.qm("release", "another")
    assert told.wait().folder == str(spool.done / "another")
    assert told.values() == [5]


def test_jobs_of_one_name_are_told_apart(queue: JobQueue) -> None:
    made = [submitted(queue, abs, [[-number]], name="same") for number in range(6)]
    for number, (_, told) in enumerate(made):
        told.wait()
        assert told.values() == [number]


def test_another_process_gets_the_results_by_attaching(spool: TestSpool, queue: JobQueue) -> None:
    gate = spool.root / "gate"
    crew, told = submitted(queue, wait_for_file, [[str(spool.config)], [str(gate)]])
    until(lambda: told.outs, "the first result")
    with queue_of(spool) as other:
        attached = Told()
        again = other.attach(other.view.find(crew.id), attached)
        assert [chunk.first for chunk in again.chunks] == [0, 1]
        gate.touch()
        assert attached.wait().state == "done"
        assert attached.values() == [str(spool.config), str(gate)]
        late = Told()
        other.attach(other.view.find(crew.id), late)
        late.wait()
        assert late.values() == [str(spool.config), str(gate)]
    told.wait()


def test_environment_and_directory_reach_the_worker_whatever_they_hold(
    spool: TestSpool, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = spool.root / " odd 'folder'\n: = %x"
    odd.mkdir()
    monkeypatch.chdir(odd)
    monkeypatch.setenv("ODD", "one\ntwo \"three\" 'four' \udcff=")
    _, told = submitted(queue, lambda name: (os.environ[name], os.getcwd()), [["ODD"]])
    told.wait()
    assert told.values() == [("one\ntwo \"three\" 'four' \udcff=", str(odd))]


def test_what_cannot_be_pickled_is_said_and_leaves_nothing(spool: TestSpool, queue: JobQueue) -> None:
    import threading

    crew = queue.crew("bad", Told())
    call = crew.add_call(abs, MAP)
    with pytest.raises(TypeError, match="an argument of abs cannot be pickled"):
        crew.add_chunk(call, [threading.Lock()])
    assert crew.add_chunk(call, [1]) == 0
    crew.discard()
    assert not list(spool.queue.iterdir())


def test_a_closed_queue_tells_whoever_waits(spool: TestSpool) -> None:
    with queue_of(spool) as queue:
        _, told = submitted(queue, abs, [[1]], options=job_options(hold=True))
    told.wait()
    assert isinstance(told.error(), DaemonAway)
