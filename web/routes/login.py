"""Logging in and out.

Invariants: a login begins a session of its own, never one that the browser has brought along. Whether a name is known
cannot be told from the answer, nor from how long it takes. The way back leads into this dashboard only.
"""

from __future__ import annotations

import logging
import math
import re
from urllib.parse import urlsplit

import bottle

from qm.vocabulary.errors import ConfigError
from qm.vocabulary.text import printable
from qm_web.gate.users import Busy
from qm_web.site import Site, refuse

WRONG = "That name and password do not belong together."
BUSY = "Too many logins at once; try again in a moment."
OLD = "This form was too old. Please log in again."
MAX_FORM = 16 << 10
LOG = logging.getLogger("qm_web.routes.login")
LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")


def routes(app: bottle.Bottle, site: Site) -> None:
    """The addresses of this module."""
    app.get("/login", callback=lambda: ask(site))
    app.post("/login", callback=lambda: log_in(site))
    app.post("/logout", callback=lambda: log_out(site))


def ask(site: Site, status: int = 200, message: str = "", wait: float = 0.0) -> str:
    """The form. `wait` is how many seconds to wait before the next try."""
    bottle.response.status = status
    if wait > 0:
        bottle.response.set_header("Retry-After", str(math.ceil(wait)))
    given = bottle.request.forms if bottle.request.method == "POST" else bottle.request.query
    return site.page(
        "login.tpl",
        message=message,
        name=(given.getunicode("name") or "")[:64],
        back=local(given.getunicode("back") or ""),
        users=site.access.users is not None,
    )


def log_in(site: Site) -> str:
    """Begin a session and go back to the page that asked for a login; else the form again."""
    request = bottle.request
    if request.content_length > MAX_FORM:
        refuse(413, "that is too long for a login")
    root, back = request.environ["SCRIPT_NAME"], local(request.forms.getunicode("back") or "")
    try:
        site.access.check_form(request)
    except bottle.HTTPError:  # a form from before a login in another tab, or of a session that is over
        return go(root + back) if site.visitor().name else ask(site, 403, OLD)
    users, limits = site.access.users, site.access.limits
    if users is None:
        return ask(site, 404)
    name, password = request.forms.getunicode("name") or "", request.forms.getunicode("password") or ""
    address = str(request.environ.get("REMOTE_ADDR", ""))
    wait = limits.begin(address, name)
    if wait > 0:
        LOG.warning("refused a login from %s: too many failed", printable(address))
        message = f"Too many wrong logins. Try again in {in_words(wait)}."
        return ask(site, 429, message, wait)
    try:
        user = users.check(name, password)
    except Busy:
        limits.undone(address, name)
        return ask(site, 429, BUSY, 1.0)
    except ConfigError:
        limits.undone(address, name)
        raise
    if user is None:  # what is no user's name may be a password, typed into the wrong field
        who = printable(name) if name in users.listed().users else "an unknown name"
        LOG.warning("failed login of %s from %s", who, printable(address))
        return ask(site, 403, WRONG)
    limits.succeeded(address, name)
    session = site.access.sessions.begin(user.name, user.stamp)
    bottle.response.add_header("Set-Cookie", site.access.set_cookie(session, root))
    return go(root + back)


def log_out(site: Site) -> str:
    """End the session, so that its cookie is worth nothing any more, even to somebody who has copied it."""
    request = bottle.request
    site.access.check_form(request)
    session = request.environ["qm.session"]
    if session.name:
        site.access.sessions.end(session)
    root = request.environ["SCRIPT_NAME"]
    bottle.response.add_header("Set-Cookie", site.access.drop_cookie(root))
    return go(f"{root}/login" if site.access.users is not None else f"{root}/")


def go(address: str) -> str:
    """Answer by sending the browser to an address of ours."""
    bottle.response.status = 303
    bottle.response.set_header("Location", address)
    bottle.response.set_header("Cache-Control", "no-store")
    bottle.response.content_type = "text/plain; charset=utf-8"
    return ""


def local(back: str) -> str:
    """The way back below the prefix, `/` if it would lead anywhere else: `//host`, `/\\host`, `https:…`."""
    if not LOCAL.fullmatch(back) or len(back) > 2000 or not back.isascii():
        return "/"
    path = urlsplit(back).path
    return "/" if path in ("/login", "/logout") else back


def in_words(seconds: float) -> str:
    """A wait, for people."""
    whole = math.ceil(seconds)
    if whole < 120:
        return f"{whole} second{'s' if whole != 1 else ''}"
    return f"{math.ceil(whole / 60)} minutes"
