"""Are processors really limited? A neighbour's speed beside a job that starts more busy processes than it asked for.

Each job asks for one processor of two. The neighbour counts for so many seconds of its own and says how far it came:
alone, beside a greedy job (four busy processes) with `Limit_Processors : affinity`, and with `none`. What the greedy
job used is its CPU time over its run time, from its record.
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
GREEDY = """
import os, sys, time
children = []
for _ in range(3):
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
    """The neighbour's counts, as parts of what it counts alone, in turns."""
    seconds = 1.0 if settings.quick else 4.0
    parts: dict[str, list[float]] = {"affinity": [], "none": []}
    used: dict[str, list[float]] = {"affinity": [], "none": []}
    for number in range(settings.repeats(3)):
        for how in parts:
            alone, _ = _run(settings, f"{how}{number}a", how, seconds, greedy=False)
            beside, processors = _run(settings, f"{how}{number}b", how, seconds, greedy=True)
            parts[how].append(beside / alone)
            used[how].append(processors)
    rows = [
        [f"Limit_Processors : {how}", median_and_range(parts[how], ".2f"), f"{statistics.median(used[how]):.2f}"]
        for how in parts
    ]
    return Table(
        f"processors: a job of one processor for {seconds:g} s beside one that asked for one and starts four",
        ("", "its speed, to that alone", "processors the greedy one used"),
        rows,
        ["target: 1.00 and 1.00 with affinity"],
    )


def _run(settings: Settings, name: str, how: str, seconds: float, greedy: bool) -> tuple[int, float]:
    """How far the neighbour counted, and how many processors the greedy job used (0.0 without one)."""
    spool = Spool(settings.folder / "processors" / name)
    with spool.config.open("a") as config:
        config.write(f"Limit_Processors : {how}\n")
    programs = {}
    for program, text in (("count", COUNT), ("greedy", GREEDY)):
        programs[program] = spool.staging / f"{program}.py"
        programs[program].write_text(text)
    with Daemon(settings.daemon, spool):
        if greedy:
            spool.submit("greedy", f"{sys.executable} {programs['greedy']} {seconds + 1}")
            time.sleep(0.5)  # its four processes are busy by then
        spool.submit("neighbour", f"{sys.executable} {programs['count']} {seconds}")
        spool.wait_finished(1 + greedy)
    count = (spool.done / "neighbour/process.log").read_text().partition("count ")[2].split()[0]
    if not greedy:
        return int(count), 0.0
    record = json.loads((spool.done / "greedy/.qm/job.json").read_text())
    return int(count), record["cpu_seconds"] / (record["finished"] - record["started"])
