"""As in QM 0.4: the script finds its own parameters in the job file, and its library in a zip beside it."""

import configparser
import sys

sys.path.insert(0, "collatz.zip")

from collatz import longest_chain

STEP = 6_000

config = configparser.ConfigParser(interpolation=None)
config.read("proc_config.cfg", encoding="utf-8")
size = config.getint("Proc", "Size")

with open("results.txt", "w", encoding="utf-8") as results:
    best = (1, 1)
    for i in range(1, size + 1):
        best = max(best, longest_chain(range((i - 1) * STEP + 1, i * STEP + 1)))
        length, start = best
        print(f"below {i * STEP:>9,}: {start:>9,} takes {length} steps to 1", file=results)
        print(f"processing  {i} / {size}", flush=True)
