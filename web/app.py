"""The dashboard as a WSGI application, put together from its pages.

It meets the daemon only in the spool: it reads the folders, and leaves requests in them. What every answer has
in common (who may ask, headers, errors) is here and in `guard`; each page module adds its own addresses.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from html import escape
from typing import Any

import bottle

from qm.spool.view import View
from qm.vocabulary.config import Settings
from qm.vocabulary.errors import NoSuchJob, QMError, TryAgain
from qm_web.cache.index import Index
from qm_web.cache.past import Past
from qm_web.cache.taskbook import TaskBook
from qm_web.gate.access import Access
from qm_web.gate.guard import Guard, guarded
from qm_web.live import Live
from qm_web.routes import actions, api, charts, files, jobpage, login, logs, metrics, old, overview, submit, tasks
from qm_web.site import STATIC, Site

PAGES = (overview, jobpage, logs, tasks, files, submit, charts, actions, api, metrics, login, old)
STATIC_AGE = 300
"""Seconds that a browser may keep styles and scripts without asking; after that it asks with their ETag."""


def make_app(settings: Settings, now: Callable[[], float] = time.time, cache: str | None = None) -> Guard:
    """The dashboard of the spool that `settings` names; `now` is the clock, `cache` the index's file if not its own."""
    view = View(settings.folder)
    access = Access(settings, now)
    index = Index(view, cache)
    live = Live(settings, view, index, now=now)
    site = Site(settings, view, index, Past(view.paths.history, cache), TaskBook(), live, access, now)
    app = bottle.Bottle()
    app.catchall = True
    app.default_error_handler = lambda error: answer_error(site, error)
    app.install(told_as_http)
    app.get("/static/<name:path>", callback=static_file)
    for page in PAGES:
        page.routes(app, site)
    index.refresh()  # what takes long goes on behind, and is done when the first visitor comes
    return guarded(app, settings, access)


def static_file(name: str) -> Any:
    """A style, a script or a picture of the dashboard itself."""
    answer = bottle.static_file(name, root=STATIC)
    answer.set_header("Cache-Control", f"max-age={STATIC_AGE}")
    return answer


def told_as_http(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A plugin: what the spool refuses is told with the status that fits."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return callback(*args, **kwargs)
        except NoSuchJob as err:
            raise bottle.HTTPError(404, str(err)) from err
        except TryAgain as err:
            raise bottle.HTTPError(503, str(err)) from err
        except QMError as err:
            raise bottle.HTTPError(400, str(err)) from err

    return call


def answer_error(site: Site, error: bottle.HTTPError) -> str:
    """One sentence for the person who asked: JSON below /api/, else a page. What went wrong inside is logged."""
    message = str(error.body or error.status_line)
    if error.exception is not None and error.status_code >= 500:
        logging.getLogger("qm_web").error("%s", bottle.request.path, exc_info=error.exception)
        message = f"the dashboard made a mistake: {type(error.exception).__name__}; its log says more"
        if site.settings.web.debug:
            message += f"\n{error.traceback}"
    if bottle.request.path.startswith("/api/"):
        bottle.response.content_type = "application/json"
        return json.dumps({"error": message})
    if "qm.visitor" not in bottle.request.environ:  # refused before anybody was looked at
        return f"<!DOCTYPE html><title>QM</title><p>{escape(message)}</p>"
    return site.page("error.tpl", status=error.status_line, message=message)
