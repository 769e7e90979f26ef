"""A job's folder as a zip archive, made while it is sent.

Invariant: neither a copy on the disk nor a whole file in memory; files that change, grow, shrink or vanish meanwhile
make the archive a different one, never a broken one. What could not be read is named in a file of its own.
"""

from __future__ import annotations

import os
import stat
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator

from qm.spool.browse import FILE, FOLDER, LINK, Entry, JobFolder, Parts
from qm.vocabulary.errors import QMError
from qm.vocabulary.text import printable

PIECE = 1 << 18
"""Bytes that are read at once, and sent at once at least."""
LEVEL = 1
"""Of deflate: the fastest, since the network is seldom the slow part."""
SAMPLE = 1 << 16
WORTH = 0.9
"""A file whose first SAMPLE bytes do not become smaller than this part of them is stored as it is."""
MOST_ZIPS = 3
"""Archives that are made at once: each holds one of the server's threads."""
LEFT_OUT = "LEFT-OUT-OF-THIS-ZIP.txt"
MOST_LEFT_OUT = 1000

_FIRST, _LAST = 315_619_200.0, 4_354_732_800.0
"""1980-01-02 and 2107-12-31: what a zip can say, in every time zone."""


class Slots:
    """How many archives may be made at once."""

    def __init__(self, most: int = MOST_ZIPS) -> None:
        self._free = threading.Semaphore(most)

    def take(self) -> bool:
        """Is there room for one more?"""
        return self._free.acquire(blocking=False)

    def give(self) -> None:
        """One less."""
        self._free.release()


class ZipStream:
    """The bytes of the archive, as a WSGI answer. It owns `folder`, and one of the slots, until it is closed."""

    def __init__(self, folder: JobFolder, top: str, slots: Slots) -> None:
        self._folder = folder
        self._slots: Slots | None = slots
        self._chunks = zipped(folder, top)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except BaseException:  # the end, too
            self.close()
            raise

    def close(self) -> None:
        """Stop, at the end or before it."""
        if self._slots is not None:
            slots, self._slots = self._slots, None
            try:
                self._chunks.close()  # type: ignore[attr-defined]
            finally:
                self._folder.close()
                slots.give()


class _Pipe:
    """What zipfile writes into, and we take out of; it cannot go back."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return data


def zipped(folder: JobFolder, top: str) -> Iterator[bytes]:
    """A zip archive of all in the folder, below a folder `top`, in pieces."""
    pipe = _Pipe()
    left_out: list[str] = []

    def trouble(parts: Parts, why: str) -> None:
        if len(left_out) < MOST_LEFT_OUT:
            left_out.append(f"{printable('/'.join(parts))}: {why}\n")

    with zipfile.ZipFile(pipe, "w", allowZip64=True) as archive:  # type: ignore[call-overload]
        archive.writestr(_info((top,), Entry("", FOLDER, 0, time.time(), 0o755)), b"")
        for parts, entry in folder.walk(trouble):
            info = _info((top, *parts), entry)
            if entry.kind == FILE:
                try:
                    yield from _file(archive, info, folder.open(parts), pipe)
                except (OSError, QMError) as err:
                    trouble(parts, f"not read, or not to the end: {err}")
            elif entry.kind == FOLDER:
                archive.writestr(info, b"")
            elif entry.kind == LINK:
                archive.writestr(info, os.fsencode(entry.target))
            else:
                trouble(parts, "a pipe, socket or device")
            if pipe.size >= PIECE:
                yield pipe.take()
        if left_out:
            text = "".join(["These could not be read when this archive was made:\n", *left_out])
            archive.writestr(LEFT_OUT, text.encode("utf-8", "replace"))
    yield pipe.take()


def _file(archive: zipfile.ZipFile, info: zipfile.ZipInfo, fd: int, pipe: _Pipe) -> Iterator[bytes]:
    """One file: as much of it as it had when it was opened, or less. OSError if it cannot be read to the end."""
    try:
        left = os.fstat(fd).st_size
        piece = os.read(fd, min(left, PIECE))
        sample = piece[:SAMPLE]
        small = len(zlib.compress(sample, LEVEL)) < len(sample) * WORTH
        info.compress_type = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED
        info._compresslevel = LEVEL  # type: ignore[attr-defined]  # zipfile has no other way to say it of one file
        info.file_size = left
        with archive.open(info, "w", force_zip64=left > 1 << 30) as target:
            while piece:
                target.write(piece)
                left -= len(piece)
                if pipe.size >= PIECE:
                    yield pipe.take()
                piece = os.read(fd, min(left, PIECE))
    finally:
        os.close(fd)


def _info(parts: Parts, entry: Entry) -> zipfile.ZipInfo:
    """Name, time and mode."""
    moment = time.localtime(min(max(entry.mtime, _FIRST), _LAST))[:6]
    info = zipfile.ZipInfo(_text("/".join(parts)) + "/" * (entry.kind == FOLDER), moment)
    kinds = {FOLDER: stat.S_IFDIR, LINK: stat.S_IFLNK}
    info.create_system = 3  # Unix: the modes count
    info.external_attr = (kinds.get(entry.kind, stat.S_IFREG) | entry.mode & 0o777) << 16
    if entry.kind == FOLDER:
        info.external_attr |= 0x10
    return info


def _text(name: str) -> str:
    """A name in a zip is text: a byte that is none stands there as %ff."""
    return "".join(f"%{ord(char) - 0xDC00:02x}" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in name)
