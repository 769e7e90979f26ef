"""The overview as the server makes it: what it says, what a refresh costs, and that nothing in a spool breaks it."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable

import pytest
from harness import TestSpool, until
from made_up import make_ended
from webserver import App, WebServer

Maker = Callable[..., TestSpool]


def section(text: str, name: str) -> str:
    """The part of the page that is refreshed under this name."""
    return text.partition(f'data-live="{name}"')[2].partition("</section>")[0]


def refreshed(app: App, etag: str = '""', address: str = "/") -> tuple[int, str, str]:
    answer = app.get(address, QM_Refresh="1", If_None_Match=etag)
    return answer.status, answer.headers["etag"], answer.text


def test_an_empty_spool_says_what_to_do(make_spool: Maker) -> None:
    answer = App.of(make_spool()).get("/")
    assert answer.status == 200
    assert "Copy a job folder into" in answer.text


def test_the_page_is_there_before_the_daemon_has_made_any_folder(make_spool: Maker) -> None:
    spool = make_spool()
    for folder in (spool.queue, spool.jobs, spool.done, spool.lost):
        folder.rmdir()
    answer = App.of(spool).get("/")
    assert answer.status == 200
    assert "not running" in section(answer.text, "status")


def test_jobs_stand_where_they_are(make_spool: Maker) -> None:
    spool = make_spool()
    for folder, name in ((spool.queue, "next"), (spool.jobs, "now"), (spool.done, "old"), (spool.lost, "odd")):
        (folder / name).mkdir()
    text = App.of(spool).get("/").text
    for name, job in (("running", "now"), ("waiting", "next"), ("ended", "old"), ("ended", "odd")):
        assert f">{job}</a>" in section(text, name)


def test_the_daemon_the_processors_and_the_reasons_are_told(spool: TestSpool) -> None:
    spool.drop("first", "echo 3 / 4; while [ ! -e go ]; do sleep 0.05; done", info="of Ada's")
    spool.wait_running("first")
    spool.drop("wide", "true", nb_proc=2)
    spool.drop("later", "true", nb_proc=2, priority=-1)
    spool.drop("held", "true", hold="yes")
    app = App.of(spool)
    until(lambda: "held, until" in app.get("/").text and "3 / 4" in app.get("/").text)
    text = app.get("/").text
    assert "running</span>" in section(text, "status")
    assert "1 of 2 in use" in section(text, "status")
    running = section(text, "running")
    assert "75%" in running
    assert "of Ada&#039;s" in running
    waiting = section(text, "waiting")
    assert "1 of 2 processors free, needs 2" in waiting
    assert "1 job before it" in waiting
    assert waiting.index(">wide<") < waiting.index(">later<") < waiting.index(">held<")


def test_draining_is_told_and_can_be_ended(spool: TestSpool) -> None:
    spool.qm("drain")
    text = App.of(spool).get("/").text
    assert "draining: no job is started" in section(text, "status")
    assert 'value="undrain"' in section(text, "status")


def test_a_state_is_a_word_and_not_only_a_colour(spool: TestSpool) -> None:
    spool.drop("bad", "exit 3")
    spool.wait_for("bad")
    ended = section(App.of(spool).get("/").text, "ended")
    assert '<span class="state state-failed">failed</span>' in ended
    assert "exit status 3" in ended


def test_a_refresh_in_which_nothing_is_new_is_304(make_spool: Maker) -> None:
    spool = make_spool()
    make_ended(str(spool.root), 60)
    app = App.of(spool)
    until(lambda: 'Finished <span class="muted">60<' in app.get("/").text)
    status, etag, text = refreshed(app)
    assert (status, "<html" in text, section(text, "ended").count("<tr data-key")) == (200, False, 50)
    assert until(lambda: refreshed(app, refreshed(app)[1])[0] == 304)
    (spool.queue / "new").mkdir()
    assert until(lambda: ">new</a>" in refreshed(app, etag)[2])


def test_a_refresh_is_the_same_for_all_and_has_nobodys_token(make_spool: Maker) -> None:
    spool = make_spool()
    spool.drop("held", "true", hold="yes")
    app = App.of(spool)
    text = refreshed(app)[2]
    assert app.csrf() not in text
    assert app.csrf() in app.get("/").text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("q=BETA", {"beta"}),
        ("q=%25", set()),
        ("state=failed", {"alpha"}),
        ("state=failures", {"alpha"}),
        ("state=done", {"beta", "gamma[1]"}),
        ("state=waiting", set()),
        ("q=%5B1%5D", {"gamma[1]"}),
        ("since=2001-01-01", {"alpha", "beta", "gamma[1]"}),
        ("until=2001-01-01", set()),
        ("since=nonsense&until=2026-99-99", {"alpha", "beta", "gamma[1]"}),
        ("owner=nobody-of-that-name", set()),
        ("state=nonsense&sort=nonsense&ep=-5&wp=x&rp=99999999999", {"alpha", "beta", "gamma[1]"}),
    ],
)
def test_lists_are_filtered(spool: TestSpool, query: str, names: set[str]) -> None:
    spool.drop("alpha", "exit 1")
    spool.drop("beta", "true")
    spool.drop("gamma[1]", "true")
    for name in ("alpha", "beta", "gamma[1]"):
        spool.wait_for(name)
    app = App.of(spool)
    until(lambda: all(f">{name}</a>" in app.get("/").text for name in ("alpha", "beta", "gamma[1]")))
    text = app.get(f"/?{query}").text
    assert {name for name in ("alpha", "beta", "gamma[1]") if f">{name}</a>" in text} == names


def test_a_page_of_many_is_a_page_and_leads_to_the_others(make_spool: Maker) -> None:
    spool = make_spool()
    make_ended(str(spool.root), 120)
    app = App.of(spool)
    until(lambda: "page 1 of 3" in app.get("/?sort=name").text)
    seen: list[str] = []
    for page in (1, 2, 3):
        ended = section(app.get(f"/?sort=name&ep={page}").text, "ended")
        seen += [part.partition("</a>")[0].rpartition(">")[2] for part in ended.split('<td class="job">')[1:]]
    assert len(seen) == 120
    assert seen == sorted(seen, key=str.lower)
    assert app.get("/?ep=4").status == 200


def test_details_are_not_told_where_they_are_off(spool: TestSpool) -> None:
    spool.drop("quiet", "echo 45%; exit 3", info="secret project")
    spool.wait_for("quiet")
    app = App.of(spool, Display_details=False)
    until(lambda: ">quiet</a>" in app.get("/").text)
    for text in (app.get("/").text, refreshed(app)[2]):
        assert "secret project" not in text
        assert "exit status 3" not in text
        assert "Owner" not in text
    found = app.get("/?q=no-such-text&owner=nobody&sort=owner").text
    assert ">quiet</a>" in found, "the hidden could be guessed letter by letter"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_one_bad_folder_does_not_spoil_the_page(make_spool: Maker) -> None:
    spool = make_spool()
    good = spool.done / "good"
    good.mkdir()
    for number, content in enumerate((b"", b"{", b"[]", b'{"format": 1}', b"\xff\xfe", b"[" * 100_000)):
        folder = spool.done / f"bad{number}"
        (folder / ".qm").mkdir(parents=True)
        (folder / ".qm" / "job.json").write_bytes(content)
    os.mkfifo(spool.done / "good" / "process.log")
    (spool.lost / "link").symlink_to("/etc")
    os.mkdir(os.fsencode(spool.lost) + b"/\xff\xfe\n<i>")
    (spool.queue / "half").mkdir(mode=0)
    os.chown(spool.queue / "half", 65534, 65534)
    app = App.of(spool)
    until(lambda: ">bad5</a>" in app.get("/").text)
    text = app.get("/").text
    assert ">good</a>" in text
    assert "<i>" not in text
    assert ">link</a>" not in text


def test_the_links_of_a_page_behind_a_prefix_have_it(make_spool: Maker) -> None:
    spool = make_spool()
    (spool.done / "job").mkdir()
    app = App.of(spool, Public_URL="https://lab.example.org/qm", Anonymous="view")
    answer = app.get("/qm/", Host="lab.example.org")
    assert answer.status == 200
    assert 'href="/qm/static/qm.css"' in answer.text
    assert 'href="/qm/job/' in answer.text
    assert 'href="/job/' not in answer.text


def test_a_quiet_refresh_keeps_its_connection(make_spool: Maker, make_web: Callable[..., WebServer]) -> None:
    web = make_web(make_spool())
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)
    etag = '""'

    def look() -> int:
        nonlocal etag
        connection.request("GET", "/", headers={"QM-Refresh": "1", "If-None-Match": etag})
        answer = connection.getresponse()
        answer.read()
        etag = answer.headers["ETag"]
        return answer.status

    until(lambda: look() == 304, "a quiet spool")
    kept = connection.sock
    assert kept is not None
    assert look() in (200, 304)
    assert connection.sock is kept
    connection.close()


@pytest.mark.parametrize("cookie", ["a/b=1", "a,b=1; c{d=2", 'x="; qm_said', "\xff=\xff"])
def test_cookies_of_other_programs_of_this_host_do_no_harm(make_spool: Maker, cookie: str) -> None:
    assert App.of(make_spool()).get("/", Cookie=cookie).status == 200


@pytest.mark.parametrize(
    "facts",
    [{"cpu_seconds": 10**30}, {"cpu_seconds": float("inf")}, {"peak_memory": 10**400}, {"processors": [[1], "x", -1]}],
)
def test_a_figure_that_no_job_can_have_does_not_spoil_a_page(make_spool: Maker, facts: dict[str, object]) -> None:
    spool = make_spool()
    times = {"submitted": 1.7e9, "started": 1.7e9, "finished": 1.7e9 + 5}
    for place, state in ((spool.done, "done"), (spool.jobs, "running")):
        (place / "odd" / ".qm").mkdir(parents=True)
        record = {"format": 1, "id": f"{state:a>12}", "name": "odd", "owner": "o", "state": state, **times, **facts}
        (place / "odd" / ".qm" / "job.json").write_text(json.dumps(record))
    app = App.of(spool)
    for _ in range(2):
        for address in ("/", "/timeline", "/api/v1/timeline", "/api/v1/jobs"):
            answer = app.get(address)
            assert answer.status == 200 and ("odd" in answer.text or "timeline" in address), address


def test_why_a_job_waits_is_not_told_in_its_own_words_where_details_are_off(make_spool: Maker) -> None:
    spool = make_spool()
    for state in ("held", "deferred"):
        (spool.queue / state / ".qm").mkdir(parents=True)
        record = {"format": 1, "id": f"{state:a>12}", "name": state, "owner": "o", "state": state, "submitted": 1.7e9}
        (spool.queue / state / ".qm" / "job.json").write_text(json.dumps({**record, "reason": "secret reason"}))
    app = App.of(spool, Display_details=False)
    for address in ("/", "/job/aaaaaaaaheld", "/job/aaaadeferred", "/api/v1/jobs/aaaadeferred"):
        answer = app.get(address)
        assert answer.status == 200 and "secret" not in answer.text, address


def test_progress_on_a_later_page_of_what_runs_is_refreshed_too(
    make_spool: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qm_web.live.MACHINE_LIFE", 1e9)  # so that nothing else is new
    spool = make_spool()
    for number in range(60):
        (spool.jobs / f"job{number:02}").mkdir()
        (spool.jobs / f"job{number:02}" / "process.log").write_text("1 / 4\n")
    app = App.of(spool)
    until(lambda: "page 2 of 2" in app.get("/?rp=2").text)
    etag = until(lambda: refreshed(app, (tag := refreshed(app, address="/?rp=2")[1]), "/?rp=2")[0] == 304 and tag)
    shown = section(app.get("/?rp=2").text, "running").partition('<td class="job">')[2].partition("</a>")[0]
    (spool.jobs / shown.rpartition(">")[2] / "process.log").write_text("3 / 4\n")
    assert until(lambda: "75%" in refreshed(app, etag, "/?rp=2")[2], patience=10)
