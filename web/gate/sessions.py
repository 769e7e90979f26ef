"""Sessions: a signed cookie says which session a browser is in, and the token that its forms must carry.

Invariant: what a cookie says is believed only if this program has signed it, less than LIFETIME ago. It is JSON,
readable by whoever has it, and holds no secret. Nothing is kept here but the ids of sessions that were ended.

A session lasts seven days from its login, however much it is used; it ends before that by logging out, by a change
of the password, and when the user is removed (see access.py).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass

from qm.spool.files import write_whole
from qm.vocabulary.errors import ConfigError

LIFETIME = 7 * 24 * 3600
"""Seconds."""

MAX_COOKIE = 2048
MAX_ENDED = 10_000
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    """A browser's session. `name` is "" before a login; `stamp` belongs to the password it was made with; `at` is
    when it began (UTC epoch seconds).
    """

    id: str
    name: str
    stamp: str
    at: int


class Sessions:
    """Makes and reads cookies with one secret. Used by several threads."""

    def __init__(self, secret: bytes, now: Callable[[], float]) -> None:
        self._secret = secret
        self._now = now
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, name: str, stamp: str) -> Session:
        """A new session for somebody who has just logged in."""
        return Session(secrets.token_urlsafe(16), name, stamp, int(self._now()))

    def anonymous(self, whose: str) -> Session:
        """The session of somebody without a login. The same browser gets the same one however often it asks at
        once, so that pages opened side by side agree about it.
        """
        return Session(
            self._sign(b"anonymous", whose.encode("utf-8", "surrogateescape"))[:22], "", "", int(self._now())
        )

    def end(self, session: Session) -> None:
        """Forget a session: its cookie is worth nothing from now on (while this program runs)."""
        with self._lock:
            self._ended[session.id] = None
            while len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)

    def seal(self, session: Session) -> str:
        """The value of the cookie of a session."""
        said = _encode(json.dumps(asdict(session), separators=(",", ":")).encode())
        return f"{said}.{self._sign(b'session', said.encode())}"

    def open(self, value: str) -> Session | None:
        """The session of a cookie; None if it is not ours, has been changed, or is over."""
        said, dot, signature = value.partition(".")
        if not dot or len(value) > MAX_COOKIE or not value.isascii():
            return None
        if not hmac.compare_digest(signature, self._sign(b"session", said.encode())):
            return None
        try:
            session = Session(**json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4))))
        except (ValueError, TypeError):  # signed by a version of this program that wrote something else
            return None
        young = -60 <= self._now() - session.at < LIFETIME
        return session if young and session.id not in self._ended else None

    def csrf(self, session: Session, whose: str) -> str:
        """The token that forms of this session carry. Nobody without our secret can make it."""
        return self._sign(b"csrf", f"{session.id}\0{session.name}\0{whose}".encode("utf-8", "surrogateescape"))

    def _sign(self, purpose: bytes, data: bytes) -> str:
        return _encode(hmac.digest(self._secret, purpose + b"\0" + data, "sha256"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def fingerprint(text: str) -> str:
    """A short name for a text, from which the text cannot be had."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def lasting_secret(path: str) -> bytes:
    """The secret kept in this file, made if there is none, so that logins outlast a restart.

    ConfigError if others may read or write it, or it cannot be made.
    """
    try:
        if not os.path.lexists(path):
            write_whole(path, secrets.token_bytes(SECRET_BYTES), mode=0o600)
        with open(path, "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            secret = stream.read(SECRET_BYTES + 1)
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}; the dashboard keeps the secret that signs logins there") from err
    if mode & 0o077:
        raise ConfigError(f"{path}: others may read or write it; delete it (all log in again), or `chmod 600` it")
    if len(secret) != SECRET_BYTES:
        raise ConfigError(f"{path}: it has not {SECRET_BYTES} bytes; delete it, and a new one is made")
    return secret
