"""A job's logs by byte offset, for followers, and what its processes used, for the plot.

Invariant: each request answers at once with what is there; nothing is kept for a viewer between two requests, and
the job is looked up anew each time, so following goes on when its folder moves to done.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import bottle

from qm.judgement.progress import ANSI
from qm.spool import logreader
from qm.spool.paths import LOG_NAME
from qm.spool.usage import read_rows
from qm.vocabulary.states import ENDED
from qm_web.cache.index import Row
from qm_web.site import Site, as_json, refuse

MOST_BYTES = 4 << 20
"""Bytes that one request may ask for."""

MOST_TEXT = 1000
"""Characters that may be searched for."""

_WHOLE = re.compile(r"-?[0-9]{1,18}")
_UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_T = TypeVar("_T")


def routes(app: bottle.Bottle, site: Site) -> None:
    """The addresses of logs and usage, below /api/v1."""
    app.get("/api/v1/jobs/<key>/log", callback=lambda key: log(site, key))
    app.get("/api/v1/jobs/<key>/log/search", callback=lambda key: search(site, key))
    app.get("/api/v1/jobs/<key>/usage", callback=lambda key: usage(site, key))


# --- logs --------------------------------------------------------------------------------------------------


def log(site: Site, key: str) -> bytes:
    """GET jobs/<key>/log?offset=&limit=&log=: the bytes, and in headers which ones they are and how the job is.

    A log that is shorter than `offset` (replaced by a new attempt, or cut) gives no bytes, and its size says so;
    QM-Log-Generation changes with each new attempt.
    """
    site.need_details()
    name = log_name()
    offset = whole("offset", 0)
    limit = whole("limit", MOST_BYTES, least=0, most=MOST_BYTES)
    row, piece = on_log(site, key, name, lambda path: logreader.read(path, offset, limit))
    piece = piece or logreader.Piece(0, 0, 0, b"", 0)
    answer = bottle.response
    answer.content_type = "application/octet-stream"
    answer.set_header("Content-Disposition", "attachment")
    answer.set_header("Cache-Control", "no-store")
    answer.set_header("QM-Log-Start", str(piece.start))
    answer.set_header("QM-Log-End", str(piece.end))
    answer.set_header("QM-Log-Size", str(piece.size))
    answer.set_header("QM-Log-Generation", str(piece.generation))
    answer.set_header("QM-Job-State", str(row.state))
    answer.set_header("QM-Job-Ended", "1" if row.state in ENDED else "0")
    return piece.data


def search(site: Site, key: str) -> str:
    """GET jobs/<key>/log/search?q=&offset=&back=&log=: {"at", "further", "size"}, see qm.spool.logreader.Found."""
    site.need_details()
    name = log_name()
    text = bottle.request.query.getunicode("q") or ""
    if not 0 < len(text) <= MOST_TEXT:
        refuse(400, f"q is the text to look for: 1 to {MOST_TEXT} characters of UTF-8")
    offset = whole("offset", 0, least=0)
    back = whole("back", 0, least=0, most=1) == 1
    _, found = on_log(site, key, name, lambda path: logreader.search(path, text, offset, back))
    found = found or logreader.Found(None, None, 0)
    return as_json({"at": found.at, "further": found.further, "size": found.size})


def on_log(site: Site, key: str, name: str, do: Callable[[str], _T]) -> tuple[Row, _T | None]:
    """The job, and what `do` makes of the path of its log; None while the job has no process.log yet.

    The folder may move between two steps: then the job is looked up again.
    """
    missing: OSError | None = None
    for _ in range(3):
        row = site.job(key)
        path = f"{site.view.paths.job(row.place, row.folder).dir}/{name}"
        try:
            return row, do(path)
        except (FileNotFoundError, NotADirectoryError) as err:
            missing = err
        except PermissionError:
            refuse(403, f"the dashboard may not read {name} of this job; its owner can allow it with chmod")
        except OSError as err:
            if err.errno in (errno.ELOOP, errno.EINVAL):
                refuse(404, f"{name} is not a regular file, and is not read")
            refuse(503, f"{name} cannot be read just now: {err.strerror}")
    if missing is not None and name != LOG_NAME:
        refuse(404, f"the job has no {name}")
    return row, None


def log_name() -> str:
    """The parameter `log`: process.log, or the log of an earlier attempt or of a task; 400 for anything else."""
    name = bottle.request.query.getunicode("log") or LOG_NAME
    if not logreader.is_log_name(name):
        refuse(400, "log is process.log, process.log.1 (an earlier attempt) or process.1.log (a task)")
    return name


def whole(name: str, default: int, least: int | None = None, most: int | None = None) -> int:
    """A whole number from the address; 400 says what it may be."""
    given = bottle.request.query.getunicode(name)
    if given is None or given == "":
        given = "" if name in bottle.request.query else str(default)
    number = int(given) if _WHOLE.fullmatch(given) else None
    if number is None or (least is not None and number < least) or (most is not None and number > most):
        limits = f", {least} or more" if most is None and least is not None else ""
        limits = f" from {least} to {most}" if most is not None else limits
        refuse(400, f"{name} is a whole number{limits}, of at most 18 digits")
    return number


def plain(data: bytes, whole_log: bool = True) -> str:
    """A log's bytes as plain text, as a page without scripts shows them.

    Of each line what stands after its last carriage return; no escape sequences; control characters and invalid
    UTF-8 as U+FFFD. Unless it is the `whole_log`, what stands before the first line end is left out.
    """
    if not whole_log:
        data = data.partition(b"\n")[2] or data
    text = ANSI.sub("", data.decode("utf-8", "replace"))
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return "\n".join(_UNSHOWN.sub("\ufffd", line) for line in lines)


# --- usage -------------------------------------------------------------------------------------------------


def usage(site: Site, key: str) -> str:
    """GET jobs/<key>/usage: columns of one length, `time` (UTC epoch seconds), `cpu` (processors), `memory` (bytes)."""
    site.need_details()
    row = site.job(key)
    times, cpu, memory = columns(read_rows(site.view.paths.job(row.place, row.folder).usage), row.started)
    return as_json(
        {
            "time": times,
            "cpu": cpu,
            "memory": memory,
            "nb_proc": row.nb_proc,
            "state": str(row.state),
            "ended": row.state in ENDED,
        }
    )


def columns(
    rows: Sequence[tuple[float, float, int]], started: float | None
) -> tuple[list[float], list[float | None], list[int]]:
    """Rows of usage.csv (time, CPU seconds so far, bytes) as time, processors in use since the row before, bytes.

    Where the CPU time falls a new attempt began, and nothing is known (None), as for rows that stand out of order.
    """
    times: list[float] = []
    cpu: list[float | None] = []
    memory: list[int] = []
    before, used = started, 0.0
    for when, seconds, size in rows:
        if not (0 < when < 1e11 and 0 <= seconds < 1e15 and 0 <= size < 1 << 53) or (times and when <= times[-1]):
            continue  # no row that QM wrote: the file lies where the job may write (false for nan, too)
        known = before is not None and before < when and seconds >= used
        times.append(when)
        cpu.append(round((seconds - used) / (when - before), 3) if known and before is not None else None)
        memory.append(size)
        before, used = when, seconds
    return times, cpu, memory
