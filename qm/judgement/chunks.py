"""Which items of a map go together into one chunk, so that a worker takes many at a time.

Invariant: chunks follow one another without a gap, all but the last have the same length, and none is empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import index

CHUNKS_PER_WORKER = 4
"""Of an automatic size, as in CPython's multiprocessing: few enough to be cheap, enough to even out slow items."""


def chunk_size(items: int, workers: int) -> int:
    """The automatic size: a quarter of a worker's share, rounded up, never less than 1."""
    return max(1, -(-items // (CHUNKS_PER_WORKER * max(1, workers))))


def size_for(items: int, chunks: int) -> int:
    """The size that makes at most `chunks` of them, as queue_map_reduce's `num_chunks` asks."""
    return max(1, -(-items // chunks))


def count(name: str, value: object) -> int:
    """The value of an argument that counts something. TypeError where it is no int, ValueError below 1."""
    try:
        number = index(value)  # type: ignore[arg-type]  # (that is what it finds out)
    except TypeError as err:
        raise TypeError(f"{name} is {value!r}; it must be an int") from err
    if number < 1:
        raise ValueError(f"{name} is {number}; it must be at least 1")
    return number


def ranges(items: int, size: int) -> Iterator[range]:
    """The indices of each chunk's items."""
    return (range(first, min(first + size, items)) for first in range(0, items, size))
