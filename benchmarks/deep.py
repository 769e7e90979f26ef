"""A deep queue: does it cost anything to have 20,000 jobs waiting?

Two blocker jobs occupy both processors while the folders are submitted and accepted (each has its record),
so that submission does not mix with draining; then a FIFO lets them go. The rate is read afterwards from the
change times of the folders in QM_dJobs, from the first one filed to the N-th: watching costs nothing. N more
than 20,000 are submitted, so that 20,000 still wait after the first N, and when the daemon is started again.
N alone are drained before and after, as a machine's speed drifts; the ratio is to the mean of the two.

The restart counts from the exec of the daemon (SIGTERM came before) to the moment when the first job that it
starts itself is filed in QM_dJobs: some milliseconds more than to that job's start.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from common import Beacon, Daemon, Settings, Spool, Table, change_times, median_and_range, wait_until
from machine import resident_mb

PROCESSORS = 2
DEPTH = 10  # how many times deeper the deep queue is


@dataclass(frozen=True, slots=True)
class Run:
    """One queue's figures: jobs/s of the first N, s until all were accepted, MB with all waiting."""

    rate: float
    acceptance: float
    resident: float


class Blockers:
    """Jobs that occupy both processors until `release`; they end, too, when the driver does."""

    def __init__(self, folder: Path, spool: Spool) -> None:
        gate = folder / "gate"
        os.mkfifo(gate)
        self._gate = os.open(gate, os.O_RDWR)  # once this is closed, a reader comes to the end
        self._beacon = Beacon(folder / "beacon")
        for number in range(PROCESSORS):
            spool.submit(f"blocker{number}", f"{self._beacon.script}; read line <{gate}")

    def __enter__(self) -> Blockers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._gate)
        self._beacon.close()

    def wait(self) -> None:
        """Wait until all of them run."""
        for _ in range(PROCESSORS):
            self._beacon.wait()

    def release(self) -> None:
        """Let them end, with exit status 0: a line for each (a shell reads no further than its own)."""
        os.write(self._gate, b"\n" * PROCESSORS)


def measure(settings: Settings) -> Table:
    """The rate with few and with many waiting, memory, and the time of a restart."""
    jobs = settings.count(2000, 300)
    depth = DEPTH * jobs
    shallow, deep, restarts, restarted = [], [], [], []
    for number in range(settings.repeats(1)):
        folder = settings.folder / "deep" / str(number)
        many = Spool(folder / "deep")
        shallow.append(alone(settings, folder / "before", jobs))
        with Daemon(settings.daemon, many) as daemon:
            deep.append(drain_first(many, daemon, jobs, jobs + depth))
            daemon.stop()
            restarts.append(restart(many, daemon))
            restarted.append(resident_mb(daemon.pid))
        shallow.append(alone(settings, folder / "after", jobs))
    pairs = zip(shallow[::2], deep, shallow[1::2], strict=True)
    ratio = statistics.median(2 * run.rate / (before + after) for before, run, after in pairs)
    return Table(
        f"deep: the first {jobs} jobs drained with {depth} more waiting, against {jobs} alone",
        ("figure", "QM", "target"),
        [
            [f"jobs/s, {jobs} waiting", median_and_range(shallow), "-"],
            [f"jobs/s, {jobs + depth} waiting", median_and_range([run.rate for run in deep]), "-"],
            ["ratio", f"{ratio:.2f}", "0.80"],
            [
                f"{jobs + depth} submitted and accepted, s",
                median_and_range([run.acceptance for run in deep], ".1f"),
                "-",
            ],
            [
                f"resident with {jobs + depth} waiting, MB",
                median_and_range([run.resident for run in deep], ".1f"),
                "150",
            ],
            [f"restart with {depth} waiting, s to the first job", median_and_range(restarts, ".2f"), "5"],
            ["resident after it, MB", median_and_range(restarted, ".1f"), "-"],
        ],
    )


def alone(settings: Settings, folder: Path, jobs: int) -> float:
    """Jobs a second where no more than `jobs` wait at all."""
    spool = Spool(folder)
    with Daemon(settings.daemon, spool) as daemon:
        return drain_first(spool, daemon, jobs, jobs).rate


def drain_first(spool: Spool, daemon: Daemon, jobs: int, waiting: int) -> Run:
    """Have `waiting` jobs wait, then let the queue go until the first `jobs` of them are done."""
    with Blockers(spool.staging.parent, spool) as blockers:
        blockers.wait()
        begun = time.monotonic()
        names = [f"job{number:06}" for number in range(waiting)]
        for name in names:
            spool.submit(name)
        wait_accepted(spool, names)
        acceptance = time.monotonic() - begun
        resident = resident_mb(daemon.pid)
        blockers.release()
        spool.wait_finished(PROCESSORS + jobs)
    filed = sorted(time for name, time in change_times(spool.done).items() if name.startswith("job"))[:jobs]
    return Run((jobs - 1) / (filed[-1] - filed[0]), acceptance, resident)


def wait_accepted(spool: Spool, names: Collection[str]) -> None:
    """Wait until each of the jobs has its record; one that has been seen is not looked at again."""
    left = set(names)

    def accepted() -> bool:
        left.difference_update([name for name in left if (spool.waiting / name / ".qm" / "job.json").exists()])
        return not left

    wait_until(accepted, f"{len(names)} jobs were accepted (had a record)", 300, every=0.25)


def restart(spool: Spool, daemon: Daemon) -> float:
    """Start the stopped daemon again; seconds until the first job of its own is filed."""
    before = set(os.listdir(spool.done)) | set(os.listdir(spool.running))  # what runs was started before
    begun = time.time()
    daemon.start(ready=False)
    spool.wait_finished(len(before) + 1, 120)
    return min(time for name, time in change_times(spool.done).items() if name not in before) - begun
