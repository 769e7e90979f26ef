"""The Python API under bad treatment: whatever functions, results, workers and queues do, each call has an outcome."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE, TestSpool, until
from listening import submitted, wait_for_file

from qm.api import pickling, workfiles
from qm.api.errors import DaemonAway, FolderGone, JobFailed, RemoteError, RemoteTraceback, SetupFailed
from qm.api.executor import Executor
from qm.api.inprocess import LocalQueue
from qm.api.pool import Pool
from qm.vocabulary.errors import QMError


@pytest.fixture
def local() -> Iterator[LocalQueue]:
    queue = LocalQueue(2)
    try:
        yield queue
    finally:
        queue.close()


# --- workers that end without a word -----------------------------------------------------------------------


def leave_at_three(number: int) -> int:
    """End the process as if all were well by 3, return any other number."""
    if number == 3:
        os._exit(0)
    return number


def become_another_program(number: int) -> int:
    """The same by execve(2), which nothing in this process can notice."""
    if number == 3:
        os.execv("/bin/true", ["/bin/true"])
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_a_function_that_ends_its_worker_with_status_0_costs_its_chunk_alone(local: LocalQueue, workers: int) -> None:
    _, told = submitted(local, leave_at_three, [[number] for number in range(8)], workers=workers)
    told.wait()
    assert isinstance(told.error(3), JobFailed)
    del told.outs[3]
    assert told.values() == [0, 1, 2, 4, 5, 6, 7]


def test_a_single_call_that_ends_its_process_with_status_0_is_an_error(local: LocalQueue) -> None:
    _, told = submitted(local, leave_at_three, [[3]])
    told.wait()
    assert isinstance(told.error(), JobFailed)


def test_a_chunk_of_a_worker_that_turned_into_another_program_is_not_waited_for(local: LocalQueue) -> None:
    crew, told = submitted(local, become_another_program, [[3], [1], [2]], close=False, workers=2)
    until(lambda: len(told.outs) == 3, "the outcome of all three, while the crew is open", patience=8.0)
    assert isinstance(told.error(0), JobFailed)
    assert "exit status 0" in str(told.error(0))
    crew.close()
    told.wait()


def test_workers_that_end_at_once_are_not_made_anew_for_ever() -> None:
    with Pool(2, launcher="local", initializer=os._exit, initargs=(0,)) as pool, pytest.raises(JobFailed):
        pool.map_async(abs, range(4)).get(PATIENCE)


def test_a_deadly_initializer_is_not_tried_a_hundred_times() -> None:
    told = pytest.raises(SetupFailed, match="ended its process 3 times")
    with Pool(2, launcher="local", initializer=os._exit, initargs=(3,)) as pool, told:
        pool.map_async(abs, range(4)).get(PATIENCE)


def test_an_interpreter_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="/no/python"):
        Pool(2, launcher="local", python_path="/no/python")


# --- results and exceptions that bite ------------------------------------------------------------------------


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raise_unspeakable(*_args: Any) -> None:
    raise Unspeakable


class BitesWhenLoaded:
    """Cannot be loaded, for a reason that cannot be told."""

    def __reduce__(self) -> Any:
        return raise_unspeakable, ()


def open_nothing() -> Any:
    return open("/nonexistent/file")


class NeedsAFile:
    """Cannot be loaded, since a file of its own is not there."""

    def __reduce__(self) -> Any:
        return open_nothing, ()


class FrozenError(Exception):
    """Takes no attribute, not even `__cause__`."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenError) and self.args == other.args


def raise_frozen(code: int) -> None:
    raise FrozenError(code)


@pytest.mark.parametrize("kind", [BitesWhenLoaded, NeedsAFile])
def test_a_result_that_bites_when_it_is_loaded_is_an_error_and_others_go_on(local: LocalQueue, kind: type) -> None:
    _, biting = submitted(local, lambda _: kind(), [[0], [1]])
    _, other = submitted(local, abs, [[-1], [-2]])
    biting.wait()
    assert isinstance(biting.error(0), RemoteError)
    assert isinstance(biting.error(1), RemoteError)
    other.wait()
    assert other.values() == [1, 2]


def test_an_exception_that_takes_no_attributes_comes_back_with_its_cause(local: LocalQueue) -> None:
    _, told = submitted(local, raise_frozen, [[7], [8]])
    told.wait()
    assert told.error(0) == FrozenError(7)
    assert isinstance(told.error(1).__cause__, RemoteTraceback)


def test_a_callback_that_ends_its_thread_keeps_no_other_from_its_result() -> None:
    with Executor(launcher="local") as executor:
        first = executor.submit(abs, -1)
        first.add_done_callback(lambda _: sys.exit(3))
        first.result(PATIENCE)
        assert executor.submit(abs, -2).result(PATIENCE) == 2


def test_an_error_in_the_watcher_itself_is_survived(local: LocalQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    crew, told = submitted(local, abs, [[-1], [-2]], close=False)
    until(lambda: len(told.outs) == 2, "the first two results")
    wrong = iter([ZeroDivisionError("wrong")])

    def once(*_args: object) -> Any:
        for error in wrong:
            raise error
        return real()

    real = local.watcher._hear
    monkeypatch.setattr(local.watcher, "_hear", once)
    crew.add_chunk(0, [-3], 2)
    crew.close()
    told.wait()
    assert told.values() == [1, 2, 3]


# --- the queue ---------------------------------------------------------------------------------------------


def broken() -> float:
    raise ZeroDivisionError("a scheduler's own mistake")


def test_a_local_queue_whose_scheduler_breaks_tells_everybody_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with Executor(launcher="local") as executor:
        queue = executor._submitter.queue
        assert isinstance(queue, LocalQueue)
        until(lambda: queue._manager._bell is not None, "the scheduler to serve")
        future = executor.submit(signal.pause)

        bell = queue._manager._bell
        assert bell is not None
        until(lambda: future.running() or future.done(), "the call to begin")
        monkeypatch.setattr(queue._manager, "_turn", broken)
        with contextlib.suppress(OSError):  # it woke by itself
            bell.send(b"\0")
        with pytest.raises(DaemonAway, match="a scheduler's own mistake"):
            future.result(10.0)
        with pytest.raises(BrokenExecutor, match="a scheduler's own mistake"):
            executor.submit(abs, 1)


def test_without_a_folder_for_temporary_files_a_local_queue_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    with pytest.raises(QMError, match="TMPDIR"):
        LocalQueue(1)


def test_executors_leave_no_descriptor_and_no_thread() -> None:
    def use() -> None:
        with Executor(launcher="local") as executor:
            assert list(executor.map(abs, [-1, -2])) == [1, 2]

    use()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(5):
        use()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_a_forked_child_leaves_the_block_without_its_parents_calls() -> None:
    with Executor(launcher="local") as executor:
        future = executor.submit(signal.pause)
        until(future.running, "the call to begin")
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            executor._submitter.cancel()
            executor.shutdown(wait=True, cancel_futures=True)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not future.done()
        assert future.cancel()


def test_a_disk_that_is_full_while_arguments_are_written_fails_that_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Pool(1, launcher="local") as pool:
        assert pool.map(abs, [-1]) == [1]
        with monkeypatch.context() as patch:
            patch.setattr(pickling, "_dump", full)
            with pytest.raises(OSError, match="No space left"):
                pool.map(len, [[2]])
        assert pool.map(abs, [-3, -4]) == [3, 4]


def test_a_daemon_that_comes_back_with_fewer_processors_ends_a_map(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool(MaxNbProcessors=3, Limit_Processors="none")
    spool.start()
    with Executor(config=str(spool.config)) as executor:
        results = executor.map(time.sleep, [0.1] * 20)
        next(results)
        spool.stop(signal.SIGKILL)
        spool.configure(MaxNbProcessors=1, Limit_Processors="none")
        spool.start()
        assert list(results) == [None] * 19
        assert executor.submit(abs, -2).result(PATIENCE) == 2


# --- what people do to the jobs ---------------------------------------------------------------------------


def touch_and_wait(path: str) -> int:
    """Say that it runs, and go on once a second file is there."""
    Path(path).touch()
    wait_for_file(f"{path}.go")
    return 7


def test_a_job_that_is_held_set_paused_and_resumed_still_brings_its_result(spool: TestSpool, tmp_path: Path) -> None:
    spool.qm("drain")
    with Executor(config=str(spool.config)) as executor:
        future = executor.submit(touch_and_wait, str(tmp_path / "here"))
        spool.qm("hold", future.job_id)
        spool.qm("set", future.job_id, "priority=3", "wall_time=100")
        spool.qm("undrain")
        spool.qm("release", future.job_id)
        wait_for_file(str(tmp_path / "here"))
        spool.qm("pause", future.job_id)
        (tmp_path / "here.go").touch()
        assert not future.done()
        spool.qm("resume", future.job_id)
        assert future.result(PATIENCE) == 7
        record = spool.record(Path(future.folder))
        assert record["overrides"]["priority"] == "3"


def test_a_job_that_is_run_again_after_its_end_changes_no_result(spool: TestSpool) -> None:
    with Executor(config=str(spool.config)) as executor:
        future = executor.submit(os._exit, 3)
        assert isinstance(future.exception(PATIENCE), JobFailed)
        spool.qm("retry", future.job_id)
        assert executor.submit(abs, -2).result(PATIENCE) == 2
        assert isinstance(future.exception(), JobFailed)


def test_chunks_that_come_in_the_very_moment_in_which_workers_end_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QM_WORKER_IDLE", "0.05")
    chance = random.Random(5)
    with Pool(2, launcher="local") as pool:
        for number in range(25):
            assert pool.map_async(abs, [-number, 1, 2]).get(PATIENCE) == [number, 1, 2]
            time.sleep(chance.uniform(0.0, 0.15))


def test_a_program_that_is_stopped_for_longer_than_its_workers_wait_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, subprocess, sys, qm\n"
        "if __name__ == '__main__':\n"
        "    with qm.Pool(2, launcher='local') as pool:\n"
        "        first = pool.map(abs, [-1, -2])\n"
        "        waiting = pool.map_async(abs, range(100))\n"
        "        goes_on = subprocess.Popen(['sh', '-c', f'sleep 1.5; kill -CONT {os.getpid()}'])\n"
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "        print(first, sum(waiting.get(60)), pool.map(abs, [-3]))\n"
        "    goes_on.wait()\n"
    )
    environment = {**os.environ, "QM_WORKER_IDLE": "0.3"}
    run = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert (run.stdout, run.stderr) == ("[1, 2] 4950 [3]\n", "")


# --- functions that break their surroundings ----------------------------------------------------------------


def close_everything(number: int) -> int:
    os.closerange(0, 3)
    return number


def go_away(number: int) -> int:
    os.chdir("/")
    os.environ.clear()
    sys.path.clear()
    return number


def deafen(number: int) -> int:
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    return number


def replace_streams(number: int) -> int:
    sys.stdout.close()
    sys.stderr = None  # type: ignore[assignment]
    return number


def fork_and_leave(number: int) -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    return number if os.waitpid(child, 0)[1] == 0 else -1


def megabytes(number: int) -> bytes:
    return bytes(number << 20)


@pytest.mark.parametrize("function", [close_everything, go_away, deafen, replace_streams, fork_and_leave])
def test_a_function_that_breaks_its_surroundings_breaks_no_result(
    local: LocalQueue, function: Callable[[int], int]
) -> None:
    _, told = submitted(local, function, [[number] for number in range(4)], environment={"QM_WORKER_TASKS": "3"})
    assert told.wait().state == "done"
    assert told.values() == [0, 1, 2, 3]


def test_a_large_result_comes_whole(local: LocalQueue) -> None:
    _, told = submitted(local, megabytes, [[100]])
    told.wait()
    assert len(told.values()[0]) == 100 << 20


def test_a_function_that_removes_its_work_folder_is_an_error(local: LocalQueue) -> None:
    crew, told = submitted(local, shutil.rmtree, [[f"{local.root}/QM_Jobs/gone"]], name="gone")
    told.wait()
    assert isinstance(told.error(), JobFailed | FolderGone)
    assert crew.over


# --- claims ------------------------------------------------------------------------------------------------


def test_a_claim_is_never_without_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_args: object) -> int:
        raise KeyboardInterrupt  # as if killed before it writes

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(os, "write", dies)
        workfiles.claim(str(tmp_path), 1, "0 1")
    assert workfiles.claims(str(tmp_path), 1) == ["0 1"]


# --- other Pythons -----------------------------------------------------------------------------------------


def other_python() -> str:
    """An interpreter of another version that can be had; skips the test when there is none."""
    for minor in range(8, 20):
        found = shutil.which(f"python3.{minor}") if (3, minor) != sys.version_info[:2] else None
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    pytest.skip("no other Python on PATH")


def apply_it(function: Callable[[], Any]) -> Any:
    return function()


@pytest.mark.parametrize("case", ["importable", "function", "argument", "result"])
def test_another_python_on_the_other_side_runs_what_it_can_and_says_what_not(local: LocalQueue, case: str) -> None:
    function, item = {
        "importable": (abs, -3),
        "function": (lambda x: x, 3),
        "argument": (len, type("Made", (), {"__len__": lambda self: 3})()),
        "result": (eval, "lambda: 3"),
    }[case]
    _, told = submitted(local, function, [[item]], python=other_python())
    told.wait()
    if case == "importable":
        assert told.values() == [3]
    elif case != "result":
        assert f"{sys.version_info[0]}.{sys.version_info[1]}" in str(told.error())
        assert "Python" in str(told.error())
    else:
        assert "cannot be pickled" in str(told.error())


# --- what is pickled how -------------------------------------------------------------------------------------

SCRIPT = """
import sys
from functools import partial
import qm

def twice(number): return 2 * number

class Own:
    def __init__(self): self.pickled = 0
    def __getstate__(self): self.pickled += 1; return vars(self)
    def __len__(self): return 7

with qm.Executor(launcher="local") as executor:
    if sys.argv[1:] == ["plain"]:
        print(executor.submit(divmod, 17, 5).result(), *executor.map(abs, [-1, -2]), "cloudpickle" in sys.modules)
    elif sys.argv[1:] == ["function"]:
        print(*executor.map(twice, [1, 2]), executor.submit(partial(twice, 4)).result())
    else:
        own = Own()
        print(executor.submit(len, own).result(), own.pickled, executor.submit(sum, [1], start=True).result())
"""


@pytest.mark.parametrize(("case", "said"), [("plain", "(3, 2) 1 2 False"), ("function", "2 4 8"), ("own", "7 1 2")])
def test_what_a_script_defines_goes_by_value_and_all_else_without_cloudpickle(
    tmp_path: Path, case: str, said: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    run = subprocess.run([sys.executable, str(script), case], capture_output=True, text=True, timeout=60, check=False)
    assert (run.stdout, run.stderr, run.returncode) == (said + "\n", "", 0)
