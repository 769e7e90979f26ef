"""Why does a job wait? One sentence for whoever looks at the queue.

Invariant: this only explains what the waiting line and the reception decide; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qm.vocabulary.states import State


@dataclass(frozen=True, slots=True)
class Situation:
    """What holds for the whole queue. `limit` is MaxNbProcessors, `used` what the running jobs have of it."""

    served: bool
    draining: bool
    limit: int
    used: int
    one_at_a_time: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in QM_qJobs: what the reasons depend on. `reason` is what its record says already."""

    state: State
    nb_proc: int
    reason: str = ""


def why_waiting(situation: Situation, jobs: Iterable[Waiting]) -> list[str]:
    """A reason for each of the waiting jobs, which stand in the order in which they will start."""
    reasons = []
    ahead = 0
    for job in jobs:
        reasons.append(_reason(situation, job, ahead))
        ahead += job.state is State.PENDING
    return reasons


def _reason(situation: Situation, job: Waiting, ahead: int) -> str:
    if job.state is State.HELD:
        return job.reason or "held, until it is released"
    if not situation.served:
        return "QueueManager is not running"
    if job.state is State.ARRIVING:
        return job.reason or "is being copied in"
    if job.state is State.DEFERRED:
        return job.reason or "waits for its next run"
    if situation.draining:
        return "draining: no job is started"
    if situation.one_at_a_time and situation.used:
        return "one job at a time: another one runs"
    free = max(0, situation.limit - situation.used)
    wanted = min(job.nb_proc, situation.limit)
    if ahead == 0:
        return f"needs {wanted}, {free} of {situation.limit} processors free" if wanted > free else "starts next"
    return f"{ahead} job{'s' if ahead > 1 else ''} before it"
