"""Files of jobs as they go over the wire.

Invariant: no file of a job is ever given to a browser as something that could run in the page's origin. Known
pictures are told by their first bytes; everything else is an attachment of no type; and all of it is sandboxed.
"""

from __future__ import annotations

import errno
import os
import time
from typing import Any
from urllib.parse import quote

import bottle

PIECE = 1 << 20
"""Bytes that one read gives at most."""
SANDBOX = "sandbox; default-src 'none'"

_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_LAST = 253_402_300_799  # the end of the year 9999: later ones are no dates of HTTP
_ATTR_CHAR = "!#$&+-.^_`|~"  # RFC 8187, section 3.2.1, beside letters and digits


def picture_type(head: bytes) -> str:
    """The image type of a file with these first bytes (32 are enough), "" if it is no picture that browsers show."""
    for magic, kind in _PICTURES:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[:2] == b"BM" and len(head) >= 18 and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"  # two letters alone would make a picture of many a text
    return ""


def disposition(name: str) -> str:
    """Content-Disposition of a download, whatever bytes the file's name has (RFC 6266)."""
    text = os.fsencode(name).decode("utf-8", "replace").replace("\ufffd", "_")
    text = "".join(char if char.isprintable() and char not in '/\\"' else "_" for char in text) or "file"
    plain = "".join(char if char.isascii() else "_" for char in text).replace("%", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(text, safe=_ATTR_CHAR)}"


class Span:
    """A part of an open file, as `wsgi.file_wrapper` takes it; it owns the descriptor.

    A file that has become shorter meanwhile ends in an OSError, which ends the connection: the other side must not
    wait for the rest, nor take what it has for the whole. Positions are those within the part.
    """

    def __init__(self, fd: int, start: int, length: int) -> None:
        self._fd = fd
        self._start = start
        self._length = length
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        left = self._length - self._at
        wanted = min(left, PIECE) if size < 0 else min(left, size, PIECE)
        if wanted <= 0:
            return b""
        data = os.pread(self._fd, wanted, self._start + self._at)
        if not data:
            raise OSError(errno.EIO, "the file became shorter while it was sent")
        self._at += len(data)
        return data

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def send(fd: int, name: str) -> Any:
    """The answer that has an open file's bytes, or the part of them that is asked for (RFC 9110, section 14).

    The descriptor is closed with the answer.
    """
    request = bottle.request
    facts = os.fstat(fd)
    kind = picture_type(os.pread(fd, 32, 0))
    changed = time.gmtime(min(max(0, int(facts.st_mtime)), _LAST))
    etag = f'"{facts.st_ino:x}-{facts.st_mtime_ns:x}-{facts.st_size:x}"'
    headers = {
        "Content-Type": kind or "application/octet-stream",
        "Content-Disposition": "inline" if kind else disposition(name),
        "Content-Security-Policy": SANDBOX,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
        "Last-Modified": time.strftime("%a, %d %b %Y %H:%M:%S GMT", changed),
        "ETag": etag,
        "Accept-Ranges": "bytes",
    }
    if request.get_header("If-None-Match") == etag:
        os.close(fd)
        return bottle.HTTPResponse(status=304, headers=headers)
    start, end = 0, facts.st_size
    status = 200
    wanted = request.get_header("Range")
    if wanted and request.get_header("If-Range", etag) == etag:
        found = byte_range(wanted, facts.st_size)
        if found == (0, 0):
            os.close(fd)
            headers["Content-Range"] = f"bytes */{facts.st_size}"
            return bottle.HTTPResponse(b"", status=416, headers=headers)
        if found is not None:
            (start, end), status = found, 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{facts.st_size}"
    headers["Content-Length"] = str(end - start)
    return bottle.HTTPResponse(Span(fd, start, end - start), status=status, headers=headers)


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """The part that a Range header asks for, as (start, end); (0, 0) if there is no such part.

    None for what is not obeyed, and answered with the whole: several parts, or no range of bytes at all.
    """
    unit, _, spec = header.partition("=")
    first, dash, last = spec.strip().partition("-")
    digits = first + last
    if unit.strip().lower() != "bytes" or not dash or not (digits.isascii() and digits.isdigit()) or len(digits) > 36:
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    return (start, end) if start < end else (0, 0)
