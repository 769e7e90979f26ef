"""The tasks that `pools` gives to everybody: importable, and next to nothing to do."""

from __future__ import annotations

from collections.abc import Sequence


def noop(number: int) -> None:
    """No work at all."""


def bundle(numbers: Sequence[int]) -> list[None]:
    """Many of them, for contestants that have no bundles of their own."""
    return [noop(number) for number in numbers]


def peak_kib() -> int:
    """The most memory this process ever had resident, in KiB (VmHWM)."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def peak_with(data: object) -> int:
    """The worker's peak after it has received `data`."""
    return peak_kib()
