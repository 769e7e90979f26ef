"""The JSON addresses that read: /api/v1/status, jobs, jobs/<key>, session, openapi.json.

Invariant: what is answered is described in static/openapi.json, exactly; a test compares both. Parameters are
checked before anything is read, and a figure that JSON cannot write (a record may say `Infinity`) is null.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, TypeVar

import bottle

from qm import __version__
from qm.vocabulary.record import to_json
from qm.vocabulary.states import ACTIVE, WAITING, Place, State
from qm_web.cache.index import SORTS, Query, Row
from qm_web.site import STATIC, Site, as_json, refuse

MOST_PER_PAGE = 500
LONGEST_TEXT = 200
LAST_MOMENT = 1e11
"""UTC epoch seconds; records know no later ones."""

PARAMETERS = ("text", "state", "place", "owner", "since", "until", "sort", "descending", "page", "per_page")
HIDDEN = ("owner", "info", "reason", "group")
"""What `Display_details : False` hides of a job in lists."""

T = TypeVar("T")


def routes(app: bottle.Bottle, site: Site) -> None:
    """The addresses of this module; all of them only read."""
    app.get("/api/v1/status", callback=lambda: as_json(status(site)))
    app.get("/api/v1/jobs", callback=lambda: with_etag(jobs(site)))
    app.get("/api/v1/jobs/<key>", callback=lambda key: as_json(one_job(site, key)))
    app.get("/api/v1/session", callback=lambda: as_json(session(site)))
    app.get("/api/v1/openapi.json", callback=lambda: as_json(description()))


# --- the queue ---------------------------------------------------------------------------------------------


def status(site: Site) -> dict[str, Any]:
    """The daemon, the machine, and how many jobs there are."""
    site.index.refresh()
    holder = site.live.daemon()
    return {
        "version": __version__,
        "now": site.now(),
        "refresh_rate": site.settings.web.refresh_rate,
        "daemon": {
            "alive": holder is not None,
            "pid": holder.pid if holder else None,
            "host": holder.host if holder else None,
            "since": holder.started if holder else None,
        },
        "draining": site.live.draining(),
        **occupied(site),
        "disk_short": site.live.room().disk_short,
        "machine": asdict(site.live.machine()),
        "jobs": counts(site),
        "index": {"progress": site.index.progress()},
    }


def occupied(site: Site) -> dict[str, dict[str, int]]:
    """What running jobs have of processors, memory and GPUs, and may have together."""
    used, limits = site.live.used(), site.live.limits()
    return {
        "processors": {"used": used.processors, "limit": limits.processors},
        "memory": {"used": used.memory, "limit": limits.memory},
        "gpus": {"used": used.gpus, "limit": limits.gpus},
    }


def counts(site: Site) -> dict[str, int]:
    """How many jobs there are in each state, zeros included, in the order of a job's life."""
    found = site.index.counts()
    return {state.value: found.get(state, 0) for state in State}


def jobs(site: Site) -> dict[str, Any]:
    """One page of the list that the parameters ask for."""
    query = asked(site)
    site.index.refresh()
    rows, total = site.index.list(query)
    return {
        "jobs": [job_json(site, row) for row in rows],
        "total": total,
        "page": query.page,
        "pages": max(1, -(-total // query.per_page)),
    }


def one_job(site: Site, key: str) -> dict[str, Any]:
    """Everything about one job. Without details there is no record."""
    row = site.job(key) if key.isascii() and key.isalnum() else refuse(404, "no job has such a key")
    record = None
    if site.settings.web.display_details:
        seen = site.view.job(row.place, row.folder)
        record = seen.record if seen is not None else None
    return {
        **job_json(site, row),
        "why": why(site, row),
        "record": plain(to_json(record)) if record is not None else None,
    }


def job_json(site: Site, row: Row) -> dict[str, Any]:
    """A job of a list as JSON values."""
    data: dict[str, Any] = row._asdict() | {"place": row.place.value, "state": row.state.value}
    data["after"] = [each._asdict() for each in row.after]
    data["tasks"] = row.tasks._asdict() if row.tasks is not None else None
    details = site.settings.web.display_details
    if not details:
        data |= dict.fromkeys(HIDDEN, "") | {"after": []}
    if row.state in ACTIVE:
        active = site.live.of(row)
        text = active.text if details else ""
        data |= {"progress": active.progress, "progress_text": text, "cpu": active.cpu, "memory": active.memory}
    return {key: plain(value) for key, value in data.items()}


def why(site: Site, row: Row) -> str | None:
    """Why a job waits, None for one that does not."""
    if row.state not in WAITING:
        return None
    ahead, _ = site.index.list(Query(places=(Place.QUEUE,), per_page=MOST_PER_PAGE))
    place = next((place for place, other in enumerate(ahead) if other.key == row.key), None)
    if place is None:
        return f"at least {len(ahead)} jobs before it" if ahead else None
    known = [*ahead[:place], row]
    if not site.settings.web.display_details:
        known = [other._replace(reason="") for other in known]
    return site.live.why(known)[-1]


def session(site: Site) -> dict[str, str]:
    """Who asks; `csrf` is what a POST must carry as X-CSRF-Token."""
    visitor = site.visitor()
    return {"name": visitor.name, "role": visitor.role.name.lower(), "csrf": visitor.csrf}


def description() -> Any:
    """The OpenAPI description, with the address under which this server is known here."""
    with open(f"{STATIC}/openapi.json", encoding="utf-8") as file:
        data = json.load(file)
    data["servers"] = [{"url": bottle.request.environ.get("SCRIPT_NAME", "") or "/"}]
    return data


# --- parameters --------------------------------------------------------------------------------------------


def asked(site: Site) -> Query:
    """The query that the parameters make; 400 says which of them is wrong."""
    given = parameters()
    query = Query(
        places=tuple(Place(value) for value in words(given, "place", Place)) or tuple(Place),
        text=one(given, "text", _text, ""),
        states=tuple(State(value) for value in words(given, "state", State)),
        owner=one(given, "owner", _text, ""),
        since=one(given, "since", _moment, None),
        until=one(given, "until", _moment, None),
        sort=one(given, "sort", _choice(*SORTS), ""),
        descending=one(given, "descending", _choice("false", "true"), "false") == "true",
        page=one(given, "page", _whole(1_000_000), 1),
        per_page=one(given, "per_page", _whole(MOST_PER_PAGE), 50),
    )
    if query.text or query.owner or query.sort == "owner":
        site.need_details()  # what may not be shown may not be searched for, either
    return query


def parameters() -> dict[str, list[str]]:
    """The parameters of the address by name; 400 for one that is not known, or is no UTF-8."""
    given: dict[str, list[str]] = {}
    for name, value in bottle.request.query.allitems():
        if name not in PARAMETERS:
            refuse(400, f"parameter {name[:80]!r} is not known; known: {', '.join(PARAMETERS)}")
        try:
            given.setdefault(name, []).append(value.encode("latin-1").decode("utf-8"))
        except UnicodeDecodeError:
            refuse(400, f"{name} is not written in UTF-8")
    return given


def one(given: dict[str, list[str]], name: str, read: Callable[[str], T], default: T) -> T:
    """The value of a parameter that may be given once; 400 says what it accepts."""
    values = given.get(name, [])
    if len(values) > 1:
        refuse(400, f"{name} is given {len(values)} times; once is enough")
    if not values:
        return default
    try:
        return read(values[0])
    except ValueError as err:
        refuse(400, f"{name} = {values[0][:80]!r} is not understood; accepted: {err}")


def words(given: dict[str, list[str]], name: str, known: Iterable[State | Place]) -> list[str]:
    """The values of a parameter that may be given several times, each one of some words."""
    read = _choice(*(word.value for word in known))
    values = given.get(name, [])
    return [one({name: [value]}, name, read, "") for value in dict.fromkeys(values)]


def _text(value: str) -> str:
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"at most {LONGEST_TEXT} characters")
    return value


def _choice(*accepted: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in accepted:
            raise ValueError(", ".join(accepted))
        return value

    return read


def _whole(most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        number = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else 0
        if not 1 <= number <= most:
            raise ValueError(f"a whole number from 1 to {most}")
        return number

    return read


def _moment(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < LAST_MOMENT or "_" in value:  # false for nan, too
        raise ValueError("seconds since 1970 (UTC)")
    return number


# --- answers -----------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """The value with null where JSON has no word for a number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def with_etag(value: Any) -> str:
    """Answer with JSON and its ETag (RFC 9110, 8.8.3), or with 304 where the client has just that."""
    text = as_json(value)
    etag = f'"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"'
    bottle.response.set_header("ETag", etag)
    bottle.response.set_header("Cache-Control", "private, no-cache")
    known = bottle.request.get_header("If-None-Match", "")
    if etag in (part.strip().removeprefix("W/") for part in known.split(",")):
        bottle.response.status = 304
        return ""
    return text
