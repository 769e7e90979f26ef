"""Control groups: where a process stands in the kernel's hierarchies, and what those allow it.

Rules of cgroups(7) and of the kernel's documents cgroup-v1/memory and cgroup-v2. Invariant: only reads; whatever
cannot be read is told as "no such limit", since without control groups there is none.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from typing import NamedTuple


class Names(NamedTuple):
    """What the files of a memory cgroup are called."""

    limit: str
    swap_limit: str
    usage: str
    peak: str
    events: str
    cached: tuple[str, str]


NAMES = {
    1: Names(
        limit="memory.limit_in_bytes",
        swap_limit="memory.memsw.limit_in_bytes",
        usage="memory.usage_in_bytes",
        peak="memory.max_usage_in_bytes",
        events="memory.oom_control",
        cached=("total_inactive_file", "total_active_file"),
    ),
    2: Names(
        limit="memory.max",
        swap_limit="memory.swap.max",
        usage="memory.current",
        peak="memory.peak",
        events="memory.events",
        cached=("inactive_file", "active_file"),
    ),
}
"""By version of the hierarchy."""

UNLIMITED = 1 << 60
"""Bytes: version 1 says nearly 2^63 where there is no limit."""


class Place(NamedTuple):
    """Where a process stands: the hierarchy's version (1 or 2), where it is mounted, and the cgroup's folder there."""

    version: int
    mount: str
    folder: str

    def upwards(self) -> Iterator[str]:
        """The folder, and those around it up to the mount point: each may have a limit."""
        folder = self.folder
        while True:
            yield folder
            if folder == self.mount:
                return
            folder = os.path.dirname(folder)


def place_of(pid: int | None = None, controller: str = "memory", proc: str = "/proc") -> Place | None:
    """Where a process (None: this one) stands in the hierarchy that has this controller; None if there is none.

    A controller is either in a hierarchy of version 1 or in the one of version 2, whose line has no controllers.
    """
    paths: dict[int, str] = {}
    for line in text_of(f"{proc}/{'self' if pid is None else pid}/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            paths[1] = path
        elif number == "0" and not controllers:
            paths[2] = path
    for version, path in sorted(paths.items()):
        found = _mount(version, controller, proc)
        if found is not None:
            return _placed(version, *found, path)
    return None


def _placed(version: int, mount: str, root: str, path: str) -> Place | None:
    """`root` is the part of the hierarchy that is mounted (in a container often the container's own)."""
    inside = path.removeprefix(root.rstrip("/")).strip("/")
    if not f"{path}/".startswith(f"{root.rstrip('/')}/") or ".." in inside.split("/"):
        return None  # beyond what can be seen from here
    return Place(version, mount, f"{mount}/{inside}".rstrip("/"))


@functools.cache  # the hierarchies stay where they are, and a table of mounts may be long
def _mount(version: int, controller: str, proc: str) -> tuple[str, str] | None:
    """Where the hierarchy is mounted, and which part of it (proc(5), /proc/PID/mountinfo)."""
    for line in text_of(f"{proc}/self/mountinfo").splitlines():
        before, _, behind = line.partition(" - ")
        fields, (kind, *_, options) = before.split(" "), behind.split(" ") or [""]
        if kind == "cgroup2" if version == 2 else kind == "cgroup" and controller in options.split(","):
            return _plain(fields[4]), _plain(fields[3])
    return None


def _plain(text: str) -> str:
    """Blanks and the like stand as \\040 in tables of mounts."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def memory_limit(place: Place) -> int | None:
    """Bytes that the processes there may have, by the strictest cgroup around them; None without a limit."""
    return min((limit for _, limit in _limits(place)), default=None)


def memory_left(place: Place) -> int | None:
    """Bytes that they may still take, None without a limit."""
    left = (max(0, limit - memory_used(folder, place.version)) for folder, limit in _limits(place))
    return min(left, default=None)


def _limits(place: Place) -> Iterator[tuple[str, int]]:
    for folder in place.upwards():
        limit = number_in(f"{folder}/{NAMES[place.version].limit}")
        if limit is not None and limit < UNLIMITED:
            yield folder, limit


def memory_used(folder: str, version: int) -> int:
    """Bytes that the cgroup uses; 0 if it is gone. What only keeps files in memory can be had again: not counted."""
    names = NAMES[version]
    usage = number_in(f"{folder}/{names.usage}") or 0
    facts = facts_in(f"{folder}/memory.stat")
    return max(0, usage - sum(facts.get(name, 0) for name in names.cached))


def facts_in(path: str) -> dict[str, int]:
    """A file of lines `name number`; empty if it cannot be read."""
    pairs = (line.split() for line in text_of(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def number_in(path: str) -> int | None:
    """The number in a file; None for `max`, or if it cannot be read."""
    text = text_of(path).strip()
    return int(text) if text.isdigit() else None


def text_of(path: str) -> str:
    """A small file of the kernel; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="surrogateescape")
    except OSError:
        return ""
