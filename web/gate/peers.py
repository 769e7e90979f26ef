"""Whose program is at the other end of a connection from this machine: Linux's table of TCP sockets.

Invariant: what cannot be told from a readable table counts as somebody else. A program that closes its end before
it is looked up has no inode there any more (and seems to be root's), so such a row says nothing.

Source: proc(5), /proc/net/tcp; the row that is looked for is that of the client's own socket. The kernel takes
milliseconds to write the table, so a connection, which never changes hands, is looked up once (Connection).
"""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qm.spool.files import SHORT

TCP, TCP6 = "/proc/net/tcp", "/proc/net/tcp6"
UNKNOWN = -1
"""The table is there, but does not tell whose socket it is."""


@dataclass(slots=True)
class Connection:
    """A connection to us: our own address in it, and whose it is as soon as that is known."""

    here: str
    uid: int | None = None


def read_table(path: str) -> bytes:
    """One of the tables, empty where there is none. Raises OSError when we are short of descriptors or memory."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as err:
        if err.errno in SHORT:  # whoever asks may have seen to that: it must not look like a system without tables
            raise
        return b""


def uid_of(there: str, port: int, here: str, ours: int, read: Callable[[str], bytes] = read_table) -> int | None:
    """The uid behind the socket `there`:`port` that is connected to our `here`:`ours`.

    UNKNOWN if it is not to be told; None without a table that knows of us. ValueError for what is no address.
    """
    try:
        return _found(there, port, here, ours, read)
    except OSError:
        return UNKNOWN


def _found(there: str, port: int, here: str, ours: int, read: Callable[[str], bytes]) -> int | None:
    for _ in range(2):  # a table that changes while it is read may miss a row
        for path, client, server in _written(there, here):
            row = re.search(rb": %b:%04X %b:%04X [^\n]*" % (client, port, server, ours), read(path))
            if row is not None:
                fields = row[0].split()  # : local remote state queues timer retransmits uid timeout inode …
                return int(fields[7]) if int(fields[9]) else UNKNOWN
    listens = re.compile(rb": [0-9A-F]+:%04X [0-9A-F]+:0000 0A " % ours)
    return UNKNOWN if any(listens.search(read(path)) for path in (TCP, TCP6)) else None


def _written(there: str, here: str) -> Iterator[tuple[str, bytes, bytes]]:
    """In which table two addresses stand, and how: words of 32 bits, each in the byte order of the machine."""
    client, server = _plain(there), _plain(here)
    if client.version == server.version == 4:
        yield TCP, _words(client.packed), _words(server.packed)
        client, server = (ipaddress.ip_address(f"::ffff:{address}") for address in (client, server))
    yield TCP6, _words(client.packed), _words(server.packed)  # for IPv4, too, if the program took a socket of IPv6


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(address)
    return (isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped) or parsed


def _words(packed: bytes) -> bytes:
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return b"".join(b"%08X" % int.from_bytes(word, sys.byteorder) for word in words)


def connection(accepted: socket.socket) -> Connection:
    """A connection that was just accepted. It may be over already; then it belongs to nobody."""
    try:
        return Connection(str(accepted.getsockname()[0]))
    except OSError:
        return Connection("", UNKNOWN)
