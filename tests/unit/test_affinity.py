"""Binding to processors: what is spawned is bound, and we are not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from harness import until

from qm.launchers.affinity import can_pin, pin, pinned

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no such calls")

SAYS = [sys.executable, "-c", "import os; print(*sorted(os.sched_getaffinity(0)))"]
THREADS = """
import sys, threading
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print(flush=True)
sys.stdin.read()
"""


def mine() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def spawned() -> list[int]:
    """The processors of a process that is spawned now."""
    return [int(word) for word in subprocess.run(SAYS, capture_output=True, check=True).stdout.split()]


def test_what_is_spawned_inside_is_bound_and_this_process_is_not_afterwards() -> None:
    before = mine()
    with pinned(before[-1:]):
        assert spawned() == before[-1:]
    assert mine() == before
    assert spawned() == before


def test_the_affinity_is_restored_after_an_error() -> None:
    before = mine()
    with pytest.raises(OSError, match="no such program"), pinned(before[:1]):
        raise OSError("no such program")
    assert mine() == before


def test_without_processors_nothing_is_bound() -> None:
    before = mine()
    with pinned(()):
        assert mine() == before
    assert mine() == before


@pytest.mark.parametrize("number", [1_000_000, -1])
def test_processors_that_there_are_not_bind_nothing(number: int) -> None:
    before = mine()
    with pinned((number,)):
        assert mine() == before
    assert mine() == before


def test_other_threads_are_not_bound() -> None:
    before = mine()
    found: list[list[int]] = []
    asked, answered = threading.Event(), threading.Event()

    def other() -> None:
        asked.wait(30)
        found.append(mine())
        answered.set()

    thread = threading.Thread(target=other)
    thread.start()
    with pinned(before[:1]):
        asked.set()
        assert answered.wait(30)
    thread.join()
    assert found == [before]


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


def test_a_process_that_is_gone_is_no_error() -> None:
    pin(2**22 + 1, mine())


def test_no_more_processors_can_be_bound_than_there_are() -> None:
    there = len(mine())
    assert can_pin(there)
    assert not can_pin(there + 1)
