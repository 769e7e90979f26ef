"""The dashboard: one page over a spool that may hold anything, for this machine only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from qm.vocabulary.config import Settings, WebSettings
from qm_web.app import make_app
from qm_web.main import loopback, main


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    for name in ("QM_qJobs", "QM_Jobs", "QM_dJobs", "QM_lost+found"):
        (tmp_path / name).mkdir()
    return tmp_path


class Answer:
    def __init__(self, settings: Settings, path: str = "/", method: str = "GET", host: str = "127.0.0.1:8080") -> None:
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        environ |= {"PATH_INFO": path, "REQUEST_METHOD": method, "HTTP_HOST": host}
        body = make_app(settings)(environ, self.start)
        self.text = b"".join(body).decode("utf-8")
        if hasattr(body, "close"):
            body.close()

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        self.status = int(status[:3])
        self.headers = dict(headers)


def settings_of(spool: Path, **web: Any) -> Settings:
    return Settings(file=str(spool / "QMserv.cfg"), folder=str(spool), web=WebSettings(**web))


def test_the_page_of_an_empty_spool_says_what_to_do(spool: Path) -> None:
    answer = Answer(settings_of(spool))
    assert answer.status == 200
    assert "Copy a job folder into" in answer.text


def test_the_page_is_there_before_the_daemon_has_made_any_folder(tmp_path: Path) -> None:
    assert Answer(settings_of(tmp_path / "nowhere")).status == 200


def test_jobs_stand_where_they_are(spool: Path) -> None:
    for place, name in (
        ("QM_qJobs", "next"),
        ("QM_Jobs", "now"),
        ("QM_dJobs", "before"),
        ("QM_lost+found", "lost"),
    ):
        (spool / place / name).mkdir()
    text = Answer(settings_of(spool)).text
    headings = [text.index(heading) for heading in ("Running (1)", "Waiting (1)", "Ended (2)", "<h2>Log")]
    assert headings[0] < text.index(">now</td>") < headings[1] < text.index(">next</td>") < headings[2]
    assert headings[2] < text.index(">before</td>") < headings[3]
    assert headings[2] < text.index(">lost</td>") < headings[3]


def test_a_name_cannot_become_part_of_the_page(spool: Path) -> None:
    (spool / "QM_qJobs" / "<script>alert(1)<").mkdir()
    (spool / "QueueManager.log").write_text("said <b>so</b>\n")
    text = Answer(settings_of(spool)).text
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;" in text
    assert "said &lt;b&gt;so&lt;/b&gt;" in text


def test_a_name_that_is_no_text_is_shown_escaped(spool: Path) -> None:
    os.mkdir(os.fsencode(spool / "QM_dJobs") + b"/na\xefve\nname")
    answer = Answer(settings_of(spool))
    assert answer.status == 200
    assert "na\\xefve\\nname" in answer.text


def test_of_many_jobs_the_newest_are_shown_and_all_are_counted(spool: Path) -> None:
    for number in range(60):
        (spool / "QM_dJobs" / f"job{number}").mkdir()
    text = Answer(settings_of(spool)).text
    assert "Ended (60, the newest 50 here)" in text.replace("\n", "")
    assert text.count(">job") == 50 + 1  # and the heading


def test_the_page_is_made_anew_as_often_as_refresh_rate_says(spool: Path) -> None:
    assert '<meta http-equiv="refresh" content="7">' in Answer(settings_of(spool, refresh_rate=7.0)).text
    assert '<meta http-equiv="refresh" content="1">' in Answer(settings_of(spool, refresh_rate=0.1)).text


def test_details_can_be_left_out(spool: Path) -> None:
    (spool / "QM_dJobs" / "job").mkdir()
    assert "<th>owner</th>" in Answer(settings_of(spool)).text
    assert "<th>owner</th>" not in Answer(settings_of(spool, display_details=False)).text


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8080", "localhost", "localhost:1", "[::1]", "[::1]:8080", "127.0.0.7:80"]
)
def test_requests_for_this_machine_are_answered(spool: Path, host: str) -> None:
    assert Answer(settings_of(spool, host="127.0.0.7"), host=host).status == 200


@pytest.mark.parametrize("host", ["", "example.org", "example.org:8080", "127.0.0.1.example.org", "localhost:x", "::1"])
def test_requests_for_another_name_are_refused(spool: Path, host: str) -> None:
    answer = Answer(settings_of(spool), host=host)
    assert answer.status == 403
    assert "QM_qJobs" not in answer.text


@pytest.mark.parametrize(
    ("path", "method", "host", "status"),
    [
        ("/", "GET", "localhost", 200),
        ("/", "GET", "example.org", 403),
        ("/", "POST", "localhost", 405),
        ("/nothing", "GET", "localhost", 404),
        ("/static/qm.css", "GET", "localhost", 200),
        ("/static/../main.py", "GET", "localhost", 404),
        ("/static/..%2fmain.py", "GET", "localhost", 404),
    ],
)
def test_every_answer_has_the_headers_that_protect(spool: Path, path: str, method: str, host: str, status: int) -> None:
    answer = Answer(settings_of(spool), path, method, host)
    assert answer.status == status
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


# --- the program -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.1.2.3"])
def test_it_listens_on_loopback(spool: Path, host: str) -> None:
    assert loopback(settings_of(spool, host=host)) == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_a_host_beyond_loopback_is_a_wrong_configuration(
    spool: Path, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = spool / "QMserv.cfg"
    config.write_text(f"[WEB_QMserver]\nHost : {host}\n")
    assert main(["-c", str(config)]) == 78
    message = capsys.readouterr().err
    assert f"Host = '{host}'" in message
    assert "accepted: 127.0.0.1, ::1 or localhost" in message


def test_a_wrong_configuration_is_told_before_anything_is_served(
    spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = spool / "QMserv.cfg"
    config.write_text("[WEB_QMserver]\nThe_Port : http\n")
    assert main(["-c", str(config)]) == 78
    assert f"{config}, line 2: [WEB_QMserver] The_Port = 'http'" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = spool / "QMserv.cfg"
        config.write_text(f"[WEB_QMserver]\nThe_Port : {port}\n")
        assert main(["-c", str(config)]) == 75
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err


@contextmanager
def program(config: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "qm_web.main", "-c", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_address_serves_and_ends_when_asked(spool: Path, ending: signal.Signals) -> None:
    config = spool / "QMserv.cfg"
    config.write_text("[WEB_QMserver]\nHost : localhost\nThe_Port : 0\n")
    with program(config) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.status == 200
            assert "Server" not in answer.headers
        process.send_signal(ending)
        assert process.wait(timeout=30) == 0
