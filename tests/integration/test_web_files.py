"""The files of jobs in the dashboard: shown, downloaded, zipped; whatever they are called, wherever they lead."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from harness import TestSpool, until
from webserver import App, Response, WebServer

from qm.vocabulary.record import Record, dump
from qm.vocabulary.states import State

MakeSpool = Callable[..., TestSpool]
MakeWeb = Callable[..., WebServer]
KEY = "abcdefghijkl"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
SECRET = "TOKEN=of-the-submitter"


def add(spool: TestSpool, name: str = "fit", key: str = KEY) -> Path:
    """A job that has ended."""
    folder = spool.done / name
    (folder / ".qm").mkdir(parents=True)
    record = Record(
        key, name, "somebody", State.DONE, time.time() - 9, started=time.time() - 8, finished=time.time() - 7
    )
    (folder / ".qm" / "job.json").write_bytes(dump(record))
    (folder / ".qm" / "env").write_text(SECRET)
    (folder / "process.log").write_text("hello\n")
    return folder


@pytest.fixture
def stopped(make_spool: MakeSpool) -> TestSpool:
    """A spool without a daemon."""
    return make_spool()


@pytest.fixture
def job(stopped: TestSpool) -> Path:
    return add(stopped)


@pytest.fixture
def app(stopped: TestSpool, job: Path) -> App:
    return App.of(stopped)


def safe(answer: Response) -> None:
    """No browser makes a page of our origin out of this."""
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    kind = answer.headers["content-type"]
    assert kind in ("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "application/octet-stream")
    if kind == "application/octet-stream":
        assert answer.headers["content-disposition"].startswith("attachment; ")


# --- what is shown -------------------------------------------------------------------------------------------


def test_a_folder_is_listed_with_its_way_back(app: App, job: Path) -> None:
    (job / "data" / "more").mkdir(parents=True)
    (job / "data" / "a.txt").write_text("x" * 2048)
    top = app.get(f"/job/{KEY}/files/").text
    assert f'href="/job/{KEY}/files/data/"' in top
    assert f'href="/job/{KEY}/raw/process.log"' in top
    assert ".qm" not in top
    below = app.get(f"/job/{KEY}/files/data/").text
    assert f'href="/job/{KEY}/files/data/a.txt"' in below
    assert f'href="/job/{KEY}/files/data/more/"' in below
    assert f'href="/job/{KEY}/files/"' in below
    assert "2.0 KiB" in below
    assert app.get(f"/job/{KEY}/files").status == 200


def test_a_text_is_shown_escaped_and_offered_for_download(app: App, job: Path) -> None:
    (job / "page.html").write_text("<script>alert(1)</script>\x1b[31m & \x07")
    answer = app.get(f"/job/{KEY}/files/page.html")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
    assert "<script>alert" not in answer.text
    assert "\x07" not in answer.text
    assert f'href="/job/{KEY}/raw/page.html"' in answer.text


def test_of_a_long_text_the_first_or_the_last_part_is_shown(app: App, job: Path) -> None:
    (job / "long.txt").write_text("".join(f"line {number:06}\n" for number in range(60_000)))
    first = app.get(f"/job/{KEY}/files/long.txt")
    assert "line 000000" in first.text
    assert "line 059999" not in first.text
    assert len(first.body) < 300_000
    last = app.get(f"/job/{KEY}/files/long.txt?end=1").text
    assert "line 059999\n" in last
    assert "line 000000" not in last


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.png", PNG, "image/png"),
        ("b", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("c.dat", b"GIF89a....", "image/gif"),
        ("d.webp", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        ("e.bmp", b"BM" + bytes(12) + struct.pack("<I", 40) + bytes(40), "image/bmp"),
    ],
)
def test_pictures_are_known_by_what_they_are(app: App, job: Path, name: str, head: bytes, kind: str) -> None:
    (job / name).write_bytes(head)
    assert f'<img src="/job/{KEY}/raw/{name}"' in app.get(f"/job/{KEY}/files/{name}").text
    answer = app.get(f"/job/{KEY}/raw/{name}")
    assert answer.headers["content-type"] == kind
    assert answer.body == head
    safe(answer)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
        ("a.html", b"<script>alert(1)</script>"),
        ("a.png", b"<script>alert(1)</script>"),
        ("a.bmp", b"BMW is a car, and this is no picture"),
        ("a.xml", b"<?xml version='1.0'?><x/>"),
        ("a.pdf", b"%PDF-1.7"),
    ],
)
def test_everything_else_is_an_attachment_without_a_type(app: App, job: Path, name: str, data: bytes) -> None:
    (job / name).write_bytes(data)
    answer = app.get(f"/job/{KEY}/raw/{name}")
    assert answer.body == data
    assert answer.headers["content-type"] == "application/octet-stream"
    safe(answer)
    assert "<img" not in app.get(f"/job/{KEY}/files/{name}").text


def test_a_binary_file_is_not_shown_as_text(app: App, job: Path) -> None:
    (job / "out.bin").write_bytes(bytes(range(256)) * 10)
    assert "no text" in app.get(f"/job/{KEY}/files/out.bin").text


def test_a_very_large_folder_says_what_it_leaves_out(app: App, job: Path) -> None:
    for number in range(5010):
        (job / f"f{number}").touch()
    assert "and 11 more" in app.get(f"/job/{KEY}/files/").text
    found = app.get(f"/api/v1/jobs/{KEY}/files").json()
    assert (len(found["entries"]), found["more"]) == (5000, 11)


# --- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("<b>&\"'.txt", "%3Cb%3E%26%22%27.txt"),
        ("line\nbreak", "line%0Abreak"),
        (os.fsdecode(b"caf\xe9"), "caf%E9"),
        (os.fsdecode(b"\xff"), "%FF"),
        ("100%25?#", "100%2525%3F%23"),
        ("grün 日本", "gr%C3%BCn%20%E6%97%A5%E6%9C%AC"),
        ("\n", "%0A"),
        ("..hidden", "..hidden"),
    ],
)
def test_every_name_can_be_reached(app: App, job: Path, name: str, quoted: str) -> None:
    (job / name).write_text("that one")
    listing = app.get(f"/job/{KEY}/files/").text
    assert f'href="/job/{KEY}/files/{quoted}"' in listing
    assert "<b>&" not in listing
    assert "that one" in app.get(f"/job/{KEY}/files/{quoted}").text
    answer = app.get(f"/job/{KEY}/raw/{quoted}")
    assert answer.body == b"that one"
    assert "\n" not in answer.headers["content-disposition"]
    answer.headers["content-disposition"].encode("ascii")
    assert app.get(f"/api/v1/jobs/{KEY}/file?path={quoted}").body == b"that one"
    entries = app.get(f"/api/v1/jobs/{KEY}/files").json()["entries"]
    href = next(entry["href"] for entry in entries if entry["name"] == name)
    assert "that one" in app.get(href).text


def test_the_name_of_a_download_is_told_in_both_ways(app: App, job: Path) -> None:
    (job / 'grün "x".txt').write_text("1")
    header = app.get(f"/job/{KEY}/raw/gr%C3%BCn%20%22x%22.txt").headers["content-disposition"]
    assert header == "attachment; filename=\"gr_n _x_.txt\"; filename*=UTF-8''gr%C3%BCn%20_x_.txt"


@pytest.mark.parametrize(
    "path",
    [
        "..", "../", "%2e%2e/", "..%2f..%2f..%2fetc/passwd", "%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "../../../../etc/passwd",
        "/etc/passwd", "%2fetc%2fpasswd", "door", "door/", "door/passwd", "passwd", "data/../process.log",
        "./process.log",
        "process.log/", "process.log/x", "data//a.txt", ".qm", ".qm/", ".qm/env",
        "%2eqm/env", ".qm%2fenv", ".qm.old/env", ".QM/env",
        "data/../.qm/env", "env", "./.qm/env", "/.qm/env", "pipe", "missing", "%00", "process.log%00", "%00/../.qm/env",
        "..\\..", "n" * 300, "a/" * 400, "%ff/../.qm/env", "..%c0%af..%c0%afetc/passwd",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "address", ["/job/{}/files/{}", "/job/{}/raw/{}", "/api/v1/jobs/{}/files?path={}", "/api/v1/jobs/{}/file?path={}"]
)
def test_no_address_leads_out_of_the_job_or_to_what_qm_keeps(app: App, job: Path, address: str, path: str) -> None:
    (job / "data").mkdir()
    (job / "door").symlink_to("/etc")
    (job / "passwd").symlink_to("/etc/passwd")
    (job / "env").symlink_to(".qm/env")
    (job / ".qm.old").mkdir()
    (job / ".qm.old" / "env").write_text(SECRET)
    os.mkfifo(job / "pipe")
    answer = app.get(address.format(KEY, path))
    assert "root:" not in answer.text
    assert SECRET not in answer.text
    if path in ("door", "door/", "passwd", "env", "pipe") and address.startswith("/job/{}/files"):
        assert answer.status in (200, 404)
        if path != "pipe":
            assert "Links are not followed" in answer.text
    elif path == "process.log/" and "files?" not in address:
        assert answer.status == 200
    else:
        assert answer.status in (400, 404), answer.text


def test_a_job_folder_replaced_by_a_link_is_gone(app: App, job: Path, stopped: TestSpool) -> None:
    assert app.get(f"/job/{KEY}/files/").status == 200
    os.rename(job, stopped.root / "away")
    job.symlink_to("/etc")
    for address in ("files/", "files/passwd", "raw/passwd", "zip"):
        assert app.get(f"/job/{KEY}/{address}").status == 404


def test_hostile_keys_find_nothing(app: App) -> None:
    for key in ("..", "%2e%2e", "..%2f..", "%00", "x" * 500, "%ff", "fit"):
        for rest in ("files/", "raw/process.log", "zip"):
            assert app.get(f"/job/{key}/{rest}").status in (400, 404)


def test_without_details_nothing_of_it_is_shown(stopped: TestSpool, job: Path) -> None:
    app = App.of(stopped, Display_details=False)
    for address in (
        f"/job/{KEY}/files/",
        f"/job/{KEY}/files/process.log",
        f"/job/{KEY}/raw/process.log",
        f"/job/{KEY}/zip",
    ):
        assert app.get(address).status == 403
    for word in ("files", "file?path=process.log", "zip"):
        assert app.get(f"/api/v1/jobs/{KEY}/{word}").status == 403


def test_the_listing_as_json(app: App, job: Path) -> None:
    (job / "data").mkdir()
    (job / "l").symlink_to("../x")
    found = app.get(f"/api/v1/jobs/{KEY}/files").json()
    assert (found["path"], found["more"]) == ("", 0)
    facts = {entry["name"]: (entry["kind"], entry["size"], entry["target"]) for entry in found["entries"]}
    assert facts["process.log"] == ("file", 6, "")
    assert facts["l"] == ("link", 4, "../x")
    assert facts["data"][0] == "folder"
    assert ".qm" not in facts


# --- downloads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=5-2", 200, b"0123456789", ""),
        ("bytes=0-1,3-4", 200, b"0123456789", ""),
        ("bytes=x-1", 200, b"0123456789", ""),
        ("lines=0-1", 200, b"0123456789", ""),
        ("bytes=" + "9" * 40 + "-", 200, b"0123456789", ""),
    ],
)
def test_a_part_of_a_file_can_be_had(
    stopped: TestSpool, job: Path, make_web: MakeWeb, wanted: str, status: int, body: bytes, content_range: str
) -> None:
    (job / "ten").write_text("0123456789")
    app = App.of(stopped)
    answer = app.get(f"/job/{KEY}/raw/ten", Range=wanted)
    assert (answer.status, answer.body, answer.headers.get("content-range", "")) == (status, body, content_range)
    safe(answer)


def test_a_part_of_a_file_that_changed_meanwhile_is_the_whole_of_the_new_one(app: App, job: Path) -> None:
    (job / "ten").write_text("0123456789")
    etag = app.get(f"/job/{KEY}/raw/ten").headers["etag"]
    assert app.get(f"/job/{KEY}/raw/ten", If_None_Match=etag).status == 304
    assert app.get(f"/job/{KEY}/raw/ten", Range="bytes=1-2", If_Range=etag).body == b"12"
    (job / "ten").write_text("abcdefghijk")
    assert app.get(f"/job/{KEY}/raw/ten", Range="bytes=1-2", If_Range=etag).body == b"abcdefghijk"
    assert app.get(f"/job/{KEY}/raw/ten", If_None_Match=etag).status == 200


def test_head_tells_the_size_and_leaves_nothing_open(app: App, job: Path) -> None:
    (job / "empty").touch()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        answer = app._send("HEAD", f"/job/{KEY}/raw/process.log", None, {})
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "6")
        assert app._send("HEAD", f"/job/{KEY}/zip", None, {}).status == 200
        assert app.get(f"/job/{KEY}/raw/empty").body == b""
        app.get(f"/job/{KEY}/raw/process.log", Range="bytes=99-")
        app.get(f"/job/{KEY}/zip")
        app.get(f"/job/{KEY}/raw/missing")
    assert len(os.listdir("/proc/self/fd")) <= before + 1


# --- zip -----------------------------------------------------------------------------------------------------


def archive(answer: Response) -> zipfile.ZipFile:
    assert answer.status == 200, answer.text
    found = zipfile.ZipFile(io.BytesIO(answer.body))
    assert found.testzip() is None
    return found


def test_the_zip_has_all_of_the_job_but_what_qm_keeps(app: App, job: Path) -> None:
    (job / "data" / "empty").mkdir(parents=True)
    (job / "data" / "noise").write_bytes(os.urandom(300_000))
    (job / "data" / "run").write_text("#!/bin/sh\n" * 100_000)
    (job / "data" / "run").chmod(0o4755)
    (job / "link").symlink_to("data/run")
    (job / ".qm.old").mkdir()
    (job / ".qm.old" / "env").write_text(SECRET)
    (job / os.fsdecode(b"caf\xe9")).write_text("1")
    (job / "grün\n").write_text("2")
    os.utime(job / "grün\n", (0, 0))
    os.mkfifo(job / "pipe")
    answer = app.get(f"/job/{KEY}/zip")
    assert answer.headers["content-type"] == "application/zip"
    assert 'filename="fit.zip"' in answer.headers["content-disposition"]
    found = archive(answer)
    names = {info.filename: info for info in found.infolist()}
    assert set(names) == {
        "fit/", "fit/process.log", "fit/data/", "fit/data/empty/", "fit/data/noise", "fit/data/run", "fit/link",
        "fit/caf%e9", "fit/grün\n", "LEFT-OUT-OF-THIS-ZIP.txt",
    }  # fmt: skip
    assert names["fit/data/run"].external_attr >> 16 == 0o100755
    assert names["fit/data/run"].compress_type == zipfile.ZIP_DEFLATED
    assert names["fit/data/noise"].compress_type == zipfile.ZIP_STORED
    assert found.read("fit/data/noise") == (job / "data" / "noise").read_bytes()
    assert found.read("fit/link") == b"data/run"
    assert b"pipe" in found.read("LEFT-OUT-OF-THIS-ZIP.txt")
    assert SECRET.encode() not in answer.body


def test_other_programs_understand_the_zip(app: App, job: Path, tmp_path: Path) -> None:
    (job / "data").mkdir()
    (job / "data" / "run").write_text("#!/bin/sh\n")
    (job / "data" / "run").chmod(0o750)
    (tmp_path / "it.zip").write_bytes(app.get(f"/api/v1/jobs/{KEY}/zip").body)
    unzip = "/usr/bin/unzip"
    if not os.path.exists(unzip):
        pytest.skip("unzip is not installed")
    subprocess.run([unzip, "-q", "it.zip"], cwd=tmp_path, check=True)
    assert (tmp_path / "fit" / "data" / "run").stat().st_mode & 0o777 == 0o750


def test_a_zip_can_be_submitted_again(app: App, job: Path, stopped: TestSpool) -> None:
    (job / "job.sh").write_text("echo again\n")
    zipped = app.get(f"/job/{KEY}/zip").body
    answer = app.post("/api/v1/jobs?name=whatever.zip", data=zipped)
    assert answer.status == 201, answer.text
    assert (stopped.queue / "fit" / "job.sh").read_text() == "echo again\n"


def test_files_that_change_while_they_are_zipped_do_not_break_it(
    stopped: TestSpool, job: Path, make_web: MakeWeb
) -> None:
    web = make_web(stopped)
    for number in range(40):
        (job / f"f{number}").write_bytes(os.urandom(200_000))
    ended = threading.Event()

    def disturb() -> None:
        turn = 0
        while not ended.is_set():
            turn += 1
            path = job / f"f{turn % 40}"
            match turn % 4:
                case 0:
                    path.unlink(missing_ok=True)
                case 1:
                    path.write_bytes(os.urandom(1000))
                case 2:
                    path.write_bytes(os.urandom(400_000))
                case 3 if path.exists():
                    os.truncate(path, 5)

    other = threading.Thread(target=disturb)
    other.start()
    try:
        for _ in range(5):
            archive(web.get(f"/job/{KEY}/zip"))
    finally:
        ended.set()
        other.join()


def ask_and_stop_reading(web: WebServer, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", web.port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n\r\n".encode())
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def test_few_zips_are_made_at_once_and_pages_are_still_served(stopped: TestSpool, job: Path, make_web: MakeWeb) -> None:
    with open(job / "big", "wb") as file:
        for _ in range(64):
            file.write(os.urandom(1 << 20))
    web = make_web(stopped)
    waiting = [ask_and_stop_reading(web, f"/job/{KEY}/zip") for _ in range(3)]
    answer = web.get(f"/job/{KEY}/zip")
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    assert web.get(f"/job/{KEY}/files/").status == 200
    for connection in waiting:
        connection.close()
    until(lambda: web.get(f"/job/{KEY}/zip").status == 200, "a slot to become free")


def test_slow_readers_of_large_files_hold_no_thread(stopped: TestSpool, job: Path, make_web: MakeWeb) -> None:
    with open(job / "big", "wb") as file:
        file.truncate(300 << 20)
    web = make_web(stopped)
    waiting = [ask_and_stop_reading(web, f"/job/{KEY}/raw/big") for _ in range(20)]
    assert web.get(f"/job/{KEY}/files/").status == 200
    assert web.get(f"/job/{KEY}/raw/big", Range="bytes=0-9").body == bytes(10)
    for connection in waiting:
        connection.close()


def test_a_file_that_becomes_shorter_while_it_is_sent_ends_the_connection(
    stopped: TestSpool, job: Path, make_web: MakeWeb
) -> None:
    with open(job / "big", "wb") as file:
        file.truncate(100 << 20)
    web = make_web(stopped)
    connection = ask_and_stop_reading(web, f"/job/{KEY}/raw/big")
    os.truncate(job / "big", 10)
    connection.settimeout(30)
    while connection.recv(1 << 20):
        pass
    connection.close()
    process = psutil.Process(web.process.pid)
    assert process.cpu_percent(0.3) < 80, "the server turns in circles"
    assert web.get(f"/job/{KEY}/files/").status == 200


@pytest.mark.slow
def test_the_memory_stays_flat_for_a_large_zip_and_a_large_file(
    stopped: TestSpool, job: Path, make_web: MakeWeb
) -> None:
    with open(job / "big", "wb") as file:
        noise = os.urandom(1 << 20)
        for _ in range(150):
            file.write(noise)
    web = make_web(stopped)
    web.get(f"/job/{KEY}/files/")
    process = psutil.Process(web.process.pid)
    before = process.memory_info().rss
    for address in (f"/job/{KEY}/zip", f"/job/{KEY}/raw/big"):
        peak, total = 0, 0
        with socket.create_connection(("127.0.0.1", web.port)) as connection:
            request = f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            while data := connection.recv(1 << 20):
                total += len(data)
                peak = max(peak, process.memory_info().rss)
        assert total > 150 << 20
        assert peak - before < 40 << 20


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs a file system that keeps any time")
def test_a_time_that_has_no_date_does_not_spoil_a_page() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        spool = TestSpool(Path(folder) / "spool")
        for name in ("old", "new"):
            (spool.done / name).mkdir()
            (spool.done / name / "text").write_text("text")
        for path in (spool.done / "old", spool.done / "new" / "text"):
            os.utime(path, (10**17, 10**17))
        app = App.of(spool)
        keys = {job["name"]: job["key"] for job in app.get("/api/v1/jobs").json()["jobs"]}
        new = f"/job/{keys['new']}"
        pages = ("/", f"/job/{keys['old']}", new, f"{new}/files/", f"{new}/files/text", f"{new}/raw/text", f"{new}/zip")
        assert [app.get(page).status for page in pages] == [200] * 7
