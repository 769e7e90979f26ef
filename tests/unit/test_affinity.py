"""Binding to processors: what is spawned is bound, and we are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import until

from qm.launchers.affinity import can_pin, pin, pin_spawned

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no such calls")

THREADS = """
import sys, threading
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print(flush=True)
sys.stdin.read()
"""


def mine() -> list[int]:
    return sorted(os.sched_getaffinity(0))


SPAWNS = """
import subprocess, sys
inner = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
child = subprocess.Popen(inner)
child.wait()
"""


def test_what_was_just_spawned_is_bound_with_all_that_it_has_spawned_and_we_are_not() -> None:
    before = mine()
    with subprocess.Popen([sys.executable, "-c", SPAWNS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        (child,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        pin_spawned(process.pid, before[-1:], lambda: True)
        assert os.sched_getaffinity(process.pid) == os.sched_getaffinity(child) == set(before[-1:])
        process.stdin.close()
    assert mine() == before


def test_without_processors_nothing_is_bound() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        pin_spawned(process.pid, (), lambda: True)
        assert sorted(os.sched_getaffinity(process.pid)) == mine()


@pytest.mark.parametrize("number", [1_000_000, -1])
def test_processors_that_there_are_not_bind_nothing(number: int) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        pin_spawned(process.pid, (number,), lambda: True)
        assert sorted(os.sched_getaffinity(process.pid)) == mine()


def test_a_process_that_is_gone_is_no_error() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    before = mine()
    pin_spawned(process.pid, before[:1], lambda: True)
    pin(process.pid, before)
    assert mine() == before


def test_all_threads_of_a_running_process_are_bound() -> None:
    before = mine()
    words = [sys.executable, "-c", THREADS]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        threads = until(lambda: len(found := os.listdir(f"/proc/{process.pid}/task")) == 4 and found)
        pin(process.pid, before[:1])
        assert {tuple(os.sched_getaffinity(int(thread))) for thread in threads} == {(before[0],)}
        pin(process.pid, ())
        assert {tuple(os.sched_getaffinity(int(thread))) for thread in threads} == {(before[0],)}
        pin(process.pid, before)
        assert {tuple(sorted(os.sched_getaffinity(int(thread)))) for thread in threads} == {tuple(before)}
        process.communicate(timeout=30)


def test_no_more_processors_can_be_bound_than_there_are() -> None:
    there = len(mine())
    assert can_pin(there)
    assert not can_pin(there + 1)
