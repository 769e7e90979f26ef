"""One process that submits single calls: how long the first result takes, and how often a large argument is in memory.

`python single.py first ROUNDS CONFIG RESULT` or `python single.py large QM KIND SIZE CONFIG RESULT`: figures as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

from noop import noop, peak_kib, peak_with

REST = 0.05
"""Seconds before each job: the queue has finished with the one before it."""


def first_results(config: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds: of `python -c pass`, and of single jobs until their result is there, in turns."""
    import qm

    figures: dict[str, list[float]] = {"pass": [], "importable": [], "lambda": []}
    begun = time.perf_counter()
    with qm.Executor(launcher="spool", config=config) as executor:
        executor.submit(noop, 0).result()
        figures["very first"] = [1e3 * (time.perf_counter() - begun)]
        executor.submit(lambda number: None, 0).result()  # whatever is imported for lambdas is there now
        for number in range(rounds):
            figures["pass"].append(milliseconds(bare_python))
            figures["importable"].append(milliseconds(lambda: executor.submit(noop, number).result()))  # noqa: B023
            figures["lambda"].append(milliseconds(lambda: executor.submit(lambda one: None, number).result()))  # noqa: B023
    return figures


def milliseconds(call: Callable[[], object]) -> float:
    time.sleep(REST)
    begun = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - begun)


def bare_python() -> None:
    """Python's own start and end, in the cheapest way to have it."""
    os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], os.environ), 0)


def large(config: str, who: str, kind: str, size: int) -> dict[str, float]:
    """Bytes of the peaks above those before: of the submitter that has the argument, of the worker that had none."""
    with executor_of(who, config) as executor:
        small = executor.submit(peak_with, argument(kind, 1)).result()
        data = argument(kind, size)
        before = peak_kib()
        begun = time.perf_counter()
        worker = executor.submit(peak_with, data).result()
        seconds = time.perf_counter() - begun
        return {"submitter": 1024 * (peak_kib() - before), "worker": 1024 * (worker - small), "seconds": seconds}


def executor_of(who: str, config: str) -> Executor:
    if who == "futures":
        return ProcessPoolExecutor(1)
    import qm

    return qm.Executor(launcher="spool", config=config)


def argument(kind: str, size: int) -> Any:
    """So many bytes that are really in memory."""
    if kind == "bytes":
        return b"\1" * size
    import numpy

    return numpy.ones(size, numpy.uint8)


def main() -> int:
    what, *given, config, result = sys.argv[1:]
    figures = (
        first_results(config, int(given[0])) if what == "first" else large(config, given[0], given[1], int(given[2]))
    )
    with open(result, "w", encoding="ascii") as file:
        json.dump(figures, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
