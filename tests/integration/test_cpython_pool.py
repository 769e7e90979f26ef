"""CPython's own tests of multiprocessing's pools, pointed at qm.Pool.

The suite is not copied but imported from an installed Python (tests/cpython.py). Left out of its
`_test_multiprocessing` is, by name and by what it looks at:

_TestPool
    test_make_pool: the list `_pool` of processes; numbers that are wrong are in test_pool.py.
    test_traceback: the class of the cause, which is another here; tested in test_pool.py.
    test_resource_warning: a text that says multiprocessing; tested in test_pool.py.
_TestPoolWorkerErrors
    test_unpickleable_result: a lambda, which may be a result here; what may not is in test_pool.py.
_TestPoolWorkerLifetime
    test_pool_worker_lifetime: the list `_pool` of processes; tested in test_pool.py.
    test_worker_finalization_via_atexit_handler_of_multiprocessing: names multiprocessing in a program of its own;
        tested in test_pool.py.
TestPoolNotLeakOnFailure: a context of multiprocessing, whose processes cannot be started.
"""

from __future__ import annotations

import multiprocessing.pool
import sys
import unittest
from types import SimpleNamespace
from typing import Any

import cpython
import pytest

from qm.api.pool import Pool

suite: Any = cpython.load(cpython.POOLS)
if suite is None:
    package = f"libpython3.{sys.version_info[1]}-testsuite"
    pytest.skip(f"no installed Python has {cpython.POOLS}; Debian's is in {package}", allow_module_level=True)


def local_pool(*args: Any, **options: Any) -> Pool:
    return Pool(*args, launcher="local", **options)


# What its tests take from the module multiprocessing by name.
suite.put("multiprocessing", SimpleNamespace(Pool=local_pool, TimeoutError=multiprocessing.TimeoutError))


class TestPool(suite._TestPool, unittest.TestCase):  # type: ignore[misc]
    TYPE = "processes"
    Pool = staticmethod(local_pool)

    test_make_pool = None
    test_traceback = None
    test_resource_warning = None


class TestWorkerErrors(suite._TestPoolWorkerErrors, unittest.TestCase):  # type: ignore[misc]
    test_unpickleable_result = None


class TestWorkerLifetime(suite._TestPoolWorkerLifetime, unittest.TestCase):  # type: ignore[misc]
    test_pool_worker_lifetime = None
    test_worker_finalization_via_atexit_handler_of_multiprocessing = None
