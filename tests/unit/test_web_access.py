"""Who asks, from where, and what the guard lets through: without a server."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bottle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.vocabulary.config import Settings, WebSettings
from qm_web.gate import peers
from qm_web.gate.access import Access, is_loopback
from qm_web.gate.guard import PROTECTION, guarded
from qm_web.gate.hosts import Hosts, origin_of, split_host
from qm_web.gate.limits import FREE, LONGEST, MAX_KEPT, Limits
from qm_web.gate.roles import Role
from qm_web.gate.sessions import LIFETIME, Session, Sessions, lasting_secret
from qm_web.gate.userfile import User, change, make_token
from qm_web.routes.login import local

CSRF = re.compile(rb"csrf=(\S+)")


class Clock:
    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def settings_of(folder: Path, **web: Any) -> Settings:
    return Settings(file=str(folder / "QMserv.cfg"), folder=str(folder), web=WebSettings(**web))


def add_user(folder: Path, name: str = "alice", role: Role = Role.OPERATE, password: str = "correct horse") -> str:
    file = str(folder / "QM_users")
    salt = os.urandom(16)  # scrypt as cheap as the file may say
    kept = hashlib.scrypt(password.encode(), salt=salt, n=1024, r=1, p=1)
    change(file, "user", name, User(name, role, 1024, 1, 1, salt, kept))
    return file


class Asked:
    """The guard around an application that tells what it was given, asked once."""

    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = int(status[:3])
        self.headers = {name.lower(): value for name, value in headers}
        self.cookies = [value for name, value in headers if name.lower() == "set-cookie"]
        self.body = body

    @property
    def csrf(self) -> str:
        found = CSRF.search(self.body)
        assert found is not None, self.body
        return found[1].decode()


class Dashboard:
    """The guard around a small application: `/page` is a page, `/form` a POST that checks its form, else bytes."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.access = Access(settings, **options)
        self.called = 0
        self.guard = guarded(self.app, settings, self.access, Hosts(settings.web, lambda: frozenset({"lab7"})))

    def app(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        self.called += 1
        request = bottle.LocalRequest(environ)
        status, kind = "200 OK", "text/html; charset=utf-8"
        extra: list[tuple[str, str]] = []
        if environ["qm.path"] == "/form":
            try:
                self.access.check_form(request)
            except bottle.HTTPError as err:
                status = err.status_line
        elif environ["qm.path"] == "/raw":
            kind, extra = "application/octet-stream", [("content-security-policy", "sandbox")]
        elif environ["qm.path"] == "/wrong":
            status = "500 Internal Server Error"
        visitor = environ["qm.visitor"]
        start(status, [("Content-Type", kind), *extra])
        text = f"{visitor.name}:{visitor.role.name} csrf={visitor.csrf} root={environ['SCRIPT_NAME']}"
        return [text.encode(), f" path={environ['qm.path']!r}".encode()]

    def ask(self, path: str = "/page", method: str = "GET", body: bytes = b"", **environ: Any) -> Asked:
        given = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_PORT": "8080",
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_PORT": "50000",
            "HTTP_HOST": "127.0.0.1:8080",
            "wsgi.url_scheme": "http",
            "qm.connection": peers.Connection("127.0.0.1"),
            "wsgi.input": io.BytesIO(body),
            "CONTENT_LENGTH": str(len(body)),
        }
        answer: list[Any] = []
        chunks = self.guard(
            {**given, **environ}, lambda status, headers, exc_info=None: answer.extend((status, headers))
        )
        return Asked(answer[0], answer[1], b"".join(chunks))

    def log_in(self, name: str = "alice") -> tuple[str, str]:
        """The Cookie header of a new session, and its token."""
        assert self.access.users is not None
        user = self.access.users.listed().users[name]
        session = self.access.sessions.begin(name, user.stamp)
        cookie = f"{self.access.cookie}={self.access.sessions.seal(session)}"
        return cookie, self.ask(HTTP_COOKIE=cookie).csrf


def ours(_there: str, _port: int, _here: str, _ours: int) -> int:
    return os.geteuid()


def theirs(_there: str, _port: int, _here: str, _ours: int) -> int:
    return os.geteuid() + 4711


# --- whose socket --------------------------------------------------------------------------------------------

HEAD = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(local: str, remote: str, state: str = "01", uid: int = 1000, inode: int = 4242) -> bytes:
    return (
        f"   1: {local} {remote} {state} 00000000:00000000 00:00000000 00000000 {uid:5} 0 {inode} 1 0000 20\n".encode()
    )


LISTENING = row("0100007F:1F90", "00000000:0000", "0A", 0, 99)
little = pytest.mark.skipif(sys.byteorder != "little", reason="the rows are those of a little-endian machine")


def tables(tcp: bytes, tcp6: bytes = b"") -> Callable[[str], bytes]:
    return lambda path: HEAD + (tcp6 if path == peers.TCP6 else LISTENING + tcp)


@little
def test_the_uid_is_that_of_the_clients_own_socket() -> None:
    read = tables(row("0100007F:1F90", "0100007F:C350", uid=1) + row("0100007F:C350", "0100007F:1F90", uid=2))
    assert peers.uid_of("127.0.0.1", 50000, "127.0.0.1", 8080, read) == 2
    assert peers.uid_of("::ffff:127.0.0.1", 50000, "::ffff:127.0.0.1", 8080, read) == 2


@little
def test_a_socket_of_ipv6_is_found_by_its_own_address_and_by_that_of_ipv4() -> None:
    one, mapped = "0" * 24 + "01000000", "0" * 16 + "FFFF00000100007F"
    read = tables(b"", row(f"{one}:C350", f"{one}:1F90", uid=3) + row(f"{mapped}:C351", f"{mapped}:1F90", uid=4))
    assert peers.uid_of("::1", 50000, "::1", 8080, read) == 3
    assert peers.uid_of("127.0.0.1", 50001, "127.0.0.1", 8080, read) == 4


@little
def test_a_program_that_has_let_go_of_its_socket_is_not_root() -> None:
    read = tables(row("0100007F:C350", "0100007F:1F90", "04", uid=0, inode=0))
    assert peers.uid_of("127.0.0.1", 50000, "127.0.0.1", 8080, read) == peers.UNKNOWN


@little
def test_a_socket_that_is_gone_or_goes_elsewhere_is_somebody_elses() -> None:
    elsewhere = row("0100007F:C350", "0200007F:1F90", uid=os.geteuid())
    assert peers.uid_of("127.0.0.1", 50000, "127.0.0.1", 8080, tables(elsewhere)) == peers.UNKNOWN


def test_without_a_table_that_knows_of_us_nothing_is_known() -> None:
    assert peers.uid_of("127.0.0.1", 50000, "127.0.0.1", 8080, lambda _: b"") is None
    assert peers.uid_of("127.0.0.1", 50000, "127.0.0.1", 8081, tables(b"")) is None


def test_who_uses_up_our_descriptors_is_not_taken_for_us() -> None:
    def short(path: str) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

    assert peers.uid_of("127.0.0.1", 50000, "127.0.0.1", 8080, short) == peers.UNKNOWN


def test_a_connection_is_looked_up_once(tmp_path: Path) -> None:
    looked = []

    def look(*asked: Any) -> int:
        looked.append(asked)
        return os.geteuid()

    dashboard, connection = Dashboard(settings_of(tmp_path), uid_of=look), peers.Connection("127.0.0.1")
    for _ in range(3):
        assert dashboard.ask(**{"qm.connection": connection}).status == 200
    assert looked == [("127.0.0.1", 50000, "127.0.0.1", 8080)]


@pytest.mark.parametrize(
    ("address", "local_"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("", False),
    ],
)
def test_which_addresses_are_this_machine(address: str, local_: bool) -> None:
    assert is_loopback(address) is local_


# --- roles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("web", "uid_of", "environ", "wanted"),
    [
        ({}, ours, {}, "OPERATE"),
        ({}, lambda *_: 0, {}, "OPERATE"),
        ({}, lambda *_: None, {}, "OPERATE"),
        ({}, theirs, {}, None),
        ({}, lambda *_: peers.UNKNOWN, {}, None),
        ({"anonymous": "view"}, theirs, {}, "VIEW"),
        ({"anonymous": "view"}, ours, {}, "OPERATE"),
        ({"anonymous": "view"}, ours, {"REMOTE_ADDR": "192.0.2.7"}, "VIEW"),
        ({"anonymous": "view", "public_url": "https://lab.example.org"}, ours, {}, "VIEW"),
        ({}, ours, {"HTTP_X_FORWARDED_FOR": "192.0.2.7"}, None),
    ],
)
def test_what_somebody_may_do_who_has_not_logged_in(
    tmp_path: Path, web: dict[str, Any], uid_of: Callable[..., int | None], environ: dict[str, str], wanted: str | None
) -> None:
    answer = Dashboard(settings_of(tmp_path, **web), uid_of=uid_of).ask(**environ)
    assert answer.status == (200 if wanted else 403)
    if wanted:
        assert answer.body.startswith(f":{wanted} ".encode())


def test_with_users_being_the_same_user_is_not_enough(tmp_path: Path) -> None:
    dashboard = Dashboard(settings_of(tmp_path, users_file=add_user(tmp_path)), uid_of=ours)
    answer = dashboard.ask("/job/a%b", QUERY_STRING="tab=log&x=1")
    assert (answer.status, answer.headers["location"]) == (303, "/login?back=/job/a%2525b%3Ftab%3Dlog%26x%3D1")
    api = dashboard.ask("/api/v1/jobs")
    assert (api.status, api.headers["www-authenticate"]) == (401, "Bearer")
    assert "log in" in json.loads(api.body)["error"]
    assert dashboard.ask("/metrics").status == 401
    assert dashboard.called == 0


@pytest.mark.parametrize("path", ["/login", "/healthz", "/static/qm.css"])
def test_what_everybody_may_ask_for(tmp_path: Path, path: str) -> None:
    dashboard = Dashboard(settings_of(tmp_path, users_file=add_user(tmp_path)))
    assert dashboard.ask(path).body.startswith(b":NOBODY ")


@pytest.mark.parametrize("path", ["/login/", "/static", "//", "/healthz/x", "/stati\xc3\xb6/static/"])
def test_what_only_looks_like_it_needs_a_login(tmp_path: Path, path: str) -> None:
    assert Dashboard(settings_of(tmp_path, users_file=add_user(tmp_path))).ask(path).status == 303


def test_a_user_has_the_role_that_the_file_gives_now(tmp_path: Path) -> None:
    file = add_user(tmp_path)
    dashboard = Dashboard(settings_of(tmp_path, users_file=file))
    cookie, _ = dashboard.log_in()
    assert dashboard.ask(HTTP_COOKIE=cookie).body.startswith(b"alice:OPERATE ")
    text = Path(file).read_text()
    Path(file).write_text(text.replace(" operate ", " view "))
    assert dashboard.ask(HTTP_COOKIE=cookie).body.startswith(b"alice:VIEW ")


def test_a_session_ends_with_its_user_its_password_and_its_time(tmp_path: Path) -> None:
    file, clock = add_user(tmp_path), Clock()
    dashboard = Dashboard(settings_of(tmp_path, users_file=file), now=clock)
    cookie, _ = dashboard.log_in()
    clock.now += LIFETIME - 1
    assert dashboard.ask(HTTP_COOKIE=cookie).status == 200
    clock.now += 2
    assert dashboard.ask(HTTP_COOKIE=cookie).status == 303
    cookie, _ = dashboard.log_in()
    add_user(tmp_path, password="another one")
    assert dashboard.ask(HTTP_COOKIE=cookie).status == 303
    cookie, _ = dashboard.log_in()
    change(file, "user", "alice", None)
    assert dashboard.ask(HTTP_COOKIE=cookie).status == 303


def test_a_broken_users_file_lets_nobody_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = add_user(tmp_path)
    dashboard = Dashboard(settings_of(tmp_path, users_file=file, anonymous="view"))
    cookie, _ = dashboard.log_in()
    os.chmod(file, 0o644)
    Path(file).write_text(Path(file).read_text() + "# a change\n")
    answer = dashboard.ask(HTTP_COOKIE=cookie)
    assert answer.status == 503
    assert str(tmp_path) not in answer.body.decode()
    assert "chmod 600" in capsys.readouterr().err


def test_tokens_have_their_role_and_need_no_form_token(tmp_path: Path) -> None:
    file = add_user(tmp_path)
    dashboard = Dashboard(settings_of(tmp_path, users_file=file, anonymous="view"))
    for name, role in (("ci", Role.VIEW), ("robot", Role.OPERATE)):
        token, secret = make_token(name, role)
        change(file, "token", name, token)
        shown = {"HTTP_AUTHORIZATION": f"Bearer {secret}"}
        assert dashboard.ask("/api/v1/x", "POST", b"{}", **shown).body.startswith(f"{name}:{role.name} ".encode())
    assert dashboard.ask(HTTP_AUTHORIZATION="Bearer qm_wrong").status == 401
    assert dashboard.ask(HTTP_AUTHORIZATION="bearer ").status == 401
    assert dashboard.ask(HTTP_AUTHORIZATION="Basic YTpi").status == 200  # a proxy's own affair
    change(file, "token", "robot", None)
    assert dashboard.ask(**shown).status == 401


def test_a_token_without_users_is_refused_not_overlooked(tmp_path: Path) -> None:
    assert Dashboard(settings_of(tmp_path), uid_of=ours).ask(HTTP_AUTHORIZATION="Bearer qm_x").status == 401


# --- forms ---------------------------------------------------------------------------------------------------

FORM = {"CONTENT_TYPE": "application/x-www-form-urlencoded"}


def test_a_post_needs_the_token_of_its_own_session(tmp_path: Path) -> None:
    file = add_user(tmp_path)
    add_user(tmp_path, "bob")
    dashboard = Dashboard(settings_of(tmp_path, users_file=file))
    (cookie, csrf), (_, other), (_, mine_too) = dashboard.log_in(), dashboard.log_in("bob"), dashboard.log_in()
    for token, status in ((csrf, 200), (other, 403), (mine_too, 403), ("", 403), (csrf + "x", 403), ("\udce4", 403)):
        answer = dashboard.ask("/x", "POST", b"{}", HTTP_COOKIE=cookie, HTTP_X_CSRF_TOKEN=token)
        assert answer.status == status, token
        form = b"csrf=" + token.encode("utf-8", "surrogateescape")
        assert dashboard.ask("/form", "POST", form, HTTP_COOKIE=cookie, **FORM).status == status, token
    assert dashboard.ask("/x", "POST", b"{}", HTTP_COOKIE=cookie, CONTENT_TYPE="application/json").status == 403
    assert dashboard.ask("/x", "POST", b"", HTTP_COOKIE=cookie).status == 403


def test_until_its_form_is_checked_a_post_may_only_look(tmp_path: Path) -> None:
    dashboard = Dashboard(settings_of(tmp_path), uid_of=ours)
    csrf = dashboard.ask().csrf
    assert dashboard.ask("/careless", "POST", f"csrf={csrf}".encode(), **FORM).body.startswith(b":VIEW ")
    assert dashboard.ask("/form", "POST", f"csrf={csrf}".encode(), **FORM).body.startswith(b":OPERATE ")


def test_the_header_will_do_for_a_form_too(tmp_path: Path) -> None:
    dashboard = Dashboard(settings_of(tmp_path), uid_of=ours)
    answer = dashboard.ask("/form", "POST", b"a=1", HTTP_X_CSRF_TOKEN=dashboard.ask().csrf, **FORM)
    assert answer.body.startswith(b":OPERATE ")


def test_pages_opened_side_by_side_agree_about_the_session(tmp_path: Path) -> None:
    dashboard = Dashboard(settings_of(tmp_path), uid_of=ours)
    first, second = dashboard.ask(), dashboard.ask()
    cookie = second.cookies[0].partition(";")[0]
    for page in (first, second):
        answer = dashboard.ask("/form", "POST", f"csrf={page.csrf}".encode(), HTTP_COOKIE=cookie, **FORM)
        assert answer.status == 200
    assert dashboard.ask(HTTP_COOKIE=cookie).cookies == []


def test_another_local_user_has_another_token(tmp_path: Path) -> None:
    web = settings_of(tmp_path, anonymous="view")
    mine, other = (Dashboard(web, secret=b"s" * 32, uid_of=uid_of) for uid_of in (ours, theirs))
    page = other.ask()
    cookie = page.cookies[0].partition(";")[0]  # put into my browser by a page of theirs
    assert mine.ask(HTTP_COOKIE=cookie).csrf != page.csrf


def test_a_cookie_is_given_with_the_first_page_only(tmp_path: Path) -> None:
    dashboard = Dashboard(settings_of(tmp_path, users_file=add_user(tmp_path), anonymous="view"))
    (cookie,) = dashboard.ask().cookies
    assert re.fullmatch(rf"{dashboard.access.cookie}=[\w.-]+; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax", cookie)
    assert dashboard.ask("/raw").cookies == dashboard.ask("/wrong").cookies == []
    assert dashboard.ask("/page", "HEAD").cookies == []


def test_dashboards_of_one_host_have_cookies_of_their_own(tmp_path: Path) -> None:
    names = {Access(settings_of(folder, port=port)).cookie for folder in (tmp_path, tmp_path / "b") for port in (1, 2)}
    assert len(names) == 4


def test_of_several_cookies_of_the_name_the_valid_one_counts(tmp_path: Path) -> None:
    dashboard = Dashboard(settings_of(tmp_path, users_file=add_user(tmp_path)))
    cookie, _ = dashboard.log_in()
    tossed = f'{dashboard.access.cookie}=x.y; a; =; {cookie}; b="c"'
    assert dashboard.ask(HTTP_COOKIE=tossed).body.startswith(b"alice:")


@given(st.text(max_size=60))
def test_no_text_is_a_session_that_we_did_not_sign(text: str) -> None:
    assert Sessions(b"k" * 32, Clock()).open(text) is None


def test_a_cookie_that_was_changed_anywhere_is_worth_nothing() -> None:
    sessions = Sessions(b"k" * 32, Clock())
    value = sessions.seal(Session("id", "alice", "stamp", 1_700_000_000))
    assert sessions.open(value) is not None
    for at in range(len(value)):
        assert sessions.open(value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :]) is None, at
    assert Sessions(b"l" * 32, Clock()).open(value) is None


def test_a_session_that_was_ended_stays_so() -> None:
    sessions = Sessions(b"k" * 32, Clock())
    session = sessions.begin("alice", "stamp")
    sessions.end(session)
    assert sessions.open(sessions.seal(session)) is None


def test_the_secret_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    path = tmp_path / "key"
    secret = lasting_secret(str(path))
    assert lasting_secret(str(path)) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(Exception, match="chmod 600"):
        lasting_secret(str(path))


# --- names and origins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8080", "LOCALHOST:1", "localhost.", "[::1]", "[::1]:8080", "192.0.2.1:80", "lab7:8080",
     "LAB7", "dash.example.org", "lab.example.org"],
)  # fmt: skip
def test_requests_by_our_names_are_answered(tmp_path: Path, host: str) -> None:
    web = {"host": "dash.example.org", "public_url": "https://lab.example.org/qm", "anonymous": "view"}
    assert Dashboard(settings_of(tmp_path, **web)).ask(HTTP_HOST=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["", "example.org", "example.org:8080", "127.0.0.1.example.org", "localhost:x", "::1", "a@localhost",
     "lab7.evil.org", "localhost/", "localhost, evil.org", "localhost:99999999", "[::1", "127.1",
     "xn--", "\xe4", "0x7f000001"],
)  # fmt: skip
def test_requests_by_another_name_are_refused(tmp_path: Path, host: str) -> None:
    dashboard = Dashboard(settings_of(tmp_path), uid_of=ours)
    answer = dashboard.ask(HTTP_HOST=host)
    assert (answer.status, dashboard.called) == (403, 0)
    assert b"It answers to: lab7, localhost, and addresses" in answer.body or b"127.0.0.1" in answer.body


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 200),
        ({"HTTP_ORIGIN": "http://127.0.0.1:8080"}, 200),
        ({"HTTP_ORIGIN": "https://lab.example.org"}, 200),
        ({"HTTP_ORIGIN": "https://LAB.example.org:443"}, 200),
        ({"HTTP_REFERER": "http://127.0.0.1:8080/job/x?y"}, 200),
        ({"HTTP_SEC_FETCH_SITE": "same-origin"}, 200),
        ({"HTTP_SEC_FETCH_SITE": "none"}, 200),
        ({"HTTP_ORIGIN": "null"}, 403),
        ({"HTTP_ORIGIN": ""}, 403),
        ({"HTTP_ORIGIN": "http://127.0.0.1:9999"}, 403),
        ({"HTTP_ORIGIN": "https://127.0.0.1:8080"}, 403),
        ({"HTTP_ORIGIN": "http://127.0.0.1"}, 403),
        ({"HTTP_ORIGIN": "http://localhost:8080"}, 403),
        ({"HTTP_ORIGIN": "http://lab.example.org"}, 403),
        ({"HTTP_ORIGIN": "http://evil.example"}, 403),
        ({"HTTP_ORIGIN": "http://[", "HTTP_REFERER": "http://127.0.0.1:8080/"}, 403),
        ({"HTTP_REFERER": "http://evil.example/http://127.0.0.1:8080/"}, 403),
        ({"HTTP_REFERER": "http://127.0.0.1:8080@evil.example/"}, 403),
        ({"HTTP_SEC_FETCH_SITE": "cross-site"}, 403),
        ({"HTTP_SEC_FETCH_SITE": "same-site", "HTTP_ORIGIN": "http://127.0.0.1:8080"}, 403),
    ],
)
def test_what_another_sites_page_sends_is_refused(tmp_path: Path, sent: dict[str, str], status: int) -> None:
    web = settings_of(tmp_path, public_url="https://lab.example.org/qm", users_file=add_user(tmp_path))
    dashboard = Dashboard(web)
    cookie, csrf = dashboard.log_in()
    called = dashboard.called
    answer = dashboard.ask("/x", "POST", b"", HTTP_COOKIE=cookie, HTTP_X_CSRF_TOKEN=csrf, **sent)
    assert (answer.status, dashboard.called - called) == (status, status == 200)


@given(st.text(max_size=40))
def test_no_text_breaks_the_reading_of_hosts_and_origins(text: str) -> None:
    split_host(text)
    origin_of(text)
    origin_of(f"http://{text}")


# --- the rest of the guard ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "path", "root"),
    [("/qm", "/", "/qm"), ("/qm/", "/", "/qm"), ("/qm/job/x", "/job/x", "/qm"), ("/job/x", "/job/x", "/qm"),
     ("/qmx", "/qmx", "/qm"), ("/", "/", "/qm"), ("//qm//job", "/job", "/qm"), ("/qm/\xff", "/\udcff", "/qm")],
)  # fmt: skip
def test_the_prefix_is_found_whether_the_proxy_takes_it_off_or_not(
    tmp_path: Path, asked: str, path: str, root: str
) -> None:
    web = settings_of(tmp_path, public_url="https://lab.example.org/qm", anonymous="view")
    answer = Dashboard(web).ask(asked, HTTP_HOST="lab.example.org")
    assert answer.body.endswith(f"root={root} path={path!r}".encode())
    assert "; Path=/qm; " in answer.cookies[0]
    assert answer.cookies[0].endswith("; Secure")


@pytest.mark.parametrize("path", ["/page", "/wrong", "/raw", "/nul\0", "/x"])
@pytest.mark.parametrize("environ", [{}, {"HTTP_HOST": "evil.example"}, {"REQUEST_METHOD": "DELETE"}])
def test_every_answer_has_the_headers_that_protect(tmp_path: Path, path: str, environ: dict[str, str]) -> None:
    answer = Dashboard(settings_of(tmp_path), uid_of=ours).ask(path, **environ)
    for name, value in PROTECTION:
        own = path == "/raw" and not environ and name == "Content-Security-Policy"
        assert answer.headers[name.lower()] == ("sandbox" if own else value)


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"REQUEST_METHOD": "PUT"}, 405),
        ({"REQUEST_METHOD": "OPTIONS"}, 405),
        ({"PATH_INFO": "/a\0b"}, 400),
        ({"QUERY_STRING": "a=%00"}, 400),
        ({"PATH_INFO": "/\u20ac"}, 400),
        ({"CONTENT_LENGTH": "-1"}, 400),
        ({"CONTENT_LENGTH": "1e3"}, 400),
        ({"CONTENT_LENGTH": "9" * 5000}, 400),
        ({"CONTENT_LENGTH": "\u0661"}, 400),
        ({"CONTENT_LENGTH": ""}, 200),
        ({"HTTP_COOKIE": ";;=;\udcff\0"}, 200),
    ],
)
def test_malformed_requests_get_an_answer(tmp_path: Path, environ: dict[str, str], status: int) -> None:
    assert Dashboard(settings_of(tmp_path), uid_of=ours).ask(**environ).status == status


@pytest.mark.parametrize("back", ["/", "/job/a%20b?x=1#y", "/job/x/files/"])
def test_the_way_back_after_a_login(back: str) -> None:
    assert local(back) == back


@pytest.mark.parametrize(
    "back",
    ["", "job", "//evil.example", "/\\evil.example", "https://evil.example", "/a\nSet-Cookie: x", "/a b", "/\t/evil",
     "/login", "/logout?x", "/" + "a" * 5000, "/\u20ac", "javascript:alert(1)", "///evil", "/a\\b"],
)  # fmt: skip
def test_the_way_back_leads_nowhere_else(back: str) -> None:
    assert local(back) == "/"


# --- how often -----------------------------------------------------------------------------------------------


def test_after_five_failures_each_try_costs_a_wait_that_grows() -> None:
    clock = Clock()
    limits = Limits(clock)
    assert [limits.begin("192.0.2.1", "alice") for _ in range(FREE)] == [0.0] * FREE
    waits = []
    for _ in range(14):
        waits.append(limits.begin("192.0.2.1", f"name{clock.now}"))
        clock.now += waits[-1]
        assert limits.begin("192.0.2.1", f"name{clock.now}") == 0.0
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == LONGEST["address"]


def test_a_name_is_kept_from_its_owner_for_a_minute_at_most() -> None:
    clock = Clock()
    limits = Limits(clock)
    for number in range(60):
        wait = limits.begin(f"192.0.2.{number}", "Alice")
        assert wait <= LONGEST["name"]
        clock.now += wait
        if wait:
            assert limits.begin(f"198.51.100.{number}", "alice") == 0.0
    limits.succeeded("203.0.113.1", "ALICE")
    assert limits.begin("203.0.113.1", "alice") == 0.0


def test_failures_are_forgotten_after_an_hour() -> None:
    clock = Clock()
    limits = Limits(clock)
    for _ in range(FREE):
        limits.begin("192.0.2.1", "alice")
    assert limits.begin("192.0.2.1", "bob") > 0
    clock.now += 3601
    assert limits.begin("192.0.2.1", "bob") == 0.0


def test_one_machine_cannot_change_its_address_within_its_network() -> None:
    limits = Limits(Clock())
    waits = [limits.begin(f"2001:db8::{number:x}", f"name{number}") for number in range(FREE + 1)]
    assert waits[-1] > 0
    assert limits.begin("2001:db8:0:1::1", "other") == 0.0


def test_what_is_remembered_is_bounded() -> None:
    limits = Limits(Clock())
    for number in range(MAX_KEPT + 500):
        limits.begin(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", f"name{number}")
    assert {len(kept) for kept in limits._kept.values()} == {MAX_KEPT}


@pytest.mark.parametrize("name", ["HTTP_RANGE", "HTTP_IF_NONE_MATCH", "HTTP_ACCEPT"])
def test_a_header_that_pages_cannot_read_is_refused(tmp_path: Path, name: str) -> None:
    asked = Dashboard(settings_of(tmp_path)).ask(**{name: "\xff"})
    assert (asked.status, asked.body) == (400, b"a header of the request is no ASCII text\n")


@pytest.mark.parametrize("extra", [{"HTTP_ORIGIN": "http://evil.example"}, {"HTTP_HOST": "evil.example"}])
def test_nothing_large_is_received_that_another_sites_page_sends(tmp_path: Path, extra: dict[str, str]) -> None:
    dashboard = Dashboard(settings_of(tmp_path), uid_of=lambda *_: os.geteuid())
    asked = {"REQUEST_METHOD": "POST", "PATH_INFO": "/api/v1/jobs", "QUERY_STRING": "", "HTTP_HOST": "localhost:8080"}
    known = {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "50000", "SERVER_PORT": "8080"}
    given = {**asked, **known, "qm.connection": peers.Connection("127.0.0.1")}
    assert dashboard.guard.before_body({**given, "HTTP_ORIGIN": "http://localhost:8080"}) is None
    refusal = dashboard.guard.before_body({**given, **extra})
    assert refusal is not None and refusal.status == 403
