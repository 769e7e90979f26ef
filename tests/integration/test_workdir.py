"""qm.Pool over the commands of a Grid Engine, as queue_map_reduce's callers use it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fakegrid import FakeGrid
from harness import until

from qm.api import gridmap
from qm.api.errors import JobFailed, RemoteTraceback
from qm.api.pool import Pool
from qm.vocabulary.errors import QMError


@pytest.fixture
def grid(tmp_path: Path) -> FakeGrid:
    return FakeGrid(tmp_path / "grid")


def square(x: int) -> int:
    return x * x


def test_the_results_come_in_order_and_the_work_folder_goes(grid: FakeGrid, tmp_path: Path) -> None:
    pool = Pool("all.q", work_dir=str(tmp_path / "work"), **grid.pool())
    assert pool.map(square, [3, 1, 2]) == [9, 1, 4]
    assert not (tmp_path / "work").exists()
    calls = grid.calls("qsub")
    assert [call[:2] for call in calls] == [["-q", "all.q"]] * 3
    assert [Path(call[-1]).name for call in calls] == ["000000000.pkl", "000000001.pkl", "000000002.pkl"]
    assert all(call[call.index("-N") + 1][0].isalpha() for call in calls)


def test_many_tasks_are_bundled_in_chunks(grid: FakeGrid, tmp_path: Path) -> None:
    work = tmp_path / "work"
    pool = Pool(num_chunks=3, work_dir=str(work), keep_work_dir=True, **grid.pool())
    assert pool.map(sum, [[i, 1] for i in range(10)]) == list(range(1, 11))
    assert len(grid.calls("qsub")) == 3
    names = set(os.listdir(work))
    for chunk in ("000000000", "000000001", "000000002"):
        assert {f"{chunk}.pkl", f"{chunk}.pkl.out", f"{chunk}.pkl.o", f"{chunk}.pkl.e"} <= names
    lines = [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]
    assert all({"time", "level", "event", "message"} <= line.keys() for line in lines)
    assert {"start", "poll", "keep"} <= {line["event"] for line in lines}


def test_a_job_in_an_error_state_is_submitted_again(grid: FakeGrid, tmp_path: Path) -> None:
    grid.set(errors={"1": 5})
    pool = Pool(work_dir=str(tmp_path / "work"), keep_work_dir=True, **grid.pool())
    assert pool.map(square, range(3)) == [0, 1, 4]
    assert len(grid.calls("qdel")) == 5
    assert len(grid.calls("qsub")) == 3 + 5
    log = (tmp_path / "work" / "log.jsonl").read_text()
    assert [json.loads(line)["resubmissions"] for line in log.splitlines() if "resubmissions" in line] == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_a_job_that_is_in_an_error_state_too_often_is_given_up(grid: FakeGrid, tmp_path: Path) -> None:
    grid.set(errors={"1": 99})
    pool = Pool(work_dir=str(tmp_path / "work"), max_num_resubmissions=2, **grid.pool())
    with pytest.raises(JobFailed, match=r"task 1 of square: failed: .*state Eqw\) 3 times"):
        pool.map(square, range(3))
    assert (tmp_path / "work").is_dir()
    assert len(grid.calls("qdel")) == 3
    assert grid.state["jobs"] == []


def test_none_stands_for_what_failed_when_that_is_wanted(
    grid: FakeGrid, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        pool = Pool(work_dir=str(tmp_path / "work"), errors="none", **grid.pool())
        assert pool.map(lambda x: 6 // x, [1, 0, 3]) == [6, None, 2]
    assert "task 1 of" in caplog.text and "ZeroDivisionError" in caplog.text
    assert (tmp_path / "work").is_dir()


def test_the_error_of_a_task_is_raised_with_its_index_and_traceback(grid: FakeGrid, tmp_path: Path) -> None:
    pool = Pool(work_dir=str(tmp_path / "work"), num_chunks=1, **grid.pool())
    with pytest.raises(ZeroDivisionError) as caught:
        pool.map(lambda x: 6 // x, [1, 0, 3])
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "task 1 of" in str(caught.value.__cause__)


def test_any_environment_reaches_the_task(grid: FakeGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = "quotes ' \" and\nnewlines\\ $HOME `id` \u00e9"
    monkeypatch.setenv("QM_TEST_VALUE", value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("JOB_ID", "the submitter's")
    pool = Pool(work_dir=str(tmp_path / "work"), **grid.pool())
    assert pool.map(lambda name: os.environ.get(name), ["QM_TEST_VALUE", "JOB_ID", "TMPDIR"]) == [value, "2", "/tmp"]
    assert pool.apply(os.getcwd) == os.getcwd()
    assert not any(value in word for call in grid.calls("qsub") for word in call)


def test_the_folder_stays_when_a_task_writes_to_standard_error(grid: FakeGrid, tmp_path: Path) -> None:
    def complain(x: int) -> int:
        print("something is odd", file=sys.stderr)
        return x

    pool = Pool(work_dir=str(tmp_path / "work"), **grid.pool())
    assert pool.map(complain, [1]) == [1]
    assert (tmp_path / "work" / "000000000.pkl.e").read_text() == "something is odd\n"


@pytest.mark.parametrize("failure", ["status", "garbage", "doctype"])
def test_commands_that_fail_now_and_then_fail_no_job(grid: FakeGrid, tmp_path: Path, failure: str) -> None:
    grid.set(errors={"0": 1}, failures={"qsub": [None, failure] * 2, "qstat": [failure] * 3, "qdel": [failure]})
    if failure != "status":  # what qsub and qdel answer nobody reads
        grid.set(failures={"qstat": [failure] * 3})
    pool = Pool(work_dir=str(tmp_path / "work"), **grid.pool())
    assert pool.map(square, range(3)) == [0, 1, 4]
    assert not (tmp_path / "work").exists()
    assert grid.state["jobs"] == []


def test_a_qsub_that_always_fails_is_no_endless_wait(grid: FakeGrid, tmp_path: Path) -> None:
    grid.set(failures={"qsub": ["status"] * 50})
    pool = Pool(work_dir=str(tmp_path / "work"), max_num_resubmissions=2, **grid.pool())
    with pytest.raises(JobFailed, match=r"could not be submitted: .*commlib error"):
        pool.map(square, range(3))


def test_a_job_that_is_gone_without_a_result_is_an_error_with_the_end_of_its_output(
    grid: FakeGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(x: int) -> int:
        if x == 1:
            print("about to die", file=sys.stderr, flush=True)
            os._exit(3)
        return x

    monkeypatch.setitem(gridmap.Grid._field_defaults, "file_patience", 0.1)
    monkeypatch.setattr(gridmap.Grid.__new__, "__defaults__", tuple(gridmap.Grid._field_defaults.values()))
    pool = Pool(work_dir=str(tmp_path / "work"), **grid.pool())
    with pytest.raises(JobFailed, match=r"(?s)task 1 of .*lost.*left no result.*about to die"):
        pool.map(die, range(3))


def test_the_result_of_a_job_that_is_gone_may_come_a_little_later(grid: FakeGrid, tmp_path: Path) -> None:
    work = tmp_path / "work"
    grid.set(killed=[1])
    pool = Pool(work_dir=str(work), keep_work_dir=True, **grid.pool())
    result = pool.map_async(square, range(2))
    log = work / "log.jsonl"
    until(lambda: log.exists() and '"missing": 1' in log.read_text(), "the job to be missed")
    subprocess.run([sys.executable, work / "worker_node_script.py", work / "000000001.pkl"], check=True)
    assert result.get(30) == [0, 1]


def test_an_interrupt_deletes_the_jobs_that_are_left(grid: FakeGrid, tmp_path: Path) -> None:
    grid.set(held=True)
    pool = Pool(work_dir=str(tmp_path / "work"), **grid.pool())

    def interrupt() -> None:
        until(lambda: len(grid.calls("qstat")) > 1, "the map to wait")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        pool.map(square, range(3))
    thread.join()
    assert sorted(call[0] for call in grid.calls("qdel")) == ["1", "2", "3"]
    assert grid.state["jobs"] == []


def test_a_command_that_does_not_exist_is_said(grid: FakeGrid, tmp_path: Path) -> None:
    pool = Pool(work_dir=str(tmp_path / "work"), **{**grid.pool(), "qsub_path": "/nowhere/qsub"})
    with pytest.raises(QMError, match="/nowhere/qsub cannot be run"):
        pool.map(square, [1])


def test_no_job_stays_behind_when_there_is_no_qstat_to_follow_them(grid: FakeGrid, tmp_path: Path) -> None:
    pool = Pool(work_dir=str(tmp_path / "work"), **{**grid.pool(), "qstat_path": "/nowhere/qstat"})
    with pytest.raises(QMError, match="/nowhere/qstat cannot be run"):
        pool.map(square, [1, 2])
    assert len(grid.calls("qsub")) == 2
    assert grid.state["jobs"] == []


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"polling_interval_qstat": "5"}, TypeError),
        ({"polling_interval_qstat": -1}, ValueError),
        ({"max_num_resubmissions": 1.5}, TypeError),
        ({"max_num_resubmissions": -1}, ValueError),
        ({"error_state_indicator": ""}, ValueError),
    ],
)
def test_what_cannot_be_meant_is_refused(grid: FakeGrid, wrong: dict[str, Any], error: type[Exception]) -> None:
    (name,) = wrong
    with pytest.raises(error, match=name):
        Pool(**{**grid.pool(), **wrong})


def test_a_logger_needs_no_more_than_methods_named_after_its_levels(grid: FakeGrid, tmp_path: Path) -> None:
    class Lines(list[str]):
        def debug(self, line: str) -> None:
            self.append(line)

        info = warning = error = debug

    lines = Lines()
    pool = Pool(work_dir=str(tmp_path / "work"), logger=lines, **grid.pool())  # type: ignore[arg-type]
    assert pool.map(square, [3]) == [9]
    assert any("1 chunks in " in line for line in lines)


def test_results_that_cannot_come_any_more_since_somebody_removed_the_folder_are_errors(
    grid: FakeGrid, tmp_path: Path
) -> None:
    grid.set(held=True)
    result = Pool(work_dir=str(tmp_path / "work"), **grid.pool()).map_async(square, [1])
    until(lambda: grid.calls("qstat"), "it to be looked for")
    shutil.rmtree(tmp_path / "work")
    with pytest.raises(OSError, match="work"):
        result.get(30)
    assert grid.state["jobs"] == []


def test_a_work_folder_that_exists_is_not_written_into(grid: FakeGrid, tmp_path: Path) -> None:
    pool = Pool(work_dir=str(tmp_path), **grid.pool())
    with pytest.raises(FileExistsError, match="give the pool another one"):
        pool.map(square, [1])


def test_the_other_calls_of_a_pool_work_over_grid_engine_too(grid: FakeGrid, tmp_path: Path) -> None:
    with Pool(work_dir=str(tmp_path / "work"), initializer=os.putenv, initargs=("A", "b"), **grid.pool()) as pool:
        assert list(pool.imap(square, iter(range(3)))) == [0, 1, 4]
        assert pool.starmap(divmod, [(7, 2)]) == [(3, 1)]
        assert pool.apply_async(int, ("11",), {"base": 2}).get() == 3
        assert pool.map(square, []) == []
    assert not list(tmp_path.glob("work*"))


def test_what_is_not_for_grid_engine_is_refused(grid: FakeGrid) -> None:
    with pytest.raises(ValueError, match="mem, launcher: not for a pool"):
        Pool("all.q", mem="1 GB", launcher="local")
