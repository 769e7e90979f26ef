"""CPython's own tests of executors, pointed at qm.Executor.

The suite is not copied but imported from an installed Python (tests/cpython.py). What takes long is run on a
spool or in this process, not on both. Left out of `test_concurrent_futures` is, by name and by what it looks at:

ExecutorShutdownTest
    test_interpreter_shutdown, test_hang_gh83386: what a child prints to the standard output that it inherited; a job's
        output goes to its log. test_submit_after_interpreter_shutdown: a program that names the class alone. All three
        are tested in test_executor_exit.py.
ProcessPoolShutdownTest
    test_processes_terminate, test_context_manager_shutdown, test_del_shutdown, test_shutdown_no_wait: `_processes`,
        `_call_queue`, `_executor_manager_thread` of a ProcessPoolExecutor. The last two are tested without these in
        test_executor.py.
ProcessPoolExecutorTest
    test_max_workers_too_large: Windows.
    test_killed_child, test_saturation, test_idle_process_reuse_one, test_idle_process_reuse_multiple: `_processes`.
    test_traceback: the class of the cause, which is another here; tested in test_executor.py.
    test_ressources_gced_in_workers: the proxy of a multiprocessing.Manager, whose key is inherited by forked processes.
    test_max_tasks_per_child, test_max_tasks_per_child_defaults_to_spawn_context, test_max_tasks_early_shutdown,
    test_python_finalization_error: arguments and threads of a ProcessPoolExecutor.
ExecutorDeadlockTest
    test_shutdown_deadlock_pickle: `_executor_manager_thread`.
    test_crash_big_data, test_gh105829_should_not_deadlock_if_wakeup_pipe_full: pipes that there are not.
InitializerMixin and others: their variants for threads and for the three ways of multiprocessing to start a process.
ThreadPoolExecutorTest, ThreadPoolShutdownTest, ThreadPoolWaitTests: threads.
FailingInitializerResourcesTest: the resource tracker of multiprocessing.
"""

from __future__ import annotations

import gc
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from pickle import PicklingError, UnpicklingError
from typing import Any, ClassVar

import cpython
import pytest
from harness import TestSpool

from qm.api.errors import JobFailed, RemoteError
from qm.api.executor import Executor
from qm.api.futures import Future

suite: Any = cpython.load()
if suite is None:
    package = f"libpython3.{sys.version_info[1]}-testsuite"
    pytest.skip(f"no installed Python has {cpython.NAME}; Debian's is in {package}", allow_module_level=True)

suite.put("Future", Future)
suite.put("BrokenProcessPool", (JobFailed, RemoteError))
WORKERS = 5


class Case(suite.BaseTestCase):  # type: ignore[misc]
    """After each test no thread is left that was not there before."""

    def setUp(self) -> None:
        gc.collect()  # the suite of Python 3.10 counts threads that have ended, too, while anything refers to them
        super().setUp()

    def tearDown(self) -> None:
        gc.collect()
        suite.support.environment_altered = False
        super().tearDown()
        assert not suite.support.environment_altered, "threads or processes are left"


class OnSpool:
    """Executors on a real daemon's spool, one for the class."""

    spool: ClassVar[TestSpool]
    folder: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.mkdtemp(prefix="qm-")
        cls.spool = TestSpool(Path(cls.folder) / "spool", MaxNbProcessors=WORKERS)
        cls.spool.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.spool.close()
        shutil.rmtree(cls.folder)

    def executor_type(self, *args: Any, **options: Any) -> Executor:
        options.pop("mp_context", None)
        return Executor(*args, launcher="spool", config=str(self.spool.config), **options)


class OnLocal:
    """Executors without a daemon."""

    def executor_type(self, *args: Any, **options: Any) -> Executor:
        options.pop("mp_context", None)
        return Executor(*args, launcher="local", **options)


class TestExecutorOnSpool(OnSpool, suite.ExecutorTest, suite.ExecutorMixin, Case):
    pass


class TestExecutorOnLocal(OnLocal, suite.ExecutorTest, suite.ExecutorMixin, Case):
    # These take seconds, and are run on the spool.
    test_map_timeout = None
    test_free_reference = None


class TestAsCompletedOnSpool(OnSpool, suite.AsCompletedTests, suite.ExecutorMixin, Case):
    pass


class TestWaitOnLocal(OnLocal, suite.WaitTests, suite.ExecutorMixin, Case):
    pass


class TestShutdownOnSpool(OnSpool, suite.ExecutorShutdownTest, suite.ExecutorMixin, Case):
    test_interpreter_shutdown = None
    test_submit_after_interpreter_shutdown = None
    test_hang_gh83386 = None


class TestShutdownOnLocal(OnLocal, suite.ExecutorShutdownTest, suite.ExecutorMixin, Case):
    test_hang_issue12364 = None  # seconds
    test_interpreter_shutdown = None
    test_submit_after_interpreter_shutdown = None
    test_hang_gh83386 = None


class TestInitializerOnSpool(OnSpool, suite.InitializerMixin, Case):
    pass


class TestFailingInitializerOnSpool(OnSpool, suite.FailingInitializerMixin, Case):
    pass


class TestFailingInitializerOnLocal(OnLocal, suite.FailingInitializerMixin, Case):
    pass


class TestChunksOnSpool(OnSpool, suite.ExecutorMixin, Case):
    test_map_chunksize = suite.ProcessPoolExecutorTest.test_map_chunksize


class TestCrashesOnLocal(OnLocal, suite.ExecutorDeadlockTest, suite.ExecutorMixin, Case):
    test_shutdown_deadlock_pickle = None
    test_gh105829_should_not_deadlock_if_wakeup_pipe_full = None
    test_crash_big_data = None

    def get_context(self) -> None:
        """No way of multiprocessing's to start a process."""

    # Here, a call whose arguments or result cannot be loaded or pickled fails by itself and breaks nothing else.

    def test_error_at_task_unpickle(self) -> None:
        self._check_crash(UnpicklingError, id, suite.ErrorAtUnpickle())

    def test_exit_at_task_unpickle(self) -> None:
        self._check_crash(SystemExit, id, suite.ExitAtUnpickle())

    def test_exit_during_result_pickle_on_worker(self) -> None:
        self._check_crash(PicklingError, suite._return_instance, suite.ExitAtPickle)


class TestFuture(suite.FutureTests):
    def setUp(self) -> None:
        """Errors of callbacks are expected on standard error: keep them from pytest's handlers."""
        super().setUp()
        logger = logging.getLogger("concurrent.futures")
        self.addCleanup(setattr, logger, "propagate", logger.propagate)
        logger.propagate = False
