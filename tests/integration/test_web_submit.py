"""Submitting from a browser: archives and commands, with scripts and without, by those who may."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import TestSpool, until
from webserver import App, Response, WebServer

MakeSpool = Callable[..., TestSpool]
MakeWeb = Callable[..., WebServer]
JOB = "#QM info = from an archive\necho hello\n"


@pytest.fixture
def stopped(make_spool: MakeSpool) -> TestSpool:
    """A spool without a daemon."""
    return make_spool()


@pytest.fixture
def app(stopped: TestSpool) -> App:
    return App.of(stopped)


def tar(mode: str = "w:gz", **files: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, text in (files or {"job.sh": JOB}).items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return file.getvalue()


def zipped(**files: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (files or {"job.sh": JOB}).items():
            archive.writestr(name, text)
    return file.getvalue()


def upload(app: App | WebServer, data: bytes, name: str = "mine.zip", **headers: str) -> Response:
    return app.post(f"/api/v1/jobs?name={name}", data=data, **headers)


def multipart(fields: dict[str, str], name: str, data: bytes) -> tuple[bytes, str]:
    """A form with a file, as browsers send it."""
    lines = b"".join(
        f'--B\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    )
    head = f'--B\r\nContent-Disposition: form-data; name="archive"; filename="{name}"\r\n\r\n'.encode()
    return lines + head + data + b"\r\n--B--\r\n", "multipart/form-data; boundary=B"


def send_form(app: App | WebServer, name: str, data: bytes, csrf: str | None = None) -> Response:
    body, kind = multipart({"csrf": app.csrf() if csrf is None else csrf}, name, data)
    return app.post("/submit", data=body, csrf=False, Content_Type=kind)


def command(app: App | WebServer, **fields: object) -> Response:
    return app.post("/api/v1/commands", json=fields)


# --- the page --------------------------------------------------------------------------------------------------


def test_the_page_has_both_forms_and_says_what_is_taken(app: App) -> None:
    text = app.get("/submit").text
    assert 'enctype="multipart/form-data"' in text
    assert 'name="command"' in text
    assert ".tar.gz" in text
    assert "1.0 GiB" in text
    assert "No QueueManager is running" in text
    assert " style=" not in text
    assert " onclick=" not in text


def test_who_may_only_look_is_told_so_and_sends_nothing(stopped: TestSpool) -> None:
    app = App.of(stopped, Anonymous="view", Public_URL="http://127.0.0.1:8080")
    page = app.get("/submit")
    assert page.status == 200
    assert "not submit" in page.text
    assert "<textarea" not in page.text
    assert upload(app, zipped()).status == 403
    assert command(app, command="true").status == 403
    assert app.post("/submit", form={"command": "true"}).status == 403
    assert send_form(app, "a.zip", zipped()).status == 403
    assert os.listdir(stopped.queue) == []


def test_without_the_token_of_a_page_nothing_is_sent(app: App, stopped: TestSpool) -> None:
    app.get("/submit")
    assert app.post("/api/v1/jobs?name=x", data=zipped(), csrf=False).status == 403
    assert app.post("/api/v1/commands", json={"command": "true"}, csrf=False).status == 403
    assert app.post("/submit", form={"command": "true"}, csrf=False).status == 403
    assert send_form(app, "a.zip", zipped(), csrf="wrong").status == 403
    body, kind = multipart({"csrf": "wrong"}, "a.zip", zipped())
    for address in ("/api/v1/jobs?name=x", "/api/v1/commands"):
        assert app.post(address, data=body, csrf=False, Content_Type=kind).status == 403
        assert app.post(address, form={"command": "true"}, csrf=False).status == 403
    assert os.listdir(stopped.queue) == []


# --- archives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [zipped(), tar(), tar("w"), tar("w:bz2"), tar("w:xz")], ids=["zip", "gz", "tar", "bz2", "xz"]
)
def test_an_archive_becomes_a_job_that_is_in_the_queue_whole(app: App, stopped: TestSpool, data: bytes) -> None:
    answer = upload(app, data, "fit.tar.gz")
    assert answer.status == 201, answer.text
    job = answer.json()
    assert set(job) == {"name", "id", "notes"}
    assert job["name"] == "fit"
    assert "no QueueManager is running" in job["notes"][0]
    assert answer.headers["location"] == f"/job/{job['id']}"
    assert (stopped.queue / "fit" / "job.sh").read_text() == JOB
    assert (stopped.queue / "fit" / ".qm" / "id").read_text().strip() == job["id"]
    assert app.get(f"/job/{job['id']}").status == 200


def test_an_uploaded_job_runs(spool: TestSpool, make_web: MakeWeb) -> None:
    web = make_web(spool)
    answer = upload(web, tar(), "fit.tgz")
    assert answer.status == 201, answer.text
    assert answer.json()["notes"] == []
    folder = spool.wait_for("fit")
    assert "hello" in (folder / "process.log").read_text()
    assert spool.record(folder)["id"] == answer.json()["id"]


def test_an_archive_in_a_form_becomes_a_job_and_leads_to_its_page(app: App, stopped: TestSpool) -> None:
    answer = send_form(app, "grün.zip", zipped())
    assert answer.status == 303, answer.text
    assert re.fullmatch(r"/job/[a-z2-7]{12}", answer.headers["location"])
    assert os.listdir(stopped.queue) == ["grün"]
    assert "grün is in the queue" in app.get(answer.headers["location"]).text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"hello", ".tar.gz"),
        (zipped(readme="x"), "no job file"),
        (zipped(**{"proc_config.cfg": "[QMOptions]\nnb_proc : twelve\nscript : x\n"}), "nb_proc"),
        (zipped(**{"job.sh": "x", "../evil": "x"}), "'..'"),
        (tar()[:-20], "not complete"),
    ],
    ids=["no-archive", "no-job-file", "bad-job-file", "leads-out", "cut-off"],
)
def test_a_bad_archive_is_told_in_full_both_ways_and_leaves_nothing(
    app: App, stopped: TestSpool, data: bytes, said: str
) -> None:
    answer = upload(app, data)
    assert answer.status == 400
    assert said in answer.json()["error"]
    page = send_form(app, "a.zip", data)
    assert page.status == 400
    assert said in page.text.replace("&#039;", "'")
    assert 'role="alert"' in page.text
    assert os.listdir(stopped.queue) == []


def test_a_form_without_a_file_says_what_to_choose(app: App) -> None:
    answer = send_form(app, "", b"")
    assert answer.status == 400
    assert "choose an archive first" in answer.text


def test_an_empty_body_is_told_what_it_must_be(app: App) -> None:
    answer = upload(app, b"")
    assert answer.status == 400
    assert "must be an archive" in answer.json()["error"]


def test_more_than_may_be_uploaded_is_refused(stopped: TestSpool, make_web: MakeWeb) -> None:
    app = App.of(stopped, Max_Upload=1000)
    data = zipped(**{"job.sh": JOB, "noise": os.urandom(3000).hex()})
    answer = upload(app, data)
    assert answer.status == 413
    assert "Max_Upload" in answer.json()["error"]
    assert send_form(app, "a.zip", data).status == 413
    web = make_web(stopped, Max_Upload=1000)
    assert upload(web, bytes(3 << 20)).status == 413
    assert os.listdir(stopped.queue) == []


def test_more_than_may_be_unpacked_is_refused(stopped: TestSpool) -> None:
    app = App.of(stopped, Max_Unpacked="1M", Max_Files=20)
    assert "Max_Unpacked" in upload(app, zipped(**{"job.sh": JOB, "bomb": "0" * (2 << 20)})).json()["error"]
    many = zipped(**{"job.sh": JOB}, **{f"f{number}": "" for number in range(40)})
    assert "Max_Files" in upload(app, many).json()["error"]
    assert os.listdir(stopped.queue) == []


def test_names_from_addresses_are_only_names(app: App, stopped: TestSpool) -> None:
    for name in ("../../evil.zip", "%2e%2e%2fevil", "..", "", "a%2fb.zip", "%ff.zip", ".qm-x.part", "<b>.zip"):
        answer = upload(app, zipped(), name)
        assert answer.status == 201, (name, answer.text)
    assert all(not name.startswith(".") for name in os.listdir(stopped.queue))
    assert sorted(os.listdir(stopped.root)) == sorted(
        ["QM_Jobs", "QM_dJobs", "QM_lost+found", "QM_qJobs", "QMserv.cfg"]
    )


def test_an_input_that_cannot_be_sought_in_is_kept_first(app: App, stopped: TestSpool) -> None:
    class Socket(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.left = data

        def read(self, size: int = -1) -> bytes:
            data, self.left = self.left[: min(size, 100)], self.left[min(size, 100) :]
            return data

    data = zipped()
    headers = {"X-CSRF-Token": app.csrf(), "Content-Type": "application/octet-stream"}
    answer = app.send("POST", "/api/v1/jobs?name=a", data, headers, **{"wsgi.input": Socket(data)})
    assert answer.status == 201, answer.text


# --- commands --------------------------------------------------------------------------------------------------


def test_a_command_runs_in_its_own_folder_without_the_dashboards_environment(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.start()
    server = WebServer(spool, env={"LEAK": "of-the-dashboard"})
    try:
        answer = command(server, command="pwd\r\necho LEAK=$LEAK", nb_proc=2, info="what it is", priority="3")
        assert answer.status == 201, answer.text
        job = answer.json()
        assert job["name"] == "pwd"
        folder = spool.wait_for("pwd")
    finally:
        server.stop()
    log = (folder / "process.log").read_text()
    assert "LEAK=\n" in log
    assert f"{spool.jobs}/pwd\n" in log
    assert not (folder / ".qm" / "env").exists()
    record = spool.record(folder)
    assert (record["id"], record["nb_proc"]) == (job["id"], 2)
    assert record["options"]["info"] == "what it is"


def test_a_typed_form_becomes_a_job(app: App, stopped: TestSpool) -> None:
    fields = {"name": "my job", "command": "make &&\r\n./run", "mem": "2G", "nb_proc": "", "hold": "yes"}
    answer = app.post("/submit", form=fields)
    assert answer.status == 303, answer.text
    text = (stopped.queue / "my job" / "job.sh").read_text()
    assert text == "#!/bin/sh\n#QM mem = 2G\n#QM hold = yes\n#QM info = make &&\nmake &&\n./run\n"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"command": "  \n"}, "no command"),
        ({"command": "true", "nb_proc": "twelve"}, "nb_proc"),
        ({"command": "true", "mem": "much"}, "mem"),
        ({"command": "true", "info": "a\nscript = evil"}, "one line"),
        ({"command": "true", "name": "../evil"}, "cannot be a job's name"),
        ({"command": "true", "name": ".hidden"}, "cannot be a job's name"),
        ({"command": "#QM nb_proc = x\ntrue"}, "nb_proc"),
        ({"command": "x" * 70_000}, "64 KiB"),
        ({"command": "true\ud800"}, "no text"),
    ],
)
def test_a_command_that_cannot_be_is_refused_and_what_was_typed_stays(
    app: App, stopped: TestSpool, fields: dict[str, str], said: str
) -> None:
    answer = command(app, **fields)
    assert answer.status == 400
    assert said in answer.json()["error"]
    if fields["command"].isascii() and len(fields["command"]) < 1000:
        page = app.post("/submit", form={"priority": "77", **fields})
        assert page.status == 400
        assert said in page.text.replace("&#039;", "'")
        assert 'value="77"' in page.text
    assert os.listdir(stopped.queue) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"command": ["a"]}',
        b'{"command": "true", "script": "x"}',
        b'{"command": 1.5}',
        b'"x"',
        b"null",
    ],
)
def test_json_that_is_no_command_is_refused(app: App, stopped: TestSpool, body: bytes) -> None:
    answer = app.post("/api/v1/commands", data=body, Content_Type="application/json")
    assert answer.status == 400, answer.text
    assert answer.json()["error"]
    assert os.listdir(stopped.queue) == []


def test_a_script_keeps_its_interpreter_and_its_own_options(app: App, stopped: TestSpool) -> None:
    answer = command(app, command="#!/usr/bin/env python3\n#QM size = 3\nprint(1)", nb_proc=9)
    assert answer.status == 201, answer.text
    assert any("will be lowered" in note for note in answer.json()["notes"])
    name = answer.json()["name"]
    lines = (stopped.queue / name / "job.sh").read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env python3"
    assert "#QM size = 3" in lines
    assert stopped.qm("check", str(stopped.queue / name)).stdout


def test_markup_in_what_was_typed_is_text(app: App) -> None:
    page = app.post("/submit", form={"command": "</textarea><script>alert(1)</script>", "name": '"><b>/x'})
    assert page.status == 400
    assert "<script>alert" not in page.text
    assert '"><b>' not in page.text


# --- the archive that the page makes ---------------------------------------------------------------------------

NODE = "/usr/bin/node"


@pytest.fixture
def packed(tmp_path: Path) -> Iterator[bytes]:
    """What tar.js makes of a folder with all kinds of names."""
    if not Path(NODE).exists():
        pytest.skip("node is not installed")
    script = tmp_path / "pack.mjs"
    module = Path(__file__).parents[2] / "web" / "static" / "tar.js"
    (tmp_path / "tar.mjs").write_text(module.read_text())
    script.write_text(
        """
        import { markPrograms, pack } from "./tar.mjs";
        const file = (text, lastModified = 1000000000000) => Object.assign(new Blob([text]), { lastModified });
        const entries = [
          { path: "fit", }, { path: "fit/job.sh", file: file("echo hello\\n") },
          { path: "fit/run", file: file("#!/bin/sh\\n") },
          { path: "fit/empty", file: file("") }, { path: "fit/gr\\u00fcn \\u65e5", file: file("1") },
          { path: "fit/" + "long/".repeat(50) + "x", file: file("2".repeat(1024)) }, { path: "fit/hollow" },
          { path: "fit/" + "n".repeat(96), file: file("3") }, { path: "fit/new\\nline", file: file("4") },
        ];
        const blob = pack(await markPrograms(entries));
        process.stdout.write(Buffer.from(await blob.arrayBuffer()));
        """
    )
    yield subprocess.run([NODE, str(script)], check=True, capture_output=True).stdout


def test_the_tar_of_the_page_is_what_gnu_tar_and_we_read(
    app: App, stopped: TestSpool, packed: bytes, tmp_path: Path
) -> None:
    (tmp_path / "gnu").mkdir()
    subprocess.run(["tar", "-x", "-C", str(tmp_path / "gnu")], input=packed, check=True)
    answer = upload(app, packed, "fit")
    assert answer.status == 201, answer.text
    for folder in (tmp_path / "gnu" / "fit", stopped.queue / "fit"):
        assert (folder / "grün 日").read_text() == "1"
        assert (folder / ("long/" * 50) / "x").read_text() == "2" * 1024
        assert (folder / ("n" * 96)).read_text() == "3"
        assert (folder / "new\nline").read_text() == "4"
        assert (folder / "empty").read_bytes() == b""
        assert (folder / "hollow").is_dir()
        assert os.access(folder / "run", os.X_OK)
        assert not (folder / "job.sh").stat().st_mode & 0o111
        assert (folder / "job.sh").stat().st_mtime == 1_000_000_000


def test_a_job_that_is_uploaded_many_times_at_once_is_queued_each_time(spool: TestSpool, make_web: MakeWeb) -> None:
    web = make_web(spool)
    web.csrf()
    answers: list[Response] = []
    threads = [threading.Thread(target=lambda: answers.append(upload(web, zipped()))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [201] * 6
    assert len({answer.json()["id"] for answer in answers}) == 6
    until(lambda: len([path for path in spool.done.iterdir() if not path.name.startswith(".")]) == 6, "all six to run")


@pytest.mark.parametrize("text", [" \n# a comment", "\x0b#x", "# only"])
def test_a_command_of_comments_alone_has_a_name_all_the_same(app: App, text: str) -> None:
    assert command(app, command=text).status == 201


def test_a_name_that_no_folder_can_have_is_refused_and_leaves_nothing(app: App, stopped: TestSpool) -> None:
    answer = command(app, command="echo", name="\ud800")
    assert answer.status == 400 and "cannot be a job's name" in answer.text
    assert os.listdir(stopped.queue) == []
