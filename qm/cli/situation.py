"""What of the machine is in use and why the waiting jobs wait, for the verbs that show it.

Everything comes from the folders, the configuration and this machine: no daemon is asked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from qm.judgement.reasons import Situation, Waiting, occupied_of, waiting_of, why_waiting
from qm.judgement.room import Need, Occupied
from qm.spool.machine import available_memory, disk_short, limits
from qm.spool.view import JobView, View
from qm.vocabulary.config import Settings
from qm.vocabulary.states import Place


def occupied(active: Sequence[JobView]) -> list[Occupied]:
    """What runs, in the order in which it was started; each running task of an array by itself."""
    found: list[Occupied] = []
    for order, job in enumerate(active):
        if job.record is None:  # a folder of QM 0.4's
            found.append(Occupied(Need(job.nb_proc), order))
        else:
            found += occupied_of(job.record._replace(state=job.state), order)
    return found


def used_processors(active: Sequence[JobView]) -> int:
    """How many processors are in use; a paused job has none."""
    return sum(one.need.processors for one in occupied(active))


def reasons(settings: Settings, view: View, active: Sequence[JobView], waiting: Sequence[JobView]) -> list[str]:
    """Why each of the first waiting jobs waits; `waiting` begins with the one that starts next."""
    jobs = [_waiting(job) for job in waiting]
    if settings.max_gpus is None and not any(job.need.gpus for job in jobs):
        settings = replace(settings, max_gpus=0)  # nobody wants any: the driver need not be asked
    situation = Situation(
        served=view.daemon() is not None,
        draining=view.draining(),
        limits=limits(settings),
        running=tuple(occupied(active)),
        one_at_a_time=settings.launch_type == "blocking",
        disk_short=disk_short(settings.folder, settings.disk_reserve),
        available=available_memory(),
        now=time.time(),
    )
    return why_waiting(situation, jobs)


def with_reasons(settings: Settings, view: View, jobs: Sequence[JobView]) -> list[JobView]:
    """The same jobs; those that wait with the reason why, which depends on all that are in the queue."""
    if all(job.place is not Place.QUEUE for job in jobs):
        return list(jobs)
    waiting = view.waiting()
    why = dict(zip((job.folder for job in waiting), reasons(settings, view, view.active(), waiting), strict=True))
    return [replace(job, reason=why.get(job.folder, job.reason)) if job.place is Place.QUEUE else job for job in jobs]


def _waiting(job: JobView) -> Waiting:
    if job.record is None:
        return Waiting(job.state, name=job.name, reason=job.reason)
    return replace(waiting_of(job.record), state=job.state)
