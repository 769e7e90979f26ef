"""Real workers on real folders: each chunk runs once, and nothing that happens to a worker goes unnoticed."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from harness import PATIENCE, until
from workfolder import Work, limited, single

from qm.api import workfiles
from qm.api.marks import process_mark
from qm.api.workfiles import STAR, Call, Failure


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    made = Work(tmp_path / "work")
    yield made
    made.end()


# --- who runs what -----------------------------------------------------------------------------------------


def test_three_workers_run_each_chunk_exactly_once(work: Work, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    def mark(x: int) -> int:

        os.close(os.open(f"{marks}/{x}", os.O_CREAT | os.O_EXCL))
        return os.getpid()

    work.call(mark)
    for number in range(300):
        work.chunk([number], first=number)
    work.close()
    processes = [work.start(task) for task in range(3)]
    assert [process.wait(PATIENCE) for process in processes] == [0, 0, 0]
    assert len(list(marks.iterdir())) == 300
    assert {type(work.results(number)[0]) for number in range(300)} == {int}


def test_a_worker_waits_for_new_chunks_until_the_folder_is_closed(work: Work) -> None:
    process = work.start(QM_WORKER_IDLE=60)
    for number in range(3):
        work.call(lambda x: x)
        work.chunk([number])
        until(lambda number=number: work.has(workfiles.out_name(number)))
    work.close()
    assert process.wait(PATIENCE) == 0


def test_numbers_may_be_missing_among_the_chunks(work: Work) -> None:
    work.call(lambda x: x)
    work.chunks = 5
    work.chunk(["five"])
    process = work.start(QM_WORKER_IDLE=60)
    until(lambda: work.has(workfiles.out_name(5)))
    work.chunks = 900
    work.chunk(["nine hundred"])
    until(lambda: work.has(workfiles.out_name(900)))
    work.chunks = 1000
    work.close()
    assert process.wait(PATIENCE) == 0


def test_a_worker_without_work_ends(work: Work) -> None:
    assert work.run(QM_WORKER_IDLE=0.2) == 0


def test_a_chunk_that_somebody_else_has_is_left_alone(work: Work) -> None:
    work.call(lambda x: x)
    work.chunk([1])
    work.chunk([2])
    workfiles.claim(work.dir, 0, workfiles.CANCELLED)
    work.close()
    assert work.run() == 0
    assert not work.has(workfiles.out_name(0)) and work.results(1) == [2]


def test_after_so_many_items_a_worker_goes_on_as_a_fresh_process(work: Work, tmp_path: Path) -> None:
    def count(_: object) -> Any:
        import sys

        sys.counted = getattr(sys, "counted", 0) + 1  # type: ignore[attr-defined]
        os.environ["LEFT_BEHIND"] = "1"
        os.chdir("/")
        return sys.counted, os.getpid()  # type: ignore[attr-defined]

    work.call(count)
    for number in range(5):
        work.chunk([number])
    work.close()
    assert work.run(QM_WORKER_TASKS=2) == 0
    counts, pids = zip(*(work.results(number)[0] for number in range(5)), strict=True)
    assert counts == (1, 2, 1, 2, 1) and len(set(pids)) == 1


def test_progress_is_told_where_qm_reads_it(work: Work, tmp_path: Path) -> None:
    from qm.judgement.progress import read_progress_file

    work.call(lambda x: x)
    for number in range(4):
        work.chunk([number])
    work.close()
    assert work.run(QM_PROGRESS=tmp_path / "progress") == 0
    progress = read_progress_file((tmp_path / "progress").read_bytes())
    assert progress is not None and progress.fraction in (0.25, 0.5, 0.75, 1)


# --- workers that die --------------------------------------------------------------------------------------


def die_of(how: str, marks: str) -> Callable[[str], str]:
    """A function that ends its process for the item "poison", after it left a mark for each try."""

    def act(item: str) -> str:
        import signal

        if item == "poison":
            with open(marks, "a") as file:
                file.write("x")
            if how == "exit":
                os._exit(3)
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    return act


@pytest.mark.parametrize(("how", "status"), [("exit", 3), ("signal", -signal.SIGKILL)])
def test_a_chunk_that_kills_its_worker_is_tried_as_often_as_asked(
    work: Work, tmp_path: Path, how: str, status: int
) -> None:
    marks = tmp_path / "marks"
    work.call(die_of(how, str(marks)))
    work.chunk(["a"])
    work.chunk(["poison", "b"])
    work.chunk(["c"])
    work.close()
    assert work.run(attempt=1, QM_CHUNK_ATTEMPTS=2) == status
    assert work.run(attempt=2, QM_CHUNK_ATTEMPTS=2) == status
    (work.folder / ".qm").mkdir()
    (work.folder / ".qm/tasks.jsonl").write_text(
        '{"task":0,"state":"pending","attempt":1,"exit_status":9,"reason":"not this"}\n'
        '{"task":0,"state":"pending","attempt":2,"exit_status":3,"reason":"exit status 3"}\n'
        '{"task":0,"state":"running","attempt":3}\n{"half'
    )
    assert work.run(attempt=3, QM_CHUNK_ATTEMPTS=2) == 0
    assert marks.read_text() == "xx"
    assert work.results(0) == ["a"] and work.results(2) == ["c"]
    for item in work.results(1):
        assert item == Failure(b"", workfiles.DIED, "the worker that ran it died: exit status 3", "")


def test_what_another_worker_has_begun_is_not_touched_by_a_restarted_one(work: Work) -> None:
    work.call(lambda x: x)
    work.chunk([1])
    workfiles.claim(work.dir, 0, "1 1")
    work.close()
    assert work.run(task=0, attempt=2, QM_CHUNK_ATTEMPTS=1) == 0
    assert not work.has(workfiles.out_name(0))
    assert work.run(task=1, attempt=2, QM_CHUNK_ATTEMPTS=1) == 0
    assert work.failure(0).message == "the worker that ran it died"


def test_a_job_that_is_no_array_decides_itself_how_often_it_is_tried(work: Work) -> None:
    work.call(lambda x: x)
    work.chunk([1])
    workfiles.claim(work.dir, 0, "0 1")
    workfiles.claim_again(work.dir, 0, "0 2")
    work.close()
    assert work.run(attempt=3, plain=True, QM_CHUNK_ATTEMPTS=1) == 0
    assert work.results() == [1] and workfiles.claims(work.dir, 0) == ["0 1", "0 2", "0 3"]


# --- not wanted any more -----------------------------------------------------------------------------------


def sleepy(work: Work, **env: Any) -> subprocess.Popen[bytes]:
    """A worker in the middle of a call that takes an hour."""

    def sleep(_: object) -> None:
        import time

        print("asleep")
        time.sleep(3600)

    work.call(sleep)
    work.chunk([0])
    process = work.start(**env)
    until(lambda: "asleep" in work.log())
    return process


def test_a_cancelled_call_ends_its_worker_and_is_not_run_again(work: Work) -> None:
    process = sleepy(work, QM_CHUNK_ATTEMPTS=1)
    work.chunk([1])
    work.call(lambda x: x)
    work.chunk([2])
    workfiles.write_new(work.dir, workfiles.cancel_name(0))
    assert process.wait(PATIENCE) == 69
    work.close()
    assert work.run(attempt=2, QM_CHUNK_ATTEMPTS=1) == 0
    assert [work.has(workfiles.out_name(number)) for number in range(3)] == [False, False, True]


def test_a_worker_ends_when_its_owner_is_gone(work: Work) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as owner:
        process = sleepy(work, QM_OWNER=process_mark(owner.pid))
        assert process.poll() is None
        owner.kill()
        assert process.wait(PATIENCE) == 69


def test_a_worker_ends_when_its_folder_is_gone(work: Work, tmp_path: Path) -> None:
    process = sleepy(work)
    work.folder.rename(tmp_path / "elsewhere")
    assert process.wait(PATIENCE) == 69


def test_term_ends_a_worker(work: Work) -> None:
    process = sleepy(work)
    process.terminate()
    assert process.wait(PATIENCE) == -signal.SIGTERM


# --- before the first chunk --------------------------------------------------------------------------------


def write_setup(work: Work, initializer: Callable[..., Any], *arguments: Any) -> None:
    call = Call(workfiles.FORMAT, STAR, "initializer", workfiles.VERSION, True, tuple(sys.path))
    workfiles.write_new(work.dir, workfiles.SETUP, call, (initializer, arguments), dump=cloudpickle.dump)


def test_the_initializer_runs_in_each_worker_before_its_first_chunk(work: Work) -> None:
    def set_up(value: str) -> None:
        import sys

        sys.is_set_up = value  # type: ignore[attr-defined]

    write_setup(work, set_up, "yes")
    assert single(work, lambda _: __import__("sys").is_set_up) == 0
    assert work.results() == ["yes"]


def test_an_initializer_that_raises_stops_all_workers(work: Work) -> None:
    def set_up() -> None:
        raise LookupError("nothing there")

    process = work.start(task=1, QM_WORKER_IDLE=60)
    write_setup(work, set_up)
    work.call(lambda x: x)
    assert work.run() == 70
    with open(work.folder / workfiles.BROKEN, "rb") as file:
        failure: Failure = pickle.load(file)
    assert (failure.kind, failure.message) == ("LookupError", "nothing there") and "in set_up" in failure.traceback
    assert process.wait(PATIENCE) in (0, 70)
    work.chunk([1])
    assert work.run(attempt=2) == 0
    assert not work.has(workfiles.out_name(0))


# --- wrong arguments and files ------------------------------------------------------------------------------


def test_wrong_arguments_and_missing_folders_have_their_own_exit_status(work: Work) -> None:
    for arguments, status in (([], 64), (["--help"], 64), (["/no/such"], 66), (["--chunk", "/no/000000000.pkl"], 66)):
        run = limited(work, resource.RLIM_INFINITY, *arguments)
        assert run.returncode == status and len(run.stderr.splitlines()) == 1


def test_a_chunk_file_that_is_none_does_not_crash_the_worker_without_a_word(work: Work) -> None:
    work.call(lambda x: x)
    (work.folder / workfiles.chunk_name(0)).write_bytes(b"rubbish")
    assert work.run() == 74
    assert "UnpicklingError" in work.log() and "Traceback" not in work.log()


# --- one chunk, for engines --------------------------------------------------------------------------------


def test_one_chunk_runs_alone(work: Work) -> None:
    work.call(lambda name: __import__("os").environ[name])
    work.chunk(["QM_WORKER"])
    work.chunk(["QM_WORKER"])
    run = limited(work, resource.RLIM_INFINITY, "--chunk", f"{work.dir}/000000000.pkl")
    assert (run.returncode, run.stderr, run.stdout) == (0, "", "")
    assert work.results(0) == ["1"]
    assert not work.has(workfiles.out_name(1)) and not work.has(workfiles.claim_name(0))


def test_one_chunk_with_a_failing_item_ends_well_and_writes_to_standard_error(work: Work) -> None:
    work.call(lambda x: 1 / x)
    work.chunk([1, 0], first=6)
    run = limited(work, resource.RLIM_INFINITY, "--chunk", f"{work.dir}/000000000.pkl")
    assert run.returncode == 0
    assert "task 7 of f failed:" in run.stderr and "ZeroDivisionError" in run.stderr
    assert work.failure(0, 1).kind == "ZeroDivisionError"


# --- how long it takes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [1, 1000])
def test_ten_thousand_calls_that_do_nothing(work: Work, chunks: int, record_property: Callable[..., None]) -> None:
    each = 10_000 // chunks
    work.call(pickle.dumps(abs), by_value=False)
    for number in range(chunks):
        work.chunk(range(number * each, (number + 1) * each), first=number * each)
    work.close()
    began = time.monotonic()
    assert work.run() == 0
    took = time.monotonic() - began
    print(f"10,000 calls in {chunks} chunks, with Python's start: {took:.3f} s")
    record_property("seconds", took)
    assert sum(len(work.results(number)) for number in range(chunks)) == 10_000
