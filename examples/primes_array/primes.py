"""How many primes are there in the n-th hundred thousand?  primes.py N  says."""

import sys

SLICE = 100_000

n = int(sys.argv[1])
first, end = (n - 1) * SLICE, n * SLICE

is_prime = bytearray([1]) * end
is_prime[:2] = b"\0\0"
for number in range(2, int(end**0.5) + 1):
    if is_prime[number]:
        is_prime[number * number :: number] = bytes(len(range(number * number, end, number)))

print(f"{sum(is_prime[first:])} primes from {first} to {end - 1}")
