"""How many prime numbers are there? A job that divides its work among children, after an example of core4's.

The folder as it is, in a queue:      cp -r primes_job QM_qJobs
Up to five million, in 20 children:   python3 primes.py 5000000 250000    (wants a queue with a daemon)
Without a queue:                      python3 primes.py
"""

import sys

import qm

KNOWN = {500_000: 41_538, 5_000_000: 348_513}
"""How many there are up to these numbers: what comes out is checked."""


class PrimeJob(qm.Job):
    """Counts the primes from `start` to `end`. With `chunksize` it lets children do so, each for as many numbers."""

    max_parallel = 5  # of all jobs of this class; one that is deferred does not count
    defer_time = 2
    defer_max = "1d"

    def execute(self, start=1, end=500_000, chunksize=None):
        if chunksize is None:
            return self.count(start, end)
        if self.trial == 1:
            for first in range(start, end + 1, chunksize):
                self.enqueue(PrimeJob, start=first, end=min(first + chunksize - 1, end))
            self.defer("the children are queued")
        waiting = self.children("active")
        if waiting:
            self.defer(f"{len(waiting)} children have not ended")
        total = sum(child.result() for child in self.children())
        if start <= 2 and total != KNOWN.get(end, total):
            raise ValueError(f"{total} primes up to {end}, but there are {KNOWN[end]}")
        self.logger.info("%d primes from %d to %d", total, start, end)
        return total

    def count(self, start, end):
        """By trial division: slow, so that there is something to share."""
        found = 1 if start <= 2 <= end else 0
        for number in range(max(start | 1, 3), end + 1, 2):
            if number % 10_000 == 1:
                self.progress((number - start) / (end - start), f"{found} primes")
            for divisor in range(3, int(number**0.5) + 1, 2):
                if number % divisor == 0:
                    break
            else:
                found += 1
        return found


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    end = numbers[0] if numbers else 500_000
    if len(numbers) > 1:
        total = qm.enqueue(PrimeJob, end=end, chunksize=numbers[1]).result()
    else:
        total = qm.execute(PrimeJob, end=end)
    print(f"{total} primes up to {end}")
