"""Daemon and workers are killed (SIGKILL) at random while a program computes: in the end every result is right, once.

QM_KILLS  ten times as often as something is killed here, at least 16 times
QM_SEED   repeats the choices of an earlier run; a failure shows its seed
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness import TestSpool, until
from nursery import Nursery

from qm.api.crewfile import WORKER
from qm.api.executor import Executor
from qm.api.pool import Pool
from qm.spool.lock import holder_of

KILLS = max(16, int(os.environ.get("QM_KILLS", "0")) // 10)
SEED = os.environ.get("QM_SEED", "")
STUBBORN: dict[str, Any] = {"attempts": 100, "error_time": 0.05}
"""Whatever is killed is tried again."""


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.clear()
    made.close()


def slow_square(number: int) -> int:
    """Long enough to be killed in."""
    time.sleep(0.03)
    return number * number


def note(settled: list[int], done: Future[int]) -> None:
    settled.append(done.result())


class Users:
    """Programs that go on until `enough`, each in a thread; `wrong` is what was not as it should be."""

    def __init__(self, config: str) -> None:
        self.enough = threading.Event()
        self.wrong: list[object] = []
        self.rounds = dict.fromkeys(("calls", "map", "pool"), 0)
        self._config = config
        works = {"calls": self._calls, "map": self._map, "pool": self._pool}
        self._threads = [threading.Thread(target=self._run, args=each, daemon=True) for each in works.items()]
        for thread in self._threads:
            thread.start()

    def join(self, patience: float) -> None:
        """The rounds that have begun come to their end."""
        self.enough.set()
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert not any(thread.is_alive() for thread in self._threads), f"somebody waits for ever: {self.rounds}"

    def _run(self, name: str, work: Callable[[], Iterator[tuple[Any, Any]]]) -> None:
        try:
            for found, expected in work():
                self.rounds[name] += 1
                if found != expected:
                    self.wrong.append((name, found, expected))
        except BaseException as err:
            self.wrong.append((name, err))
            raise

    def _calls(self) -> Iterator[tuple[Any, Any]]:
        with Executor(config=self._config, keep=False, **STUBBORN) as executor:
            while not self.enough.is_set():
                settled: list[int] = []
                futures = [executor.submit(slow_square, number) for number in range(4)]
                for future in futures:
                    future.add_done_callback(partial(note, settled))
                yield [future.result() for future in futures], [0, 1, 4, 9]
                yield sorted(settled), [0, 1, 4, 9]

    def _map(self) -> Iterator[tuple[Any, Any]]:
        with Executor(config=self._config, **STUBBORN) as executor:
            while not self.enough.is_set():
                found = list(executor.map(slow_square, range(20), chunksize=2))
                yield found, [number * number for number in range(20)]

    def _pool(self) -> Iterator[tuple[Any, Any]]:
        with Pool(2, config=self._config, **STUBBORN) as pool:
            while not self.enough.is_set():
                yield pool.map(slow_square, range(20), 3), [number * number for number in range(20)]
            yield sum(pool.imap_unordered(slow_square, range(5))), 30


def kill_a_worker(spool: TestSpool, chance: random.Random) -> None:
    """One of those that work now, if there is any."""
    workers = []
    for pid in spool.processes():
        with contextlib.suppress(OSError):
            if os.fsencode(WORKER) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                workers.append(pid)
    if workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)


def start(nursery: Nursery, spool: TestSpool) -> None:
    pid = nursery.start(spool.config)
    lock = str(spool.root / ".qm" / "lock")
    until(lambda: (holder := holder_of(lock)) is not None and holder.pid == pid, "the daemon to serve")


@pytest.mark.crash
def test_whatever_is_killed_every_result_is_right_and_comes_once(
    make_spool: Callable[..., TestSpool], nursery: Nursery
) -> None:
    seed = SEED or str(random.SystemRandom().randrange(1 << 32))
    chance = random.Random(seed)
    spool = make_spool(MaxNbProcessors=4, Limit_Processors="none", Poll_Interval=0.3)
    start(nursery, spool)
    users = Users(str(spool.config))
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.1, 1.0))
        if chance.random() < 0.6:
            kill_a_worker(spool, chance)
        else:
            nursery.end(signal.SIGKILL)
            time.sleep(chance.uniform(0.0, 0.5))
            start(nursery, spool)
    users.join(40.0)
    assert not users.wrong, f"QM_SEED={seed}"
    assert all(users.rounds.values()), f"QM_SEED={seed}: {users.rounds}"
    assert not list(spool.queue.iterdir()), f"QM_SEED={seed}: something was left"
