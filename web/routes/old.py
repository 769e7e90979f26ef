"""The addresses of QM 0.4, which bookmarks and scripts still have: each leads to the page that is there for it now.

Its addresses that changed something (`/kill/…`, `/delete/…`) lead only to the page of the job: a GET changes nothing.
"""

from __future__ import annotations

from typing import Any

import bottle

from qm.vocabulary.states import Place
from qm_web import words
from qm_web.site import Site, refuse

ORDER = (Place.JOBS, Place.QUEUE, Place.DONE, Place.LOST)


class Old:
    """Finds what an old address meant."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def overview(self) -> Any:
        """`/QM`"""
        self._go("/")

    def statistics(self) -> Any:
        """`/stats`"""
        self._go("/statistics")

    def folder(self, place: Place) -> Any:
        """`/QM_dJobs/`, `/QM_dJobs/<name>/` and what lies below."""
        name, _, below = self._rest(f"/{place.value}").partition("/")
        if not name:
            self._go("/?state=" + {Place.QUEUE: "waiting", Place.JOBS: "active"}.get(place, "ended"))
        self._go(f"/job/{self._key(name, (place,))}/files/{_quoted(below)}")

    def view(self, **_: str) -> Any:
        """`/view/<place>/<name>/<file>` or `/view/<name>/<file>`; `/kill/…` and `/delete/…` name a job the same way."""
        job, below = self._job(self._rest("/" + bottle.request.path.split("/")[1]))
        is_view = bottle.request.path.startswith("/view/")
        self._go(f"/job/{job}/files/{_quoted(below)}" if below and is_view else f"/job/{job}")

    def download(self, **_: str) -> Any:
        """`/download/<name>`: the folder as a zip."""
        self._go(f"/job/{self._job(self._rest('/download'))[0]}/zip")

    def _job(self, path: str) -> tuple[str, str]:
        """The key of the job that a path begins with, and what comes after it."""
        first, _, rest = path.partition("/")
        places = {place.value: place for place in Place}
        if first in places:
            name, _, below = rest.partition("/")
            return self._key(name, (places[first],)), below
        return self._key(first, ORDER), rest

    def _key(self, name: str, places: tuple[Place, ...]) -> str:
        key = next(filter(None, (self._site.index.key_of(place, name) for place in places)), None)
        if key is None:
            refuse(404, f"there is no job folder {words.printable(name)[:80]!r} (any more)")
        return key

    def _rest(self, prefix: str) -> str:
        path: str = bottle.request.environ["qm.path"]
        return path.removeprefix(prefix).strip("/")

    def _go(self, address: str) -> None:
        # Not bottle.redirect, which makes an address of what headers (X-Forwarded-Host) say our name is.
        location = str(bottle.request.environ.get("SCRIPT_NAME", "")) + address
        raise bottle.HTTPResponse(status=303, headers={"Location": location, "Cache-Control": "no-store"})


def _quoted(path: str) -> str:
    return "/".join(words.path_part(part) for part in path.split("/"))


def routes(app: bottle.Bottle, site: Site) -> None:
    """Add the old addresses."""
    old = Old(site)
    app.get("/QM", callback=old.overview)
    app.get("/stats", callback=old.statistics)
    for place in Place:
        for path in (f"/{place.value}", f"/{place.value}/<path:path>", f"/{place.value}/"):
            app.get(path, callback=lambda path="", place=place: old.folder(place))
    for verb in ("view", "kill", "delete"):
        app.get(f"/{verb}/<path:path>", callback=old.view)
    app.get("/download/<path:path>", callback=old.download)
