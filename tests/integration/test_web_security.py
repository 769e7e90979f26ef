"""The dashboard as somebody meets it who may not: the real program, asked over real connections."""

from __future__ import annotations

import functools
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from harness import PATIENCE, TestSpool, until
from webserver import WebServer

from qm.vocabulary.config import Settings, WebSettings
from qm_web.gate.roles import Role
from qm_web.gate.sessions import Sessions
from qm_web.gate.userfile import change, make_token, make_user
from qm_web.main import address_of, main
from qm_web.serving import SMALL, STALLED, close_stalled

MakeSpool = Callable[..., TestSpool]
MakeWeb = Callable[..., WebServer]
NOBODY = 65534
PASSWORD = "correct horse"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
needs_tables = pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="needs Linux's table of sockets")


@functools.cache
def kept_password() -> Any:
    return make_user("x", Role.VIEW, PASSWORD)


def add_user(spool: TestSpool, name: str, role: Role = Role.OPERATE) -> None:
    """A user whose password is PASSWORD (scrypt only once for all tests)."""
    user = kept_password()
    line = type(user)(name, role, user.n, user.r, user.p, user.salt, user.hash)
    change(str(spool.root / "QM_users"), "user", name, line)


def add_token(spool: TestSpool, name: str, role: Role) -> dict[str, str]:
    """The header that shows a new token."""
    token, secret = make_token(name, role)
    change(str(spool.root / "QM_users"), "token", name, token)
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def with_users(make_spool: MakeSpool, make_web: MakeWeb) -> WebServer:
    """A dashboard with alice, who may operate, and bob, who may look."""
    spool = make_spool()
    add_user(spool, "alice")
    add_user(spool, "bob", Role.VIEW)
    return make_web(spool, Users_File="QM_users")


def csrf_in(text: str) -> str:
    found = re.search(r'name="csrf" (?:content|value)="([^"]+)"', text)
    assert found is not None
    return found[1]


def log_in(web: WebServer, name: str, password: str = PASSWORD, back: str = "/") -> Any:
    web.cookies.clear()
    form = {"name": name, "password": password, "back": back, "csrf": csrf_in(web.get("/login").text)}
    return web.post("/login", form, csrf=False)


def raw(web: WebServer, data: bytes, end: bool = True) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are; status, headers and body of the answer."""
    with socket.create_connection(("127.0.0.1", web.port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


# --- other sites -----------------------------------------------------------------------------------------------


def test_a_name_that_was_led_here_is_refused(make_spool: MakeSpool, make_web: MakeWeb) -> None:
    web = make_web(make_spool())
    assert web.get("/").status == 200
    assert web.get("/", Host=f"localhost:{web.port}").status == 200
    answer = web.get("/", Host=f"rebound.example:{web.port}")
    assert answer.status == 403
    assert "localhost" in answer.text and "QM_qJobs" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://127.0.0.1:1"])
def test_another_sites_page_cannot_change_anything(make_spool: MakeSpool, make_web: MakeWeb, origin: str) -> None:
    web = make_web(make_spool())
    assert web.post("/api/v1/queue/drain", json={}, Origin=origin).status == 403
    assert web.post("/action", {"verb": "drain"}, Origin=origin).status == 403
    own = f"http://127.0.0.1:{web.port}"
    assert web.post("/logout", {}, Origin=own).status == 303


def test_a_form_without_the_sessions_token_is_refused(with_users: WebServer) -> None:
    web = with_users
    log_in(web, "bob")
    bobs = web.csrf()
    log_in(web, "alice")
    for form in ({}, {"csrf": ""}, {"csrf": bobs}, {"csrf": "wrong"}):
        assert web.post("/logout", form, csrf=False).status == 403
        assert web.post("/action", {"verb": "kill", "key": "x", **form}, csrf=False).status == 403
    for path in ("/api/v1/actions", "/api/v1/queue/drain", "/api/v1/commands", "/api/v1/jobs?name=x", "/submit"):
        assert web.post(path, json={}, csrf=False).status == 403, path
        assert web.post(path, json={}, csrf=False, X_CSRF_Token=bobs).status == 403, path
    assert web.get("/api/v1/session").json()["name"] == "alice"


def test_every_answer_has_the_headers_that_protect(with_users: WebServer) -> None:
    web = with_users
    log_in(web, "alice")
    for path in ("/", "/login", "/nothing", "/job/nothing", "/static/qm.css", "/static/x", "/api/v1/status",
                 "/api/v1/x", "/healthz", "/%00", "/static/..%2fmain.py", "/job/..%2f..%2fetc"):  # fmt: skip
        answer = web.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert "default-src 'none'" in answer.headers["content-security-policy"], path
        assert answer.headers["referrer-policy"] == "same-origin", path
        assert "server" not in answer.headers, path


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
        (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"DELETE /job/x HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET / HTTP/1.0\r\n\r\n", 403),
        (b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: \xff=\xff; qm=\xff\r\nAuthorization: Bearer \xff\r\n\r\n", 401),
    ],
)  # fmt: skip
def test_malformed_requests_get_an_answer_and_no_traceback(
    make_spool: MakeSpool, make_web: MakeWeb, request_: bytes, status: int
) -> None:
    web = make_web(make_spool())
    answer = raw(web, request_)
    assert answer[0] == status
    assert answer[1]["x-content-type-options"] == "nosniff"
    assert b"Traceback" not in answer[2]
    assert web.get("/healthz").status == 200
    assert "Traceback" not in web.said()


# --- who --------------------------------------------------------------------------------------------------------


def test_logging_in_and_out(with_users: WebServer) -> None:
    web = with_users
    answer = web.get("/job/x?tab=log")
    assert (answer.status, answer.headers["location"]) == (303, "/login?back=/job/x%3Ftab%3Dlog")
    assert web.get("/api/v1/jobs").status == 401
    assert str(web.spool.root) not in web.get("/login").text
    answer = log_in(web, "alice", back="/timeline")
    assert (answer.status, answer.headers["location"]) == (303, "/timeline")
    assert web.get("/api/v1/session").json()["role"] == "operate"
    stolen = dict(web.cookies)
    assert web.post("/logout", {}).headers["location"] == "/login"
    assert web.get("/").status == 303
    web.cookies = stolen
    assert web.get("/").status == 303


def test_a_login_form_from_before_a_login_in_another_tab_leads_on(with_users: WebServer) -> None:
    web = with_users
    old = csrf_in(web.get("/login").text)
    form = {"name": "bob", "password": PASSWORD, "back": "/timeline", "csrf": old}
    log_in(web, "alice")
    answer = web.post("/login", form, csrf=False)
    assert (answer.status, answer.headers["location"]) == (303, "/timeline")
    assert web.get("/api/v1/session").json()["name"] == "alice"
    web.cookies.clear()
    answer = web.post("/login", {**form, "csrf": "of another time"}, csrf=False)
    assert answer.status == 403
    assert "too old" in answer.text and csrf_in(answer.text) == old


def test_a_login_leads_nowhere_else(with_users: WebServer) -> None:
    assert log_in(with_users, "alice", back="//evil.example/").headers["location"] == "/"


def test_wrong_and_unknown_names_are_told_the_same(with_users: WebServer) -> None:
    texts = []
    for name in ("alice", "mallory"):
        answer = log_in(with_users, name, "wrong password")
        assert answer.status == 403
        texts.append(answer.text.partition("<main")[2].replace(name, "NAME"))
    assert texts[0] == texts[1]
    assert "do not belong together" in texts[0]
    assert "failed login of alice from 127.0.0.1" in with_users.said()
    assert "mallory" not in with_users.said()


def test_a_login_is_not_part_of_the_session_before_it(with_users: WebServer) -> None:
    web = with_users
    web.cookies.clear()
    before = csrf_in(web.get("/login").text)
    cookie = dict(web.cookies)
    web.post("/login", {"name": "alice", "password": PASSWORD, "csrf": before}, csrf=False)
    assert web.cookies != cookie
    assert web.csrf() != before
    web.cookies = cookie
    assert web.get("/").status == 303


def test_cookies_that_were_tampered_with_or_are_too_old_are_worth_nothing(with_users: WebServer) -> None:
    web = with_users
    log_in(web, "bob")
    ((name, value),) = [item for item in web.cookies.items() if item[0] != "qm_said"]
    assert web.get("/").status == 200
    said, _, signature = value.partition(".")
    secret = (web.spool.root / "QM_users.key").read_bytes()
    old = Sessions(secret, lambda: time.time() - 8 * 24 * 3600)
    now = Sessions(secret, time.time)
    bob = now.open(value)
    assert bob is not None
    tooold = old.seal(old.begin("bob", bob.stamp))
    other = now.seal(now.begin("alice", "another stamp"))
    for bad in (said, f"{said}.", f"{said}x.{signature}", f"{said}.{signature[:-2]}", "", "..", tooold, other):
        web.cookies = {name: bad}
        assert web.get("/").status == 303, bad
    web.cookies = {name: now.seal(now.begin("bob", bob.stamp))}
    assert web.get("/").status == 200


def test_a_removed_user_is_out_at_once(with_users: WebServer) -> None:
    web = with_users
    log_in(web, "alice")
    assert web.get("/").status == 200
    assert web.spool.qm("web", "deluser", "alice").returncode == 0
    assert web.get("/").status == 303
    assert log_in(web, "alice").status == 403


def test_somebody_who_may_look_cannot_operate(with_users: WebServer) -> None:
    web = with_users
    log_in(web, "bob")
    assert web.get("/").status == 200
    for path in ("/api/v1/queue/drain", "/api/v1/actions", "/api/v1/commands", "/api/v1/jobs?name=x"):
        assert web.post(path, json={"verb": "hold", "keys": [], "command": "true", "name": "x"}).status == 403, path
    assert web.post("/action", {"verb": "drain"}).status == 403
    assert list(web.spool.queue.iterdir()) == []
    assert not (web.spool.root / ".qm" / "requests").exists() or not list(
        (web.spool.root / ".qm" / "requests").iterdir()
    )


def test_tokens_have_their_role(with_users: WebServer) -> None:
    web = with_users
    looks, does = add_token(web.spool, "looks", Role.VIEW), add_token(web.spool, "does", Role.OPERATE)
    assert web.get("/metrics", **looks).status == 200
    command = {"name": "c", "command": "true"}
    assert web.post("/api/v1/commands", json=command, csrf=False, **looks).status == 403
    assert web.post("/api/v1/commands", json=command, csrf=False, **does).status == 201
    assert web.get("/metrics").status == 401
    assert web.get("/metrics", Authorization="Bearer qm_wrong").status == 401


def test_trying_passwords_costs_more_and_more_time(with_users: WebServer) -> None:
    web = with_users
    for _ in range(5):
        assert log_in(web, "alice", "wrong password").status == 403
    answer = log_in(web, "alice")
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 3
    assert "Try again in" in answer.text
    until(lambda: log_in(web, "alice").status == 303, "a login after the wait")


def runs_for_everybody(program: str) -> bool:
    try:
        run = subprocess.run([program, "-c", ""], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=False)
    except PermissionError:
        return False
    return run.returncode == 0


@functools.cache
def python_of_everybody() -> str:
    """A Python that any user may run."""
    for found in (shutil.which("python3", path=os.defpath), sys.executable):
        if found is not None and runs_for_everybody(found):
            return found
    pytest.skip("no Python here that another user may run")


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def status_for_another_user(url: str) -> int:
    program = (
        "import sys, urllib.request, urllib.error\n"
        "try: print(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1]).status)\n"
        "except urllib.error.HTTPError as err: print(err.code)\n"
    )
    words = [python_of_everybody(), "-c", program, url]
    run = subprocess.run(
        words,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(run.stdout)


@needs_root
@needs_tables
@pytest.mark.parametrize(
    ("host", "web", "status"),
    [
        ("127.0.0.1", {}, 403),
        ("::1", {}, 403),
        ("127.0.0.1", {"Anonymous": "view"}, 200),
        ("::1", {"Anonymous": "view"}, 200),
        ("::", {"Anonymous": "view"}, 200),
    ],
)
def test_another_user_of_this_machine(
    make_spool: MakeSpool, make_web: MakeWeb, host: str, web: dict[str, str], status: int
) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("no IPv6 here")
    server = make_web(make_spool(), Host=host, **web)
    url = f"http://{'127.0.0.1' if host == '::' else f'[{host}]' if ':' in host else host}:{server.port}"
    server.url = url
    assert server.get("/api/v1/session").json()["role"] == "operate"
    assert status_for_another_user(url + "/api/v1/status") == status
    if web:
        assert status_for_another_user(url + "/") == 200


# --- starting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("web", ["Host : 0.0.0.0", "Host : ::", "Public_URL : https://lab.example.org/qm"])
def test_it_does_not_start_where_others_could_ask_and_nothing_says_what_they_may(
    make_spool: MakeSpool, capsys: pytest.CaptureFixture[str], web: str
) -> None:
    spool = make_spool()
    spool.config.write_text(f"[WEB_QMserver]\nThe_Port : 0\n{web}\n")
    assert main(["-c", str(spool.config)]) == 78
    said = capsys.readouterr().err
    assert "web adduser NAME" in said and "Anonymous = view" in said
    assert web.startswith("Public") or "ssh -L" in said


@pytest.mark.parametrize(
    ("web", "said"),
    [
        ({"Users_File": "nowhere"}, "`qm web adduser NAME` makes it"),
        ({"Host": "no.such.host.invalid"}, "is no address or name of this machine"),
        ({"The_Port": "http"}, "line 3: [WEB_QMserver] The_Port = 'http'"),
    ],
)
def test_a_wrong_configuration_is_told_before_anything_is_served(
    make_spool: MakeSpool, capsys: pytest.CaptureFixture[str], web: dict[str, str], said: str
) -> None:
    spool = make_spool()
    lines = "".join(f"{key} : {value}\n" for key, value in web.items())
    spool.config.write_text(f"\n[WEB_QMserver]\n{lines}")
    assert main(["-c", str(spool.config)]) == 78
    assert said in capsys.readouterr().err


def test_a_users_file_that_others_may_read_is_refused(
    make_spool: MakeSpool, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = make_spool()
    add_user(spool, "alice")
    (spool.root / "QM_users").chmod(0o644)
    spool.config.write_text("[WEB_QMserver]\nUsers_File : QM_users\n")
    assert main(["-c", str(spool.config)]) == 78
    assert "`chmod 600` it" in capsys.readouterr().err


@pytest.mark.parametrize("web", [{"Users_File": "QM_users"}, {"Anonymous": "view"}])
def test_it_serves_all_addresses_when_it_is_said_what_others_may(
    make_spool: MakeSpool, make_web: MakeWeb, web: dict[str, str]
) -> None:
    spool = make_spool()
    add_user(spool, "alice")
    server = make_web(spool, Host="0.0.0.0", **web)
    assert socket.gethostname() in server.url
    server.url = f"http://127.0.0.1:{server.port}"
    assert server.get("/").status == (303 if "Users_File" in web else 200)
    assert server.get("/", Host=f"{socket.gethostname()}:{server.port}").status != 403


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("127.1.2.3", "127.1.2.3"),
                          ("localhost", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::", "::")]
)  # fmt: skip
def test_where_it_listens(host: str, address: str) -> None:
    assert address_of(Settings("", "", web=WebSettings(host=host))) == address


def test_a_port_that_is_taken_is_told(make_spool: MakeSpool, capsys: pytest.CaptureFixture[str]) -> None:
    spool = make_spool()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        spool.config.write_text(f"[WEB_QMserver]\nThe_Port : {port}\n")
        assert main(["-c", str(spool.config)]) == 75
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_address_and_ends_within_a_second_when_asked(
    make_spool: MakeSpool, make_web: MakeWeb, ending: signal.Signals
) -> None:
    web = make_web(make_spool(), Host="localhost")
    assert web.url.startswith("http://127.0.0.1:")
    assert web.get("/").status == 200
    begun = time.monotonic()
    web.process.send_signal(ending)
    assert web.process.wait(PATIENCE) == 0
    assert time.monotonic() - begun < 5  # a second, on a machine that does nothing else


# --- behind a proxy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/qm"])
def test_behind_a_proxy_with_a_prefix_that_it_takes_off_or_not(
    make_spool: MakeSpool, make_web: MakeWeb, prefix: str
) -> None:
    spool = make_spool()
    add_user(spool, "alice")
    web = make_web(spool, Public_URL="https://lab.example.org/qm/", Users_File="QM_users")
    proxied = {"Host": "lab.example.org", "X_Forwarded_For": "192.0.2.9"}
    assert web.get(f"{prefix}/", **proxied).headers["location"] == "/qm/login"
    page = web.get(f"{prefix}/login", **proxied)
    assert 'href="/qm/static/qm.css"' in page.text
    (cookie,) = page.cookies
    assert "; Path=/qm; " in cookie and cookie.endswith("; Secure")
    form = {"name": "alice", "password": PASSWORD, "back": "/timeline", "csrf": csrf_in(page.text)}
    refused = web.post(f"{prefix}/login", form, csrf=False, Origin="https://other.example.org", **proxied)
    assert refused.status == 403
    answer = web.post(f"{prefix}/login", form, csrf=False, Origin="https://lab.example.org", **proxied)
    assert (answer.status, answer.headers["location"]) == (303, "/qm/timeline")
    assert web.get(f"{prefix}/api/v1/session", **proxied).json()["name"] == "alice"
    assert web.get(f"{prefix}/static/qm.css", **proxied).status == 200


def test_failed_logins_behind_a_proxy_count_for_who_made_them(make_spool: MakeSpool, make_web: MakeWeb) -> None:
    spool = make_spool()
    add_user(spool, "alice")
    web = make_web(spool, Public_URL="https://lab.example.org", Users_File="QM_users")
    statuses = []
    for number, address in enumerate(["192.0.2.1"] * 6 + ["192.0.2.2"]):
        sent = {"Host": "lab.example.org", "X_Forwarded_For": address}
        web.cookies.clear()
        form = {"name": f"nobody{number}", "password": "x", "csrf": csrf_in(web.get("/login", **sent).text)}
        statuses.append(web.post("/login", form, csrf=False, **sent).status)
    assert statuses == [403] * 5 + [429, 403]


def test_a_proxy_that_nobody_told_us_of_is_not_the_user_who_runs_it(make_spool: MakeSpool, make_web: MakeWeb) -> None:
    web = make_web(make_spool())
    assert web.get("/api/v1/session").json()["role"] == "operate"
    assert web.get("/api/v1/session", X_Forwarded_For="192.0.2.1").status == 403


# --- large requests ---------------------------------------------------------------------------------------------


def head(web: WebServer, path: str, length: int, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{web.port}", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "Content-Type: application/octet-stream", "", ""]).encode()


def test_an_upload_that_is_too_large_is_told_so_before_or_after_it_was_sent(
    make_spool: MakeSpool, make_web: MakeWeb
) -> None:
    web = make_web(make_spool(), Max_Upload="1M")
    size = 5 << 20
    token = f"X-CSRF-Token: {web.csrf()}"
    at_once = raw(web, head(web, "/api/v1/jobs?name=x", size, token, "Expect: 100-continue"))
    sent = raw(web, head(web, "/api/v1/jobs?name=x", size, token) + bytes(size))
    for status, headers, body in (at_once, sent):
        assert status == 413
        assert headers["content-type"] == "application/json"
        assert b"takes 1.0 MiB (Max_Upload) at most" in body
        assert headers["x-content-type-options"] == "nosniff"
    assert list(web.spool.queue.iterdir()) == []


def test_who_may_not_submit_is_told_so_before_anything_large_is_kept(with_users: WebServer) -> None:
    web = with_users
    size = SMALL + 1
    status, _, body = raw(web, head(web, "/api/v1/jobs?name=x", size, "Expect: 100-continue"))
    assert (status, b"log in" in body) == (401, True)
    assert raw(web, head(web, "/api/v1/jobs?name=x", size) + bytes(size))[0] == 401
    chunked = b"POST /submit HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(web, chunked)[0] == 303
    looks = add_token(web.spool, "looks", Role.VIEW)
    shown = f"Authorization: {looks['Authorization']}"
    assert raw(web, head(web, "/api/v1/jobs?name=x", size, shown) + bytes(size))[0] == 403
    assert web.get("/healthz").status == 200


def test_connections_that_say_nothing_do_not_stop_the_others(make_spool: MakeSpool, make_web: MakeWeb) -> None:
    web = make_web(make_spool())
    silent = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(40)]
    for number, connection in enumerate(silent):
        connection.sendall(b"GET / HTTP/1.1\r\n" if number % 2 else b"")
    assert until(lambda: web.get("/healthz").status == 200)
    for connection in silent:
        connection.close()


def test_a_reader_who_stops_reading_does_not_keep_a_thread() -> None:
    rounds: list[float] = []
    sockets = [(1000, 0.0), (1000, 50.0), (0, 0.0)]
    ends = [socket.socketpair() for _ in sockets]
    channels = [
        SimpleNamespace(total_outbufs_len=unread, last_activity=at, will_close=False, socket=ours)
        for (unread, at), (ours, _) in zip(sockets, ends, strict=True)
    ]
    server = SimpleNamespace(active_channels=dict(enumerate(channels)))
    close_stalled(server, rounds.append, STALLED + 1)
    assert [channel.will_close for channel in channels] == [True, False, False]
    assert ends[0][1].recv(1) == b"", "the server's poll(2) must wake up for it"
    for pair in ends:
        for end in pair:
            end.close()
    assert rounds == [STALLED + 1]


def test_requests_sent_ahead_of_their_answers_hold_no_thread(make_spool: MakeSpool, make_web: MakeWeb) -> None:
    spool = make_spool()
    (spool.done / "job").mkdir()
    (spool.done / "job" / "big").write_bytes(bytes(40 << 20))
    web = make_web(spool)
    (key,) = (job["key"] for job in web.get("/api/v1/jobs").json()["jobs"])
    wanted = f"GET /job/{key}/raw/big HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    held = []
    for _ in range(10):
        held.append(socket.create_connection(("127.0.0.1", web.port), timeout=PATIENCE))
        held[-1].sendall(wanted * 20)
        assert held[-1].recv(1, socket.MSG_PEEK)
    time.sleep(0.3)  # for threads to come to the second requests
    begun = time.monotonic()
    assert web.get("/healthz").status == 200
    assert time.monotonic() - begun < 10
    for connection in held:
        connection.close()
