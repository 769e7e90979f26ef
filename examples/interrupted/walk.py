"""A random walk in the plane that keeps what it has in a file, so that another attempt goes on where one broke off."""

import json
import os
import random
import sys

STEPS, ROUND = 400_000, 20_000
CHECKPOINT = "checkpoint.json"

done, x, y, farthest = 0, 0, 0, 0
if os.path.exists(CHECKPOINT):
    with open(CHECKPOINT) as file:
        done, x, y, farthest = json.load(file)
    print(f"going on after step {done}")

while done < STEPS:
    dice = random.Random(done)  # whoever goes on throws what the first would have thrown
    for _ in range(ROUND):
        dx, dy = dice.choice(((1, 0), (-1, 0), (0, 1), (0, -1)))
        x, y = x + dx, y + dy
        farthest = max(farthest, x * x + y * y)
    done += ROUND
    with open(CHECKPOINT + ".new", "w") as file:  # whole or not at all: written under another name, then renamed
        json.dump([done, x, y, farthest], file)
    os.replace(CHECKPOINT + ".new", CHECKPOINT)
    print(f"step {done} / {STEPS}", flush=True)
    if done == STEPS // 2 and os.environ.get("QM_ATTEMPT") == "1":
        sys.exit("something went wrong: the first attempt ends here")

os.remove(CHECKPOINT)
with open("results.txt", "w") as file:
    print(f"{STEPS} steps ended at ({x}, {y}); the farthest place was {farthest**0.5:.1f} away", file=file)
