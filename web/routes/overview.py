"""The overview, `/`: the daemon, the machine, and what runs, waits and has ended.

Invariant: how long it takes depends on the rows shown, never on the jobs there are. A refresh in which nothing is
new costs no rendering: its ETag is made from what the page shows.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import bottle

from qm.judgement.progress import earlier_part, remaining
from qm.vocabulary.states import ACTIVE, ENDED, WAITING, Place, State
from qm_web import words
from qm_web.cache.index import SORTS, Query, Row
from qm_web.live import Active
from qm_web.site import Site

PER_PAGE = 50
KEPT = 64
"""Rendered tables that are kept for other viewers of the same."""

PAST = (Place.DONE, Place.LOST)
FILTERS = ("q", "state", "owner", "since", "until", "sort", "dir")
PAGERS = {"rp": "running", "wp": "waiting", "ep": "ended"}


@dataclass(frozen=True, slots=True)
class Table:
    """One list of jobs: a page of it, and how many there are in all."""

    rows: list[Row]
    total: int
    page: int
    pager: str

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // PER_PAGE))


class Overview:
    """Makes the page of one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def page(self) -> Any:
        """GET /: the page; for the script that refreshes it only its tables, or 304."""
        self._site.index.refresh()
        if bottle.request.get_header("QM-Refresh"):
            return self._refreshed()
        return self._site.page("overview.tpl", **self._facts(), asked=self._asked())

    def _refreshed(self) -> Any:
        etag = self._etag()
        bottle.response.set_header("ETag", etag)
        bottle.response.set_header("Cache-Control", "no-store")
        if bottle.request.get_header("If-None-Match") == etag:
            bottle.response.status = 304
            return ""
        with self._lock:
            text = self._kept.get(etag)
        if text is None:
            text = self._site.render("live.tpl", **self._facts())
            with self._lock:
                self._kept[etag] = text
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        bottle.response.content_type = "text/html; charset=utf-8"
        return text

    def _etag(self) -> str:
        """Made from everything that the tables show, but for the passing of time, which the page counts itself."""
        site = self._site
        running = self._table(self._query(), (Place.JOBS,), "rp").rows
        seen = (
            site.index.version,
            site.index.progress(),
            site.live.daemon(),
            site.live.draining(),
            site.live.machine(),
            site.live.room(),
            [site.live.of(row) for row in running],
            bottle.request.query_string,
            bottle.request.environ.get("SCRIPT_NAME", ""),
            site.may(),
            words.moment(site.now())[:10],  # the day decides how times are written
        )
        return f'"{hashlib.sha256(repr(seen).encode()).hexdigest()[:24]}"'

    def _facts(self) -> dict[str, Any]:
        site = self._site
        query = self._query()
        running = self._table(query, (Place.JOBS,), "rp")
        waiting = self._table(query, (Place.QUEUE,), "wp")
        ended = self._table(query, PAST, "ep")
        first, _ = site.index.list(Query(places=(Place.QUEUE,), per_page=PER_PAGE))
        counts = site.index.counts()
        return {
            "running": running,
            "waiting": waiting,
            "ended": ended,
            "live": {row.key: site.live.of(row) for row in running.rows},
            "why": dict(zip((row.key for row in first), site.live.why(first), strict=True)),
            "daemon": site.live.daemon(),
            "draining": site.live.draining(),
            "machine": site.live.machine(),
            "used": site.live.used(),
            "limits": site.live.limits(),
            "disk_short": site.live.room().disk_short,
            "reading": site.index.progress(),
            "jobs": sum(counts.values()),
            "filtered": any(
                bottle.request.query.getunicode(name) for name in ("q", "state", "owner", "since", "until")
            ),
            "left": left,
            "link": link,
            "sort": query.sort,
            "descending": query.descending,
            "details": site.settings.web.display_details,
        }

    def _query(self) -> Query:
        asked = bottle.request.query
        states = {str(state): state for state in State}
        groups = {"waiting": WAITING, "active": ACTIVE, "ended": ENDED, "failures": ENDED - {State.DONE}}
        wanted = asked.getunicode("state") or ""
        chosen = tuple(sorted(groups[wanted])) if wanted in groups else (states[wanted],) if wanted in states else ()
        sort = asked.getunicode("sort") or ""
        details = self._site.settings.web.display_details  # else what is hidden could be found by asking for it
        return Query(
            text=(asked.getunicode("q") or "").strip() if details else "",
            states=chosen,
            owner=asked.getunicode("owner") or "" if details else "",
            since=words.date_seconds(asked.getunicode("since") or ""),
            until=words.date_seconds(asked.getunicode("until") or "", days=1),
            sort=sort if sort in SORTS and (details or sort != "owner") else "",
            descending=asked.getunicode("dir") == "desc",
            per_page=PER_PAGE,
        )

    def _table(self, query: Query, places: tuple[Place, ...], pager: str) -> Table:
        text = bottle.request.query.getunicode(pager) or ""
        page = int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 8 else 1
        sorting = query if places == PAST else replace(query, sort="", descending=False)
        rows, total = self._site.index.list(replace(sorting, places=places, page=max(1, page)))
        return Table(rows, total, max(1, page), pager)

    def _asked(self) -> dict[str, Any]:
        """What the filter form shows as chosen, and what it offers."""
        asked = {name: bottle.request.query.getunicode(name) or "" for name in FILTERS}
        details = self._site.settings.web.display_details
        return {
            **asked,
            "owners": self._site.index.owners() if details else [],
            "states": [str(state) for state in State],
        }


def link(**changes: Any) -> str:
    """The present address with these query parameters set ("" takes one out)."""
    known = (*FILTERS, *PAGERS)
    now = {name: value for name in known if (value := bottle.request.query.getunicode(name))}
    now.update({name: str(value) for name, value in changes.items()})
    return "?" + urlencode({name: value for name, value in now.items() if value})


def left(row: Row, active: Active, now: float) -> str:
    """How long a job may still take by its own word, empty if it does not say."""
    if active.progress is None or row.started is None:
        return ""
    seconds = remaining(active.progress, now - row.started, earlier_part(row.tasks))
    return words.duration(seconds) if seconds is not None else ""


def routes(app: bottle.Bottle, site: Site) -> None:
    """Add the overview."""
    app.get("/", callback=Overview(site).page)
