"""Are processors really limited? A neighbour's speed beside a job that starts more busy processes than it asked for.

Each job asks for one processor of two. The neighbour counts for so many seconds and says how far it came: beside an
honest job (one busy process) and beside a greedy one (four), with `Limit_Processors : affinity` and with `none`. Beside
an honest one, and not alone, since two processors may be two threads of one core, which is slower when both are busy.
What the greedy job used is its CPU time over its run time, from its record.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

from common import Daemon, Settings, Spool, Table, median_and_range

COUNT = """
import sys, time
end, count = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    count += 1
print("count", count, flush=True)
"""
BUSY = """
import os, sys, time
children = []
for _ in range(int(sys.argv[2]) - 1):
    pid = os.fork()
    if not pid:
        children = None
        break
    children.append(pid)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    pass
for pid in children or ():
    os.waitpid(pid, 0)
"""


def measure(settings: Settings) -> Table:
    """The neighbour's counts beside a greedy job, as parts of those beside an honest one, in turns."""
    seconds = 1.0 if settings.quick else 4.0
    parts: dict[str, list[float]] = {"affinity": [], "none": []}
    used: dict[str, list[float]] = {"affinity": [], "none": []}
    for number in range(settings.repeats(3)):
        for how in parts:
            honest, _ = _run(settings, f"{how}{number}a", how, seconds, processes=1)
            greedy, processors = _run(settings, f"{how}{number}b", how, seconds, processes=4)
            parts[how].append(greedy / honest)
            used[how].append(processors)
    rows = [
        [f"Limit_Processors : {how}", median_and_range(parts[how], ".2f"), f"{statistics.median(used[how]):.2f}"]
        for how in parts
    ]
    return Table(
        f"processors: a job of one processor for {seconds:g} s beside one that asked for one and starts four",
        ("", "its speed, to that beside an honest one", "processors the greedy one used"),
        rows,
        ["target: 1.00 and 1.00 with affinity"],
    )


def _run(settings: Settings, name: str, how: str, seconds: float, processes: int) -> tuple[int, float]:
    """How far the neighbour counted, and how many processors the other job used."""
    spool = Spool(settings.folder / "processors" / name)
    with spool.config.open("a") as config:
        config.write(f"Limit_Processors : {how}\n")
    programs = {}
    for program, text in (("count", COUNT), ("busy", BUSY)):
        programs[program] = spool.staging / f"{program}.py"
        programs[program].write_text(text)
    with Daemon(settings.daemon, spool):
        spool.submit("busy", f"{sys.executable} {programs['busy']} {seconds + 1} {processes}")
        time.sleep(0.5)  # its processes are at work by then
        spool.submit("neighbour", f"{sys.executable} {programs['count']} {seconds}")
        spool.wait_finished(2)
    count = (spool.done / "neighbour/process.log").read_text().partition("count ")[2].split()[0]
    record = json.loads((spool.done / "busy/.qm/job.json").read_text())
    return int(count), record["cpu_seconds"] / (record["finished"] - record["started"])
