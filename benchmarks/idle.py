"""What the daemon costs while nothing happens, with many finished jobs in QM_dJobs.

The jobs are really run first; after a rest of 5 s the CPU time of the daemon and its descendants is read
(schedstat, nanoseconds), a minute is waited, and it is read again.
"""

from __future__ import annotations

import time

from common import Settings, Table, median_and_range
from contestants import QM
from machine import cpu_ms, cpu_times, process_tree, resident_mb

REST = 5.0
PERIOD = 60.0


def measure(settings: Settings) -> Table:
    """Milliseconds of CPU in a minute, and resident MB."""
    jobs = settings.count(2000, 300)
    period = 10.0 if settings.quick else PERIOD
    spent, resident, processes = [], [], []
    for number in range(settings.repeats(1)):
        with QM(settings.folder / "idle" / str(number), settings) as queue:
            queue.drain(jobs)
            time.sleep(REST)
            before = cpu_times(queue.daemon.pid)
            time.sleep(period)
            spent.append(cpu_ms(before, cpu_times(queue.daemon.pid)) * PERIOD / period)
            resident.append(resident_mb(queue.daemon.pid))
            processes.append(float(len(process_tree(queue.daemon.pid))))
    how = "" if period == PERIOD else f" (scaled from {period:.0f} s)"
    return Table(
        f"idle: the daemon with {jobs} finished jobs",
        ("figure", "QM", "target"),
        [
            [f"CPU in 60 s, ms{how}", median_and_range(spent, ".1f"), "15"],
            ["resident, MB", median_and_range(resident, ".1f"), "40"],
            ["processes", median_and_range(processes), "-"],
        ],
    )
