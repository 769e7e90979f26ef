"""What has happened, as pictures and as figures: /timeline and /statistics, and the same as JSON.

Invariant: every figure that a picture shows stands on the page as text, too; where `Display_details` is off, no names
of jobs or owners do.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import bottle

from qm.judgement.timeline import Bin
from qm.vocabulary.text import printable
from qm_web import words
from qm_web.cache.past import Statistics, Use
from qm_web.routes.gantt import Bar, Chart, chart
from qm_web.site import Site, as_json, refuse

HOURS = {1: "1 hour", 6: "6 hours", 24: "24 hours", 168: "7 days"}
DAYS = {7: "7 days", 30: "30 days", 90: "90 days", 365: "a year", 0: "all time"}
MOST_HOURS, MOST_DAYS = 24 * 31, 36500
LISTED = 200
"""Jobs below the chart, as text."""
LARGE, KEPT = 300, 8
"""Bars that take a while to draw; charts that are kept."""
STEPS = 1000
"""A refresh draws the chart anew when running jobs have grown by such a part of its width."""


def routes(app: bottle.Bottle, site: Site) -> None:
    """Add the pages of this module."""
    app.get("/timeline", callback=Timeline(site).page)
    app.get("/statistics", callback=lambda: statistics_page(site))
    app.get("/api/v1/timeline", callback=lambda: as_json(timeline_json(site, ended(site, 6))))
    app.get("/api/v1/statistics", callback=lambda: as_json(statistics_json(site)))


# --- timeline ----------------------------------------------------------------------------------------------


def ended(site: Site, hours: int) -> Chart:
    """The chart of the hours asked for."""
    hours = number("hours", hours, 1, MOST_HOURS)
    site.index.refresh()
    found = chart(site, hours)
    if not site.settings.web.display_details:
        found = replace(found, bars=[replace(bar, name="", owner="") for bar in found.bars])
    return found


class Timeline:
    """Makes the page of one site. A drawn chart is kept for other viewers of the same."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._large: set[int] = set()

    def page(self) -> Any:
        """GET /timeline; for the script that refreshes it 304 while it would look the same."""
        site = self._site
        hours = number("hours", 6, 1, MOST_HOURS)
        site.index.refresh()
        site.past.refresh()
        etag = self._etag(hours)
        refreshes = bool(bottle.request.get_header("QM-Refresh"))
        if refreshes and bottle.request.get_header("If-None-Match") == etag:
            bottle.response.status = 304
            bottle.response.set_header("ETag", etag)
            return ""
        drawn = self._drawn(hours, etag)
        text = site.page("timeline.tpl", drawn=drawn, hours=hours, choices=HOURS)
        bottle.response.set_header("ETag", etag)
        return text

    def _etag(self, hours: int) -> str:
        """Made from all that moves a bar. A large chart is drawn anew only when a bar could have moved visibly."""
        site = self._site
        versions = site.index.version, site.past.version
        seen = (
            site.now() // (hours * 3600 / STEPS),
            hours,
            bottle.request.environ.get("SCRIPT_NAME", ""),
            site.past.complete and site.index.progress() is None,
            0 if hours in self._large else versions,
        )
        return f'"{hashlib.sha256(repr(seen).encode()).hexdigest()[:24]}"'

    def _drawn(self, hours: int, etag: str) -> str:
        with self._lock:  # whoever comes meanwhile takes what is drawn now
            if etag not in self._kept:
                found = ended(self._site, hours)
                self._large = self._large - {hours} | ({hours} if len(found.bars) > LARGE else set())
                complete = self._site.past.complete
                values = {
                    "chart": found,
                    "complete": complete,
                    "listed": LISTED,
                    "called": called,
                    "title_of": title_of,
                }
                self._kept[etag] = self._site.render("gantt.tpl", **values)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return self._kept[etag]


def called(bar: Bar) -> str:
    """The job's name as text, or its id where names are not shown."""
    return printable(bar.name) if bar.name else f"job {bar.key}"


def title_of(bar: Bar, until: float) -> str:
    """What a bar says when it is pointed at."""
    end = bar.finished if bar.finished is not None else until
    processors = f"{bar.nb_proc} processor{'s' if bar.nb_proc > 1 else ''}"
    lasted = f"{words.duration(end - bar.started)}{'' if bar.finished is not None else ' so far'}"
    owner = f" of {printable(bar.owner)}" if bar.owner else ""
    return f"{called(bar)}{owner}: {bar.state}, {lasted} on {processors}, from {words.moment(bar.started)}"


def timeline_json(site: Site, found: Chart) -> dict[str, Any]:
    """The chart as JSON. `slots` count from 0, `labels` name them: processors' numbers where those are known."""
    return {
        "since": found.since,
        "until": found.until,
        "labels": found.labels,
        "left_out": found.left_out,
        "complete": site.past.complete,
        "jobs": [
            {
                "key": bar.key,
                "name": bar.name,
                "owner": bar.owner,
                "state": bar.state.value,
                "started": bar.started,
                "finished": bar.finished,
                "nb_proc": bar.nb_proc,
                "slots": bar.slots,
                "filed": bar.filed,
            }
            for bar in found.bars
        ],
    }


# --- statistics --------------------------------------------------------------------------------------------


def counted(site: Site, days: int) -> Statistics:
    """What ended in the days asked for, today included; without owners where they are not shown."""
    site.past.refresh()
    found = site.past.statistics(first_day(site.now(), days))
    found = replace(found, days=every_day(found.days, date.fromtimestamp(site.now()).isoformat()))
    return found if site.settings.web.display_details else replace(found, owners=[])


def first_day(now: float, days: int) -> str:
    """The first of the last `days` days; "" for all time."""
    today = date.fromtimestamp(now)
    return (today - timedelta(min(days, today.toordinal()) - 1)).isoformat() if days else ""


def every_day(found: list[tuple[str, Use]], today: str) -> list[tuple[str, Use]]:
    """The same with the days on which nothing ended, from the first with an end to today."""
    uses = dict(found)
    if not uses:
        return []
    try:
        first, last = date.fromisoformat(min(uses)), date.fromisoformat(max(*uses, today))
    except ValueError:
        return found
    if (last - first).days > MOST_DAYS:
        return found
    nothing = Use(0, 0, 0.0, 0.0)
    days = [(first + timedelta(n)).isoformat() for n in range((last - first).days + 1)]
    return [(day, uses.get(day, nothing)) for day in days]


def statistics_page(site: Site) -> Any:
    """GET /statistics"""
    days = number("days", 30, 0, MOST_DAYS)
    return site.page(
        "statistics.tpl",
        found=counted(site, days),
        days=days,
        choices=DAYS,
        hours=lambda seconds: f"{seconds / 3600:,.1f}",
        bin_text=bin_text,
        complete=site.past.complete,
    )


def bin_text(found: Bin) -> str:
    """`10 s to 20 s`, `30 d or more`."""
    return (
        f"{span_text(found.low)} or more"
        if found.high is None
        else f"{span_text(found.low)} to {span_text(found.high)}"
    )


def span_text(seconds: float) -> str:
    """A round time: `30 s`, `5 min`, `2 h`, `7 d`."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"


def statistics_json(site: Site) -> dict[str, Any]:
    """The statistics as JSON; times are seconds."""
    days = number("days", 30, 0, MOST_DAYS)
    found = counted(site, days)
    return {
        "days": days,
        "complete": site.past.complete,
        "total": use_json(found.total),
        "by_owner": [{"owner": owner, **use_json(use)} for owner, use in found.owners],
        "by_state": [{"state": state.value, **use_json(use)} for state, use in found.states],
        "by_day": [{"day": day, **use_json(use)} for day, use in found.days],
        "waiting": [bin_json(one) for one in found.waiting],
        "running": [bin_json(one) for one in found.running],
    }


def use_json(use: Use) -> dict[str, Any]:
    """What a group of jobs used."""
    hours = {"cpu_hours": round(use.cpu / 3600, 6), "processor_hours": round(use.held / 3600, 6)}
    return {"jobs": use.jobs, "done": use.done, **hours}


def bin_json(one: Bin) -> dict[str, Any]:
    """How many took from `low` to `high` seconds."""
    return {"low": one.low, "high": one.high, "jobs": one.jobs, "text": bin_text(one)}


# --- parameters --------------------------------------------------------------------------------------------


def number(name: str, default: int, least: int, most: int) -> int:
    """A whole number from the address; 400 says what it accepts."""
    values = bottle.request.query.getall(name)
    if not values:
        return default
    text = values[0]
    found = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
    if len(values) > 1 or not least <= found <= most:
        refuse(400, f"{name} = {text[:80]!r} is not understood; accepted: one whole number from {least} to {most}")
    return found
