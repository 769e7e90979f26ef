"""/timeline and /statistics over real folders, as pages and as JSON."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from harness import TestSpool, until
from made_up import make_ended
from webserver import App, WebServer

from qm.spool import history
from qm.vocabulary.record import Record
from qm.vocabulary.states import State
from qm_web.routes import gantt

MakeSpool = Callable[..., TestSpool]
PAGES = ("/timeline", "/statistics")


def filled(make_spool: MakeSpool, number: int = 60, **made: float) -> TestSpool:
    """A spool without a daemon, with jobs that have ended."""
    spool = make_spool()
    make_ended(str(spool.root), number, days=made.get("days", 0.2))
    return spool


def add(spool: TestSpool, **fields: object) -> None:
    """A job that ended half an hour ago, of which only the history knows."""
    now = time.time()
    values = {"id": "abcdefghijkl", "name": "x", "owner": "ada", "state": State.FAILED}
    times = {"submitted": now - 3600, "started": now - 3000, "finished": now - 1800}
    history.append(f"{spool.root}/QM_history", Record(**{**values, **times, **fields}))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [*PAGES, "/timeline?hours=1", "/statistics?days=0", "/statistics?days=7"])
def test_the_pages_work_without_any_job(make_spool: MakeSpool, path: str) -> None:
    page = App.of(make_spool()).get(path)
    assert page.status == 200
    assert "Nothing ran" in page.text or "No job has ended" in page.text


def test_the_json_works_without_any_job(make_spool: MakeSpool) -> None:
    app = App.of(make_spool())
    assert app.get("/api/v1/timeline").json()["jobs"] == []
    found = app.get("/api/v1/statistics").json()
    assert found["total"] == {"jobs": 0, "done": 0, "cpu_hours": 0, "processor_hours": 0}
    assert found["by_day"] == found["by_owner"] == found["by_state"] == found["waiting"] == found["running"] == []


def test_every_job_of_the_time_is_a_bar_that_leads_to_it(make_spool: MakeSpool) -> None:
    app = App.of(filled(make_spool))
    found = app.get("/api/v1/timeline?hours=24").json()
    assert len(found["jobs"]) == 60 and found["left_out"] == 0 and found["complete"]
    page = app.get("/timeline?hours=24")
    for job in found["jobs"]:
        assert f'<a data-key="bar-{job["key"]}" href="/job/{job["key"]}"' in page.text
        assert len(job["slots"]) == job["nb_proc"]
    assert page.text.count("<rect") >= 60
    assert len(app.get("/api/v1/timeline?hours=1").json()["jobs"]) < 60


def test_in_a_slot_no_two_jobs_overlap(make_spool: MakeSpool) -> None:
    app = App.of(filled(make_spool, 200))
    found = app.get("/api/v1/timeline?hours=24").json()
    slots: dict[int, list[tuple[float, float]]] = {}
    for job in found["jobs"]:
        for slot in job["slots"]:
            slots.setdefault(slot, []).append((job["started"], job["finished"]))
    for taken in slots.values():
        taken.sort()
        assert all(one[1] <= other[0] for one, other in pairwise(taken))
    assert len(found["labels"]) == len(slots)


def test_a_running_job_is_in_the_chart_and_stays_when_it_ends(spool: TestSpool, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    spool.drop("runs", f"while ! [ -e '{stop}' ]; do sleep 0.05; done", nb_proc=2)
    spool.wait_running("runs")
    app = App.of(spool)
    (job,) = until(lambda: app.get("/api/v1/timeline").json()["jobs"], "the running job to be drawn")
    assert (job["name"], job["state"], job["finished"], len(job["slots"])) == ("runs", "running", None, 2)
    assert "so far on 2 processors" in app.get("/timeline").text
    stop.touch()
    spool.wait_for("runs")

    def ended() -> bool:
        (job,) = app.get("/api/v1/timeline").json()["jobs"]
        return bool(job["finished"]) and job["state"] == "done"

    until(ended, "its end to be drawn")
    until(lambda: app.get("/api/v1/statistics").json()["total"]["jobs"] == 1, "its end to be counted")


def test_more_bars_than_fit_are_said_to_be_left_out(make_spool: MakeSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gantt, "MOST_BARS", 10)
    app = App.of(filled(make_spool))
    assert app.get("/api/v1/timeline?hours=24").json()["left_out"] == 50
    assert "50 more ran" in app.get("/timeline?hours=24").text


def test_the_tables_carry_the_figures_of_the_json(make_spool: MakeSpool) -> None:
    app = App.of(filled(make_spool, 100))
    found = app.get("/api/v1/statistics").json()
    page = app.get("/statistics").text
    assert found["total"]["jobs"] == 100
    for part in ("by_owner", "by_state", "by_day"):
        assert sum(line["jobs"] for line in found[part]) == 100
        assert sum(line["cpu_hours"] for line in found[part]) == pytest.approx(found["total"]["cpu_hours"])
    for line in found["by_owner"]:
        row = re.search(rf"<tr><td>{line['owner']}</td>.*?</tr>", page, re.DOTALL)
        assert row and f'<td class="number">{line["jobs"]}</td>' in row[0]
        assert f"{line['cpu_hours']:,.1f}" in row[0]
    for kind in ("waiting", "running"):
        assert sum(line["jobs"] for line in found[kind]) == 100
        assert all(line["text"] in page for line in found[kind])


def test_days_on_which_nothing_ended_are_shown_as_such(make_spool: MakeSpool) -> None:
    spool = make_spool()
    now = time.time()
    add(spool, submitted=now - 5 * 86400, started=now - 4 * 86400, finished=now - 4 * 86400 + 1)
    found = App.of(spool).get("/api/v1/statistics?days=7").json()
    assert [line["jobs"] for line in found["by_day"]] == [1, 0, 0, 0, 0]


def test_markup_and_undecodable_bytes_in_names_are_shown_as_text(make_spool: MakeSpool) -> None:
    spool = make_spool()
    name = os.fsdecode(b"<script>alert(1)</script>\xff\"'%[\n")
    add(spool, name=name, owner=name)
    app = App.of(spool)
    for path in PAGES:
        page = app.get(path)
        assert page.status == 200
        assert "<script>alert" not in page.text and "&lt;script&gt;alert" in page.text
    (job,) = app.get("/api/v1/timeline").json()["jobs"]
    assert job["name"] == name and not job["filed"]


def test_a_job_whose_folder_is_gone_is_no_link(make_spool: MakeSpool) -> None:
    spool = make_spool()
    add(spool)
    page = App.of(spool).get("/timeline").text
    assert 'data-key="bar-abcdefghijkl"' in page and "/job/abcdefghijkl" not in page


def test_without_details_no_names_and_owners_are_shown(make_spool: MakeSpool) -> None:
    spool = filled(make_spool)
    app = App.of(spool, Display_details=False)
    for path in ("/timeline?hours=24", "/api/v1/timeline?hours=24", "/statistics", "/api/v1/statistics"):
        text = app.get(path).text
        for word in ("grace", "emmy", "mandelbrot", "align_reads", "render"):
            assert word not in text, path
    assert app.get("/api/v1/statistics").json()["total"]["jobs"] == 60


@pytest.mark.parametrize(
    "path",
    [
        *(f"timeline?hours={hours}" for hours in ("0", "x", "9999999", "1&hours=2")),
        *(f"statistics?days={days}" for days in ("-1", "1.5", "", "%ff")),
    ],
)
def test_a_wrong_number_is_refused_with_what_is_accepted(make_spool: MakeSpool, path: str) -> None:
    app = App.of(make_spool())
    answer = app.get(f"/api/v1/{path}")
    assert answer.status == 400
    assert "accepted: one whole number" in answer.json()["error"]
    assert app.get(f"/{path}").status == 400


def test_a_refresh_that_would_look_the_same_is_answered_with_304(make_spool: MakeSpool) -> None:
    app = App.of(filled(make_spool))
    until(lambda: app.get("/api/v1/status").json()["index"]["progress"] is None, "all jobs to be read")
    until(lambda: app.get("/api/v1/timeline").json()["complete"], "the history to be read")
    app.get("/timeline?hours=168")
    first = app.get("/timeline?hours=168", QM_Refresh="1")
    again = app.get("/timeline?hours=168", QM_Refresh="1", If_None_Match=first.headers["etag"])
    assert (first.status, again.status) == (200, 304)
    assert app.get("/timeline?hours=24", QM_Refresh="1", If_None_Match=first.headers["etag"]).status == 200


def test_the_pages_keep_to_the_strict_policy(make_spool: MakeSpool) -> None:
    app = App.of(filled(make_spool))
    for path in PAGES:
        page = app.get(path).text
        assert not re.search(r"<[^>]*\s(style|on\w+)=", page)
        assert not re.search(r"<script(?![^>]*\ssrc=)", page)


def test_the_charts_library_is_served_with_its_licence(
    make_spool: MakeSpool, make_web: Callable[..., WebServer]
) -> None:
    web = make_web(make_spool())
    assert "1.6.32" in web.get("/static/uplot/uPlot.esm.js").text[:400]
    assert "MIT" in web.get("/static/uplot/LICENSE").text
    assert web.get("/static/uplot/uPlot.min.css").headers["content-type"].startswith("text/css")
    assert web.get("/timeline").status == web.get("/statistics").status == 200
