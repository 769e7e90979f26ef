"""Zip archives of strangers.

Invariant: its directory is looked at before there is an object for each member; contents come in pieces, so that
neither takes much memory.
"""

from __future__ import annotations

import os
import stat
import time
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

from qm.spool.member import FILE, FOLDER, LINK, ArchiveError, Member, Readable, shown, too_many, whole

MOST_NAMED = 512
"""Bytes that one member may have on average in the directory of the archive."""


def zip_members(file: BinaryIO, most_files: int) -> Iterator[Member]:
    """The members of the zip archive, of at most `most_files`."""
    source = _Directory(file, most_files)
    with whole():
        archive = zipfile.ZipFile(source)
    source.opening = False
    for info in archive.infolist():
        yield _zip_member(archive, info)


class _Directory:
    """A file for zipfile that refuses a directory of too many members before there is an object for each."""

    def __init__(self, file: BinaryIO, most_files: int) -> None:
        self._file = file
        self._most = most_files
        self.opening = True
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if not self.opening:
            return self._file.read(size)
        if size < 0:  # the last 64 KiB, where its end is looked for
            size = 1 << 17
        if size > (1 << 17) + self._most * MOST_NAMED:
            raise too_many(self._most)
        data = self._file.read(size)
        if data.count(b"PK\x01\x02") > self._most + 16:
            raise too_many(self._most)
        return data


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name = _zip_name(info)
    unix = info.external_attr >> 16 if info.create_system == 3 else 0
    kind = FOLDER if name.endswith("/") else LINK if stat.S_ISLNK(unix) else FILE
    if info.flag_bits & 0x1:
        raise ArchiveError(f"{shown(name)} is encrypted; pack the job without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"{shown(name)} is packed by method {info.compress_type}; use the usual one, deflate")
    if stat.S_IFMT(unix) not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise ArchiveError(
            f"{shown(name)} is a pipe or a device; an archive of a job has files, folders and links only"
        )

    def content() -> Readable:
        with whole():
            return archive.open(info)

    target = ""
    if kind == LINK:
        if info.file_size > 4096:
            raise ArchiveError(f"the link {shown(name)} leads to a name of more than 4096 bytes")
        with whole(), archive.open(info) as found:
            target = os.fsdecode(found.read(4097))
    mode = stat.S_IMODE(unix) if unix else None
    return Member(name, kind, info.file_size, mode, _zip_time(info), target, False, content)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Without the UTF-8 flag a name is code page 437 by the standard, and UTF-8 or any bytes where a Unix made it."""
    name = info.orig_filename
    if info.flag_bits & 0x800 or name.isascii():
        return name
    raw = name.encode("cp437", "replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return os.fsdecode(raw) if info.create_system == 3 else name


def _zip_time(info: zipfile.ZipInfo) -> float:
    try:
        return time.mktime((*info.date_time, 0, 0, -1))
    except (ValueError, OverflowError):
        return 0.0
