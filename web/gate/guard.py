"""What stands before every page: who asks, under which name, from where; and the headers that protect the answer.

Invariants: no request reaches a page unless its Host is ours, its visitor is known and may look (but for the login,
/healthz and /static/), and, when it can change something, it was sent by a page of ours or by a program with a token.
Every answer, of errors too, has the headers of PROTECTION.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import bottle

from qm.vocabulary.config import Settings
from qm.vocabulary.errors import ConfigError
from qm.vocabulary.text import printable
from qm_web.gate.access import FORMS, NOT_OURS, Access, Admission, UnknownToken
from qm_web.gate.hosts import Hosts
from qm_web.gate.roles import Role, Visitor

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

# Scripts, styles and pictures are our own files, nothing is loaded from elsewhere, no page of others holds this one in
# a frame. The referrer must be sent to ourselves: under `no-referrer` browsers give the Origin of a form as `null`
# (Fetch standard, "append a request Origin header").
PROTECTION: Headers = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]

METHODS = ("GET", "HEAD", "POST")
READ = ("HTTP_ACCEPT", "HTTP_IF_NONE_MATCH", "HTTP_IF_RANGE", "HTTP_QM_REFRESH", "HTTP_RANGE")
"""Headers that pages read, which Bottle cannot where they have other bytes than UTF-8."""
OPEN = ("/login", "/logout", "/healthz")
OPEN_BELOW = "/static/"


class Refusal(Exception):
    """The answer to a request that goes no further."""

    def __init__(self, status: int, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = list(headers)


class Guard:
    """An application behind the guard. A page finds in its environ:

    qm.visitor  who asks (Visitor). Until `Access.check_form` has seen the form of a POST that has no token in its
                header, the role is VIEW at most.
    qm.session  the visitor's session, qm.path the path below the prefix, undecodable bytes as lone surrogates.
    """

    def __init__(self, app: Wsgi, settings: Settings, access: Access, hosts: Hosts) -> None:
        self._app = app
        self._access = access
        self._hosts = hosts
        public = urlsplit(settings.web.public_url)
        self._scheme = public.scheme
        self._root = public.path.rstrip("/")

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        new_cookie = ""

        def start(status: str, headers: Headers, exc_info: Any = None) -> Any:
            wanted = new_cookie and wants_cookie(status, headers, self._access.cookie)
            cookie = [("Set-Cookie", new_cookie)] if wanted else []
            return start_response(status, [*headers, *missing(headers), *cookie], exc_info)

        try:
            place(environ, self._root, self._scheme)
            check_request(environ, self._hosts, self._app)
            admission = admitted(environ, self._access)
            check_visitor(environ, admission, self._access)
            check_change(environ, admission, self._access, self._hosts)
        except Refusal as refusal:
            return answer(refusal, environ, start)
        if admission.new and environ["REQUEST_METHOD"] == "GET":
            new_cookie = self._access.set_cookie(admission.session, self._root)
        return self._app(environ, start)

    def before_body(self, environ: Environ) -> Refusal | None:
        """Why a large request need not be received at all: who may only look, or nothing, sends nothing large."""
        try:
            place(environ, self._root, self._scheme)
            check_request(environ, self._hosts, self._app)
            admission = admitted(environ, self._access)
            check_visitor(environ, admission, self._access)
        except Refusal as refusal:
            return refusal
        foreign = "" if admission.token else self._hosts.foreign(environ)
        if foreign:  # a page of another site could fill the disk by its visitor's rights
            return Refusal(403, f"refused: {foreign}")
        if admission.visitor.role < Role.OPERATE:
            return Refusal(403, "nothing of that size is taken from somebody who may only look")
        return None


def guarded(app: Wsgi, settings: Settings, access: Access, hosts: Hosts | None = None) -> Guard:
    """`app` behind the guard."""
    return Guard(app, settings, access, hosts or Hosts(settings.web))


# --- the steps, in their order -------------------------------------------------------------------------------


def place(environ: Environ, root: str, scheme: str) -> None:
    """The prefix of a proxy goes into SCRIPT_NAME, whether the proxy has taken it off the path or not."""
    if scheme:
        environ["wsgi.url_scheme"] = scheme
    try:
        path = "/" + str(environ.get("PATH_INFO", "")).encode("latin-1").decode("utf-8", "surrogateescape").lstrip("/")
    except UnicodeEncodeError as err:
        raise Refusal(400, "the address is not encoded as addresses are") from err
    if root and (path == root or path.startswith(root + "/")):
        path = "/" + path[len(root) :].lstrip("/")
    environ["SCRIPT_NAME"] = root
    environ["PATH_INFO"] = path.encode("utf-8", "surrogateescape").decode("latin-1")
    environ["qm.path"] = path


def check_request(environ: Environ, hosts: Hosts, app: Wsgi) -> None:
    """Nothing that no browser or program in its right mind sends."""
    if not hosts.accepts(str(environ.get("HTTP_HOST", ""))):
        raise Refusal(403, f"This dashboard is not known by that name. It answers to: {hosts.accepted()}.")
    if environ["REQUEST_METHOD"] not in METHODS:
        allowed = methods_at(environ, app)
        raise Refusal(405, f"only {', '.join(allowed)}", ("Allow", ", ".join(allowed)))
    if not all(str(environ.get(name, "")).isascii() for name in READ):
        raise Refusal(400, "a header of the request is no ASCII text")
    if "\0" in environ["qm.path"] or "%00" in environ.get("QUERY_STRING", ""):
        raise Refusal(400, "a NUL is in the address; no name of a file has one")
    length = str(environ.get("CONTENT_LENGTH") or "0")
    if not (length.isascii() and length.isdigit() and len(length) < 19):
        raise Refusal(400, "Content-Length is not a number")


def methods_at(environ: Environ, app: Wsgi) -> list[str]:
    """The methods that an address takes (RFC 9110, 10.2.1); all there are where the application does not say."""
    found = []
    for method in ("GET", "POST"):
        try:
            app.router.match({**environ, "REQUEST_METHOD": method})  # type: ignore[attr-defined]
        except (AttributeError, bottle.HTTPError):
            continue
        found += [method, "HEAD"] if method == "GET" else [method]
    return found or list(METHODS)


def admitted(environ: Environ, access: Access) -> Admission:
    """Who asks."""
    try:
        return access.admit(environ)
    except UnknownToken as err:
        raise Refusal(401, "this API token is not known (any more)", ("WWW-Authenticate", "Bearer")) from err
    except ConfigError as err:  # the file was broken while we run: better nobody than anybody
        print(f"WEB_QMserver: {printable(str(err))}", file=sys.stderr, flush=True)
        raise Refusal(503, "the Users_File of this dashboard cannot be used; its log says why") from err


def check_visitor(environ: Environ, admission: Admission, access: Access) -> None:
    """Everything but the login needs the role VIEW."""
    environ["qm.visitor"] = admission.visitor
    environ["qm.session"] = admission.session
    path = environ["qm.path"]
    if admission.visitor.role >= Role.VIEW or path in OPEN or path.startswith(OPEN_BELOW):
        return
    if access.users is None:
        raise Refusal(
            403,
            "You may not look at this dashboard: it is for the user who started it "
            "(Anonymous = view in QMserv.cfg, or a Users_File, would let others in).",
        )
    if is_api(path):
        raise Refusal(401, "log in, or send an API token: Authorization: Bearer …", ("WWW-Authenticate", "Bearer"))
    query = environ.get("QUERY_STRING", "")
    back = quote(path.encode("utf-8", "surrogateescape")) + (f"?{query}" if query else "")
    to = quote(environ["SCRIPT_NAME"], safe="/%") + "/login"
    if environ["REQUEST_METHOD"] != "POST" and back != "/":
        to += "?back=" + quote(back, safe="/")
    raise Refusal(303, "log in first", ("Location", to))


def check_change(environ: Environ, admission: Admission, access: Access, hosts: Hosts) -> None:
    """A POST comes from a page of ours, and has the token of the visitor's session; API tokens need neither."""
    if environ["REQUEST_METHOD"] != "POST" or admission.token:
        return
    foreign = hosts.foreign(environ)
    if foreign:
        raise Refusal(403, f"refused: {foreign}")
    given = environ.get("HTTP_X_CSRF_TOKEN")
    visitor = admission.visitor
    if given is not None:
        if not access.is_csrf(str(given), visitor):
            raise Refusal(403, NOT_OURS)
    elif str(environ.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower() in FORMS:
        environ["qm.unchecked"] = visitor
        environ["qm.visitor"] = Visitor(visitor.name, min(visitor.role, Role.VIEW), visitor.csrf)
    else:
        raise Refusal(403, "a POST needs the header X-CSRF-Token (GET /api/v1/session tells it) or an API token")


# --- answers ---------------------------------------------------------------------------------------------------


def is_api(path: str) -> bool:
    """Is that asked by programs rather than people?"""
    return path.startswith("/api/") or path == "/metrics"


def missing(headers: Headers) -> Headers:
    """The headers of PROTECTION that an answer has not set itself."""
    there = {name.lower() for name, _ in headers}
    return [(name, value) for name, value in PROTECTION if name.lower() not in there]


def wants_cookie(status: str, headers: Headers, cookie: str) -> bool:
    """Is that a page, whose forms need a session, and which does not begin one itself?"""
    pairs = [(name.lower(), value) for name, value in headers]
    begins = any(name == "set-cookie" and value.startswith(f"{cookie}=") for name, value in pairs)
    page = any(name == "content-type" and value.startswith("text/html") for name, value in pairs)
    return page and not begins and status[:1] in "24"


def answer(refusal: Refusal, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
    """A refusal as an answer: JSON below /api/, else plain text."""
    kind, body = told(refusal.text, str(environ.get("qm.path", "")).startswith("/api/"))
    status = f"{refusal.status} {HTTPStatus(refusal.status).phrase}"
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    start(status, headers + refusal.headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]


def told(text: str, as_json: bool) -> tuple[str, bytes]:
    """Content type and body of an answer that says what is wrong."""
    if as_json:
        return "application/json", f"{json.dumps({'error': text})}\n".encode()
    return "text/plain; charset=utf-8", f"{text}\n".encode()
