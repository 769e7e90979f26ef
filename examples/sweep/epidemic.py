"""An epidemic in a town of 10,000, by chance:  epidemic.py RATE  prints  rate,ill,most at once,days

RATE is how many others a person who is ill infects, on average, while everyone else is well.
"""

import random
import sys

TOWN = 10_000
FIRST = 20  # who bring it in
DAYS_ILL = 5
MEETINGS = 10  # a day

rate = float(sys.argv[1])
chance = rate / (DAYS_ILL * MEETINGS)
dice = random.Random(rate)

well = [False] * FIRST + [True] * (TOWN - FIRST)
fell_ill = [FIRST]  # how many, on each of the last DAYS_ILL days, today first
total, most, day = FIRST, FIRST, 0
while now := sum(fell_ill):
    day += 1
    new = 0
    for _ in range(now * MEETINGS):
        met = dice.randrange(TOWN)
        if well[met] and dice.random() < chance:
            well[met] = False
            new += 1
    fell_ill = [new, *fell_ill][:DAYS_ILL]
    total += new
    most = max(most, sum(fell_ill))

print(f"{rate},{total},{most},{day}")
