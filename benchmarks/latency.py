"""From handing over a job to the first instruction of its script, on an idle queue.

For QM the clock starts just before the rename of a complete folder into QM_qJobs; for a peer, just before
the exec of the command that submits. It stops when the driver has read the line that the script's shell
writes to a FIFO as its first instruction. So both include the start of that shell (/bin/sh) and one wake-up
of the driver. Before the next job the queue has done everything it does for the last one, and rested 10 ms.
"""

from __future__ import annotations

import time

from common import Beacon, Settings, Table, percentile
from contestants import Contestant
from peers import chosen

REST = 0.01
WARM_UP = 5


def measure(settings: Settings) -> Table:
    """Milliseconds for each contestant, over all its rounds; the rounds of all take turns."""
    rounds = settings.repeats(3)
    jobs = max(1, settings.count(300, 50) // rounds)
    folder = settings.folder / "latency"
    folder.mkdir()
    beacon = Beacon(folder / "beacon")
    kinds = chosen(settings)
    seconds: dict[str, list[float]] = {kind.key: [] for kind in kinds}
    try:
        for number in range(rounds):
            for kind in kinds:
                with kind(folder / f"{kind.key}{number}", settings) as contestant:
                    seconds[kind.key] += [one(contestant, beacon) for _ in range(WARM_UP + jobs)][WARM_UP:]
    finally:
        beacon.close()
    rows = [
        [
            kind.name,
            f"{1e3 * percentile(seconds[kind.key], 50):.2f}",
            f"{1e3 * percentile(seconds[kind.key], 99):.2f}",
            f"{1e3 * max(seconds[kind.key]):.2f}",
        ]
        for kind in kinds
    ]
    return Table(
        f"latency: {rounds * jobs} single jobs each, from hand-over to the script's first instruction, in ms",
        ("contestant", "median", "p99", "longest"),
        rows,
        ("target for QM: median 2.5, p99 10",),
    )


def one(contestant: Contestant, beacon: Beacon) -> float:
    """One job on an idle queue; seconds from hand-over to its first instruction."""
    contestant.prepare(beacon.script)
    begun = time.perf_counter()
    contestant.submit()
    beacon.wait()
    seconds = time.perf_counter() - begun
    contestant.settle()
    time.sleep(REST)
    return seconds
