"""`launcher="local"`: a queue in the process itself, which changes nothing of it and leaves nothing behind."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import until
from listening import die_of_three, submitted

from qm.api.errors import DaemonAway
from qm.api.inprocess import LocalQueue
from qm.api.queue import JobQueue, job_options, open_queue


@pytest.fixture(params=["events", "portable"])
def local(request: pytest.FixtureRequest) -> Iterator[LocalQueue]:
    queue = LocalQueue(2, portable=request.param == "portable")
    yield queue
    queue.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_calls_run_without_any_daemon(local: LocalQueue) -> None:
    _, told = submitted(local, lambda number: -number, [[1, 2], [3]], workers=2)
    assert told.wait().state == "done"
    assert told.values() == [-1, -2, -3]


def test_a_worker_that_dies_costs_its_chunk_and_no_other(local: LocalQueue) -> None:
    _, told = submitted(local, die_of_three, [[2], [3], [4]])
    told.wait()
    assert "exit status 9" in str(told.error(1))
    assert (told.outs[0], told.outs[2]) == ([(True, 2)], [(True, 4)])


def test_closing_leaves_no_thread_no_descriptor_and_no_folder() -> None:
    LocalQueue(1).close()  # whatever is opened once and for all
    threads, files = set(threading.enumerate()), descriptors()
    queue = LocalQueue(2)
    _, told = submitted(queue, abs, [[-1], [-2]], workers=2)
    told.wait()
    queue.close()
    assert set(threading.enumerate()) == threads
    assert descriptors() == files
    assert not os.path.exists(queue.root)
    queue.close()


def test_closing_ends_what_runs_and_tells_whoever_waits(tmp_path: Path) -> None:
    queue = LocalQueue(1)

    def stay(path: str) -> None:
        Path(path).write_text(str(os.getpid()))
        time.sleep(600)

    _, told = submitted(queue, stay, [[str(tmp_path / "pid")]])
    pid = until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the call to run")
    queue.close()
    told.wait()
    assert isinstance(told.error(), DaemonAway)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the worker to end")


def test_signals_loggers_garbage_collector_and_children_stay_as_they_were(local: LocalQueue) -> None:
    def facts() -> tuple[object, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
        return (
            *handlers,
            gc.get_threshold(),
            list(logging.root.handlers),
            "QueueManager" in logging.root.manager.loggerDict,
        )

    before = facts()
    started = [subprocess.Popen(["/bin/sh", "-c", f"exit {number}"]) for number in (3, 4)]
    for _ in range(2):  # at the second, whoever reaps strangers would have found them
        submitted(local, abs, [[-1]])[1].wait()
    assert [process.wait() for process in started] == [3, 4]
    assert facts() == before


def test_an_orphan_of_a_call_is_not_adopted_by_the_process(local: LocalQueue) -> None:
    def leave_an_orphan(_: int) -> int:
        return subprocess.Popen(["sleep", "600"], start_new_session=True).pid

    _, told = submitted(local, leave_an_orphan, [[0]])
    told.wait()
    [pid] = told.values()
    assert pid != os.getpid()
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the orphan to be ended with its job")


def test_a_forked_child_is_told_to_open_a_queue_of_its_own(local: LocalQueue) -> None:
    submitted(local, abs, [[1]])[1].wait()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            submitted(local, abs, [[1]])
            said = "nothing"
        except RuntimeError as err:
            said = str(err)
        local.close()  # it is the parent's
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    with open(reader, encoding="utf-8") as file:
        assert "open one in this process" in file.read()
    assert os.path.isdir(local.root)
    _, told = submitted(local, abs, [[-4]])
    told.wait()
    assert told.values() == [4]


OWNER = """
import sys, time
sys.path[:0] = {path!r}
from listening import submitted
from qm.api.inprocess import LocalQueue

def stay(path):
    import os, time
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    os.rename(path, path + ".whole")
    time.sleep(600)

queue = LocalQueue(1)
print(queue.root, flush=True)
submitted(queue, stay, [[{pid!r}]])
{then}
"""


@pytest.mark.parametrize(
    "then", ["time.sleep(600)", "while not __import__('os').path.exists({whole!r}): time.sleep(0.01)"]
)
def test_workers_end_with_the_process_that_they_work_for(tmp_path: Path, then: str) -> None:
    pid_file, whole = str(tmp_path / "pid"), tmp_path / "pid.whole"
    text = OWNER.format(path=[*sys.path], pid=pid_file, then=then.format(whole=str(whole)))
    owner = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert owner.stdout is not None
    root = owner.stdout.readline().strip()
    until(whole.exists, "the call to run")
    if "600" in then:
        owner.kill()
    owner.communicate(timeout=60)
    until(lambda: not os.path.exists(f"/proc/{whole.read_text()}"), "the worker to end")
    if "600" in then:  # nobody could tidy up
        __import__("shutil").rmtree(root)
    assert not os.path.exists(root)


def test_inside_a_worker_the_default_is_a_queue_of_its_own_with_its_processors(
    local: LocalQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nested(_: int) -> str:
        inner = open_queue()
        try:
            _, told = submitted(inner, abs, [[-1], [-2]], workers=2)
            told.wait()
            return json.dumps([type(inner).__name__, inner.processors(), told.values()])
        finally:
            inner.close()

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    _, told = submitted(local, nested, [[0]], options=job_options(nb_proc=2))
    told.wait()
    assert [json.loads(text) for text in told.values()] == [["LocalQueue", 2, [1, 2]]]


def test_the_private_folder_is_where_temporary_files_go(local: JobQueue) -> None:
    assert Path(local.root).parent == Path(os.path.realpath(tempfile.gettempdir()))
    assert os.stat(local.root).st_mode & 0o777 == 0o700
