"""What an archive is made of, whatever its format, and how a damaged one is told.

Invariant: nothing that a library raises about an archive's contents gets past `whole` but as ArchiveError.
"""

from __future__ import annotations

import gzip
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from qm.vocabulary.errors import QMError
from qm.vocabulary.text import printable

PIECE = 1 << 18
"""Bytes that are read at once."""

FOLDER, FILE, LINK, SAME = "folder", "file", "link", "same"

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    gzip.BadGzipFile,
    struct.error,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    NotImplementedError,
)


class ArchiveError(QMError):
    """An archive is damaged, or holds what does not belong into a job; the text says what and where."""


class Readable(Protocol):
    """What contents are read from, in pieces."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Member:
    """One thing in an archive, under the name it has there.

    `kind` is folder, file, link, or same (a hard link); `target` is where the latter two lead. `mode` has the
    permissions, None where the archive knows none; `mtime` is UTC epoch seconds, `size` bytes.
    """

    name: str
    kind: str
    size: int
    mode: int | None
    mtime: float
    target: str
    holes: bool
    open: Callable[[], Readable]


@contextmanager
def whole() -> Iterator[None]:
    """Turn what the libraries raise about a damaged archive into ArchiveError."""
    try:
        yield
    except _BROKEN as err:
        raise ArchiveError(
            f"the archive is damaged or not complete ({printable(str(err)) or type(err).__name__})"
        ) from err
    except OSError as err:
        if err.errno is None:  # gzip, bz2: damaged; what the system says has a number
            raise ArchiveError(f"the archive is damaged or not complete ({printable(str(err))})") from err
        raise


def too_many(most: int) -> ArchiveError:
    """What is said of an archive with more than `most` members."""
    return ArchiveError(f"the archive has more than {most} files and folders (Max_Files in QMserv.cfg)")


def shown(name: str) -> str:
    """A name as it is told: on one line, not too long."""
    text = printable(name)
    return f"'{text if len(text) <= 200 else text[:200] + '…'}'"
