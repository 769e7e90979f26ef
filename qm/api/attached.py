"""A crew from its folder: what it was to do, read from the headers of its calls and chunks.

Invariant: no function and no argument is loaded for that.
"""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

from qm.api import workfiles
from qm.api.crew import Crew, Plan
from qm.api.listener import Listener
from qm.api.outcomes import Told
from qm.api.workfiles import Call, Chunk
from qm.spool.files import exists
from qm.vocabulary.errors import QMError
from qm.vocabulary.record import Job

if TYPE_CHECKING:
    from qm.api.queue import JobQueue


def known_crew(queue: JobQueue, job: Job, listener: Listener) -> Crew:
    """The crew of a job that was submitted before. QMError if it is none."""
    crew = Crew(queue, Plan(job.record.name, 1, {}, None, "", {}, {}), listener, job)
    while (call := _header(f"{crew.folder}/{workfiles.call_name(len(crew.calls))}")) is not None:
        known = Call(*call)
        crew.calls.append(Told(known.name, known.how))
    if not crew.calls:
        raise QMError(f"{job.record.name} ({job.record.id}) was not submitted from Python: there is no call in it")
    for name in sorted(os.listdir(crew.folder)):
        number = workfiles.number_of(name, "")
        header = _header(f"{crew.folder}/{name}") if number is not None else None
        if number is not None and header is not None:
            crew.resolved.update(range(len(crew.chunks), number))  # those went to another crew
            crew.chunks += [Chunk(0, 0, 0)] * (number - len(crew.chunks))
            crew.chunks.append(Chunk(*header))
    for number, chunk in enumerate(crew.chunks):
        if chunk.call >= len(crew.calls) or exists(f"{crew.folder}/{workfiles.cancel_name(chunk.call)}"):
            crew.resolved.add(number)
    crew.is_open = crew.was_open = not exists(f"{crew.folder}/{workfiles.CLOSED}")
    return crew


def _header(path: str) -> Any:
    """The first object in a work file; None when there is no such file."""
    try:
        with open(path, "rb") as file:
            return pickle.load(file)
    except FileNotFoundError:
        return None
    except Exception as err:
        raise QMError(f"{path} is no work file of this version of QM: {err}") from err
