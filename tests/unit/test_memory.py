"""How much memory a job uses: shared pages once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from qm.launchers import memory
from qm.launchers.memory import kernel_oom_kills, tree_memory

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

SIZE = 64 << 20
SHARED = f"""
import mmap, os, sys
shared = mmap.mmap(-1, {SIZE})
for start in range(0, {SIZE}, 4096):
    shared[start] = 1
go, stop = os.pipe()
children = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        sum(shared[start] for start in range(0, {SIZE}, 4096))
        print("", flush=True)
        os.close(stop)
        os.read(go, 1)
        os._exit(0)
    children.append(pid)
print(*children, flush=True)
sys.stdin.read()
os.close(stop)
for child in children:
    os.waitpid(child, 0)
"""


def test_memory_that_processes_share_counts_once() -> None:
    words = [sys.executable, "-c", SHARED]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(3)]
        pids = [process.pid, *(int(word) for line in lines for word in line)]
        assert len(pids) == 3
        assert SIZE < tree_memory(pids) < SIZE + (48 << 20)
        assert tree_memory(pids, enough=SIZE) < SIZE + (48 << 20), "more than enough by RSS, so PSS counts"
        assert tree_memory(pids, enough=1 << 40) > 3 * SIZE, "so little that RSS tells enough"
        process.communicate(timeout=30)
    assert tree_memory(pids) == 0


def test_where_pss_cannot_be_read_rss_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    real = memory.text_of
    monkeypatch.setattr(memory, "text_of", lambda path: "" if path.endswith("smaps_rollup") else real(path))
    assert tree_memory([os.getpid()]) > 1 << 20


def test_elsewhere_psutil_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_LINUX", False)
    assert tree_memory([os.getpid(), 2**22 + 1]) > 1 << 20


def test_no_processes_use_no_memory() -> None:
    assert tree_memory([]) == 0
    assert tree_memory([2**22 + 1]) == 0


def test_the_kernel_says_how_often_it_killed_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (kernel_oom_kills() or 0) >= 0
    monkeypatch.setattr(memory, "text_of", lambda path: "nr_free_pages 12\noom_kill 7\npgfault 3\n")
    assert kernel_oom_kills() == 7
    monkeypatch.setattr(memory, "text_of", lambda path: "")
    assert kernel_oom_kills() is None
