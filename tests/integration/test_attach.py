"""qm.attach: the futures of jobs whose submitter is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import TestSpool, until

from qm.api.attaching import attach
from qm.api.errors import JobFailed, RemoteTraceback
from qm.api.executor import Executor
from qm.vocabulary.errors import NoSuchJob, QMError

PROGRAM = """
import sys, time
from pathlib import Path
from qm.api.executor import Executor

def slow(x, go):
    while not Path(go).exists():
        time.sleep(0.01)
    return x * x

executor = Executor(launcher="spool", config=sys.argv[1], name="lost")
first = executor.submit(pow, 2, 5)
first.result()
second = executor.submit(slow, 7, sys.argv[2])
third = executor.map(divmod, [1, 2, 3, 4, 5], [1, 2, 0, 4, 5], chunksize=2)
print(second.job_id, flush=True)
time.sleep(60)
"""


@pytest.fixture
def orphaned(spool: TestSpool, tmp_path: Path) -> tuple[str, Path]:
    """The jobs of an executor whose process was killed: the id of the second, and the file that it waits for."""
    go = tmp_path / "go"
    command = [sys.executable, "-c", PROGRAM, str(spool.config), str(go)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        job_id = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    assert job_id
    return job_id, go


def to(spool: TestSpool, what: str | Path) -> list[Any]:
    return attach(what, config=str(spool.config))


def test_a_whole_executor_is_got_back_after_its_process_was_killed(
    spool: TestSpool, orphaned: tuple[str, Path]
) -> None:
    futures = to(spool, "lost")
    assert len(futures) == 7
    assert futures[0].result(30) == 32
    assert not futures[1].done()
    orphaned[1].touch()
    assert futures[1].result(30) == 49
    assert [futures[n].result(30) for n in (2, 3, 5, 6)] == [(1, 0), (1, 0), (1, 0), (1, 0)]
    with pytest.raises(ZeroDivisionError) as raised:
        futures[4].result(30)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert "task 2 of divmod" in str(raised.value.__cause__)


def test_a_single_job_is_got_back_by_id_name_and_folder(spool: TestSpool, orphaned: tuple[str, Path]) -> None:
    job_id, go = orphaned
    [by_id] = to(spool, job_id)
    [by_name] = to(spool, "lost_2")
    until(lambda: by_id.folder and Path(by_id.folder).parent == spool.jobs, "the job to run")
    [by_folder] = attach(by_id.folder)
    until(by_folder.running, "its future to know that it runs")
    go.touch()
    assert [future.result(30) for future in (by_id, by_name, by_folder)] == [49, 49, 49]
    old_path = spool.jobs / "lost_2"
    spool.wait_for("lost_2")
    [later] = attach(old_path)
    assert later.result(30) == 49
    assert later.job_id == job_id


def test_a_call_that_was_got_back_can_be_cancelled(spool: TestSpool, orphaned: tuple[str, Path]) -> None:
    [future] = to(spool, orphaned[0])
    assert future.cancel() and future.cancelled()
    assert spool.record(spool.wait_for("lost_2"))["state"] == "killed"


def test_an_item_of_a_map_cannot_be_cancelled_alone(spool: TestSpool, orphaned: tuple[str, Path]) -> None:
    futures = to(spool, "lost_3")
    assert not futures[0].cancel()
    assert futures[0].result(30) == (1, 0)


def test_a_job_that_died_is_got_back_as_a_failure(spool: TestSpool) -> None:
    with Executor(launcher="spool", config=str(spool.config), name="dead") as executor, pytest.raises(JobFailed):
        executor.submit(os._exit, 3).result(30)
    [future] = to(spool, "dead")
    with pytest.raises(JobFailed) as raised:
        future.result(30)
    assert raised.value.exit_status == 3


def test_an_executor_that_used_a_name_again_comes_after_the_first(spool: TestSpool) -> None:
    for number in (1, 2):
        with Executor(launcher="spool", config=str(spool.config), name="same") as executor:
            list(executor.map(abs, [number]))
            executor.submit(abs, 10 * number)
    assert [future.result(30) for future in to(spool, "same")] == [1, 10, 2, 20]


def test_what_is_unknown_is_no_such_job(spool: TestSpool, tmp_path: Path) -> None:
    for what in ("nobody", "aaaaaaaaaaaa", str(tmp_path / "nowhere"), str(spool.done / "nobody")):
        with pytest.raises(NoSuchJob):
            to(spool, what)


def test_a_job_that_is_not_python_is_said_to_be_none(spool: TestSpool) -> None:
    spool.drop("plain", "true")
    spool.wait_for("plain")
    with pytest.raises(QMError, match="plain"):
        to(spool, "plain")


def test_futures_that_were_got_back_need_no_daemon_when_their_jobs_have_ended(
    make_spool: Callable[..., TestSpool],
) -> None:
    spool = make_spool()
    spool.start()
    with Executor(launcher="spool", config=str(spool.config), name="old") as executor:
        executor.submit(abs, -1).result(30)
    spool.stop()
    assert [future.result(30) for future in to(spool, "old")] == [1]


def test_what_watches_ends_with_the_last_future(spool: TestSpool) -> None:
    before = set(threading.enumerate())
    with Executor(launcher="spool", config=str(spool.config), name="brief") as executor:
        executor.submit(time.sleep, 0)
    [future] = to(spool, "brief")
    assert future.result(30) is None
    until(lambda: set(threading.enumerate()) <= before, "the thread to end")
