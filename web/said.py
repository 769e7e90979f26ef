"""What became of a form, told once on the page that the browser is sent to next.

Invariant: the sentence travels in a cookie that only this process can have written (HMAC-SHA256, RFC 2104), is
good for a minute, and is gone when it was shown; a text that somebody else put there is never shown.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import time
from collections.abc import Callable

import bottle

from qm_web.gate.access import cookies

COOKIE = "qm_said"
LIFE = 60.0
"""Seconds for which a sentence waits to be shown."""
LONGEST = 700
"""Characters: of four bytes each, in base 64, they stay below the 4,096 that browsers keep of a cookie (RFC 6265)."""
_CONFIG = "qm.said"


class Notes:
    """Writes and reads the cookie. `now` is the clock in UTC epoch seconds, `key` the secret of this process."""

    def __init__(self, now: Callable[[], float] = time.time, key: bytes | None = None) -> None:
        self._now = now
        self._key = key or os.urandom(32)

    def leave(self, text: str) -> None:
        """Show this on the page that the present answer leads to."""
        if len(text) > LONGEST:
            text = text[: LONGEST - 1] + "…"
        value = self.sign(text)
        request = bottle.request
        secure = request.environ.get("wsgi.url_scheme") == "https"
        bottle.response.set_cookie(
            COOKIE, value, path=_path(), max_age=int(LIFE), httponly=True, samesite="lax", secure=secure
        )

    def take(self) -> str:
        """What was left for this page, "" for nothing; it is not shown again.

        A script that fetches the page to refresh it (header QM-Refresh) takes nothing away.
        """
        request = bottle.request
        value = "".join(cookies(request.environ, COOKIE)[:1])  # Bottle fails for all when a name is not RFC 6265's
        if not value or request.method != "GET" or request.get_header("QM-Refresh"):
            return ""
        bottle.response.delete_cookie(COOKIE, path=_path())
        return self.verify(value)

    def sign(self, text: str) -> str:
        """The cookie's value for a text."""
        plain = json.dumps([self._now() + LIFE, text], ensure_ascii=False).encode("utf-8", "replace")
        payload = base64.urlsafe_b64encode(plain).decode("ascii")
        return f"{payload}.{self._seal(payload)}"

    def verify(self, value: str) -> str:
        """The text in a cookie's value; "" if it is too old, or not ours."""
        payload, _, seal = value.partition(".")
        if not value.isascii() or not hmac.compare_digest(seal, self._seal(payload)):
            return ""
        until, text = json.loads(base64.urlsafe_b64decode(payload))
        return str(text) if self._now() < until else ""

    def _seal(self, payload: str) -> str:
        return hmac.new(self._key, payload.encode(), "sha256").hexdigest()


def prepare(app: bottle.Bottle, now: Callable[[], float]) -> None:
    """Give an application its Notes."""
    app.config[_CONFIG] = Notes(now)


def leave(text: str) -> None:
    """Show this on the page that the present answer leads to."""
    bottle.request.app.config[_CONFIG].leave(text)


def said() -> str:
    """For the layout of every page: what became of the form that was just sent, "" for nothing."""
    notes = bottle.request.app.config.get(_CONFIG)
    return notes.take() if notes is not None else ""


def _path() -> str:
    return str(bottle.request.environ.get("SCRIPT_NAME", "")) + "/"
