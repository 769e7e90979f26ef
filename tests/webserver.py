"""The dashboard as tests use it: the real program on a free port, or its application called directly."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from wsgiref.util import setup_testing_defaults

from harness import PATIENCE, TestSpool, until

from qm.spool.settings import load_settings


@dataclass
class Response:
    """An HTTP answer. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """What both have in common: cookies are kept, and a POST gets its CSRF token unless told otherwise."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        raise NotImplementedError

    def get(self, path: str, **headers: str) -> Response:
        """GET; header names are given with `_` for `-`."""
        return self._send("GET", path, None, {name.replace("_", "-"): value for name, value in headers.items()})

    def csrf(self) -> str:
        token: str = self.get("/api/v1/session").json()["csrf"]
        return token

    def post(
        self,
        path: str,
        form: Mapping[str, Any] | None = None,
        json: Any = None,
        data: bytes | None = None,
        csrf: bool = True,
        **headers: str,
    ) -> Response:
        """POST a form, JSON, or bytes as they are. Redirects are not followed."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if form is not None:
            data = urlencode({**form, **({"csrf": self.csrf()} if csrf else {})}, doseq=True).encode()
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        else:
            if json is not None:
                data = _dumps(json)
                sent.setdefault("Content-Type", "application/json")
            if csrf:
                sent["X-CSRF-Token"] = self.csrf()
            sent.setdefault("Content-Type", "application/octet-stream")
        return self._send("POST", path, data or b"", sent)

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Response:
        if self.cookies and "Cookie" not in headers:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        response = self.send(method, path, body, headers)
        for cookie in response.cookies:
            if found := re.match(r"([^=]+)=([^;]*)", cookie):
                if found[2] in ("", '""') or "max-age=0" in cookie.lower():
                    self.cookies.pop(found[1], None)
                else:
                    self.cookies[found[1]] = found[2]
        return response


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


class App(Client):
    """The application itself, without a server: `App(settings)` or `App.of(spool, Delete_Jobs=True)`."""

    def __init__(self, settings: Any, **options: Any) -> None:
        from qm_web.app import make_app

        super().__init__()
        options.setdefault("cache", ":memory:")
        self.wsgi = make_app(settings, **options)

    @classmethod
    def of(cls, spool: TestSpool, **web: object) -> App:
        configure_web(spool, **web)
        return cls(load_settings(str(spool.config)))

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], **extra: Any) -> Response:
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        path, _, query = path.partition("?")
        environ |= {
            "PATH_INFO": _unquoted(path),
            "QUERY_STRING": query,
            "REQUEST_METHOD": method,
            "HTTP_HOST": "127.0.0.1:8080",
            "SERVER_PORT": "8080",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(body or b"")),
            "wsgi.input": BytesIO(body or b""),
            **extra,
        }
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        answer: dict[str, Any] = {}

        def start(status: str, pairs: list[tuple[str, str]], exc_info: Any = None) -> None:
            answer["status"], answer["headers"] = int(status[:3]), pairs

        chunks = self.wsgi(environ, start)
        try:
            data = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        pairs = answer["headers"]
        cookies = [value for name, value in pairs if name.lower() == "set-cookie"]
        return Response(answer["status"], {name.lower(): value for name, value in pairs}, data, cookies)


def _unquoted(path: str) -> str:
    """PATH_INFO as PEP 3333 has it: bytes as Latin-1."""
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(quote(path, safe="/%:?&=+,;@!$'()*~[]")).decode("latin-1")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class WebServer(Client):
    """The program WEB_QMserver on a free port."""

    def __init__(self, spool: TestSpool, env: Mapping[str, str] | None = None, **web: object) -> None:
        super().__init__()
        configure_web(spool, **{"The_Port": 0, "Refresh_Rate": 0.3, **web})
        self.spool = spool
        self.output = spool.root / "web.out"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "qm_web.main", "-c", str(spool.config)],
                env={**os.environ, "XDG_CACHE_HOME": str(spool.root / "cache"), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.url = until(self._address, "the dashboard to say its address").rstrip("/")
        self._opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))

    def _address(self) -> str:
        text = self.output.read_text(errors="replace")
        assert self.process.poll() is None, text
        found = re.search(r"http://\S+", text)
        return found[0] if found and "\n" in text else ""

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        request = urllib.request.Request(self.url + path, body, dict(headers), method=method)
        try:
            answer = self._opener.open(request, timeout=PATIENCE)
        except urllib.error.HTTPError as err:
            answer = err
        with answer:
            named = {name.lower(): value for name, value in answer.headers.items()}
            return Response(answer.status, named, answer.read(), answer.headers.get_all("Set-Cookie") or [])

    def said(self) -> str:
        """What the program has printed."""
        return self.output.read_text(errors="replace")

    def stop(self) -> int:
        """End it by SIGTERM; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def configure_web(spool: TestSpool, **web: object) -> None:
    """Write the section [WEB_QMserver] of the spool's QMserv.cfg anew."""
    text = spool.config.read_text(encoding="utf-8").partition("[WEB_QMserver]")[0]
    lines = "".join(f"{key} : {value}\n" for key, value in web.items())
    Path(spool.config).write_text(f"{text}[WEB_QMserver]\n{lines}", encoding="utf-8")
