"""The dashboard as a WSGI application: one page, made anew from the spool at each request.

It only reads, and only through qm.spool; it knows nothing of the daemon and works without one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import bottle

from qm.spool.files import read_tail
from qm.spool.paths import SpoolPaths
from qm.spool.view import View
from qm.vocabulary.config import Settings
from qm.vocabulary.states import Place
from qm.vocabulary.text import printable

HERE = Path(__file__).parent
MAX_SHOWN = 50  # of the jobs that wait, the next; of those that have ended, the newest
LOG_BYTES, LOG_LINES = 8192, 20

# No script runs, nothing is loaded from elsewhere, no page of others holds this one in a frame.
HEADERS = [
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def make_app(settings: Settings, now: Callable[[], float] = time.time) -> Wsgi:
    """The dashboard of the spool that `settings` names; `now` is the clock that the page shows."""
    app = bottle.Bottle()
    page = bottle.SimpleTemplate(name="queue", lookup=[str(HERE / "templates")])

    def queue() -> str:
        text: str = page.render(
            settings=settings,
            now=now(),
            clock=clock,
            printable=printable,
            log=log_tail(settings.folder),
            **tables(View(settings.folder)),
        )
        bottle.response.content_type = "text/html; charset=utf-8"
        bottle.response.set_header("Cache-Control", "no-store")
        return text

    def static(name: str) -> Any:
        return bottle.static_file(name, root=str(HERE / "static"))

    app.route("/", callback=queue)
    app.route("/static/<name>", callback=static)
    return guarded(app, ("127.0.0.1", "localhost", "[::1]", settings.web.host))


def guarded(app: Wsgi, hosts: tuple[str, ...]) -> Wsgi:
    """`app` for requests that name one of `hosts`, with HEADERS on every answer.

    A page of another site whose name suddenly leads to this machine (DNS rebinding) sends that name as Host.
    """

    def guard(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, headers + HEADERS, exc_info)

        host = str(environ.get("HTTP_HOST", ""))
        if without_port(host) in hosts:
            return app(environ, start)
        start("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"This dashboard answers to: " + ", ".join(hosts).encode() + b"\n"]

    return guard


def without_port(host: str) -> str:
    """The name in a Host header: `localhost:8080` and `[::1]:8080` without their port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def tables(view: View) -> dict[str, Any]:
    """What the page shows: all jobs that run, the next that wait, the newest that ended, and how many."""
    waiting = view.waiting()
    return {
        "running": view.active(),
        "waiting": waiting[:MAX_SHOWN],
        "number_waiting": len(waiting),
        "ended": view.ended(MAX_SHOWN),
        "number_ended": view.count(Place.DONE) + view.count(Place.LOST),
    }


def log_tail(folder: str) -> list[str]:
    """The last lines of the daemon's log, none if there is no log yet."""
    try:
        tail = read_tail(SpoolPaths(folder).log, LOG_BYTES)
    except OSError:
        return []
    return tail.decode("utf-8", "replace").splitlines()[-LOG_LINES:]


def clock(seconds: float | None) -> str:
    """A moment in the time of this machine, empty for one that has not come."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""
