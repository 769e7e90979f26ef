"""Who waits for a moment, and when that is.

Invariant: a clock that is set anew neither wakes nor delays what waits for a time to pass: that is counted on a clock
that cannot be set, and goes on while the machine is asleep. Only what waits for a moment by the clock follows it.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable

from qm.launchers.finding import since_boot


class Sleepers:
    """`wall` gives UTC epoch seconds, `passing` seconds on a clock that nobody can set."""

    def __init__(self, wall: Callable[[], float] = time.time, passing: Callable[[], float] = since_boot) -> None:
        self._wall = wall
        self._passing = passing
        self._by_key: dict[str, tuple[float, str]] = {}
        self._for_moments: list[tuple[float, str]] = []
        self._for_times: list[tuple[float, str]] = []

    def sleep(self, key: str, until: float, longest: float | None) -> None:
        """Wait until a moment (epoch), or with `longest` for a time to pass: no more than so many seconds."""
        if longest is None:
            place = (until, key)
            heapq.heappush(self._for_moments, place)
        else:
            place = (self._passing() + min(max(0.0, until - self._wall()), longest), key)
            heapq.heappush(self._for_times, place)
        self._by_key[key] = place

    def wake(self, key: str) -> None:
        """It waits no more; unknown keys are no error."""
        self._by_key.pop(key, None)

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def due(self, most: int = 1_000_000) -> list[str]:
        """Those whose moment has come, `most` at a time; they wait no more."""
        found: list[str] = []
        for heap, now in ((self._for_moments, self._wall()), (self._for_times, self._passing())):
            while heap and len(found) < most and (heap[0][0] <= now or self._by_key.get(heap[0][1]) is not heap[0]):
                place = heapq.heappop(heap)
                if self._by_key.get(place[1]) is place:
                    del self._by_key[place[1]]
                    found.append(place[1])
        return found

    def rest(self) -> float | None:
        """Seconds until somebody is due; None when nobody waits."""
        heaps = ((self._for_moments, self._wall), (self._for_times, self._passing))
        return min((max(0.0, heap[0][0] - clock()) for heap, clock in heaps if heap), default=None)
