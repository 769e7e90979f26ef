"""The tasks of an array, as the key `array` has them: `0-99`, `1-9:2`, `1,5,7`, `0-99%4`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """The numbers of the tasks, as ranges in the order given, and how many may run at a time (None: as many as fit)."""

    ranges: tuple[range, ...]
    at_a_time: int | None = None

    def __iter__(self) -> Iterator[int]:
        """The numbers, each once."""
        if len(self.ranges) == 1:
            return iter(self.ranges[0])
        return iter(dict.fromkeys(number for part in self.ranges for number in part))

    def __len__(self) -> int:
        return len(self.ranges[0]) if len(self.ranges) == 1 else sum(1 for _ in self)


def read_array(text: str) -> ArraySpec:
    """The tasks that a value of the key `array` means; the text is one that qm.vocabulary.values.array has passed."""
    numbers, _, limit = text.partition("%")
    ranges = []
    for part in numbers.split(","):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        ranges.append(range(int(first), int(last or first) + 1, int(step or 1)))
    return ArraySpec(tuple(ranges), int(limit) if limit else None)
