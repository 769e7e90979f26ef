"""Divide and conquer with job classes: examples/primes_job with one processor and with two, and the same without QM.

The same numbers are counted by a plain loop in one process, and by two processes of multiprocessing: what two
processors of this machine can do at all, since they may be two threads of one core. All four in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import BenchmarkError, Daemon, Settings, Spool, Table, median_and_range

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "primes_job"
END, CHUNK = 5_000_000, 250_000
"""Up to where primes are counted, and how many numbers each child has."""
SECONDS = 600.0

COMMON = """
import json, sys, time
from primes import PrimeJob
end, chunk = map(int, sys.argv[1:])
begun = time.perf_counter()
"""
QUEUED = """
import qm
found = qm.enqueue(PrimeJob, end=end, chunksize=chunk).result()
"""
ALONE = """
found = sum(PrimeJob().count(first, min(first + chunk - 1, end)) for first in range(1, end + 1, chunk))
"""
TWO = """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    parts = [(first, min(first + chunk - 1, end)) for first in range(1, end + 1, chunk)]
    found = sum(pool.starmap(PrimeJob().count, parts, chunksize=1))
"""
SAY = """
print(json.dumps([time.perf_counter() - begun, found]))
"""


def measure(settings: Settings) -> Table:
    """Seconds with one and two processors, turn by turn, with QM and without."""
    end, chunk = (END // 10, CHUNK // 5) if settings.quick else (END, CHUNK)
    seconds: dict[str, list[float]] = {"plain 1": [], "plain 2": [], "qm 1": [], "qm 2": []}
    found = set()
    for number in range(settings.repeats(3)):
        for how, kept in seconds.items():
            took, primes = run(settings, f"{how.replace(' ', '-')}-{number}", how, (str(end), str(chunk)))
            kept.append(took)
            found.add(primes)
    if len(found) != 1:
        raise BenchmarkError(f"not everybody found as many primes: {found}")
    rows = [
        row(name, seconds[f"{key} 1"], seconds[f"{key} 2"]) for name, key in (("QM", "qm"), ("without QM", "plain"))
    ]
    of_possible = [(qm1 / qm2) / (plain1 / plain2) for plain1, plain2, qm1, qm2 in zip(*seconds.values(), strict=True)]
    return Table(
        f"primes: {found.pop()} primes below {end} by job classes, in {len(range(0, end, chunk))} children",
        ("", "one processor, s", "two, s", "one / two", "efficiency"),
        rows,
        [
            "target: one / two is 2.00, or what two processes reach without QM; of that QM has "
            + median_and_range(of_possible, ".2f"),
            "QM: MaxNbProcessors 1 and 2; children start an interpreter each, the parent asks every two seconds",
            "without QM: a loop in one process; multiprocessing.Pool(2), one of the same parts after the other",
        ],
    )


def row(name: str, one: Sequence[float], two: Sequence[float]) -> list[str]:
    ratios = [first / second for first, second in zip(one, two, strict=True)]
    return [
        name,
        median_and_range(one, ".1f"),
        median_and_range(two, ".1f"),
        median_and_range(ratios, ".2f"),
        f"{statistics.median(ratios) / 2:.2f}",
    ]


def run(settings: Settings, name: str, how: str, given: Sequence[str]) -> tuple[float, int]:
    """One turn: how many seconds it took, and how many primes there are."""
    if how.startswith("plain"):
        return program(COMMON + (ALONE if how == "plain 1" else TWO) + SAY, given, {})
    spool = Spool(settings.folder / "primes" / name)
    text = spool.config.read_text(encoding="utf-8")
    spool.config.write_text(text.replace("MaxNbProcessors : 2", f"MaxNbProcessors : {how[-1]}"), encoding="utf-8")
    with Daemon(settings.daemon, spool):
        return program(COMMON + QUEUED + SAY, given, {"QM_CONFIG": str(spool.config)})


def program(code: str, given: Sequence[str], variables: Mapping[str, str]) -> tuple[float, int]:
    """Run it in the example's folder, where its module is."""
    environment = {**os.environ, **variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as an installed package has its byte code
    command = [sys.executable, "-c", code, *given]
    try:
        said = subprocess.run(
            command, check=True, cwd=EXAMPLE, env=environment, stdout=subprocess.PIPE, timeout=SECONDS
        ).stdout
    except subprocess.SubprocessError as err:
        raise BenchmarkError(f"counting primes failed: {err}") from err
    took, primes = json.loads(said)
    return took, primes
