"""Who asks, and what they may do.

A visitor is, in this order, whoever owns the API token that is shown, whoever logged in to the session of the cookie,
or somebody unknown. Without a Users_File, somebody unknown who asks from this machine is known by the uid of the
program at the other end (peers.py): our own and root may operate. Everybody else may what `Anonymous` says.

Invariants: a token that is not known is refused, never overlooked. A role is that of the file now, not of the time of
login. A POST whose form has not been checked yet (`check_form`) has at most the role VIEW.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bottle

from qm.vocabulary.config import Settings
from qm_web.gate import peers
from qm_web.gate.limits import Limits
from qm_web.gate.roles import Role, Visitor
from qm_web.gate.sessions import LIFETIME, Session, Sessions, lasting_secret
from qm_web.gate.users import Users

__all__ = ["Access", "Admission", "Role", "UnknownToken", "Visitor"]

Environ = dict[str, Any]

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA")
"""A request with one of these comes from a proxy, not from the program that is connected."""

FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class UnknownToken(Exception):
    """A request shows an API token that the Users_File does not know."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What is known of a request: the visitor, their session, whether it has no cookie yet, and whether a token was
    shown (then no page of another site can have sent it).
    """

    visitor: Visitor
    session: Session
    new: bool = False
    token: bool = False


class Access:
    """Finds out who asks. Used by several threads; reads the Users_File when that has changed.

    ConfigError if the secret beside the Users_File (its name and `.key`) cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], float] = time.time,
        secret: bytes | None = None,
        uid_of: Callable[[str, int, str, int], int | None] = peers.uid_of,
    ) -> None:
        web = settings.web
        self.users = Users(web.users_file) if web.users_file else None
        self.limits = Limits(now)
        if secret is None:
            secret = lasting_secret(f"{web.users_file}.key") if web.users_file else os.urandom(32)
        self.sessions = Sessions(secret, now)
        self.secure = web.public_url.startswith("https:")
        # Cookies know no ports, so another dashboard of this host must have one of another name.
        which = f"{settings.folder}\0{web.host}\0{web.port}\0{web.public_url}".encode("utf-8", "surrogateescape")
        self.cookie = f"qm_{hashlib.sha256(which).hexdigest()[:8]}"
        self._stranger = Role.VIEW if web.anonymous == "view" else Role.NOBODY
        self._knows_uids = self.users is None and not web.public_url
        self._uid_of = uid_of

    # --- who asks ------------------------------------------------------------------------------------------

    def admit(self, environ: Environ) -> Admission:
        """Who sent this request. UnknownToken; ConfigError if the Users_File has become unusable."""
        secret = bearer(environ)
        if secret is not None:
            return self._by_token(environ, secret)
        for value in cookies(environ, self.cookie):
            session = self.sessions.open(value)
            if session is not None and (admission := self._by_session(environ, session)) is not None:
                return admission
        role, uid = self._ambient(environ)
        address, agent = environ.get("REMOTE_ADDR", ""), environ.get("HTTP_USER_AGENT", "")
        session = self.sessions.anonymous(f"{address}\0{agent}")
        return Admission(Visitor("", role, self.sessions.csrf(session, uid)), session, new=True)

    def _by_token(self, environ: Environ, secret: str) -> Admission:
        token = self.users.listed().token(secret) if self.users is not None else None
        if token is None:
            raise UnknownToken
        session = self.sessions.anonymous(f"token\0{token.digest}")
        visitor = Visitor(token.name, token.role, self.sessions.csrf(session, "token"))
        return Admission(visitor, session, token=True)

    def _by_session(self, environ: Environ, session: Session) -> Admission | None:
        if not session.name:
            role, uid = self._ambient(environ)
            return Admission(Visitor("", role, self.sessions.csrf(session, uid)), session)
        user = self.users.listed().users.get(session.name) if self.users is not None else None
        if user is None or not hmac.compare_digest(user.stamp, session.stamp):
            return None  # removed, or the password is another one
        return Admission(Visitor(user.name, user.role, self.sessions.csrf(session, "")), session)

    def _ambient(self, environ: Environ) -> tuple[Role, str]:
        """What somebody unknown may do, and a word for who they are (a token for forms is theirs alone)."""
        address = str(environ.get("REMOTE_ADDR", ""))
        if not self._knows_uids or not is_loopback(address) or any(name in environ for name in FORWARDED):
            return self._stranger, "stranger"
        uid = self._peer(environ, address)
        if uid is None or uid in (os.geteuid(), 0):
            return Role.OPERATE, "same"
        return self._stranger, f"uid {uid}"

    def _peer(self, environ: Environ, address: str) -> int | None:
        """The uid of the program at the other end (see peers.uid_of); None, too, for a server that does not tell."""
        connection: peers.Connection | None = environ.get("qm.connection")
        if connection is None:
            return None
        if connection.uid is None:
            port, ours = int(environ["REMOTE_PORT"]), int(environ["SERVER_PORT"])
            connection.uid = self._uid_of(address, port, connection.here, ours)
        return connection.uid

    # --- forms ---------------------------------------------------------------------------------------------

    def check_form(self, request: bottle.LocalRequest) -> None:
        """The form of this POST must have come from a page of ours, in the visitor's session: else HTTPError 403.

        Only after this has the visitor the role that is theirs (see qm_web.gate.guard.guarded).
        """
        full: Visitor | None = request.environ.get("qm.unchecked")
        if full is None:
            return  # the guard has seen the token in the header already
        given = request.forms.getunicode("csrf") or ""
        if not self.is_csrf(given, full):
            raise bottle.HTTPError(403, NOT_OURS)
        request.environ["qm.visitor"] = full
        del request.environ["qm.unchecked"]

    @staticmethod
    def is_csrf(given: str, visitor: Visitor) -> bool:
        """Is that the token of the visitor's session?"""
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), visitor.csrf.encode())

    # --- cookies -------------------------------------------------------------------------------------------

    def set_cookie(self, session: Session, root: str) -> str:
        """The Set-Cookie header that begins a session, for addresses below `root` (the proxy's prefix)."""
        return self._header(self.sessions.seal(session), root, LIFETIME)

    def drop_cookie(self, root: str) -> str:
        """The Set-Cookie header that makes the browser forget its session."""
        return self._header("", root, 0)

    def _header(self, value: str, root: str, age: int) -> str:
        secure = "; Secure" if self.secure else ""
        return f"{self.cookie}={value}; Path={root or '/'}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"


NOT_OURS = "this form does not belong to your session (any more): load the page again and repeat what you did"


def bearer(environ: Environ) -> str | None:
    """The API token that a request shows; None if it shows none (Basic is a proxy's own affair)."""
    scheme, _, secret = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def cookies(environ: Environ, name: str) -> list[str]:
    """The values of all cookies of that name: another program of this host may have set one, too."""
    pairs = (pair.strip().partition("=") for pair in str(environ.get("HTTP_COOKIE", "")).split(";"))
    return [value.strip('"') for key, _, value in pairs if key == name][:4]


def is_loopback(address: str) -> bool:
    """Is that an address which only this machine can have asked from?"""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback
