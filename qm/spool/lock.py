"""One daemon a spool: a lock that the system drops when its holder dies.

Invariant: whoever holds the lock is the only one that claims or files jobs. The file's text (pid, host,
start) is for people; the lock itself is flock(2), so it works on one host and between Linux hosts over NFS.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from dataclasses import dataclass

from qm.vocabulary.errors import ConfigError, TryAgain

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock; `started` in UTC epoch seconds."""

    pid: int
    host: str
    started: float


class Lock:
    """The daemon's hold on its spool."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd: int | None = None

    def take(self, patience: float = 0.5) -> None:
        """Take the lock; TryAgain names the holder. Patience (seconds) outlasts programs that only look.

        ConfigError: the file cannot be opened, or its file system has no locks.
        """
        try:
            self._take(time.monotonic() + patience)
        except OSError as err:
            raise ConfigError(f"cannot lock {self.path}: {err.strerror}; the daemon must be able to") from err

    def _take(self, deadline: float) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
            try:
                locked = _flock(fd, exclusive=True)
            except OSError:
                os.close(fd)
                raise
            if locked:
                self._fd = fd
                if self.still_ours():
                    break
                self._fd = None  # somebody deleted the file between our open and our lock
            os.close(fd)
            if time.monotonic() > deadline:
                raise TryAgain(_sentence(read_holder(self.path), self.path))
            time.sleep(0.02)
        holder = Holder(os.getpid(), socket.gethostname(), time.time())
        with contextlib.suppress(OSError):  # a full disk: the text is for people
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps([holder.pid, holder.host, holder.started]).encode() + b"\n", 0)

    def still_ours(self) -> bool:
        """Is the file that we hold still the one under the name? (Somebody may have deleted `.qm/`.)"""
        if self._fd is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._fd), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go; the file stays."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def holder_of(path: str) -> Holder | None:
    """Who holds the lock right now, or None."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        if _flock(fd, exclusive=False):
            return None
        return read_holder(path)
    finally:
        os.close(fd)


def read_holder(path: str) -> Holder:
    """What the lock file says; zeros where it says nothing yet."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        with open(path, encoding="utf-8") as file:
            pid, host, started = json.load(file)
        return Holder(int(pid), str(host), float(started))
    return Holder(0, "", 0.0)


def _sentence(holder: Holder, path: str) -> str:
    who = f"pid {holder.pid} on host {holder.host}" if holder.pid else f"see {path}"
    return f"another QueueManager already serves this spool ({who}); stop it first, or use it: `qm status`"


def _flock(fd: int, exclusive: bool) -> bool:
    if fcntl is None:  # no flock: msvcrt locks one byte far behind the text
        return _lock_windows(fd, exclusive)
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as err:
        if exclusive and err.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def _lock_windows(fd: int, exclusive: bool) -> bool:  # pragma: no cover (not tested: no Windows machine)
    import msvcrt

    os.lseek(fd, 1 << 20, os.SEEK_SET)
    try:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        if not exclusive:
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True
