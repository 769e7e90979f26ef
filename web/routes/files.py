"""What lies in a job's folder: listings, files shown in the page, downloads, the whole as a zip.

Invariant: everything is read through qm.spool.browse, and every name comes from `qm.path`, which has all the bytes
that were asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import bottle

from qm.spool.browse import FOLDER, LINK, Entry, JobFolder, NotShown, Parts, parts_of
from qm.vocabulary.errors import Blocked
from qm_web import words
from qm_web.cache.index import Row
from qm_web.routes.download import disposition, picture_type, send
from qm_web.routes.zipped import Slots, ZipStream
from qm_web.site import Site, as_json

SHOWN = 256 << 10
"""Bytes of a text that are shown in the page."""
LARGEST_PICTURE = 64 << 20
"""Bytes of a picture that is shown in the page; a larger one is offered for download."""
RETRY_AFTER = 10
REST = "<rest:re:[\\s\\S]*>"  # also line breaks, and nothing: Bottle drops bytes that are no UTF-8

_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10, 13)} | {127: 0x2421}


def routes(app: bottle.Bottle, site: Site) -> None:
    """Add the addresses of this module."""
    slots = Slots()
    app.get("/job/<key>/files", callback=bound(page, site))
    app.get(f"/job/<key>/files/{REST}", callback=bound(page, site))
    app.get(f"/job/<key>/raw/{REST}", callback=bound(raw, site))
    app.get("/job/<key>/zip", callback=lambda key: zip_of(site, key, slots))
    app.get("/api/v1/jobs/<key>/files", callback=lambda key: listing(site, key))
    app.get("/api/v1/jobs/<key>/file", callback=lambda key: file_of(site, key))
    app.get("/api/v1/jobs/<key>/zip", callback=lambda key: zip_of(site, key, slots))


def bound(callback: Callable[[Site, str, str], Any], site: Site) -> Callable[..., Any]:
    """A route's callback that is given the job's key and the path inside its folder, "" for the folder."""

    def call(key: str, rest: str = "") -> Any:
        return callback(site, key, "/".join(str(bottle.request.environ["qm.path"]).split("/")[4:]))

    return call


# --- pages -----------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """One entry of a listing as the page shows it; `part` is its name in addresses."""

    entry: Entry
    part: str


def page(site: Site, key: str, path: str) -> Any:
    """GET /job/<key>/files/<path>: a folder's listing, or a file in the page."""
    site.need_details()
    row = site.job(key)
    with opened(site, row) as folder, refused():
        parts = parts_of(path)
        entry = folder.look(parts)
        if entry.kind == FOLDER:
            found = folder.list(parts)
            lines = [Line(each, words.path_part(each.name)) for each in found.entries]
            return site.page("files.tpl", row=row, trail=trail(row, parts), lines=lines, more=found.more)
        if entry.kind == LINK:
            return site.page(
                "file.tpl", row=row, trail=trail(row, parts), entry=entry, kind=LINK, text="", end=False, most=SHOWN
            )
        return view(site, row, parts, entry, folder)


def view(site: Site, row: Row, parts: Parts, entry: Entry, folder: JobFolder) -> str:
    """A file in the page: a picture, the begin (or with ?end=1 the end) of a text, or what it is."""
    fd = folder.open(parts)
    try:
        size = os.fstat(fd).st_size
        end = bool(bottle.request.query.get("end")) and size > SHOWN
        head = os.pread(fd, 8192, 0)
        picture = picture_type(head)
        if picture:
            kind, text = "picture" if size <= LARGEST_PICTURE else "large picture", ""
        elif is_binary(head):
            kind, text = "binary", ""
        else:
            kind, text = "text", shown(os.pread(fd, SHOWN, size - SHOWN if end else 0), end)
    finally:
        os.close(fd)
    now = replace(entry, size=size)
    return site.page("file.tpl", row=row, trail=trail(row, parts), entry=now, kind=kind, text=text, end=end, most=SHOWN)


def is_binary(head: bytes) -> bool:
    """Does a file that begins so hold something else than text?"""
    if b"\0" in head:
        return True
    text = head.decode("utf-8", "replace")
    strange = sum(char == "\ufffd" or (char < " " and char not in "\t\n\r\x1b\b\f") for char in text)
    return strange > 0.1 * len(text)


def shown(data: bytes, begins_within: bool) -> str:
    """A text for the page: line ends as they should be, control characters as their pictures (U+2400)."""
    if begins_within:
        data = data.partition(b"\n")[2] or data
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return text.translate(_CONTROLS)


def trail(row: Row, parts: Parts) -> list[tuple[str, str]]:
    """The way to a file, as (what is shown, address below the prefix), from the job's folder down."""
    found = [("files", f"/job/{words.path_part(row.key)}/files/")]
    for part in parts:
        found.append((words.printable(part), f"{found[-1][1].rstrip('/')}/{words.path_part(part)}"))
    return found


# --- bytes -----------------------------------------------------------------------------------------------------


def raw(site: Site, key: str, path: str) -> Any:
    """GET /job/<key>/raw/<path>: the bytes of a file."""
    site.need_details()
    with opened(site, site.job(key)) as folder, refused():
        parts = parts_of(path)
        return send(folder.open(parts), parts[-1])


def zip_of(site: Site, key: str, slots: Slots) -> Any:
    """GET /job/<key>/zip: the whole folder; 503 while others fill the slots."""
    site.need_details()
    row = site.job(key)
    folder = opened(site, row)
    if not slots.take():
        folder.close()
        error = bottle.HTTPError(503, "other archives are being made; try again in a moment")
        error.set_header("Retry-After", str(RETRY_AFTER))
        raise error
    stream = ZipStream(folder, row.name, slots)
    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": disposition(f"{row.name}.zip"),
        "Cache-Control": "no-store",
    }
    return bottle.HTTPResponse(stream, headers=headers)


# --- JSON ------------------------------------------------------------------------------------------------------


def listing(site: Site, key: str) -> str:
    """GET /api/v1/jobs/<key>/files?path=: what lies in a folder. `href` leads to the page of an entry."""
    site.need_details()
    row = site.job(key)
    path = asked_path()
    with opened(site, row) as folder, refused():
        parts = parts_of(path)
        found = folder.list(parts)
    root = bottle.request.environ.get("SCRIPT_NAME", "") + trail(row, parts)[-1][1].rstrip("/")
    entries = [
        {
            "name": each.name,
            "kind": each.kind,
            "size": each.size,
            "mtime": each.mtime,
            "mode": f"{each.mode:04o}",
            "target": each.target,
            "href": f"{root}/{words.path_part(each.name)}",
        }
        for each in found.entries
    ]
    return as_json({"path": "/".join(parts), "entries": entries, "more": found.more})


def file_of(site: Site, key: str) -> Any:
    """GET /api/v1/jobs/<key>/file?path=: the bytes of a file."""
    return raw(site, key, asked_path())


def asked_path() -> str:
    """The query's `path`, with all its bytes (Bottle hands them on as Latin-1)."""
    return os.fsdecode(bottle.request.query.get("path", "").encode("latin-1"))


# --- both ------------------------------------------------------------------------------------------------------


def opened(site: Site, row: Row) -> JobFolder:
    """The job's folder, wherever it lies by now: jobs move while they are looked at. HTTPError 404 or 403."""
    with refused():
        try:
            return JobFolder(site.view.paths.job(row.place, row.folder).dir)
        except NotShown:
            row = site.job(row.key)
            return JobFolder(site.view.paths.job(row.place, row.folder).dir)


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Turn what cannot be shown into 404, and what must not be read into 403."""
    try:
        yield
    except NotShown as err:
        raise bottle.HTTPError(404, str(err)) from err
    except Blocked as err:
        raise bottle.HTTPError(403, str(err)) from err
