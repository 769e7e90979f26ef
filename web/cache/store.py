"""A cache in SQLite that may vanish at any moment.

Invariants: the file belongs to this program alone while it is open (a second dashboard on the same spool finds it
locked and keeps its own in memory), lies never in the spool (SQLite's locks fail on NFS), and holds nothing that cannot
be read again: a file that is corrupt, older, or another spool's is thrown away, and where no file can be had or its
disk is full the same tables live in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator

MEMORY = ":memory:"
APPLICATION = 0x514D5742
"""`PRAGMA application_id` of our files: the bytes QMWB."""
_BOOKS = "CREATE TABLE about (spool BLOB)"
_CACHE = 8192
"""KiB of the file that SQLite keeps in memory."""


class CacheLost(Exception):
    """The cache broke while it was in use. An empty one stands in its place: what was in it is to be read again."""


def cache_path(root: str, kind: str = "") -> str:
    """The file for one spool below `$XDG_CACHE_HOME`, or `~/.cache`; `:memory:` if there is no such folder."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        return MEMORY
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:20]
    return f"{base}/qm/{name}{kind}.sqlite"


class Store:
    """One database and the lock that its users take turns with.

    `schema` makes its tables, `version` is their format's number, `spool` the folder they are about.
    """

    def __init__(self, path: str, schema: str, version: int, spool: str) -> None:
        self._schema = schema
        self._version = version
        self._spool = _identity(spool)
        self._lock = threading.RLock()
        self.path = path
        self._db = self._open(path)

    def __del__(self) -> None:
        if hasattr(self, "_db"):
            self._db.close()

    def close(self) -> None:
        """Give the file free. What is asked for after that raises sqlite3.ProgrammingError."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The database, for queries; other threads wait. CacheLost if it is broken."""
        with self._lock:
            try:
                yield self._db
            except sqlite3.DatabaseError as err:
                self._give_up(err)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The same with all changes made, or none. On a full disk they go on in memory. CacheLost if it is broken."""
        with self._lock:
            try:
                with self._db:
                    self._db.execute("BEGIN")
                    yield self._db
            except sqlite3.DatabaseError as err:
                self._give_up(err)

    def _give_up(self, err: sqlite3.DatabaseError) -> None:
        """Go on in memory. CacheLost, since what the caller was about is not done."""
        if isinstance(err, sqlite3.ProgrammingError | sqlite3.IntegrityError) or self.path == MEMORY:
            raise err
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        if not isinstance(err, sqlite3.OperationalError):
            _remove(self.path)  # it is corrupt: the next program begins anew
        self.path = MEMORY
        self._db = self._make(MEMORY)
        raise CacheLost(str(err)) from err

    # --- opening -------------------------------------------------------------------------------------------

    def _open(self, path: str) -> sqlite3.Connection:
        """The file if it is ours and sound, else a new one, else memory."""
        for _ in range(2):
            if path == MEMORY:
                break
            try:
                _make_private(path)
                return self._make(path)
            except (sqlite3.OperationalError, OSError):  # locked by another dashboard, or not ours to write
                break
            except sqlite3.DatabaseError:
                _remove(path)
        self.path = MEMORY
        return self._make(MEMORY)

    def _make(self, path: str) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA synchronous = OFF")  # quick_check tells after a power cut
            db.execute(f"PRAGMA cache_size = -{_CACHE}")
            db.execute("PRAGMA page_size = 16384")  # a scan for a text reads them all
            db.execute("PRAGMA temp_store = MEMORY")
            if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] not in ("wal", "memory"):
                raise sqlite3.OperationalError("no write-ahead log here")
            db.execute("BEGIN IMMEDIATE")
            empty = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if empty:
                self._fill(db)
            else:
                self._check(db)
            db.execute("COMMIT")
        except (sqlite3.Error, OSError):
            db.close()
            raise
        return db

    def _fill(self, db: sqlite3.Connection) -> None:
        for statement in (_BOOKS, *_statements(self._schema)):
            db.execute(statement)
        db.execute("INSERT INTO about VALUES (?)", (self._spool,))
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {self._version}")

    def _check(self, db: sqlite3.Connection) -> None:
        """DatabaseError if the file is another program's, of another format, about another folder, or damaged."""
        ours = db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION
        if not ours or db.execute("PRAGMA user_version").fetchone()[0] != self._version:
            raise sqlite3.DatabaseError("another format")
        if db.execute("SELECT spool FROM about").fetchone() != (self._spool,):
            raise sqlite3.DatabaseError("about another spool")
        if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("damaged")


def _statements(schema: str) -> Iterator[str]:
    """The statements of a schema, which are parted by blank lines (a trigger has semicolons inside)."""
    return (part for part in schema.strip().split("\n\n") if part.strip())


def _identity(spool: str) -> bytes:
    """A folder's path and inode: a spool that was deleted and made again is another one."""
    try:
        inode = os.stat(spool).st_ino
    except OSError:
        inode = 0
    return os.fsencode(os.path.realpath(spool)) + b"\0%d" % inode


def _make_private(path: str) -> None:
    """Make the file, readable for nobody else, and the folders above it. Raises OSError."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    os.close(os.open(path, flags, 0o600))


def _remove(path: str) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            os.unlink(path + suffix)
