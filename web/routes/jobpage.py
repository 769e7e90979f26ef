"""The page of one job: its state, what can be done, facts, attempts, log, job file, files and a plot.

Invariants: it works for every folder that a list shows, with or without a record; a refresh in which nothing is
new costs no rendering: its ETag is made from what the page shows.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bottle

from qm.spool import logreader
from qm.spool.browse import JobFolder, Listing
from qm.spool.logreader import LogFile
from qm.spool.paths import LOG_NAME
from qm.spool.paths import log_name as task_log
from qm.spool.usage import read_rows
from qm.spool.view import JobView
from qm.vocabulary.errors import QMError
from qm.vocabulary.states import ACTIVE, WAITING, Place
from qm_web import words
from qm_web.cache.index import Query, Row
from qm_web.cache.taskbook import Array
from qm_web.live import Active
from qm_web.routes.jobfacts import attempts, facts, retry_label, verbs
from qm_web.routes.logs import columns, log_name, plain, whole
from qm_web.routes.taskgrid import grid_of, outcome
from qm_web.routes.tasks import array_of
from qm_web.site import Site

LOG_BYTES = 64 << 10
"""Bytes of a log's end that stand in the page for readers without scripts."""

JOB_FILE_BYTES = 64 << 10
MOST_FILES = 50
MOST_LOGS = 50
FIRST_WAITING = 50
"""Waiting jobs that are told why they wait; of those behind them it is known."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that the page shows and that changes with the job; what `repr` of it says decides on a refresh."""

    row: Row
    view: JobView | None
    active: Active
    why: str
    log: str
    logs: Sequence[LogFile]
    files: Listing
    array: Array | None


def routes(app: bottle.Bottle, site: Site) -> None:
    """Add the page."""
    app.get("/job/<key>", callback=lambda key: page(site, key))


def page(site: Site, key: str) -> Any:
    """GET /job/<key>: the page; for the script that refreshes it, 304 if nothing is new."""
    row = site.job(key)
    seen = look(site, row)
    refresh = bool(bottle.request.get_header("QM-Refresh"))
    if refresh:
        etag = etag_of(site, seen)
        bottle.response.set_header("ETag", etag)
        if bottle.request.get_header("If-None-Match") == etag:
            bottle.response.set_header("Cache-Control", "no-store")
            bottle.response.status = 304
            return ""
    return site.page("job.tpl", **shown(site, seen, full=not refresh))


def look(site: Site, row: Row) -> Seen:
    """What there is to see of a job. One that moves meanwhile may show less; the next look finds it."""
    details = site.settings.web.display_details
    view = site.view.job(row.place, row.folder)
    path = site.view.paths.job(row.place, row.folder).dir
    array = array_of(site, row) if details else None
    log = chosen_log()
    logs = logs_of(path, log, array is not None) if details else []
    files = files_of(path) if details else _NO_FILES
    return Seen(row, view, site.live.of(row), why_waiting(site, row), log, logs, files, array)


def chosen_log() -> str:
    """The log that the address names; `task=7` is short for that of task 7."""
    if not bottle.request.query.getunicode("task"):
        return log_name()
    return task_log(whole("task", 0, least=0, most=10**18 - 1))


def logs_of(path: str, log: str, array: bool) -> list[LogFile]:
    """The logs to choose from. An array has too many: its own are there, and those of the task that is shown."""
    if not array:
        return logreader.logs_of(path)[:MOST_LOGS]
    names = dict.fromkeys((LOG_NAME, log.partition(".log")[0] + ".log"))
    return [one for name in names for one in logreader.attempts_of(path, name)][:MOST_LOGS]


def etag_of(site: Site, seen: Seen) -> str:
    """Made from everything that a refresh shows, but for the passing of time, which the page counts itself."""
    request = bottle.request
    rest = (site.may(), site.visitor().csrf, request.environ.get("SCRIPT_NAME", ""), request.query_string)
    text = repr((seen, rest)).encode("utf-8", "backslashreplace")
    return f'"{hashlib.sha256(text).hexdigest()[:24]}"'


def shown(site: Site, seen: Seen, full: bool) -> dict[str, Any]:
    """The values of the template. A refresh (not `full`) needs nothing outside of the parts that change."""
    row, now = seen.row, site.now()
    details = site.settings.web.display_details
    record = seen.view.record if seen.view is not None else None
    log = seen.log
    path = site.view.paths.job(row.place, row.folder)
    return {
        "row": row,
        "active": seen.active,
        "why": words.printable(seen.why),
        "verbs": verbs(row, site.may()),
        "retry_label": retry_label(row),
        "back": bottle.request.environ.get("SCRIPT_NAME", "") + f"/job/{row.key}",
        "details": details,
        "facts": facts(row, seen.view, seen.active, now, details),
        "attempts": attempts(row, record, seen.logs, now) if details else [],
        "log": log,
        "logs": seen.logs,
        "log_text": log_tail(f"{path.dir}/{log}") if details and full else None,
        "job_file": job_file(site, seen) if details and full else None,
        "usage": usage_summary(path.usage, row) if details else None,
        "array": seen.array,
        "outcome": outcome,
        "grid": grid_of(seen.array) if seen.array is not None else None,
        "script": _lines(record.effective.script) if record is not None else "",
        "files": seen.files,
        "is_active": row.state in ACTIVE,
    }


def why_waiting(site: Site, row: Row) -> str:
    """The reason in words: that of the record, or for a waiting job why it waits."""
    if row.state in WAITING and row.place is Place.QUEUE:
        first, _ = site.index.list(Query(places=(Place.QUEUE,), per_page=FIRST_WAITING))
        told = dict(zip((one.key for one in first), site.live.why(first), strict=True))
        if row.key in told:
            return told[row.key]
    return row.reason if site.settings.web.display_details else ""


# --- files -------------------------------------------------------------------------------------------------

_NO_FILES = Listing([], 0)


def files_of(path: str) -> Listing:
    """The first entries of the job's folder; none where it cannot be listed."""
    try:
        with JobFolder(path) as folder:
            return folder.list((), MOST_FILES)
    except QMError:
        return _NO_FILES


def log_tail(path: str) -> tuple[str, bool] | None:
    """The end of a log as plain text, and whether that is all of it; None where there is no log."""
    try:
        piece = logreader.read(path, -LOG_BYTES, LOG_BYTES)
    except OSError:
        return None
    return plain(piece.data, piece.start == 0), piece.start == 0


def job_file(site: Site, seen: Seen) -> tuple[str, str] | None:
    """Name and text of the job file: the one that the record names, else the first that is there."""
    record = seen.view.record if seen.view is not None else None
    names = [record.job_file] if record is not None and record.job_file else list(site.settings.job_files)
    try:
        with JobFolder(site.view.paths.job(seen.row.place, seen.row.folder).dir) as folder:
            for name in names:
                data = _beginning(folder, name)
                if data is not None:
                    more = "" if len(data) <= JOB_FILE_BYTES else "\n… (it goes on: see Files)"
                    return words.printable(name), plain(data[:JOB_FILE_BYTES]) + more
    except QMError:
        pass  # the folder is gone or not for our eyes: then there is none to show
    return None


def _beginning(folder: JobFolder, name: str) -> bytes | None:
    """The beginning of a file at the top of a job's folder. A record may name anything: no path is followed."""
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        return None
    try:
        fd = folder.open((name,))
    except (QMError, OSError, UnicodeEncodeError):
        return None
    try:
        return os.read(fd, JOB_FILE_BYTES + 1)
    except OSError:
        return None
    finally:
        os.close(fd)


def usage_summary(path: str, row: Row) -> dict[str, str] | None:
    """Peak and mean of CPU and memory in words, for readers without scripts; None without any figures."""
    _, cpu, memory = columns(read_rows(path), row.started)
    known = [value for value in cpu if value is not None]
    if not memory:
        return None
    return {
        "cpu_mean": f"{sum(known) / len(known):.2f}" if known else "",
        "cpu_peak": f"{max(known):.2f}" if known else "",
        "memory_mean": words.size_text(sum(memory) / len(memory)),
        "memory_peak": words.size_text(max(memory)),
    }


def _lines(text: str) -> str:
    """A text of several lines, each made printable."""
    return "\n".join(words.printable(line.expandtabs(4)) for line in text.split("\n"))
