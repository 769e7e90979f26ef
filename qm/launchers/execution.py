"""One run of a job, or of one task of its array, as the launcher for this machine knows it."""

from __future__ import annotations

from dataclasses import dataclass

from qm.judgement.verdict import Exit
from qm.launchers.cgroups import Cgroup
from qm.spool.paths import JobPaths
from qm.vocabulary.record import Task


@dataclass(slots=True)
class Execution:
    """How far it is. `start` is the shim's start time when it is not our child; times are monotonic seconds.

    `mem` is its memory limit in bytes; `outputs` the files that it writes to, where somebody wants to know whether
    it still does. `cpu` (seconds) and `peak` (bytes) are what was seen of it so far;
    `largest` is a bound for the peak of each single process, 0 if there is none.
    """

    task: Task
    paths: JobPaths
    pid: int
    ours: bool
    pidfd: int | None = None
    start: float | None = None
    exit: Exit | None = None
    kill_at: float | None = None
    over_at: float = 0.0
    mem: int | None = None
    cgroup: Cgroup | None = None
    outputs: tuple[str, ...] = ()
    cpu: float = 0.0
    memory: int = 0
    peak: int = 0
    largest: int = 0

    @property
    def key(self) -> str:
        return self.task.key
