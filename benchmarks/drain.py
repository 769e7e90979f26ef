"""How many jobs a second: many submitted one after another, and drained meanwhile, two at a time.

The clock starts before the first job is made and stops when the last has ended: for QM, when its folder is
in QM_dJobs; for a peer, when its own waiting command returns. For QM the making of the folders (in a staging
folder on the same file system) and their renames are included, for a peer one run of its submitting command
for each job. A daemon or server is started before the clock.
"""

from __future__ import annotations

import statistics
import time

from common import Settings, Table, median_and_range
from contestants import QM
from peers import TaskSpooler, chosen


def measure(settings: Settings) -> Table:
    """Jobs a second for each contestant, and against task-spooler in the same repeat; repeats take turns."""
    repeats = settings.repeats(3)
    jobs = settings.count(2000, 300)
    kinds = chosen(settings)
    rates: dict[str, list[float]] = {kind.key: [] for kind in kinds}
    for number in range(repeats):
        for kind in kinds:
            with kind(settings.folder / "drain" / f"{kind.key}{number}", settings) as contestant:
                begun = time.perf_counter()
                contestant.drain(jobs)
                rates[kind.key].append(jobs / (time.perf_counter() - begun))
    base = rates.get(TaskSpooler.key)
    rows = []
    for kind in kinds:
        ratio = "-"
        if base:
            ratio = f"{statistics.median(a / b for a, b in zip(rates[kind.key], base, strict=True)):.2f}"
        rows.append([kind.name, median_and_range(rates[kind.key]), ratio])
    notes = ["target for QM: 700 jobs/s, and 1.1 times task-spooler in the same run"]
    if base and QM.key in rates:
        pairs = " ".join(f"{a / b:.2f}" for a, b in zip(rates[QM.key], base, strict=True))
        notes.append(f"QM / task-spooler, repeat by repeat: {pairs}")
    notes += [kind.remark for kind in kinds if kind.remark]
    return Table(
        f"drain: {jobs} jobs of /bin/true submitted and drained, two at a time, {repeats} repeat(s)",
        ("contestant", "jobs/s", "to task-spooler"),
        rows,
        notes,
    )
