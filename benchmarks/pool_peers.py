"""The peers of qm.Pool and qm.Executor, which `pools` and `submits` compare (pooled.py runs them).

All have two workers. Invariant: every contestant gives back the result of every task, except HyperQueue, whose
functions give none, and all run the same function of an importable module.
"""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any, ClassVar

from noop import bundle, noop

WORKERS = 2
BUNDLES = 8
"""As many chunks as multiprocessing.Pool makes for two workers."""


def bundles(tasks: int) -> list[range]:
    """All numbers below `tasks`, in as many bundles as the others make."""
    size = -(-tasks // BUNDLES)
    return [range(first, min(first + size, tasks)) for first in range(0, tasks, size)]


def expect(results: Sequence[object], tasks: int) -> None:
    """SystemExit unless every task has given its None."""
    if list(results) != [None] * tasks:
        raise SystemExit(f"{tasks} tasks gave {len(results)} results, or wrong ones")


class Contestant(ABC):
    """One way to run Python calls on two processes."""

    key: ClassVar[str]
    name: ClassVar[str]
    module: ClassVar[str]  # what must be importable
    maps: ClassVar[int] = 5  # how many maps on the running pool are measured
    singles: ClassVar[int] = 200  # how many single submits are measured; 0: none
    remark: ClassVar[str] = ""

    def __init__(self, config: str) -> None:
        self.config = config  # the QMserv.cfg of the daemon that runs, for QM

    @abstractmethod
    def start(self) -> None:
        """Make it ready. Its modules are imported by now."""

    @abstractmethod
    def map(self, tasks: int) -> None:
        """Run so many tasks through its map, and wait for all."""

    def submit_all(self, tasks: int) -> None:
        """Submit so many tasks one by one, then wait for all."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """End it, workers included."""

    def imports(self) -> None:
        """Import what it needs, before any clock runs."""
        importlib.import_module(self.module)


class Forked(Contestant):
    key = "multiprocessing"
    name = "multiprocessing.Pool (fork)"
    module = "multiprocessing.pool"
    method: ClassVar[str] = "fork"

    def start(self) -> None:
        import multiprocessing

        self.pool = multiprocessing.get_context(self.method).Pool(WORKERS)

    def map(self, tasks: int) -> None:
        expect(self.pool.map(noop, range(tasks)), tasks)

    def submit_all(self, tasks: int) -> None:
        expect([one.get() for one in [self.pool.apply_async(noop, (number,)) for number in range(tasks)]], tasks)

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


class Spawned(Forked):
    key = "spawn"
    name = "multiprocessing.Pool (spawn)"
    method = "spawn"
    remark = "fork: workers are copies of the submitter, with all it has imported; spawn: fresh interpreters, as ours"


class Futures(Contestant):
    """What all executors have in common."""

    executor: Executor

    def map(self, tasks: int) -> None:
        expect(list(self.executor.map(noop, range(tasks), chunksize=-(-tasks // BUNDLES))), tasks)

    def submit_all(self, tasks: int) -> None:
        futures = [self.executor.submit(noop, number) for number in range(tasks)]
        expect([one.result() for one in futures], tasks)

    def close(self) -> None:
        self.executor.shutdown()


class ProcessPool(Futures):
    key = "futures"
    name = "ProcessPoolExecutor"
    module = "concurrent.futures.process"

    def start(self) -> None:
        self.executor = ProcessPoolExecutor(WORKERS)


class Dask(Contestant):
    key = "dask"
    name = "dask distributed"
    module = "distributed"
    maps = 1
    remark = "dask distributed: a LocalCluster of processes; its map makes a task of each item, so it is here twice"

    def start(self) -> None:
        import distributed

        self.cluster = distributed.LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        )
        self.client = distributed.Client(self.cluster)  # type: ignore[no-untyped-call]

    def map(self, tasks: int) -> None:
        expect(self.client.gather(self.client.map(noop, range(tasks), pure=False)), tasks)

    def submit_all(self, tasks: int) -> None:
        expect(self.client.gather([self.client.submit(noop, number, pure=False) for number in range(tasks)]), tasks)

    def close(self) -> None:
        self.client.close()
        self.cluster.close()


class DaskBundles(Dask):
    key = "dask-bundles"
    name = f"dask distributed, in {BUNDLES} bundles"
    maps = 5
    singles = 0
    remark = ""

    def map(self, tasks: int) -> None:
        answers = self.client.gather(self.client.map(bundle, bundles(tasks), pure=False))
        expect([one for answer in answers for one in answer], tasks)


class HyperQueue(Contestant):
    key = "hyperqueue"
    name = "HyperQueue LocalCluster"
    module = "hyperqueue"
    maps = 2
    singles = 40
    remark = "HyperQueue: a process for each task, without result; here 8 bundles; its client asks once a second"

    def start(self) -> None:
        from hyperqueue import LocalCluster
        from hyperqueue.cluster import WorkerConfig
        from hyperqueue.task.function import PythonEnv

        self.cluster = LocalCluster()
        self.cluster.start_worker(WorkerConfig(cores=WORKERS))
        self.client = self.cluster.client(python_env=PythonEnv(python_bin=sys.executable))

    def run(self, function: Callable[[Any], object], items: Sequence[Any]) -> None:
        from hyperqueue import Job

        job = Job()
        for item in items:
            job.function(function, args=(item,), stdout=None, stderr=None)
        self.client.wait_for_jobs([self.client.submit(job)])

    def map(self, tasks: int) -> None:
        self.run(bundle, bundles(tasks))

    def submit_all(self, tasks: int) -> None:
        self.run(noop, range(tasks))

    def close(self) -> None:
        self.cluster.stop()


class Submitit(Contestant):
    key = "submitit"
    name = "submitit, local executor"
    module = "submitit"
    maps = 2
    singles = 20
    remark = "submitit: a process for each task, all at once; here 8 bundles in one map_array"

    def start(self) -> None:
        import submitit

        self.executor = submitit.LocalExecutor(folder="submitit")
        self.executor.update_parameters(timeout_min=10)

    def map(self, tasks: int) -> None:
        jobs = self.executor.map_array(bundle, bundles(tasks))
        expect([one for job in jobs for one in job.result()], tasks)

    def submit_all(self, tasks: int) -> None:
        jobs = [self.executor.submit(noop, number) for number in range(tasks)]
        expect([job.result() for job in jobs], tasks)

    def close(self) -> None:
        pass
