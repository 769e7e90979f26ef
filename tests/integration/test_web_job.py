"""The page of one job, whatever its folder holds."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from harness import TestSpool
from webserver import App

from qm.vocabulary.options import Options
from qm.vocabulary.record import Record, Run, dump
from qm.vocabulary.states import PLACE_OF, Place, State

Make = Callable[..., TestSpool]
ID = "abcdefghijkl"
THEN = 1_700_000_000.0
MARKUP = '<img src=x onerror="alert(1)">\'&'


def put(spool: TestSpool, state: State = State.RUNNING, name: str = "job", **facts: Any) -> Path:
    """A job folder with a record, where it belongs."""
    folder = spool.root / PLACE_OF[state].value / name
    (folder / ".qm").mkdir(parents=True)
    facts.setdefault("owner", "me")
    facts.setdefault("started", None if PLACE_OF[state] is Place.QUEUE else THEN + 10)
    record = Record(id=ID, name=name, state=state, submitted=THEN, attempt=1, **facts)
    (folder / ".qm" / "job.json").write_bytes(dump(record))
    return folder


def links(text: str) -> list[str]:
    """Where the names in the list of jobs lead: the job pages."""
    return sorted(set(re.findall(r'href="(/job/[a-z0-9]+)"', text)))


def live_part(text: str, name: str) -> str:
    """A part of the page that refreshes itself, up to the next one."""
    return text.partition(f'data-live="{name}"')[2].partition("data-live=")[0]


@pytest.fixture
def spool(make_spool: Make) -> TestSpool:
    return make_spool()


def test_the_page_says_what_the_record_knows(spool: TestSpool) -> None:
    options = Options(script="python fit.py", info="a fit", wall_time=3600.0)
    folder = put(
        spool,
        State.FAILED,
        finished=THEN + 70,
        exit_status=127,
        reason="exit status 127",
        cpu_seconds=100.0,
        peak_memory=3 << 30,
        processors=(0, 1),
        nb_proc=2,
        options=options,
        job_file="proc_config.cfg",
        notes=("a note",),
    )
    (folder / "proc_config.cfg").write_text("[QMOptions]\nscript : python fit.py\n")
    (folder / "process.log").write_text("sh: python: not found\n")
    (folder / "out").mkdir()
    text = App.of(spool).get(f"/job/{ID}").text
    for expected in (
        'class="state state-failed">failed<',
        "exit status 127",
        "127: the command was not found",
        "<dd>00:10</dd>",
        "<dd>01:00</dd>",
        "<dd>01:40</dd>",
        "<dd>3.0 GiB</dd>",
        "<dd>2 (CPU 0-1)</dd>",
        "a note",
        "a fit",
        "script : python fit.py",
        "sh: python: not found",
        f'href="/job/{ID}/files/out/"',
        f'href="/job/{ID}/zip"',
    ):
        assert expected in text, expected


@pytest.mark.parametrize("state", list(State))
def test_there_is_a_page_in_every_state(spool: TestSpool, state: State) -> None:
    put(spool, state)
    answer = App.of(spool).get(f"/job/{ID}")
    assert answer.status == 200
    assert f"state-{state}" in answer.text


def test_folders_without_a_record_have_a_page(spool: TestSpool) -> None:
    for place, name in ((spool.queue, "arriving"), (spool.done, "old"), (spool.lost, "lost"), (spool.jobs, "strange")):
        (place / name).mkdir()
        (place / name / "process.log").write_text(f"the log of {name}\n")
    app = App.of(spool)
    found = links(app.get("/").text)
    assert len(found) == 4
    texts = [app.get(link) for link in found]
    assert [answer.status for answer in texts] == [200] * 4
    for name in ("arriving", "old", "lost", "strange"):
        assert any(f"the log of {name}" in answer.text for answer in texts)


def test_markup_in_any_field_is_text(spool: TestSpool) -> None:
    name = MARKUP.replace("/", "")
    options = Options(script=MARKUP, info=MARKUP, size=MARKUP, group=MARKUP, env=((f"A{MARKUP}", MARKUP),))
    folder = put(
        spool,
        State.RUNNING,
        name,
        owner=MARKUP,
        reason=MARKUP,
        launcher=MARKUP,
        ticket=MARKUP,
        options=options,
        overrides={"info": MARKUP},
        notes=(MARKUP,),
        history=(Run(1, THEN, THEN + 1, "failed", MARKUP), Run(2, THEN, THEN + 1, MARKUP, MARKUP)),
    )
    (folder / "proc_config.cfg").write_text(MARKUP)
    (folder / "process.log").write_text(f"{MARKUP}\n45% {MARKUP}\n")
    (folder / "process.log.1").write_text(MARKUP)
    (folder / name).mkdir()
    (folder / "a link").symlink_to(MARKUP)
    text = App.of(spool).get(f"/job/{ID}").text
    assert "<img" not in text
    assert 'onerror="' not in text
    assert unescape(text).count("<img src=x") > 12


def test_control_characters_and_undecodable_names_are_shown_escaped(spool: TestSpool) -> None:
    folder = put(spool, name="bad\x1b[31m\u202e", reason="\x1b]0;x\x07", options=Options(script="a\n\tb\x1b"))
    os.mkdir(os.fsencode(folder) + b"/\xff\xfe")
    answer = App.of(spool).get(f"/job/{ID}")
    assert answer.status == 200
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", answer.text)
    assert r"\x1b[31m\u202e" in answer.text
    assert "/files/%FF%FE/" in answer.text


def test_a_record_with_strange_values_makes_no_error(spool: TestSpool) -> None:
    folder = put(spool, State.DONE)
    raw = json.loads((folder / ".qm" / "job.json").read_text())
    raw |= {
        "processors": ["x", {}, None, -3],
        "gpus": [[]],
        "notes": ["\u0000"],
        "peak_memory": 10**300,
        "attempt": 10**200,
        "nb_proc": 10**50,
        "exit_status": -(10**40),
        "signal": 10**40,
        "finished": 9e10,
        "job_file": "../../../../etc/passwd",
        "history": [{"attempt": "x", "state": [], "reason": {"a": 1}, "exit_status": "0"}, {}],
    }
    text = json.dumps(raw).replace('"cpu_seconds": null', '"cpu_seconds": Infinity')
    (folder / ".qm" / "job.json").write_text(text)
    answer = App.of(spool).get(f"/job/{ID}")
    if answer.status == 404:  # it counts as none, and the folder has another key
        answer = App.of(spool).get(links(App.of(spool).get("/").text)[0])
    assert answer.status == 200
    assert "root:" not in answer.text


@pytest.mark.parametrize("job_file", ["/etc/passwd", "../../QMserv.cfg", "link", ".qm/job.json", "fifo"])
def test_a_job_file_outside_of_the_folder_is_not_shown(spool: TestSpool, job_file: str) -> None:
    folder = put(spool, State.DONE, job_file=job_file)
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo")
    text = App.of(spool).get(f"/job/{ID}").text
    assert "root:" not in text
    assert "There is no job file." in text


def test_links_in_the_place_of_our_files_are_not_followed(spool: TestSpool) -> None:
    (spool.root / "secret").write_text("secret words\n")
    folder = put(spool)
    for name in ("process.log", "process.log.1", "proc_config.cfg"):
        (folder / name).symlink_to(spool.root / "secret")
    answer = App.of(spool).get(f"/job/{ID}")
    assert answer.status == 200
    assert "secret words" not in answer.text


def test_the_log_of_an_earlier_attempt_can_be_chosen(spool: TestSpool) -> None:
    folder = put(spool)
    (folder / "process.log").write_text("the second\n")
    (folder / "process.log.1").write_text("the first\n")
    app = App.of(spool)
    assert "<pre>the second" in app.get(f"/job/{ID}").text
    first = app.get(f"/job/{ID}?log=process.log.1").text
    assert "<pre>the first" in first
    assert 'data-log="process.log.1"' in first
    assert app.get(f"/job/{ID}?log=../secret").status == 400


def test_buttons_are_there_for_what_may_be_done(spool: TestSpool) -> None:
    put(spool)
    text = App.of(spool, Licence_to_kill=True).get(f"/job/{ID}").text
    assert 'value="kill"' in text
    assert f'name="back" value="/job/{ID}"' in text
    assert re.search(r'name="csrf" value="[^"]{8,}"', text)
    assert 'value="kill"' not in App.of(spool, Licence_to_kill=False).get(f"/job/{ID}").text


def test_without_details_the_page_has_the_state_and_nothing_of_the_owner(spool: TestSpool) -> None:
    options = Options(script="secret-a", info="secret-b")
    folder = put(spool, State.FAILED, reason="secret-c", owner="secret-d", options=options, notes=("secret-e",))
    (folder / "process.log").write_text("secret-f")
    (folder / "secret-g").write_text("")
    (folder / "proc_config.cfg").write_text("secret-h")
    answer = App.of(spool, Display_details=False).get(f"/job/{ID}")
    assert answer.status == 200
    assert "state-failed" in answer.text
    assert "secret-" not in answer.text


def test_a_refresh_that_finds_nothing_new_has_no_body(spool: TestSpool) -> None:
    folder = put(spool)
    (folder / "process.log").write_text("10%\n")
    app = App.of(spool)
    first = app.get(f"/job/{ID}", QM_Refresh="1")
    assert first.status == 200
    assert 'data-live="job-head"' in first.text
    same = app.get(f"/job/{ID}", QM_Refresh="1", If_None_Match=first.headers["etag"])
    assert (same.status, same.body) == (304, b"")
    (folder / "result.txt").write_text("new")
    changed = app.get(f"/job/{ID}", QM_Refresh="1", If_None_Match=first.headers["etag"])
    assert changed.status == 200
    assert "result.txt" in live_part(changed.text, "job-files")


def test_a_refresh_has_the_same_parts_as_the_page(spool: TestSpool) -> None:
    (put(spool) / "process.log").write_text("x" * 60000)
    app = App.of(spool)
    page, refresh = app.get(f"/job/{ID}").text, app.get(f"/job/{ID}", QM_Refresh="1").text
    parts = re.findall(r'data-live="([a-z-]+)"', page)
    assert parts == re.findall(r'data-live="([a-z-]+)"', refresh)
    assert len(parts) == 6
    assert len(refresh) < 20000  # the log's end and the job file are not sent again


def test_the_page_has_no_script_or_style_of_its_own(spool: TestSpool) -> None:
    (put(spool) / "process.log").write_text("text")
    text = App.of(spool).get(f"/job/{ID}").text
    assert not re.search(r"<script(?![^>]* src=)", text)
    assert not re.search(r"\sstyle=|\son[a-z]+=", text)


def test_an_unknown_job_is_told_as_such(spool: TestSpool) -> None:
    for key in ("nosuchjob", "x" * 17, "%2e%2e", "a%2Fb", "'"):
        assert App.of(spool).get(f"/job/{key}").status == 404
