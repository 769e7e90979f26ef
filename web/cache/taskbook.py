"""The tasks of arrays as pages show them, kept from one look to the next.

Invariant: however many people look at however large an array, reading its file takes at most a small part of the
time: a file that took long to read is read again later.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from qm.spool import tasks
from qm.spool.paths import JobPaths
from qm.spool.tasks import TaskEntry
from qm.vocabulary.arrays import ArraySpec

KEPT = 4
"""Arrays that are kept."""
SHARE = 10
"""A file that took long to read is read again after so many times as long."""
QUICK = 0.02
"""Seconds; what takes no longer is read whenever it has changed."""

Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """The tasks of one array: `entries` has those that began, `values` those of a sweep, in the order of `names`.

    `version` is another number when the entries are others: it stands for all of them in an ETag.
    """

    spec: ArraySpec
    version: int
    entries: Mapping[int, TaskEntry] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    values: Mapping[int, tuple[str, ...]] = field(repr=False)

    def values_text(self, task: int) -> str:
        """`slice=7, b=x`; empty for an array that is no sweep."""
        return ", ".join(f"{name}={value}" for name, value in zip(self.names, self.values.get(task, ()), strict=False))


@dataclass(slots=True)
class _Kept:
    """One array, the stamps of its files when they were read, and when it may be read again (by the clock)."""

    stamps: tuple[Stamp, Stamp]
    again: float
    array: Array


class TaskBook:
    """Reads tasks.jsonl and sweep.csv. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._versions = 0

    def of(self, key: str, paths: JobPaths, spec: ArraySpec) -> Array:
        """The tasks of the job with this key, whose folder is there now."""
        stamps = (_stamp(paths.tasks), _stamp(f"{paths.dir}/{tasks.SWEEP_TABLE}"))
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or kept.array.spec != spec or (kept.stamps != stamps and self._clock() >= kept.again):
                kept = self._kept[key] = self._read(paths, spec, stamps)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return kept.array

    def _read(self, paths: JobPaths, spec: ArraySpec, stamps: tuple[Stamp, Stamp]) -> _Kept:
        begun = self._clock()
        entries = tasks.read(paths.tasks)
        names, values = tasks.read_values(paths.dir)
        self._versions += 1
        took = self._clock() - begun
        again = begun + took + SHARE * took if took > QUICK else begun
        return _Kept(stamps, again, Array(spec, self._versions, entries, names, values))


def _stamp(path: str) -> Stamp:
    """What is another one when a file was written; () when there is none. It stays when the folder moves."""
    try:
        facts = os.lstat(path)
    except OSError:
        return ()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns
