"""Who may log in, as the Users_File says at this moment.

Invariant: a change of the file holds from the next request on. If the file is gone or broken meanwhile, nobody is in.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import unicodedata
from collections.abc import Callable

from qm.vocabulary.errors import ConfigError
from qm_web.gate.roles import Role
from qm_web.gate.userfile import MAX_PASSWORD, Listed, N, P, R, User, is_password, read_users


class Busy(Exception):
    """Too many passwords wait to be checked; nothing is said about this one."""


class Users:
    """A users file that is read again whenever it has changed. Used by several threads."""

    MAX_WAITING = 3

    def __init__(self, path: str, scrypt: Callable[..., bytes] = hashlib.scrypt) -> None:
        self.path = path
        self._scrypt = scrypt
        self._seen: tuple[int, int, int] | None = None
        self._listed = Listed()
        self._lock = threading.Lock()
        self._one = threading.Lock()
        self._waiting = threading.BoundedSemaphore(self.MAX_WAITING)
        self._nobody = User("nobody", Role.NOBODY, N, R, P, secrets.token_bytes(16), secrets.token_bytes(32))

    def listed(self) -> Listed:
        """What the file says now. ConfigError if it cannot be used."""
        with self._lock:
            try:
                found = os.stat(self.path)
            except OSError as err:
                raise ConfigError(f"{self.path}: {err.strerror}; `qm web adduser NAME` makes it") from err
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                self._listed = read_users(self.path)
                self._seen = seen
            return self._listed

    def check(self, name: str, password: str) -> User | None:
        """The user, if that is the password. As slow for an unknown name as for a wrong password.

        One password is worked on at a time, so that logins leave the other processors alone. Raises Busy.
        """
        user = self.listed().users.get(unicodedata.normalize("NFC", name))
        if not self._waiting.acquire(blocking=False):
            raise Busy
        try:
            with self._one:
                right = is_password(user or self._nobody, password[:MAX_PASSWORD], self._scrypt)
        finally:
            self._waiting.release()
        return user if right else None
