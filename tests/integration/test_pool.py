"""qm.Pool: multiprocessing's Pool, in this process's own queue and in a daemon's."""

from __future__ import annotations

import gc
import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from harness import TestSpool, until

from qm.api import shift
from qm.api.errors import JobFailed, NoDaemon, RemoteTraceback, SetupFailed
from qm.api.pool import Pool
from qm.spool import requests
from qm.spool.paths import SpoolPaths
from qm.vocabulary.requests import Request


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2, launcher="local") as made:
        yield made


def square(x: int) -> int:
    return x * x


def touch_and_wait(path: str) -> None:
    Path(path).touch()
    time.sleep(60)


def interrupt_when(condition: Callable[[], object]) -> threading.Thread:
    def wait() -> None:
        until(condition, "the moment to interrupt")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


# --- as multiprocessing has it ---------------------------------------------------------------------------------


def test_map_is_map(pool: Pool) -> None:
    for items in ([], [3], range(1000), iter(range(7)), {1: 2}, "abc"):
        items = list(items) if isinstance(items, Iterator) else items
        assert pool.map(repr, items) == list(map(repr, items))
    assert pool.map(square, range(10), chunksize=3) == [x * x for x in range(10)]


def test_starmap_and_apply_give_arguments_as_told(pool: Pool) -> None:
    assert pool.starmap(divmod, [(7, 2), (9, 4)]) == [(3, 1), (2, 1)]
    assert pool.apply(int, ("11",), {"base": 2}) == 3
    assert pool.apply(lambda: os.getpid()) != os.getpid()


def test_asynchronous_results_are_ready_in_their_time(pool: Pool) -> None:
    result = pool.map_async(time.sleep, [0.5])
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    result.wait(30)
    assert result.ready() and result.successful() and result.get() == [None]
    failed = pool.apply_async(divmod, (1, 0))
    failed.wait(30)
    assert failed.ready() and not failed.successful()
    assert pool.starmap_async(divmod, [(7, 2)]).get(30) == [(3, 1)]


def test_imap_gives_results_in_order_and_imap_unordered_all_of_them(pool: Pool) -> None:
    assert list(pool.imap(square, range(50))) == [x * x for x in range(50)]
    assert list(pool.imap(square, range(50), chunksize=7)) == [x * x for x in range(50)]
    assert sorted(pool.imap_unordered(square, range(50))) == [x * x for x in range(50)]
    assert list(pool.imap(square, [])) == []
    with pytest.raises(multiprocessing.TimeoutError):
        pool.imap(time.sleep, [0.5]).next(timeout=0.01)


def test_an_endless_iterable_is_read_no_further_than_needed(pool: Pool) -> None:
    read = []

    def count() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    results = pool.imap(square, count())
    assert [next(results) for _ in range(20)] == [x * x for x in range(20)]
    assert len(read) <= 20 + 16 * 2 + 1


def test_an_iterable_that_raises_ends_the_results_with_its_error(pool: Pool) -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("broken")

    results = pool.imap(square, broken(), chunksize=2)
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(KeyError, match="broken"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    with pytest.raises(KeyError, match="broken"):
        pool.map(square, broken())


def test_a_failure_is_raised_in_its_place_and_results_go_on_behind_it(pool: Pool) -> None:
    results = pool.imap(lambda x: 6 // x, [1, 0, 3])
    assert next(results) == 6
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == [2]


def test_callbacks_are_called_before_a_result_is_ready(pool: Pool) -> None:
    told: list[object] = []
    pool.map_async(square, [1, 2], callback=told.append, error_callback=told.append).wait(30)
    assert told == [[1, 4]]
    pool.apply_async(divmod, (1, 0), callback=told.append, error_callback=lambda error: told.append(type(error))).wait()
    assert told[1:] == [ZeroDivisionError]


def test_a_callback_may_wait_for_another_result(pool: Pool) -> None:
    told: list[object] = []
    pool.apply_async(square, (2,), callback=lambda four: told.append(pool.apply(square, (four,)))).wait(30)
    assert told == [16]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_raises_ends_no_other(pool: Pool) -> None:
    told: list[object] = []
    pool.apply_async(square, (2,), callback=lambda four: four / 0).wait(30)
    pool.apply_async(square, (2,), callback=told.append).wait(30)
    assert told == [4]


def test_a_closed_pool_takes_no_more_and_ends_what_it_has() -> None:
    pool = Pool(2, launcher="local")
    assert repr(pool) == "<qm.Pool state=RUN pool_size=2>"
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    result = pool.map_async(square, range(5))
    late = pool.imap(square, range(300))
    pool.close()
    for call in (pool.map, pool.imap, pool.map_async, pool.starmap):
        with pytest.raises(ValueError, match="Pool not running"):
            call(square, [1])
    pool.join()
    assert result.get(0) == [0, 1, 4, 9, 16]
    assert list(late) == [x * x for x in range(300)]
    assert repr(pool) == "<qm.Pool state=CLOSE pool_size=2>"


def test_terminating_ends_what_runs(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    with Pool(2, launcher="local") as pool:
        result = pool.map_async(touch_and_wait, [str(begun)])
        until(begun.exists, "the task to begin")
    with pytest.raises(CancelledError):
        result.get(30)
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass


def test_wrong_arguments_are_named(pool: Pool) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Pool(0)
    with pytest.raises(ValueError, match="maxtasksperchild"):
        Pool(1, maxtasksperchild=0)
    with pytest.raises(TypeError, match="callable"):
        Pool(1, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="none"):
        Pool(errors="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="memory"):
        Pool(memory="1 GB", launcher="local")
    with pytest.raises(TypeError, match=r"num_chunks is 1.5; it must be an int"):
        Pool(num_chunks=1.5)  # type: ignore[arg-type]
    for size, error in ((0, ValueError), (2.5, TypeError), ("2", TypeError)):
        for call in (pool.map, pool.map_async, pool.imap, pool.imap_unordered):
            with pytest.raises(error, match="chunksize is"):
                call(square, [1, 2], size)  # type: ignore[arg-type, operator]


def test_nothing_more_is_read_of_an_endless_iterable_when_its_results_are_dropped() -> None:
    pool = Pool(1, launcher="local")
    for result in pool.imap(square, itertools.count()):
        if result > 20:
            break
    pool.close()
    pool.join()
    with pytest.raises(ValueError, match="not running"):
        pool.map(square, [1])


def test_dropped_results_of_a_call_that_ends_are_worked_out_all_the_same(tmp_path: Path) -> None:
    def touch(number: int) -> None:
        (tmp_path / str(number)).touch()

    with Pool(1, launcher="local") as pool:
        next(pool.imap(touch, list(range(100))))
        pool.imap_unordered(touch, iter(range(100, 150)))
        pool.close()
        pool.join()
    assert len(list(tmp_path.iterdir())) == 150


def test_a_pool_that_nobody_ended_is_told_of_and_ends() -> None:
    pool = Pool(1, launcher="local")
    assert pool.map(square, [3]) == [9]
    result = pool.map_async(square, [4])
    with pytest.warns(ResourceWarning, match="unclosed running pool of 1 workers"):
        del pool
        assert result.get(30) == [16]  # what it has to do it does
        del result
        gc.collect()
    until(lambda: "qm.Pool end" not in {thread.name for thread in threading.enumerate()}, "its end")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # it may dead-lock, says Python 3.12: not with a pool
def test_a_forked_child_can_neither_use_nor_end_a_pool(pool: Pool) -> None:
    running = pool.map_async(time.sleep, [0.3, 0.3])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with pool:
                pool.map(square, [1])
        except RuntimeError as err:
            status = 0 if "made by process" in str(err) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert running.get(30) == [None, None]
    assert pool.map(square, [2]) == [4]


OPEN_AT_THE_END = """
import itertools, time
from qm import Pool
pool = Pool(2, launcher="local")
results = pool.imap(abs, itertools.count())
assert next(results) == 0
slow = pool.map_async(time.sleep, [60] * 4)
print(pool._calls._runner._queue.root)
raise SystemExit(3)
"""


def test_a_program_ends_while_its_pool_is_at_work_and_leaves_nothing() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", OPEN_AT_THE_END], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert not Path(done.stdout.strip()).exists()
    assert time.monotonic() - began < 30  # not the minute of its tasks


def test_a_pool_cannot_be_pickled(pool: Pool) -> None:
    with pytest.raises(NotImplementedError):
        pickle.dumps(pool)


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_the_first_failing_item_is_raised_with_its_index_and_traceback(pool: Pool) -> None:
    def late(x: int) -> float:
        time.sleep(0.3 * (x == 5))
        return 1 / (x - 5) / (x - 9)

    with pytest.raises(ZeroDivisionError) as caught:
        pool.map(late, range(12), chunksize=1)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert str(caught.value.__cause__).split("\n")[2].startswith("task 5 of ")


def test_none_stands_for_what_failed_when_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Pool(1, launcher="local", errors="none") as pool:
        assert pool.map(lambda x: 6 // x, [1, 0, 3]) == [6, None, 2]
    assert "task 1 of " in caplog.text and "ZeroDivisionError" in caplog.text


def test_what_cannot_be_pickled_is_said(pool: Pool) -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match="pickle"):
        pool.map(lambda _: lock, [1])
    with pytest.raises(TypeError, match="pickle"):
        pool.map(square, [lock])  # type: ignore[list-item]
    with pytest.raises(pickle.PicklingError, match=r"result 0 of .*lock"):
        pool.map(lambda _: threading.Lock(), [1])
    assert pool.map(square, [2]) == [4]


def test_a_worker_that_dies_fails_what_it_had_and_nothing_else(pool: Pool) -> None:
    def die(x: int) -> int:
        if x == 3:
            os._exit(9)
        return x

    results = pool.imap(die, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(JobFailed, match="exit status 9"):
        next(results)
    assert list(results) == [4, 5]


def test_an_interrupt_cancels_the_map_and_nothing_else(pool: Pool, tmp_path: Path) -> None:
    other = pool.map_async(square, range(100))
    begun = [tmp_path / str(number) for number in range(4)]
    thread = interrupt_when(begun[0].exists)
    with pytest.raises(KeyboardInterrupt):
        pool.map(touch_and_wait, [str(path) for path in begun], chunksize=1)
    thread.join()
    assert other.get(30) == [x * x for x in range(100)]
    assert pool.map(square, range(10)) == [x * x for x in range(10)]
    assert not begun[3].exists()


def test_an_interrupt_while_a_chunk_is_handed_over_loses_none_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def interrupted(source: str, target: str) -> None:
        rename(source, target)
        if source.endswith(".more.part/000000001.pkl"):
            monkeypatch.undo()
            raise KeyboardInterrupt

    with Pool(1, launcher="local") as pool:
        assert pool.map(square, [1]) == [1]  # its workers are there: what comes now is handed over piece by piece
        monkeypatch.setattr(os, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.map(square, [2])
        assert pool.map_async(square, [3]).get(30) == [9]


def test_an_initializer_runs_first_and_its_failure_is_everybodys() -> None:
    with Pool(1, os.putenv, ("QM_TEST", "1"), launcher="local") as pool:
        assert pool.apply(os.system, ('test "$QM_TEST" = 1',)) == 0
    with Pool(1, divmod, (1, 0), launcher="local") as pool, pytest.raises(SetupFailed, match="ZeroDivisionError"):
        pool.map(square, range(3))


def test_a_worker_begins_anew_after_so_many_tasks() -> None:
    def first_here(number: int) -> int:
        sys.qm_first = getattr(sys, "qm_first", number)  # type: ignore[attr-defined]
        return sys.qm_first  # type: ignore[attr-defined, no-any-return]

    with Pool(1, maxtasksperchild=2, launcher="local") as pool:
        assert [pool.apply(first_here, (number,)) for number in range(4)] == [0, 0, 2, 2]


def test_a_task_may_use_a_pool_itself(pool: Pool) -> None:
    def inner(x: int) -> list[int]:
        with Pool(1) as mine:
            return mine.map(square, range(x))

    assert pool.map(inner, [2, 3]) == [[0, 1], [0, 1, 4]]


# --- the daemon's queue ----------------------------------------------------------------------------------------------


def test_a_pool_is_a_job_that_is_gone_when_all_went_well(spool: TestSpool) -> None:
    with Pool(2, config=str(spool.config), name="squares") as pool:
        assert pool.map(square, range(100)) == [x * x for x in range(100)]
        assert [path.name for path in spool.jobs.iterdir()] == ["squares_1"]
    until(lambda: not list(spool.jobs.iterdir()) and not list(spool.done.glob("squares*")), "the job to be removed")


def test_the_job_stays_when_something_failed_and_its_place_is_told(
    spool: TestSpool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with Pool(1, config=str(spool.config), name="halves") as pool, pytest.raises(ZeroDivisionError):
        pool.map(lambda x: 1 / x, [0])
    (folder,) = spool.done.glob("halves_1")
    assert str(folder) in caplog.text


def test_kept_folders_are_copied_to_the_work_folder(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with Pool(1, launcher="local", work_dir=str(work), keep_work_dir=True, num_chunks=2) as pool:
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
    assert {"000000000.pkl", "000000000.pkl.out", "000000001.pkl.out"} <= {path.name for path in work.iterdir()}


def test_workers_that_have_nothing_to_do_end_and_the_next_call_makes_new_ones(
    spool: TestSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QM_WORKER_IDLE", "0.3")
    monkeypatch.setattr(shift, "FRESH", 1e9)  # so that the call may come too late for its workers
    with Pool(1, config=str(spool.config), name="lazy") as pool:
        for _ in range(3):
            assert pool.map(square, range(4)) == [0, 1, 4, 9]
            until(lambda: not list(spool.jobs.glob("lazy*")), "the workers to end")
    monkeypatch.setattr(shift, "FRESH", 0.1)
    with Pool(2, config=str(spool.config), name="lazier") as pool:
        slow = pool.apply_async(time.sleep, (1.5,))
        until(lambda: list(spool.jobs.glob("lazier_1")), "the first crew")
        time.sleep(0.3)
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
        assert list(spool.jobs.glob("lazier_2"))
        assert slow.get(30) is None


def test_a_worker_killed_from_outside_is_an_error(spool: TestSpool, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    with Pool(1, config=str(spool.config)) as pool:
        result = pool.map_async(touch_and_wait, [str(begun)])
        until(begun.exists, "the task to begin")
        (folder,) = spool.jobs.iterdir()
        requests.leave(SpoolPaths(str(spool.root)), Request("kill", folder.name, folder.name, {}))
        with pytest.raises(JobFailed, match="killed"):
            result.get(30)


def test_without_a_daemon_the_first_call_says_so(make_spool: Callable[..., TestSpool]) -> None:
    silent = make_spool()
    with Pool(1, config=str(silent.config)) as pool:
        for call in (pool.map, pool.imap):
            with pytest.raises(NoDaemon, match='launcher="local"'):
                call(square, [1])
    assert not [path for path in silent.queue.iterdir() if not path.name.startswith(".")]


def test_progress_is_a_line_at_the_end_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with Pool(1, launcher="local", progress=True) as pool:
        pool.map(square, range(30))
        list(pool.imap(square, iter(range(3))))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("square: 30 of 30 in ")
    assert lines[1].startswith("square: 3 in ")


def test_progress_is_a_bar_on_a_terminal() -> None:
    program = (
        "import qm\n"
        "with qm.Pool(1, launcher='local', progress=True) as pool:\n"
        "    assert pool.map(abs, range(-30, 0)) == list(range(30, 0, -1))\n"
    )
    keeper, terminal = os.openpty()
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "TERM": "xterm"}, stderr=terminal, timeout=60, check=False
    )
    os.close(terminal)
    shown = os.read(keeper, 1 << 16).decode(errors="replace")
    os.close(keeper)
    assert done.returncode == 0, shown
    assert "abs" in shown and "30/30" in shown
