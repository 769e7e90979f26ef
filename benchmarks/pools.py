"""Python calls on two processes: multiprocessing, dask, HyperQueue, submitit and ours, on the same tasks.

Three measures. `pools`: 10,000 calls of a function that does nothing, through each one's map. `submits`: single calls,
each a task of its own, and how long the first result of one job takes through the daemon. `arguments`: how often
1 GB of arguments is in memory. Each turn of each contestant is a process of its own (pooled.py), and turns are
interleaved.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import BenchmarkError, Daemon, Settings, Spool, Table, median_and_range
from pool_peers import BUNDLES, WORKERS, Contestant
from pooled import ALL, installed

HERE = Path(__file__).resolve().parent
TASKS = 10_000
SECONDS = 300.0
"""What one turn of one contestant may take."""
MEMORY = 1_000_000_000
"""Bytes of the one large argument."""

Figures = Mapping[str, Any]


def measure(settings: Settings) -> Table:
    """10,000 calls through map: with the start and the end of the pool, and again on the pool that runs."""
    tasks = settings.count(TASKS, 2000)
    turns = run_turns(settings, "map", {kind.key: tasks for kind in ALL}, settings.repeats(5))
    rows = []
    for kind in present(settings):
        whole = [1e3 * one[kind.key]["whole"] for one in turns]
        warm = [1e3 * statistics.median(one[kind.key]["warm"]) for one in turns]
        rows.append(
            [
                kind.name,
                to_first(turns, kind, lambda one: float(statistics.median(one["warm"]))),
                median_and_range(warm, ".1f"),
                f"{1e3 * tasks / statistics.median(warm):,.0f}",
                to_first(turns, kind, lambda one: float(one["whole"])),
                median_and_range(whole),
            ]
        )
    return Table(
        f"pools: {tasks} calls of a function that does nothing, through map, {WORKERS} workers, {len(turns)} turns",
        (
            "contestant",
            "warm: ratio to the first",
            "warm, ms",
            "warm, calls/s",
            "whole: ratio to the first",
            "whole, ms",
        ),
        rows,
        [
            'targets: launcher="local" at most 2.00 of multiprocessing.Pool; through the daemon 2,000 calls/s',
            f"warm: a map on a pool that runs; whole: start, first map, end. ProcessPoolExecutor: {BUNDLES} chunks too",
            *remarks(settings),
        ],
    )


def submits(settings: Settings) -> Table:
    """Single submits as a rate; and the first result of one through the daemon, less Python's own start."""
    counts = {kind.key: max(1, kind.singles // (10 if settings.quick else 1)) for kind in ALL if kind.singles}
    turns = run_turns(settings, "singles", counts, settings.repeats(3))
    rows = []
    entrants = [kind for kind in present(settings) if kind.key in counts]
    for kind in entrants:
        rates = [counts[kind.key] / one[kind.key]["singles"] for one in turns]
        rows.append([f"{kind.name}, calls/s", f"{median_and_range(rates)}", ""])
    rows += first_results(settings)
    return Table(
        f"submits: single calls, each a task of its own, {WORKERS} workers, {len(turns)} turns",
        ("", "median (range)", "target"),
        rows,
        [
            "one job: Executor.submit through the daemon of an idle queue, until its result is there",
            f"calls/s: {max(counts.values())} calls",
            *(f"{kind.name}: {counts[kind.key]} calls" for kind in entrants if kind.singles < Contestant.singles),
            "HyperQueue, submitit and QM have a process for each call; the others keep theirs",
            *absent(),
        ],
    )


def first_results(settings: Settings) -> list[list[str]]:
    """Rows of how long one job takes."""
    folder = settings.folder / "submits" / "first"
    with daemon(settings, folder) as config:
        figures = run_one("single.py", ["first", "5" if settings.quick else "40"], config, folder)
    bare = figures["pass"]
    rows = [
        [f"one job, {what}, less `python -c pass`, ms", median_and_range(less(figures[key], bare), ".1f"), "60"]
        for key, what in (("importable", "importable function"), ("lambda", "lambda"))
    ]
    rows.append(["`python -c pass`, ms", median_and_range(bare, ".1f"), ""])
    rows.append(["the very first job of a process, its imports included, ms", f"{figures['very first'][0]:.0f}", ""])
    return rows


def arguments(settings: Settings) -> Table:
    """How much more memory the submitter and the worker take at their peaks for one argument of 1 GB."""
    size = MEMORY // (10 if settings.quick else 1)
    folder = settings.folder / "arguments"
    rows = []
    with daemon(settings, folder) as config:
        for kind in ("bytes", "numpy") if importlib.util.find_spec("numpy") else ("bytes",):
            for who, name in (("qm", "QM, through its daemon"), ("futures", "ProcessPoolExecutor")):
                one = run_one("single.py", ["large", who, kind, str(size)], config, folder)
                parts = f"{one['submitter'] / size:.2f}", f"{one['worker'] / size:.2f}", f"{one['seconds']:.1f}"
                rows.append([f"{kind}: {name}", *parts])
    return Table(
        f"arguments: peaks of memory for one argument of {size / 1e9:g} GB, in its sizes",
        ("", "submitter, beside the argument", "worker, the argument included", "seconds"),
        rows,
        ["target: no second copy, so 0.00 and 1.00. Peaks (VmHWM) are those above a small argument's"],
    )


def present(settings: Settings) -> list[type[Contestant]]:
    """Those asked for (all, by default) that this Python can import."""
    return [kind for kind in ALL if installed(kind) and (not settings.only or kind.key in settings.only)]


def remarks(settings: Settings) -> list[str]:
    """What sets each apart, and who is missing."""
    return [*(kind.remark for kind in present(settings) if kind.remark), *absent()]


def absent() -> list[str]:
    return [f"{kind.name} is not installed" for kind in ALL if not installed(kind)]


def run_turns(settings: Settings, what: str, counts: Mapping[str, int], turns: int) -> list[dict[str, Figures]]:
    """All contestants in turns, each turn in a process of its own: figures by the contestant's key."""
    results = []
    for number in range(turns):
        result: dict[str, Figures] = {}
        for kind in present(settings):
            if kind.key not in counts:
                continue
            folder = settings.folder / what / f"{kind.key}{number}"
            folder.mkdir(parents=True)
            given = [kind.key, what, str(counts[kind.key])]
            if kind.key == "qm":
                with daemon(settings, folder) as config:
                    result[kind.key] = run_one("pooled.py", given, config, folder)
            else:
                result[kind.key] = run_one("pooled.py", given, "none", folder)
        results.append(result)
    return results


@contextmanager
def daemon(settings: Settings, folder: Path) -> Iterator[str]:
    """A daemon on a spool of its own; gives the path of its configuration."""
    spool = Spool(folder)
    with Daemon(settings.daemon, spool):
        yield str(spool.config)


def run_one(program: str, given: Sequence[str], config: str, folder: Path) -> Figures:
    """Run one of the programs beside this one to its end, in `folder`; what it measured."""
    result = folder / "figures.json"
    result.unlink(missing_ok=True)
    environment = dict(
        os.environ, PYTHONPATH=os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    environment["TMPDIR"] = str(folder)  # where the private spool of launcher="local" is
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as an installed package has its byte code
    command = [sys.executable, str(HERE / program), *given, config, str(result)]
    with open(folder / "said", "w+b") as said:
        try:
            ended = subprocess.run(
                command,
                check=False,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired as err:
            raise BenchmarkError(f"{program} {' '.join(given)} took more than {SECONDS:g} s") from err
        said.seek(0)
        text = said.read().decode(errors="replace").strip().splitlines()[-5:]
    if ended.returncode or not result.exists():
        raise BenchmarkError(f"{program} {' '.join(given)} ended with {ended.returncode}: " + " | ".join(text))
    figures: Figures = json.loads(result.read_text(encoding="ascii"))
    return figures


def less(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Each value less the other of the same turn."""
    return [value - other for value, other in zip(values, others, strict=True)]


def to_first(turns: Sequence[Mapping[str, Figures]], kind: type[Contestant], figure: Callable[[Figures], float]) -> str:
    """A contestant's ratios to the first of all, turn by turn: their median and range."""
    return median_and_range([figure(one[kind.key]) / figure(next(iter(one.values()))) for one in turns], ".2f")
