"""What goes into a crew's job file, and what comes out of its results: without any daemon."""

from __future__ import annotations

import functools
import os
import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from listening import Told

from qm.api import pickling, workfiles
from qm.api.crewfile import environment, job_file
from qm.api.errors import CrewEnded, DaemonAway, FolderGone, JobFailed, NoDaemon, RemoteError, RemoteTraceback
from qm.api.inprocess import LocalQueue
from qm.api.outcomes import Told as Call
from qm.api.outcomes import exception_of, read_outcomes
from qm.api.queue import JobQueue, job_options, open_queue
from qm.api.workfiles import CALL, DIED, MAP, Chunk, Failure, Results
from qm.vocabulary.config import Settings
from qm.vocabulary.jobfile import read_job_file


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    (tmp_path / "QM_qJobs").mkdir()
    return JobQueue(Settings(str(tmp_path / "QMserv.cfg"), str(tmp_path)))


def test_options_of_python_kinds_become_texts_of_a_job_file() -> None:
    found = job_options(nb_proc=2, wall_time=timedelta(minutes=1.5), hold=True, after=["a", "b"], mem="2G", info=None)
    assert found == {"nb_proc": "2", "wall_time": "90.000", "hold": "yes", "after": "a, b", "mem": "2G"}
    assert job_options(NB_Proc=2, env_Mixed="x") == {"nb_proc": "2", "env_Mixed": "x"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nb_procs": 2}, "did you mean nb_proc"),
        ({"nb_proc": 0}, "a whole number of 1 or more"),
        ({"script": "rm"}, "script: that is for QM to say"),
        ({"info": "two\nlines"}, "one line"),
        ({"email": "a@b.org", "e_mail": "c@d.org"}, "stands twice"),
    ],
)
def test_a_wrong_option_is_a_value_error_that_names_it(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        job_options(**options)


def test_a_launcher_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match='"spool" or "local"'):
        open_queue("slurm")


def test_the_job_file_of_a_crew_reads_as_it_was_meant(queue: JobQueue) -> None:
    crew = queue.crew(
        "job", Told(), workers=3, options={"attempts": "4", "retry_on": "1"}, python="/my python/bin/py 3"
    )
    crew.add_call(lambda: None, MAP)
    extra: dict[str, str] = {}
    options = read_job_file("proc_config.cfg", job_file(crew, "/some where", extra).encode()).options
    assert options.script.startswith("'/my python/bin/py 3' ")
    assert options.script.endswith("worker.py .")
    assert (options.array, options.chdir, options.attempts, options.retry_on) == ("0-2", "/some where", 100, None)
    assert not extra


def test_what_no_job_file_can_hold_goes_by_the_environment(queue: JobQueue) -> None:
    crew = queue.crew("job", Told(), python="/odd\npython", labels={"executor": "two\nlines"})
    crew.is_open = False
    extra: dict[str, str] = {}
    text = job_file(crew, "/odd\ndirectory ", extra)
    options = read_job_file("proc_config.cfg", text.encode()).options
    assert options.script.startswith('cd -- "$QM_DIRECTORY" && exec "$QM_PYTHON" ')
    assert extra == {"QM_DIRECTORY": "/odd\ndirectory ", "QM_PYTHON": "/odd\npython"}
    assert options.chdir == options.array == ""


def test_a_job_within_a_job_does_not_take_itself_for_the_outer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QM_ARRAY_TASK_ID", "QM_JOB_ID", "QM_OWNER", "QM_WORKER", "NB_PROC", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("OWN", "a\n=b")
    found = dict(entry.split(b"=", 1) for entry in environment({"QM_OWNER": "1 2"}).split(b"\0")[:-1])
    assert found[b"OWN"] == b"a\n=b"
    assert found[b"QM_OWNER"] == b"1 2"
    assert not found.keys() & {b"QM_ARRAY_TASK_ID", b"QM_JOB_ID", b"QM_WORKER", b"NB_PROC", b"OMP_NUM_THREADS"}


@pytest.mark.parametrize(
    ("function", "by_value"),
    [
        (os.path.join, False),
        (lambda: 1, True),
        (functools.partial(abs, 1), False),
        (functools.partial(lambda: 1), True),
    ],
)
def test_byte_code_in_a_call_is_noticed(tmp_path: Path, function: Any, by_value: bool) -> None:
    pickling.write_call(str(tmp_path), 0, function, MAP, "f")
    with open(tmp_path / workfiles.call_name(0), "rb") as file:
        assert pickle.load(file).by_value is by_value
        pickle.load(file)
        assert not file.read()


def test_nothing_can_be_added_to_a_closed_crew(queue: JobQueue) -> None:
    crew = queue.crew("job", Told())
    call = crew.add_call(abs, MAP)
    crew.close()
    with pytest.raises(CrewEnded):
        crew.add_chunk(call, [1])
    with pytest.raises(NoDaemon):
        crew.submit()


# --- outcomes --------------------------------------------------------------------------------------------------


def write_out(directory: Path, *objects: Any) -> None:
    workfiles.write_new(str(directory), workfiles.out_name(0), *objects)


def test_results_come_back_in_one_list_or_one_by_one(tmp_path: Path) -> None:
    chunk, call = Chunk(0, 5, 2), Call("f", MAP)
    write_out(tmp_path, Results(False, 2), [1, None])
    assert read_outcomes(str(tmp_path), 0, chunk, call) == [(True, 1), (True, None)]
    failure = Failure(pickle.dumps(KeyError("k")), "KeyError", "'k'", "Traceback …\n")
    write_out(tmp_path, Results(True, 2), [pickle.dumps([1]), failure])
    first, (good, error) = read_outcomes(str(tmp_path), 0, chunk, call)
    assert (first, good) == ((True, [1]), False)
    assert isinstance(error, KeyError)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert error.__cause__.text.startswith("task 6 of f:\nTraceback")


@pytest.mark.parametrize("body", [[1], [1, 2, 3], 7, None])
def test_a_file_with_another_number_of_results_is_an_error_for_each_item(tmp_path: Path, body: Any) -> None:
    write_out(tmp_path, Results(False, 2), body)
    outcomes = read_outcomes(str(tmp_path), 0, Chunk(0, 0, 2), Call("f", MAP))
    assert [(ok, type(value)) for ok, value in outcomes] == [(False, RemoteError)] * 2


def test_half_a_file_is_an_error_and_a_missing_one_is_not_there(tmp_path: Path) -> None:
    (tmp_path / workfiles.out_name(0)).write_bytes(b"\x80\x05half")
    [(ok, error)] = read_outcomes(str(tmp_path), 0, Chunk(0, 0, 1), Call("f", CALL))
    assert not ok
    assert "the result of f cannot be loaded" in str(error)
    with pytest.raises(FileNotFoundError):
        read_outcomes(str(tmp_path), 1, Chunk(0, 0, 1), Call("f", CALL))


def test_an_exception_that_cannot_be_loaded_keeps_its_name_and_text() -> None:
    error = exception_of(Failure(b"cnot_there\nNo\n.", "not_there.No", "what it said", "Traceback"), "f", "/f")
    assert isinstance(error, RemoteError)
    assert str(error) == "not_there.No: what it said"
    assert isinstance(error.__cause__, RemoteTraceback)


def test_a_worker_that_died_is_a_failed_job() -> None:
    error = exception_of(Failure(b"", DIED, "the worker that ran it died: exit status 9", ""), "task 3 of f", "/folder")
    assert isinstance(error, JobFailed)
    assert str(error) == "task 3 of f: failed: the worker that ran it died: exit status 9; see /folder"


@pytest.mark.parametrize(
    "error",
    [
        JobFailed("f", "killed", "by somebody", 3, "/folder", "last\nwords"),
        RemoteError("Kind", "text"),
        RemoteTraceback("text"),
        FolderGone("gone"),
        DaemonAway("away"),
    ],
)
def test_errors_survive_pickling(error: BaseException) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_failed_job_says_all_that_is_known_in_few_lines() -> None:
    error = JobFailed("task 7 of f", "timeout", "its wall_time of 00:01 is over", 143, "/spool/f", "one\ntwo")
    assert str(error) == (
        "task 7 of f: timeout: its wall_time of 00:01 is over, exit status 143; see /spool/f\n"
        "its log ends with: one\ntwo"
    )


def test_folders_of_processes_that_died_are_removed_by_the_next_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    old, young, living = (tmp_path / f"qm-local-{name}" for name in ("4194399-a", "4194399-b", f"{os.getpid()}-c"))
    for folder in (old, young, living):
        folder.mkdir()
    for folder in (old, living):
        os.utime(folder, (1, 1))
    LocalQueue(1).close()
    assert sorted(tmp_path.iterdir()) == sorted([young, living])
