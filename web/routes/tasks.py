"""The tasks of an array as a CSV file, and as JSON.

Invariant: an array of a million tasks is answered in bounded pieces: CSV line by line, JSON page by page.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import bottle

from qm.spool import tasks
from qm.spool.tasks import TaskEntry
from qm.spool.view import array_of as array_spec
from qm.vocabulary.states import Place, State
from qm_web.cache.index import Row
from qm_web.cache.taskbook import Array
from qm_web.routes.logs import whole
from qm_web.routes.taskgrid import seconds
from qm_web.site import Site, as_json, refuse

MOST_PER_PAGE = 1000
_LINES = 500
"""Lines of CSV that are sent at once."""
STATES = tuple(state.value for state in State if state in tasks.STATES)


def routes(app: bottle.Bottle, site: Site) -> None:
    """The addresses of tasks."""
    app.get("/job/<key>/tasks.csv", callback=lambda key: as_csv(site, key))
    app.get("/api/v1/jobs/<key>/tasks", callback=lambda key: tasks_json(site, key))


def array_of(site: Site, row: Row) -> Array | None:
    """The tasks of a job, None if it is no array (any more)."""
    view = site.view.job(row.place, row.folder, progress=False)
    spec = array_spec(view.record) if view is not None and view.record is not None else None
    return site.tasks.of(row.key, site.view.paths.job(row.place, row.folder), spec) if spec is not None else None


def _needed(site: Site, key: str) -> tuple[Row, Array]:
    """The same; 404 if it is none."""
    site.need_details()
    row = site.job(key)
    array = array_of(site, row)
    if array is None:
        refuse(404, "the job is no array: it has no tasks")
    return row, array


# --- CSV ---------------------------------------------------------------------------------------------------


def as_csv(site: Site, key: str) -> Iterator[bytes]:
    """GET /job/<key>/tasks.csv: a line for each task."""
    row, array = _needed(site, key)
    bottle.response.content_type = "text/csv; charset=utf-8"
    bottle.response.set_header("Content-Disposition", f'attachment; filename="{row.key}-tasks.csv"')
    bottle.response.set_header("Cache-Control", "no-store")
    return _lines(array)


def _lines(array: Array) -> Iterator[bytes]:
    every = tasks.with_waiting(array.entries, array.spec)
    lines = tasks.csv_lines(every, array.values, array.names)
    while part := "".join(islice(lines, _LINES)):
        yield part.encode("utf-8", "surrogateescape")


# --- JSON --------------------------------------------------------------------------------------------------


def tasks_json(site: Site, key: str) -> str:
    """GET jobs/<key>/tasks?state=&page=&per_page=: a page of the tasks, by their order in the key `array`."""
    state = bottle.request.query.getunicode("state") or ""
    if state and state not in STATES:
        refuse(400, f"state = {state[:80]!r} is not understood; accepted: {', '.join(STATES)}")
    page = whole("page", 1, least=1, most=1_000_000)
    per_page = whole("per_page", 100, least=1, most=MOST_PER_PAGE)
    row, array = _needed(site, key)
    wanted = [number for number in array.spec if not state or _state(array, number) == state]
    some = wanted[(page - 1) * per_page : page * per_page]
    return as_json(
        {
            "tasks": [_task_json(array, number) for number in some],
            "names": list(array.names),
            "total": len(wanted),
            "page": page,
            "pages": max(1, -(-len(wanted) // per_page)),
            "ended": row.place in (Place.DONE, Place.LOST),
        }
    )


def _state(array: Array, number: int) -> str:
    entry = array.entries.get(number)
    return entry.state.value if entry is not None else State.PENDING.value


def _task_json(array: Array, number: int) -> dict[str, Any]:
    entry = array.entries.get(number) or TaskEntry(number, State.PENDING)
    return {
        "task": number,
        "values": list(array.values.get(number, ())),
        "state": entry.state.value,
        "attempt": entry.attempt,
        "started": entry.started,
        "finished": entry.finished,
        "seconds": seconds(entry),
        "exit_status": entry.exit_status,
        "signal": entry.signal,
        "cpu_seconds": entry.cpu_seconds,
        "peak_memory": entry.peak_memory,
        "reason": entry.reason,
    }
