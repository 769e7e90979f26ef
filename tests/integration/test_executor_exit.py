"""What becomes of an executor's calls when its program ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import TestSpool, until

from qm.api.attaching import attach

START = """
import sys, time
from pathlib import Path
from qm.api.executor import Executor

def slow(mark):
    time.sleep(0.5)
    Path(mark).touch()
    return "done"
"""


def run(text: str, *args: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; nothing may be on its standard error unless it is to fail."""
    command = [sys.executable, "-c", START + text, *map(str, args)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == status, ended.stderr
    return ended


@pytest.mark.parametrize("ending", ["", "executor.shutdown(wait=False)", "del executor"])
def test_calls_in_this_process_are_waited_for(tmp_path: Path, ending: str) -> None:
    text = f"""
executor = Executor(2, launcher="local")
future = executor.submit(slow, sys.argv[1])
future.add_done_callback(lambda future: print(future.result(), flush=True))
{ending}
"""
    ended = run(text, tmp_path / "mark")
    assert (ended.stdout, ended.stderr) == ("done\n", "")
    assert (tmp_path / "mark").exists()


def test_calls_on_a_spool_go_on_and_are_found_again(spool: TestSpool, tmp_path: Path) -> None:
    text = """
executor = Executor(launcher="spool", config=sys.argv[1], name="left")
future = executor.submit(slow, sys.argv[2])
print(future.done())
"""
    ended = run(text, spool.config, tmp_path / "mark")
    assert (ended.stdout, ended.stderr) == ("False\n", "")
    [future] = attach("left", config=str(spool.config))
    assert future.result(30) == "done"


def test_a_forked_child_ends_without_waiting_for_its_parents_calls(tmp_path: Path) -> None:
    text = """
import os
executor = Executor(2, launcher="local")
future = executor.submit(slow, sys.argv[1])
if os.fork() == 0:
    sys.exit(0)
os.wait()
print(future.result())
"""
    assert run(text, tmp_path / "mark").stdout == "done\n"


def test_nothing_is_taken_while_the_interpreter_ends() -> None:
    text = """
import atexit
executor = Executor(2, launcher="local")
executor.submit(abs, -1).result()

@atexit.register
def late():
    try:
        executor.submit(abs, -2)
    except RuntimeError as err:
        print(err)
"""
    ended = run(text)
    assert ended.stdout == "cannot schedule new futures after interpreter shutdown\n"
    assert ended.stderr == ""


def test_ctrl_c_ends_a_program_and_its_calls(tmp_path: Path) -> None:
    text = """
def endless(mark):
    Path(mark).touch()
    time.sleep(600)

with Executor(2, launcher="local") as executor:
    executor.submit(endless, sys.argv[1])
    next(executor.map(endless, [sys.argv[1] + ".map"]))
"""
    command = [sys.executable, "-c", START + text, str(tmp_path / "mark")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until((tmp_path / "mark").exists, "the call to run")
        until((tmp_path / "mark.map").exists, "the map to run")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert time.monotonic() - began < 60
