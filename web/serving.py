"""waitress, as the dashboard uses it.

Invariants: nobody can fill the disk who may not submit (waitress keeps a request's body in a file before any page is
asked; here its headers are looked at first). Answers that waitress gives itself have the headers of PROTECTION, too.
A reader who stops reading does not keep a thread for ever.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
from http import HTTPStatus
from typing import Any

import waitress
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import Error

from qm.vocabulary.config import WebSettings
from qm.vocabulary.text import size
from qm_web.gate.guard import PROTECTION, Guard, told
from qm_web.gate.peers import connection

THREADS = 8
CONNECTIONS = 500
IDLE = 60
"""Seconds that a connection may be silent."""
STALLED = 60.0
"""Seconds that somebody may leave an answer unread."""
MAX_HEADERS = 64 << 10
SMALL = 64 << 10
"""Bytes of a body that is received whoever sends it."""
SLACK = 1 << 20
"""Bytes of a form around the archive that is uploaded in it."""
SWALLOWED = 64 << 20
"""Bytes of a refused body that are read and thrown away, for browsers do not look at an answer before they have sent
everything, and tell of a broken connection instead of the answer."""


class Told(Error):  # type: ignore[misc]
    """An answer of ours to a request that never reaches the application."""

    def __init__(self, status: int, text: str, headers: list[tuple[str, str]] | None = None) -> None:
        super().__init__(text)
        self.code = status
        self.reason = HTTPStatus(status).phrase
        self.headers = headers or []


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Receives a request, and stops with an answer where its headers already tell that it will be refused."""

    completed: bool
    error: Error | None
    expect_continue: bool

    def __init__(self, adj: Any, guard: Guard, known: dict[str, Any], limit: int) -> None:
        super().__init__(adj)
        self._guard, self._known, self._limit = guard, known, limit
        self._looked_at = False
        self._swallows: Told | None = None
        self._swallowed = 0

    def parse_header(self, header_plus: bytes) -> None:
        """The headers; ParsingError, too, where waitress' own reading ends with a ValueError (`GET http://[`)."""
        try:
            super().parse_header(header_plus)
        except ValueError as err:
            raise ParsingError("the request cannot be read") from err

    def received(self, data: bytes) -> int:
        """Take some bytes, and return how many belonged to this request."""
        if self._swallows is not None and not self.completed:
            return self._swallow(data)
        taken: int = super().received(data)
        if self.headers_finished and not self._looked_at:
            self._looked_at = True
            if self.error is None or self.error.code == 413:
                self._look()
        elif self.error is not None and self.error.code == 413:  # a body that did not say how large it would be
            self.error = self._too_large()
        return taken

    def _look(self) -> None:
        if self.content_length > self._limit:
            refusal: Told | None = self._too_large()
        elif self.content_length > SMALL or self.chunked:
            found = self._guard.before_body(self._environ())
            refusal = Told(found.status, found.text, found.headers) if found is not None else None
        else:
            return
        if refusal is None:
            self.error = None
        elif self.expect_continue or self.chunked:  # nothing comes yet, or nobody knows how much
            self.error, self.completed, self.expect_continue = refusal, True, False
        else:
            self.error, self.completed, self._swallows = None, False, refusal

    def _swallow(self, data: bytes) -> int:
        rest = min(self.content_length, SWALLOWED) - self._swallowed
        self._swallowed += len(data)
        if len(data) >= rest:
            self.error, self.completed = self._swallows, True
        return len(data)

    def _too_large(self) -> Told:
        return Told(413, f"that is too large: this dashboard takes {size(self._limit - SLACK)} (Max_Upload) at most")

    def _environ(self) -> dict[str, Any]:
        """As much of the environ as the guard needs to know who asks."""
        headers = {f"HTTP_{name}": value for name, value in self.headers.items()}
        asked = {"REQUEST_METHOD": self.command.upper(), "PATH_INFO": self.path, "QUERY_STRING": self.query}
        return {**headers, **asked, **self._known}


class ToldTask(ErrorTask):  # type: ignore[misc]
    """Sends an answer that is given before the application is asked, and ends the connection."""

    def execute(self) -> None:
        """Send it."""
        error = self.request.error
        text = error.body if isinstance(error, Told) else f"{error.reason}: {error.body}"
        kind, body = told(text, "/api/" in getattr(self.request, "path", ""))
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", kind), ("Cache-Control", "no-store"), *PROTECTION]
        self.response_headers += error.headers if isinstance(error, Told) else []
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class AskingTask(WSGITask):  # type: ignore[misc]
    """Asks the application, which finds in `qm.connection` what it knows of the connection already."""

    def get_environment(self) -> dict[str, Any]:
        """The environ of the request."""
        environ: dict[str, Any] = super().get_environment()
        environ["qm.connection"] = self.channel.connection
        if len(self.channel.requests) > 1:  # one that is sent before the last answer was read would wait in a thread
            super().set_close_on_finish()
        return environ

    def set_close_on_finish(self) -> None:
        """End the connection after this answer; but not because a 304 has no length (RFC 9112, 6.3: it has no body)."""
        if self.version == "1.0" or self.has_body or self.request.headers.get("CONNECTION", "").lower() == "close":
            super().set_close_on_finish()


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    task_class = AskingTask
    error_task_class = ToldTask

    def __init__(self, guard: Guard, limit: int, server: Any, sock: Any, addr: Any, adj: Any, map: Any = None) -> None:
        super().__init__(server, sock, addr, adj, map=map)
        self.connection = connection(sock)
        known = {
            "qm.connection": self.connection,
            "REMOTE_ADDR": addr[0],
            "REMOTE_PORT": str(addr[1]),
            "SERVER_PORT": str(server.effective_port),
        }
        self.parser_class = functools.partial(Parser, guard=guard, known=known, limit=limit)


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    """The threads."""

    def shutdown(self, cancel_pending: bool = True, timeout: float = 0.3) -> bool:
        """End them; one that is still sending something large is not waited for longer."""
        ended: bool = super().shutdown(cancel_pending, timeout)
        return ended


def make_server(guard: Guard, web: WebSettings, listening: socket.socket) -> Any:
    """A server for this socket; its `run` returns on SystemExit and KeyboardInterrupt."""
    logging.getLogger("waitress").setLevel(logging.ERROR)  # how many requests wait is nobody's trouble
    limit = web.max_upload + SLACK
    dispatcher = Dispatcher()
    dispatcher.set_thread_count(THREADS)
    server = waitress.create_server(
        guard,
        sockets=[listening],
        _dispatcher=dispatcher,
        ident="",
        connection_limit=CONNECTIONS,
        channel_timeout=IDLE,
        cleanup_interval=10,
        max_request_header_size=MAX_HEADERS,
        max_request_body_size=limit + 1,
        asyncore_use_poll=True,  # select(2) ends at descriptor 1023
        log_socket_errors=False,
        **proxy(web),
    )
    server.channel_class = functools.partial(Channel, guard, limit)
    server.maintenance = functools.partial(close_stalled, server, server.maintenance)
    return server


def proxy(web: WebSettings) -> dict[str, Any]:
    """What waitress believes of the headers that proxies add: with a Public_URL, where a request came from, if the
    proxy is on this machine. Without one they are left in, for access.py to see that there is a proxy.
    """
    if not web.public_url:
        return {"clear_untrusted_proxy_headers": False}
    return {
        "trusted_proxy": "::1" if web.host == "::1" else "127.0.0.1",
        "trusted_proxy_count": 1,
        "trusted_proxy_headers": {"x-forwarded-for"},
        "clear_untrusted_proxy_headers": True,
    }


def close_stalled(server: Any, usual: Any, now: float) -> None:
    """waitress' own round of closing connections, and those that hold a thread while nobody reads the answer."""
    usual(now)
    for channel in list(server.active_channels.values()):
        if channel.total_outbufs_len and channel.last_activity < now - STALLED:
            channel.will_close = True
            with contextlib.suppress(OSError):  # the other side may be gone already
                channel.socket.shutdown(socket.SHUT_RDWR)  # else poll(2) would never say that there is anything to do
