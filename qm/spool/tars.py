"""Tar archives of strangers, read from front to end.

Invariant: what stands in headers is read up to a limit, and how much comes out of the compression is counted; an
archive that is cut off or damaged anywhere, which tarfile would take for its end, ends in an error.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from qm.spool.member import FILE, FOLDER, LINK, PIECE, SAME, ArchiveError, Member, Readable, shown, whole

MOST_HEADER = 1 << 20
"""Bytes that the headers of one member may have: names and extended attributes."""


def tar_members(source: Readable, most: int) -> Iterator[Member]:
    """The members of the tar archive that `source` gives, at most `most` bytes of it."""
    stream = _Forward(source, most)
    with whole():
        stream.header(True)
        try:
            tar = tarfile.TarFile(fileobj=stream, mode="r", encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
        except tarfile.ReadError as err:
            raise ArchiveError(f"what is packed in it is no tar archive, or a damaged one ({err})") from err
    empty = tar.firstmember is None  # type: ignore[attr-defined]  # asked for more, Python 3.10 goes backwards
    while not empty:
        with whole():
            stream.header(True)
            info = tar.next()
            stream.header(False)
        if info is None:
            break
        tar.members.clear()  # type: ignore[attr-defined]  # else all of them are kept
        yield _tar_member(tar, info)
    with whole():
        if stream.last.strip(b"\0") or len(stream.last) != tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it has no end")  # tarfile takes a broken header for the end
        while stream.read(PIECE):  # to the end of what is compressed, where its checksum stands
            pass


class _Forward:
    """A file for tarfile that only goes forward, counts, and gives headers no more than MOST_HEADER.

    tarfile reads a long name or a map of holes as one piece of whatever size its header says.
    """

    def __init__(self, source: Readable, most: int) -> None:
        self._source = source
        self._at = 0
        self._most = most
        self._header: int | None = None
        self.last = b""

    def header(self, begins: bool) -> None:
        """What is read from now on is the headers of one member; or no longer."""
        self._header = MOST_HEADER if begins else None

    def tell(self) -> int:
        return self._at

    def seek(self, where: int) -> int:
        if where < self._at:
            raise tarfile.ReadError("its members overlap")
        while self._at < where:
            if not self._take(min(PIECE, where - self._at)):
                raise tarfile.ReadError("it ends in the middle")
        return self._at

    def read(self, size: int = -1) -> bytes:
        if self._header is not None:
            if not 0 <= size <= self._header:
                raise ArchiveError(
                    f"a header of the archive has more than {MOST_HEADER >> 20} MiB, which no file name needs"
                )
            self._header -= size
        elif size < 0:
            raise tarfile.ReadError("it has no size")
        pieces = []
        while size > 0 and (piece := self._take(min(PIECE, size))):
            pieces.append(piece)
            size -= len(piece)
        self.last = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self.last

    def _take(self, size: int) -> bytes:
        data = self._source.read(size)
        self._at += len(data)
        if self._at > self._most:
            raise ArchiveError("the archive unpacks to more than may be unpacked here (Max_Unpacked in QMserv.cfg)")
        return data


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    kinds = ((info.isreg, FILE), (info.isdir, FOLDER), (info.issym, LINK), (info.islnk, SAME))
    kind = next((kind for is_it, kind in kinds if is_it()), "")
    if not kind:
        what = "a pipe" if info.isfifo() else "a device" if info.isdev() else f"something unknown (type {info.type!r})"
        raise ArchiveError(f"{shown(info.name)} is {what}; an archive of a job has files, folders and links only")
    if info.size < 0:
        raise ArchiveError(f"the archive is damaged: {shown(info.name)} has a size below 0")
    holes = bool(info.issparse())
    if holes:
        info.sparse = _in_order(info)  # type: ignore[assignment]

    def content() -> Readable:
        with whole():
            found = tar.extractfile(info)
        if found is None:
            raise ArchiveError(f"{shown(info.name)} has no contents")
        return found

    return Member(info.name, kind, info.size, info.mode, info.mtime, info.linkname, holes, content)


def _in_order(info: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Where a sparse file has data, which must go forward: tarfile would search the map for ever."""
    given: list[tuple[int, int]] = info.sparse  # type: ignore[assignment]
    at = 0
    found = [(begin, length) for begin, length in given if length]  # GNU tar fills up with empty ones
    for begin, length in found:
        if begin < at or length < 0:
            raise ArchiveError(f"the archive is damaged: the map of the sparse file {shown(info.name)} is out of order")
        at = begin + length
    return found
