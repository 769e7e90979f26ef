"""qm.Executor on a real daemon and in this process: what it promises beyond the standard library's executors."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, TimeoutError, wait
from pathlib import Path
from pickle import PicklingError
from typing import Any

import pytest
from harness import TestSpool, until

from qm.api.absence import Absence
from qm.api.attaching import attach
from qm.api.errors import DaemonAway, FolderGone, JobFailed, NoDaemon, RemoteTraceback
from qm.api.executor import Executor
from qm.vocabulary.record import Record


@pytest.fixture
def executor(spool: TestSpool) -> Iterator[Executor]:
    """An executor on a spool with two processors and a daemon."""
    made = on(spool)
    yield made
    made._submitter.cancel()
    made.shutdown()


@pytest.fixture
def local() -> Iterator[Executor]:
    """An executor in this process, with two workers."""
    made = Executor(2, launcher="local")
    yield made
    made._submitter.cancel()
    made.shutdown()


def on(spool: TestSpool, *args: Any, **options: Any) -> Executor:
    return Executor(*args, launcher="spool", config=str(spool.config), **options)


def record(executor: Executor, job_id: str) -> Record:
    return executor._submitter.queue.view.find(job_id).record


def wait_for_file(path: Path) -> None:
    until(path.exists, f"{path} to be there")


def writes_and_sleeps() -> Callable[[Path], None]:
    """A function, pickled by value, that says that it runs."""

    def function(path: Path) -> None:
        path.touch()
        time.sleep(60)

    return function


# --- one call, one job -------------------------------------------------------------------------------------


def test_a_call_is_an_ordinary_job_that_says_what_it_calls(spool: TestSpool, executor: Executor) -> None:
    future = executor.submit(pow, 2, 5)
    assert future.result(30) == 32
    job = spool.wait_for(f"{executor.name}_1")
    assert record(executor, future.job_id).effective.info == "pow(2, 5)"
    assert Path(future.folder).name == job.name
    assert f"executor : {executor.name}\n" in (job / "proc_config.cfg").read_text()


def test_what_a_call_prints_is_in_the_log_of_its_job(spool: TestSpool, executor: Executor) -> None:
    executor.submit(print, "hello from far away").result(30)
    assert "hello from far away" in (spool.wait_for(f"{executor.name}_1") / "process.log").read_text()


def test_lambdas_and_closures_are_called(local: Executor) -> None:
    seven = 7
    assert local.submit(lambda x, *, y: x * y * seven, 2, y=3).result(30) == 42


def test_an_exception_brings_its_traceback_from_the_other_side(local: Executor) -> None:
    def fails() -> None:
        raise KeyError("where it happened")

    with pytest.raises(KeyError) as raised:
        local.submit(fails).result(30)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert 'raise KeyError("where it happened")' in str(raised.value.__cause__)


def test_options_are_of_the_executor_or_of_a_call(spool: TestSpool) -> None:
    with on(spool, name="opted", priority=3, info="mine", wall_time="15m") as executor:
        plain = executor.submit(abs, -1)
        other = executor.options(nb_proc=2, priority=5).submit(os.getenv, "NB_PROC")
        assert (plain.result(30), other.result(30)) == (1, "2")
        effective = record(executor, plain.job_id).effective
        assert (effective.priority, effective.info, effective.wall_time) == (3, "mine", 900)
        effective = record(executor, other.job_id).effective
        assert (effective.priority, effective.info, effective.nb_proc) == (5, "mine", 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nb_procs": 2}, "did you mean nb_proc"),
        ({"nb_proc": "many"}, "accepted"),
        ({"script": "rm"}, "script"),
        ({"launcher": "moon"}, '"spool" or "local"'),
        ({"max_workers": 2, "group": "g"}, "max_workers"),
        ({"max_workers": 0}, "max_workers must be greater than 0"),
    ],
)
def test_a_wrong_option_is_refused_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Executor(**options)


def test_arguments_of_a_wrong_type_are_refused_at_once() -> None:
    with pytest.raises(TypeError):
        Executor("two")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="initializer must be a callable"):
        Executor(initializer=3)  # type: ignore[arg-type]


def test_what_cannot_be_pickled_is_the_outcome_of_its_call(local: Executor) -> None:
    for future in (local.submit(id, threading.Lock()), local.submit(threading.Lock().locked)):
        with pytest.raises((TypeError, PicklingError), match="cannot be pickled"):
            future.result(30)
    with pytest.raises((TypeError, PicklingError), match="cannot be pickled"):
        local.submit(lambda: threading.Lock()).result(30)
    with pytest.raises((TypeError, PicklingError), match="cannot be pickled"):
        list(local.map(id, [threading.Lock()]))
    assert local.submit(abs, -3).result(30) == 3


def test_a_call_whose_process_dies_fails_with_what_qm_knows(local: Executor) -> None:
    def dies() -> None:
        print("last words", flush=True)
        os._exit(9)

    with pytest.raises(JobFailed, match="last words") as raised:
        local.submit(dies).result(30)
    assert (raised.value.state, raised.value.exit_status) == ("failed", 9)


def test_attempts_are_those_of_the_job(local: Executor, tmp_path: Path) -> None:
    def dies_once(path: Path) -> str:
        if not path.exists():
            path.touch()
            os._exit(9)
        return os.environ["QM_ATTEMPT"]

    again = local.options(attempts=2, error_time=0)
    assert again.submit(dies_once, tmp_path / "once").result(30) == "2"


# --- cancelling --------------------------------------------------------------------------------------------


def test_a_running_call_is_cancelled_by_killing_its_job(spool: TestSpool, executor: Executor, tmp_path: Path) -> None:
    future = executor.submit(writes_and_sleeps(), tmp_path / "runs")
    wait_for_file(tmp_path / "runs")
    until(future.running, "the future to know that it runs")
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    assert future.cancel()
    assert wait([future], timeout=0).done == {future}
    assert future.cancelled() and called.is_set()
    with pytest.raises(CancelledError):
        future.result()
    assert spool.record(spool.wait_for(f"{executor.name}_1"))["state"] == "killed"


def test_a_waiting_call_is_cancelled_and_a_finished_one_is_not(spool: TestSpool, tmp_path: Path) -> None:
    with on(spool, nb_proc=2) as executor:
        running = executor.submit(writes_and_sleeps(), tmp_path / "runs")
        waiting = executor.submit((tmp_path / "never").touch)
        wait_for_file(tmp_path / "runs")
        assert waiting.cancel() and waiting.cancel()
        done = executor.options(nb_proc=1).submit(abs, -1)
        assert running.cancel()
        assert done.result(30) == 1
        assert not done.cancel() and not done.cancelled()
    assert not (tmp_path / "never").exists()


def test_a_job_that_somebody_else_kills_is_a_failure(spool: TestSpool, executor: Executor, tmp_path: Path) -> None:
    future = executor.submit(writes_and_sleeps(), tmp_path / "runs")
    wait_for_file(tmp_path / "runs")
    spool.qm("kill", future.job_id)
    with pytest.raises(JobFailed) as raised:
        future.result(30)
    assert raised.value.state == "killed"
    assert not future.cancelled()


def test_ctrl_c_in_the_block_cancels_what_is_of_this_executor(spool: TestSpool, tmp_path: Path) -> None:
    other = on(spool)
    theirs = other.submit(writes_and_sleeps(), tmp_path / "theirs")
    with pytest.raises(KeyboardInterrupt), on(spool) as executor:
        mine = executor.submit(writes_and_sleeps(), tmp_path / "mine")
        waiting = executor.map(pow, range(9), range(9))
        wait_for_file(tmp_path / "mine")
        wait_for_file(tmp_path / "theirs")
        raise KeyboardInterrupt
    assert mine.cancelled()
    with pytest.raises(CancelledError):
        next(waiting)
    assert not theirs.done()
    assert theirs.cancel()
    other.shutdown()


# --- map ---------------------------------------------------------------------------------------------------


def test_a_map_is_one_array_job_and_its_results_come_in_order(spool: TestSpool, executor: Executor) -> None:
    def slow_at_first(x: int) -> int:
        time.sleep(0.2 if x == 0 else 0)
        return x * x

    assert list(executor.map(slow_at_first, range(20), chunksize=3)) == [x * x for x in range(20)]
    job = spool.wait_for(f"{executor.name}_1")
    assert "array : 0-1\n" in (job / "proc_config.cfg").read_text()


def test_a_generator_is_read_once_and_what_it_yields_is_pickled_once(local: Executor) -> None:
    pickled = []

    class Counted:
        def __init__(self, number: int) -> None:
            self.number = number

        def __reduce__(self) -> tuple[Any, ...]:
            pickled.append(self.number)
            return int, (self.number,)

    assert list(local.map(abs, (Counted(-n) for n in range(7)), chunksize=2)) == list(range(7))
    assert pickled == [0, -1, -2, -3, -4, -5, -6]


def test_a_map_of_nothing_makes_no_job(spool: TestSpool, executor: Executor) -> None:
    assert list(executor.map(abs, [])) == []
    assert list(executor.map(pow, [1, 2], iter(()))) == []
    assert os.listdir(spool.queue) == []


def test_an_item_that_fails_is_named_and_ends_the_map(local: Executor) -> None:
    results = local.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5], chunksize=2)
    assert [next(results), next(results)] == [(0, 1), (0, 1)]
    with pytest.raises(ZeroDivisionError) as raised:
        next(results)
    assert "task 2 of divmod" in str(raised.value.__cause__)
    with pytest.raises(StopIteration):
        next(results)


def test_a_call_that_raises_is_a_job_that_failed_and_can_be_tried_again(spool: TestSpool, tmp_path: Path) -> None:
    wanted = tmp_path / "wanted"
    with Executor(config=str(spool.config)) as executor:
        future = executor.submit(wanted.read_text)
        assert isinstance(future.exception(30), FileNotFoundError)
        folder = spool.wait_for(Path(future.folder).name, spool.lost)
        record = spool.record(folder)
        assert (record["state"], record["exit_status"]) == ("failed", 1)
        assert record["reason"].startswith("exit status 1: FileNotFoundError: ")
        wanted.write_text("here")
        spool.qm("retry", future.job_id)
        spool.wait_for(folder.name, spool.done)
        assert [one.result(30) for one in attach(future.job_id, config=str(spool.config))] == ["here"]


def test_attempts_are_for_calls_that_raise(spool: TestSpool, tmp_path: Path) -> None:
    def second_time() -> str:
        if not (tmp_path / "first").exists():
            (tmp_path / "first").touch()
            raise ValueError("not yet")
        return "now"

    with Executor(config=str(spool.config), attempts=2, error_time=0.1) as executor:
        assert executor.submit(second_time).result(30) == "now"


def test_closing_the_iterator_kills_what_is_left_of_the_map(
    spool: TestSpool, executor: Executor, tmp_path: Path
) -> None:
    def function(path: Path) -> str:
        if path.name != "first":
            path.touch()
            time.sleep(60)
        return path.name

    results = executor.map(function, [tmp_path / "first", tmp_path / "second", tmp_path / "third"])
    assert next(results) == "first"
    wait_for_file(tmp_path / "second")
    results.close()  # type: ignore[attr-defined]
    assert spool.record(spool.wait_for(f"{executor.name}_1"))["state"] == "killed"


def test_a_map_times_out_from_its_call_on(local: Executor) -> None:
    results = local.map(time.sleep, [0, 60], timeout=3)
    assert next(results) is None
    with pytest.raises(TimeoutError):
        next(results)
    local.shutdown()  # the second call was killed, so there is nothing to wait for


def test_a_worker_that_dies_fails_its_item_alone(local: Executor) -> None:
    def dies_at_two(x: int) -> int:
        if x == 2:
            os._exit(3)
        return x

    results = local.map(dies_at_two, range(8))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(JobFailed, match="task 2 of"):
        next(results)


def test_max_workers_holds_for_calls_and_maps_together(spool: TestSpool, tmp_path: Path) -> None:
    def alone(number: int) -> bool:
        mark = tmp_path / f"{number}.running"
        mark.touch()
        time.sleep(0.05)
        running = len(list(tmp_path.glob("*.running")))
        mark.unlink()
        return running == 1

    with on(spool, 1) as executor:
        calls = [executor.submit(alone, number) for number in range(3)]
        assert all(executor.map(alone, range(10, 14)))
        assert all(call.result(30) for call in calls)


# --- the end -----------------------------------------------------------------------------------------------


def test_nothing_is_taken_after_shutdown(local: Executor) -> None:
    view = local.options(priority=1)
    local.shutdown()
    for executor in (local, view):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(abs, -1)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.map(abs, [-1])


def test_shutdown_without_waiting_leaves_what_was_submitted_to_be_done(local: Executor) -> None:
    future = local.submit(abs, -5)
    results = local.map(abs, range(-3, 0))
    local.shutdown(wait=False)
    assert future.result(30) == 5
    assert list(results) == [3, 2, 1]
    until(lambda: _threads() == [], "the threads to end")


def test_shutdown_that_cancels_lets_the_items_of_a_map_end_that_run(executor: Executor, tmp_path: Path) -> None:
    def function(number: int) -> int:
        (tmp_path / f"{number}.runs").touch()
        while not (tmp_path / "go").exists():
            time.sleep(0.01)
        return number

    results = executor.map(function, range(10))
    until(lambda: len(list(tmp_path.glob("*.runs"))) == 2, "two items to run")
    executor.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "go").touch()
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(CancelledError):
        next(results)
    executor.shutdown()
    assert len(list(tmp_path.glob("*.runs"))) == 2


def test_an_executor_that_nobody_holds_still_computes_and_then_goes() -> None:
    future = Executor(launcher="local").submit(abs, -5)
    gc.collect()
    assert future.result(30) == 5
    until(lambda: _threads() == [], "the threads to end")


def test_a_result_is_held_by_its_future_alone(local: Executor) -> None:
    class Thing:
        pass

    future = local.submit(Thing)
    alive = weakref.ref(future.result(30))
    assert alive() is not None
    del future
    until(lambda: gc.collect() is not None and alive() is None, "the result to go")


def test_jobs_are_deleted_when_their_results_are_here(spool: TestSpool) -> None:
    with on(spool, keep=False, name="brief") as executor:
        assert executor.submit(abs, -1).result(30) == 1
        assert list(executor.map(abs, range(4))) == [0, 1, 2, 3]
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(30)
    until(lambda: not os.listdir(spool.done), "all but the one that raised to be deleted")
    assert os.listdir(spool.lost) == ["brief_3"]


# --- what breaks it ----------------------------------------------------------------------------------------


def test_without_a_daemon_the_first_call_is_refused_at_once(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    executor = on(spool)
    with pytest.raises(NoDaemon, match='launcher="local"'):
        executor.submit(abs, -1)
    assert os.listdir(spool.queue) == []
    spool.start()
    assert executor.submit(abs, -1).result(30) == 1
    executor.shutdown()


def test_a_daemon_that_stays_away_breaks_the_executor(spool: TestSpool, tmp_path: Path) -> None:
    executor = on(spool)
    queue = executor._submitter.queue
    queue.watcher._absence = Absence(queue.view, 0.5)
    future = executor.submit(writes_and_sleeps(), tmp_path / "runs")
    wait_for_file(tmp_path / "runs")
    spool.stop()
    with pytest.raises(DaemonAway):
        future.result(30)
    with pytest.raises(BrokenExecutor):
        executor.submit(abs, -1)
    executor.shutdown()


def test_a_job_folder_that_is_removed_fails_its_call_alone(
    spool: TestSpool, executor: Executor, tmp_path: Path
) -> None:
    future = executor.submit(writes_and_sleeps(), tmp_path / "runs")
    wait_for_file(tmp_path / "runs")
    os.rename(future.folder, tmp_path / "taken")
    with pytest.raises((FolderGone, JobFailed)):
        future.result(30)
    assert executor.submit(abs, -1).result(30) == 1


def test_a_queue_that_is_removed_breaks_the_executor(spool: TestSpool, tmp_path: Path) -> None:
    executor = on(spool)
    future = executor.submit(writes_and_sleeps(), tmp_path / "runs")
    wait_for_file(tmp_path / "runs")
    spool.close()
    shutil.rmtree(spool.root)
    with pytest.raises(BrokenExecutor):
        future.result(60)
    with pytest.raises(BrokenExecutor):
        executor.submit(abs, -1)
    executor.shutdown()


def test_an_initializer_runs_before_the_first_call_of_a_worker(local: Executor) -> None:
    def initialize(value: str) -> None:
        os.environ["INITIALIZED"] = value

    with Executor(2, launcher="local", initializer=initialize, initargs=("yes",)) as executor:
        assert executor.submit(os.getenv, "INITIALIZED").result(30) == "yes"
        assert list(executor.map(os.getenv, ["INITIALIZED"] * 4)) == ["yes"] * 4


def test_an_initializer_that_fails_breaks_the_executor() -> None:
    def fails() -> None:
        raise ValueError("no licence")

    executor = Executor(2, launcher="local", initializer=fails)
    with pytest.raises(BrokenExecutor, match="ValueError: no licence"):
        list(executor.map(abs, range(4)))
    with pytest.raises(BrokenExecutor, match="no licence"):
        executor.submit(abs, -1)
    executor.shutdown()


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("qm-")]
