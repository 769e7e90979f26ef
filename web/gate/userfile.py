"""Users_File: who may log in, and with which tokens scripts may ask.

One line a user or token, words separated by blanks; `#` begins a comment:

    user  NAME  ROLE  scrypt:N:R:P  SALT  HASH        ROLE is view or operate; SALT and HASH are base64url
    token NAME  ROLE  sha256        HASH              HASH is hexadecimal

Invariant: the file is written whole, for its owner alone, and one that others may read or write, or that has a line
which is not understood, is refused. Passwords and tokens themselves stand nowhere.

A password is kept as scrypt (RFC 7914) makes it, with N=2^14, r=8, p=5: 16 MiB and some tenths of a second, one of
the settings that OWASP's Password Storage Cheat Sheet gives as least. A token is 256 random bits: one SHA-256 will do.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from qm.spool.files import write_whole
from qm.vocabulary.errors import ConfigError, RequestError
from qm_web.gate.roles import Role
from qm_web.gate.sessions import fingerprint

N, R, P = 1 << 14, 8, 5
MEMORY = 64 << 20
MAX_FILE = 1 << 20
MAX_PASSWORD = 1024
MIN_PASSWORD = 8
TOKEN_MARK = "qm_"
ROLES = {"view": Role.VIEW, "operate": Role.OPERATE}
NAME = re.compile(r"[\w.@+-]{1,64}")
HEADING = """\
# Users and tokens of the dashboard of a QM spool. Change it with `qm web adduser`, `deluser` and `token`.
# user NAME ROLE scrypt:N:R:P SALT HASH   or   token NAME ROLE sha256 HASH; ROLE is view or operate.
"""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in."""

    name: str
    role: Role
    n: int
    r: int
    p: int
    salt: bytes
    hash: bytes

    @property
    def stamp(self) -> str:
        """Another one after each change of the password."""
        return fingerprint(f"{self.salt.hex()} {self.hash.hex()}")

    def line(self) -> str:
        """This user in the file."""
        words = ("user", self.name, self.role.name.lower(), f"scrypt:{self.n}:{self.r}:{self.p}")
        return " ".join((*words, _encode(self.salt), _encode(self.hash)))


@dataclass(frozen=True, slots=True)
class Token:
    """What a script shows instead of a password; `digest` is the SHA-256 of it."""

    name: str
    role: Role
    digest: str

    def line(self) -> str:
        """This token in the file."""
        return f"token {self.name} {self.role.name.lower()} sha256 {self.digest}"


@dataclass(frozen=True, slots=True)
class Listed:
    """What the file says."""

    users: dict[str, User] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)

    def token(self, secret: str) -> Token | None:
        """The token that a script has shown."""
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
        found = [token for token in self.tokens.values() if hmac.compare_digest(token.digest, digest)]
        return found[0] if found else None


def make_user(name: str, role: Role, password: str, scrypt: Callable[..., bytes] = hashlib.scrypt) -> User:
    """A user with this password."""
    salt = secrets.token_bytes(16)
    made = scrypt(_bytes(password), salt=salt, n=N, r=R, p=P, maxmem=MEMORY, dklen=32)
    return User(name, role, N, R, P, salt, made)


def is_password(user: User, password: str, scrypt: Callable[..., bytes] = hashlib.scrypt) -> bool:
    """Is that the password of this user?"""
    n, r, p = user.n, user.r, user.p
    made = scrypt(_bytes(password), salt=user.salt, n=n, r=r, p=p, maxmem=MEMORY, dklen=len(user.hash))
    return hmac.compare_digest(made, user.hash)


def make_token(name: str, role: Role) -> tuple[Token, str]:
    """A token, and the secret that is shown once."""
    secret = TOKEN_MARK + secrets.token_urlsafe(32)
    return Token(name, role, hashlib.sha256(secret.encode()).hexdigest()), secret


def _bytes(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogateescape")


# --- the file ------------------------------------------------------------------------------------------------


def read_users(path: str) -> Listed:
    """What the file says. ConfigError names the file and the line, and what is right."""
    try:
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            data = stream.read(MAX_FILE + 1)
    except OSError as err:
        remedy = "`qm web adduser NAME` makes it" if isinstance(err, FileNotFoundError) else "it must be readable"
        raise ConfigError(f"{path}: {err.strerror}; {remedy}") from err
    if status.st_mode & 0o077:
        raise ConfigError(f"{path}: others may read or write it (mode {status.st_mode & 0o777:04o}); `chmod 600` it")
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{path}: it belongs to uid {status.st_uid}, not to who serves; `chown` it")
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path}: larger than 1 MiB; that is no Users_File")
    return parse_users(data.decode("utf-8", "replace"), path)


def users_of(path: str) -> dict[str, User]:
    """The users in the file; none if there is no file yet."""
    return read_users(path).users if os.path.lexists(path) else {}


def parse_users(text: str, path: str) -> Listed:
    """The users and tokens of a file with this text."""
    listed = Listed()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where = f"{path}, line {number}"
        try:
            entry = _entry(words)
        except ValueError as err:
            raise ConfigError(f"{where}: {err}; mend the line, or delete it and use `qm web adduser`") from err
        group: dict[str, User] | dict[str, Token] = listed.users if isinstance(entry, User) else listed.tokens
        if entry.name in group:
            raise ConfigError(f"{where}: {words[0]} {entry.name} stands there twice; delete one of the lines")
        group[entry.name] = entry  # type: ignore[assignment]
    return listed


def _entry(words: list[str]) -> User | Token:
    """A line's user or token. ValueError says what is right."""
    if words[0] == "user" and len(words) == 6:
        method, *figures = words[3].split(":")
        if method != "scrypt" or len(figures) != 3 or not all(figure.isdigit() for figure in figures):
            raise ValueError("the password must be kept as scrypt:N:R:P SALT HASH")
        n, r, p = (int(figure[:9]) for figure in figures)
        if n not in (1 << power for power in range(10, 18)) or not (1 <= r <= 16 and 1 <= p <= 16):
            raise ValueError("scrypt takes N = 1024 to 131072, a power of 2, R and P 1 to 16")
        if 128 * n * r > MEMORY // 2:
            raise ValueError("scrypt may use 32 MiB at most")
        salt, made = _decode(words[4]), _decode(words[5])
        if len(salt) < 8 or len(made) < 16:
            raise ValueError("SALT must have 8 bytes or more, HASH 16 or more")
        return User(name_of(words[1]), _role(words[2]), n, r, p, salt, made)
    if words[0] == "token" and len(words) == 5:
        if words[3] != "sha256" or not re.fullmatch("[0-9a-f]{64}", words[4]):
            raise ValueError("a token must be kept as sha256 and 64 hexadecimal digits")
        return Token(name_of(words[1]), _role(words[2]), words[4])
    raise ValueError("a line is `user NAME ROLE scrypt:N:R:P SALT HASH` or `token NAME ROLE sha256 HASH`")


def name_of(text: str) -> str:
    """A name as it is kept. ValueError if it cannot be one."""
    name = unicodedata.normalize("NFC", text)
    if not NAME.fullmatch(name):
        raise ValueError("a name has letters, digits and . _ @ + - only, at most 64")
    return name


def _role(text: str) -> Role:
    if text not in ROLES:
        raise ValueError(f"role {text!r} is not known, there are view and operate")
    return ROLES[text]


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text.encode(), altchars=b"-_", validate=True)


def change(path: str, kind: str, name: str, entry: User | Token | None) -> None:
    """Put a user or token into the file in place of the one of that kind and name, or take it out (None).

    The file is made if need be; other lines stay as they are. RequestError if there is nothing to take out,
    ConfigError if the file cannot be used.
    """
    lines = HEADING.splitlines()
    if os.path.lexists(path):
        read_users(path)  # whatever else is wrong with it is told before it is changed
        with open(path, encoding="utf-8") as stream:
            lines = stream.read().splitlines()
    at = [number for number, line in enumerate(lines) if line.partition("#")[0].split()[:2] == [kind, name]]
    if entry is not None and not at:
        lines.append(entry.line())
    elif entry is not None:
        lines[at[0]] = entry.line()
    elif at:
        del lines[at[0]]
    else:
        raise RequestError(f"{path}: there is no {kind} {name}")
    try:
        write_whole(os.path.realpath(path), "".join(f"{line}\n" for line in lines).encode(), mode=0o600, sync=True)
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}; its folder must be writable") from err
