"""How often somebody may try to log in.

After FREE failures in a row for an address or a name each further one costs a wait that doubles, up to a bound: an
address waits up to a quarter of an hour, a name only up to a minute, so that a stranger cannot keep its owner out for
long. A success forgets them.

Invariant: a try counts as a failure from its beginning, so that many at once count as many. Memory is bounded: the
oldest are forgotten first, and addresses are kept apart from names, which a stranger can make up.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable

FREE = 5
LONGEST = {"address": 900.0, "name": 60.0}
MEMORY = 3600.0
MAX_KEPT = 10_000


class Limits:
    """Counts failures. Used by several threads; `now` in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._kept: dict[str, OrderedDict[str, tuple[int, float]]] = {kind: OrderedDict() for kind in LONGEST}

    def begin(self, address: str, name: str) -> float:
        """0, and a try is counted as a failure until `succeeded` says otherwise; or the seconds to wait before it."""
        keys = {"address": network(address), "name": name.casefold()[:64]}
        now = self._now()
        with self._lock:
            wait = max(self._wait(kind, key, now) for kind, key in keys.items())
            if wait <= 0:
                for kind, key in keys.items():
                    self._count(kind, key, now)
            return max(0.0, wait)

    def undone(self, address: str, name: str) -> None:
        """The try that was begun did not take place."""
        with self._lock:
            for kind, key in (("address", network(address)), ("name", name.casefold()[:64])):
                failures, last = self._kept[kind].get(key, (0, 0.0))
                if failures:
                    self._kept[kind][key] = (failures - 1, last)

    def succeeded(self, address: str, name: str) -> None:
        """Forget the failures of this address and name."""
        with self._lock:
            self._kept["address"].pop(network(address), None)
            self._kept["name"].pop(name.casefold()[:64], None)

    def _wait(self, kind: str, key: str, now: float) -> float:
        failures, last = self._kept[kind].get(key, (0, 0.0))
        if failures < FREE or now - last > MEMORY:
            return 0.0
        return last + min(2.0 ** min(failures - FREE + 1, 20), LONGEST[kind]) - now

    def _count(self, kind: str, key: str, now: float) -> None:
        kept = self._kept[kind]
        failures, last = kept.pop(key, (0, 0.0))
        kept[key] = (failures + 1 if now - last <= MEMORY else 1, now)
        while len(kept) > MAX_KEPT:
            kept.popitem(last=False)


def network(address: str) -> str:
    """The address; of IPv6 the /64 that one machine usually has to itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed.packed[:8] + bytes(8), 64)))
    return str(parsed)
