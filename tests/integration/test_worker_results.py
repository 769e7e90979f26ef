"""What comes back from real workers: values, exceptions, and whatever else a function or its arguments can be."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE, until
from workfolder import Work, limited, single

from qm.api import workfiles
from qm.api.workfiles import CALL, MAP, STAR


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    made = Work(tmp_path / "work")
    yield made
    made.end()


# --- what comes back ---------------------------------------------------------------------------------------


def test_a_function_gets_its_items_in_the_way_the_call_says(work: Work) -> None:
    work.call(lambda x: x * 2, MAP)
    work.chunk([1, 2, 3])
    work.call(pickle.dumps(divmod), STAR, by_value=False)
    work.chunk([(7, 2)])
    work.call(lambda *args, **named: (args, named), CALL)
    work.chunk([((1, 2), {"a": 3})])
    work.close()
    assert work.run() == 0
    assert [work.results(number) for number in range(3)] == [[2, 4, 6], [(3, 1)], [((1, 2), {"a": 3})]]


def test_closures_and_classes_of_the_main_module_go_there_and_back(work: Work) -> None:
    source = (
        "class Point:\n    def __init__(self, x): self.x = x\n    def __eq__(self, other): return self.x == other.x\n"
        "class Wrong(Exception): pass\n"
        "def move(point):\n    if point.x > 5: raise Wrong('far')\n    return Point(point.x + 1)\n"
    )
    main: dict[str, Any] = {"__name__": "__main__"}
    exec(source, main)
    work.call(main["move"])
    work.chunk([main["Point"](1), main["Point"](2)])
    work.chunk([main["Point"](1), main["Point"](9)])
    work.close()
    assert work.run() == 0
    assert work.results(0) == [main["Point"](2), main["Point"](3)]
    assert work.results(1)[0] == main["Point"](2)
    assert type(pickle.loads(work.failure(1, 1).pickled)) is main["Wrong"]


def test_an_exception_comes_back_with_the_traceback_of_the_function_alone(work: Work) -> None:
    def inner(x: int) -> float:
        return 1 / x

    assert single(work, inner, 0) == 0
    failure = work.failure()
    assert isinstance(pickle.loads(failure.pickled), ZeroDivisionError)
    assert (failure.kind, failure.message) == ("ZeroDivisionError", "division by zero")
    assert "in inner" in failure.traceback and "runchunk" not in failure.traceback
    assert "task 0 of f failed:" in work.log() and "ZeroDivisionError" in work.log()


def test_other_items_of_a_chunk_go_on_after_one_that_failed(work: Work) -> None:
    work.call(lambda x: 10 // x)
    work.chunk([1, 0, 2], first=40)
    work.close()
    assert work.run() == 0
    first, second, third = work.results()
    assert (first, third) == (10, 5) and second.kind == "ZeroDivisionError"
    assert "task 41 of f failed:" in work.log()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RecursionError("deep")])
def test_no_exception_ends_the_worker(work: Work, error: BaseException) -> None:
    def throw(_: object) -> None:
        raise error

    assert single(work, throw) == 0
    assert type(pickle.loads(work.failure().pickled)) is type(error)


def test_an_exception_that_cannot_be_loaded_again_comes_as_text(work: Work) -> None:
    class Picky(Exception):
        def __init__(self, code: int, text: str) -> None:
            super().__init__(f"{code}: {text}")

    class Rude(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

        def __reduce__(self) -> Any:
            raise ValueError("no pickle")

    def throw(kind: str) -> None:
        raise Picky(7, "seven") if kind == "picky" else Rude()

    work.call(throw)
    work.chunk(["picky", "rude"])
    work.close()
    assert work.run() == 0
    picky, rude = work.results()
    assert (picky.pickled, picky.message) == (b"", "7: seven") and picky.kind.endswith("Picky")
    assert rude.pickled == b"" and rude.kind.endswith("Rude") and "raise Picky" in picky.traceback


def test_a_result_that_cannot_be_pickled_fails_alone_and_is_named(work: Work) -> None:
    def give(x: int) -> Any:
        import threading

        return threading.Lock() if x == 1 else (lambda: x) if x == 2 else x

    work.call(give)
    work.chunk([0, 1, 2, 3], first=10)
    work.close()
    assert work.run() == 0
    zero, lock, function, three = work.results()
    assert (zero, function(), three) == (0, 2, 3)
    assert isinstance(pickle.loads(lock.pickled), pickle.PicklingError)
    assert "result 11 of f, of type _thread.lock, cannot be pickled" in lock.message


def test_arguments_that_cannot_be_loaded_fail_every_item(work: Work) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return eval, ("__import__('no_such_module')",)

    work.call(lambda x: x)
    work.chunk([1, Trap()])
    work.close()
    assert work.run() == 0
    assert [item.kind for item in work.results()] == ["ModuleNotFoundError"] * 2
    assert "arguments of f cannot be loaded" in work.failure().traceback


def test_a_function_that_cannot_be_imported_fails_every_item(work: Work) -> None:
    work.call(b"cno_such_module\nf\n.", by_value=False)
    work.chunk([1, 2])
    work.close()
    assert work.run() == 0
    assert [item.kind for item in work.results()] == ["ModuleNotFoundError"] * 2


def test_byte_code_of_another_python_is_refused_with_both_versions_named(work: Work) -> None:
    work.call(b"not even looked at", version=(3, 8))
    work.chunk([1, 2])
    work.call(pickle.dumps(abs), version=(3, 8), by_value=False)
    work.chunk([-1])
    work.call(pickle.dumps(abs), format=99, by_value=False)
    work.chunk([-1])
    work.close()
    assert work.run() == 0
    here = ".".join(map(str, sys.version_info[:2]))
    for item in work.results(0):
        assert item.kind == "RuntimeError" and "Python 3.8," in item.message and f"Python is {here}" in item.message
    assert work.results(1) == [1]
    assert "format 99" in work.failure(2).message


def test_a_function_is_imported_as_the_submitter_would(work: Work, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text("def f(x): return 'mine', x\n")
    (tmp_path / "workfiles.py").write_text("from worker import f\n")
    work.call(b"cworkfiles\nf\n.", by_value=False, path=(str(tmp_path),))
    work.chunk([1])
    work.close()
    assert work.run() == 0
    assert work.results() == [("mine", 1)]


def test_functions_see_no_trace_of_the_worker_but_its_variable(work: Work) -> None:
    def look(_: object) -> Any:
        import os
        import sys

        house = os.path.dirname(os.path.dirname(sys.modules["qm"].__file__ or ""))
        return os.environ["QM_WORKER"], sys.stdin.read(), f"{house}/qm/api" in sys.path, sys.path.count(house)

    work.call(look, path=())
    work.chunk([0])
    work.close()
    assert work.run(PYTHONPATH="") == 0
    assert work.results()[0][:3] == ("1", "", False)


def test_what_functions_print_is_in_the_log_and_nowhere_else(work: Work) -> None:
    def shout(x: int) -> int:
        for number in range(20_000):
            print("line", number)
        print("no line end", end="")
        return x

    work.call(shout)
    work.chunk([1])
    work.chunk([2])
    process = work.start()
    until(lambda: work.has(workfiles.out_name(1)))
    assert work.log().count("\n") == 40_000 and work.log().endswith("no line end")
    work.close()
    assert process.wait(PATIENCE) == 0
    assert work.results(0) + work.results(1) == [1, 2]


def test_large_arguments_and_results_are_not_copied_in_memory(work: Work) -> None:
    size = 100 << 20

    def peak(data: bytes) -> Any:
        """The most memory of this process so far, in bytes. (getrusage would count what its parent had, too.)"""
        with open("/proc/self/status") as file:
            (line,) = (line for line in file if line.startswith("VmHWM:"))
        return data, int(line.split()[1]) << 10

    work.call(peak)
    work.chunk([b""])
    work.chunk([bytes(size)])
    work.chunk([b""])
    work.close()
    assert work.run() == 0
    before, with_arguments, with_results = (work.results(number)[0][1] for number in range(3))
    assert len(work.results(1)[0][0]) == size
    assert with_arguments - before < 1.2 * size
    assert with_results - before < 1.2 * size


# --- full disks and wrong arguments ------------------------------------------------------------------------


def test_results_for_which_there_is_no_room_are_an_error_of_their_items(work: Work) -> None:
    work.call(lambda x: bytes(x))
    work.chunk([10, 1 << 20])
    work.chunk([10])
    work.close()
    run = limited(work, 100_000, work.dir)
    assert run.returncode == 1
    for item in work.results(0):
        assert item.kind == "OSError" and isinstance(pickle.loads(item.pickled), OSError)
        assert "the results of f, 0 to 1, could not be written" in item.message
    assert work.results(1) == [bytes(10)]
    assert not [name for name in os.listdir(work.dir) if name.startswith(".")]


def test_where_nothing_can_be_written_a_worker_says_so_and_fails(work: Work) -> None:
    work.call(lambda x: bytes(x))
    work.chunk([1 << 20])
    work.close()
    run = limited(work, 20, work.dir)
    assert run.returncode == 74
    assert "File too large" in run.stderr
    run = limited(work, 0, work.dir)
    assert run.returncode == 74, "not even a claim can be written"
