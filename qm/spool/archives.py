"""Reading archives that strangers made: zip, tar, and tar packed by gzip, bzip2 or xz.

Invariant: however an archive is made, reading it takes little memory, and one that is cut off or damaged is never
taken for a whole one. Nothing is written here.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from qm.spool.member import PIECE, ArchiveError, Member, Readable
from qm.spool.tars import tar_members
from qm.spool.zips import zip_members

XZ_MEMORY = 128 << 20
"""Bytes that unpacking xz may take; `xz -9` needs 65 MiB."""

_OTHERS = ((b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!", "rar"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4"))


def members(file: BinaryIO, most_files: int, most_bytes: int) -> Iterator[Member]:
    """What is in the archive, each to be read before the next is asked for. ArchiveError, OSError.

    Decompressing stops with an error when more than `most_bytes` of contents came out, whoever wants them.
    """
    file.seek(0)
    head = file.read(512)
    file.seek(0)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        yield from zip_members(file, most_files)
    else:
        yield from tar_members(_plain(file, head), most_bytes + (most_files + 1) * 4096 + (1 << 20))


def _plain(file: BinaryIO, head: bytes) -> Readable:
    """The bytes of the tar archive in the file."""
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file, mode="rb")
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file, "rb")
    if head.startswith(b"\xfd7zXZ\0"):
        return _Xz(file)
    if len(head) == 512 and (_tar_checksum(head) or not head.strip(b"\0")):
        return file
    if not head:
        raise ArchiveError(
            "the file is empty; it must be a zip or a tar archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz)"
        )
    other = next((f"a {name} archive" for magic, name in _OTHERS if head.startswith(magic)), "no archive that QM knows")
    raise ArchiveError(f"it is {other}; pack the job's folder as .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz")


def _tar_checksum(block: bytes) -> bool:
    try:
        return tarfile.nti(block[148:156]) in tarfile.calc_chksums(block)  # type: ignore[attr-defined]
    except tarfile.HeaderError:
        return False


class _Xz:
    """An xz file's contents, within XZ_MEMORY (lzma.LZMAFile has no limit)."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = b""
        self._decoder = self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data.lstrip(b"\0") or self._file.read(PIECE).lstrip(b"\0")
                if not rest:
                    return b""
                self._decoder, self._left = self._new(), rest
            if self._decoder.needs_input and not self._left:
                self._left = self._file.read(PIECE)
                if not self._left:
                    raise EOFError("it ends in the middle")
            given, self._left = self._left, b""
            data = self._decoder.decompress(given, size)
            if data:
                return data

    def close(self) -> None:
        """The file is not ours to close."""
