"""Under which addresses this dashboard may be asked, and from which pages it may be changed.

Invariant: a page of another site can make a browser send requests here, but not with one of our names as Host (its
own name may lead to this machine for a while: DNS rebinding), and not with our address as Origin.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from qm.vocabulary.config import WebSettings

Environ = dict[str, Any]
Origin = tuple[str, str, int]
"""Scheme, host in lower case, port."""

PORTS = {"http": 80, "https": 443}
NAMED = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:/@\s]+)(?::([0-9]{1,5}))?")


def own_names() -> frozenset[str]:
    """The names of this machine, short and with its domain. May take seconds where no name server answers."""
    name = socket.gethostname()
    return frozenset(found.lower().rstrip(".") for found in (name, socket.getfqdn(name)) if found)


class Hosts:
    """The names of one dashboard."""

    def __init__(self, web: WebSettings, own: Callable[[], frozenset[str]] = own_names) -> None:
        self._own = own
        self.public = origin_of(web.public_url) if web.public_url else None
        configured = {web.host.lower().strip("[]").rstrip("."), *((self.public[1],) if self.public else ())}
        self._known = frozenset({"localhost", *configured})

    @cached_property
    def _names(self) -> frozenset[str]:  # asked for when a name comes that is not known otherwise
        return self._known | self._own()

    def accepts(self, host: str) -> bool:
        """May a request have this Host? An address may: only a name can be led elsewhere."""
        parts = split_host(host)
        if parts is None:
            return False
        name = parts[0]
        return is_address(name) or name in self._known or name in self._names

    def accepted(self) -> str:
        """What is accepted, for people."""
        return ", ".join((*sorted(self._names), "and addresses such as 127.0.0.1"))

    def foreign(self, environ: Environ) -> str:
        """Why this request, which changes something, seems to come from another site's page; "" if it does not.

        Programs other than browsers send none of these headers; they need the token all the same.
        """
        if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") not in ("same-origin", "none"):
            return "the browser says that another site's page sent it (Sec-Fetch-Site)"
        sent = environ.get("HTTP_ORIGIN")
        if sent is None:
            sent = environ.get("HTTP_REFERER")
        if sent is None:
            return ""
        origin = origin_of(str(sent))
        if origin is None or origin not in self._origins(environ):
            return "Origin or Referer is not the address that was asked"
        return ""

    def _origins(self, environ: Environ) -> tuple[Origin | None, ...]:
        asked = origin_of(f"http://{environ.get('HTTP_HOST', '')}")  # TLS is a proxy's, at Public_URL
        return (asked, self.public)


def split_host(host: str) -> tuple[str, int | None] | None:
    """Name (lower case, no brackets, no dot at its end) and port of a Host header; None if it is none."""
    found = NAMED.fullmatch(host)
    if found is None:
        return None
    port = int(found[2]) if found[2] else None
    return found[1].lower().strip("[]").rstrip("."), port


def origin_of(address: str) -> Origin | None:
    """Where an address leads to; None for `null`, and for anything that is not http or https."""
    try:
        scheme, netloc = urlsplit(address)[:2]
    except ValueError:
        return None
    parts = split_host(netloc)
    if scheme not in PORTS or parts is None:
        return None
    return scheme, parts[0], parts[1] or PORTS[scheme]


def is_address(name: str) -> bool:
    """Is that an IP address?"""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
