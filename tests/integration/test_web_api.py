"""The dashboard's JSON, /metrics and /healthz over real folders: the application called directly, and as a server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import TestSpool, until
from webserver import App, Response, WebServer

from qm.vocabulary.states import State
from qm_web.routes.api import MOST_PER_PAGE

MakeSpool = Callable[..., TestSpool]
FOREVER = "while :; do sleep 0.05; done"
RECORD = {
    "format": 1,
    "state": "done",
    "id": "aaaabbbbcccc",
    "name": "filed",
    "owner": "me",
    "submitted": 1000.0,
    "started": 1001.0,
    "finished": 1002.0,
    "attempt": 1,
    "exit_status": 0,
    "nb_proc": 1,
    "options": {"script": "true", "info": "secret words"},
}


def filed(where: Path, **changes: Any) -> Path:
    """An ended job as the daemon leaves it."""
    record = RECORD | changes
    folder = where / str(record["name"])
    (folder / ".qm").mkdir(parents=True)
    (folder / ".qm" / "job.json").write_text(json.dumps(record))
    return folder


def names(answer: Response) -> list[str]:
    """The names of the jobs in a list."""
    assert answer.status == 200, answer.text
    return [job["name"] for job in answer.json()["jobs"]]


# --- status ------------------------------------------------------------------------------------------------


def test_the_status_tells_of_daemon_jobs_and_machine(spool: TestSpool) -> None:
    assert spool.daemon is not None
    spool.drop("runs", FOREVER, nb_proc=2)
    spool.wait_running("runs")
    app = App.of(spool, Refresh_Rate=7)
    status = until(lambda: (s := app.get("/api/v1/status").json())["jobs"]["running"] and s, "the job to be listed")
    assert status["daemon"]["alive"] is True and status["daemon"]["pid"] == spool.daemon.pid
    assert 0 <= status["now"] - status["daemon"]["since"] < 600
    assert status["processors"] == {"used": 2, "limit": 2}
    assert (status["draining"], status["refresh_rate"]) == (False, 7)
    assert set(status["jobs"]) == {state.value for state in State}
    assert status["machine"]["memory_total"] > status["machine"]["memory_used"] > 0


def test_the_status_of_a_spool_without_daemon_or_folders(make_spool: MakeSpool) -> None:
    spool = make_spool()
    for place in (spool.queue, spool.jobs, spool.done, spool.lost):
        place.rmdir()
    app = App.of(spool)
    status = app.get("/api/v1/status").json()
    assert status["daemon"] == {"alive": False, "pid": None, "host": None, "since": None}
    assert sum(status["jobs"].values()) == 0
    assert app.get("/api/v1/jobs").json() == {"jobs": [], "total": 0, "page": 1, "pages": 1}


# --- lists -------------------------------------------------------------------------------------------------


def test_lists_are_filtered_sorted_and_cut_into_pages(make_spool: MakeSpool) -> None:
    spool = make_spool()
    for number in range(7):
        job = {"id": f"aaaabbbbccc{number}", "name": f"job{number}", "finished": 2000.0 + number}
        filed(spool.done if number % 2 else spool.lost, **job, state="done" if number % 2 else "failed")
    app = App.of(spool)
    page = app.get("/api/v1/jobs?sort=name&per_page=3&page=2").json()
    assert [job["name"] for job in page["jobs"]] == ["job3", "job4", "job5"]
    assert (page["total"], page["page"], page["pages"]) == (7, 2, 3)
    assert names(app.get("/api/v1/jobs?sort=name&descending=true&per_page=1")) == ["job6"]
    assert sorted(names(app.get("/api/v1/jobs?state=failed"))) == ["job0", "job2", "job4", "job6"]
    assert len(names(app.get("/api/v1/jobs?state=failed&state=done"))) == 7
    assert sorted(names(app.get("/api/v1/jobs?place=QM_dJobs"))) == ["job1", "job3", "job5"]
    assert names(app.get("/api/v1/jobs?text=JOB4")) == ["job4"]
    assert names(app.get("/api/v1/jobs?since=2005.5")) == ["job6"]
    assert names(app.get("/api/v1/jobs?page=1000000")) == []
    assert names(app.get("/api/v1/jobs?text=%25")) == []  # no pattern


@pytest.mark.parametrize("query", ["page=0", f"per_page={MOST_PER_PAGE + 1}", "state=nosuch", "sort=folder", "x=1"])
def test_a_wrong_parameter_is_refused_in_a_sentence(query: str, make_spool: MakeSpool) -> None:
    answer = App.of(make_spool()).get(f"/api/v1/jobs?{query}")
    assert answer.status == 400
    assert list(answer.json()) == ["error"] and query.partition("=")[0] in answer.json()["error"]


def test_a_list_that_has_not_changed_is_not_sent_again(make_spool: MakeSpool) -> None:
    spool = make_spool()
    filed(spool.done)
    app = App.of(spool)
    etag = app.get("/api/v1/jobs").headers["etag"]
    again = app.get("/api/v1/jobs", If_None_Match=f'"other", {etag}')
    assert (again.status, again.body) == (304, b"")
    assert app.get("/api/v1/jobs?state=done", If_None_Match='"other"').status == 200
    filed(spool.done, name="new", id="aaaabbbbdddd")
    fresh = until(
        lambda: (a := app.get("/api/v1/jobs", If_None_Match=etag)).status == 200 and a, "the new job to be listed"
    )
    assert sorted(names(fresh)) == ["filed", "new"]


def test_a_running_job_shows_its_progress(spool: TestSpool) -> None:
    spool.drop("runs", f"echo 'step  3 / 4'; {FOREVER}")
    spool.wait_running("runs")
    app = App.of(spool)

    def shown() -> dict[str, Any] | None:
        jobs = app.get("/api/v1/jobs?state=running").json()["jobs"]
        return jobs[0] if jobs and jobs[0]["progress"] is not None else None

    job = until(shown, "the progress")
    assert job["progress"] == pytest.approx(0.75)
    assert {"progress_text", "cpu", "memory"} <= set(job)


# --- one job -----------------------------------------------------------------------------------------------


def test_a_job_is_shown_with_its_record_and_why_it_waits(spool: TestSpool) -> None:
    spool.qm("drain")
    spool.drop("waits", "true", info="about it")
    app = App.of(spool)

    def accepted() -> dict[str, Any] | None:
        jobs = app.get("/api/v1/jobs?state=pending").json()["jobs"]
        return app.get(f"/api/v1/jobs/{jobs[0]['key']}").json() if jobs else None

    job = until(accepted, "the job to be accepted")
    assert (job["name"], job["info"], job["state"]) == ("waits", "about it", "pending")
    assert "draining" in job["why"]
    assert job["record"]["id"] == job["key"] and job["record"]["options"]["script"] == "true"


def test_an_old_folder_is_shown_without_a_record(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.make("old", "true", where=spool.done)
    app = App.of(spool)
    (listed,) = app.get("/api/v1/jobs").json()["jobs"]
    assert (listed["id"], listed["state"], listed["key"][:1], len(listed["key"])) == ("", "done", "x", 17)
    job = app.get(f"/api/v1/jobs/{listed['key']}").json()
    assert (job["record"], job["why"], job["folder"]) == (None, None, "old")


def test_a_job_is_found_by_its_id_at_once_though_it_was_listed_while_it_arrived(make_spool: MakeSpool) -> None:
    spool = make_spool()
    for number in range(50):
        (spool.queue / f"job{number}").mkdir()
    app = App.of(spool)
    assert app.get("/api/v1/jobs?state=arriving").json()["total"] == 50
    for number in range(50):
        job_id = f"aaaabbbbcc{number:02}"
        shutil.rmtree(spool.queue / f"job{number}")
        filed(spool.queue, name=f"job{number}", id=job_id, state="pending", started=None, finished=None)
        assert app.get(f"/api/v1/jobs/{job_id}").status == 200


def test_a_job_is_found_by_its_id_while_the_spool_is_read_for_the_first_time(make_spool: MakeSpool) -> None:
    spool = make_spool()
    for number in range(500):
        filed(spool.done, name=f"job{number}", id=f"aaaabbbb{number:04}")
    for key in ("aaaabbbb0000", "aaaabbbb0250", "aaaabbbb0499"):
        assert App.of(spool).get(f"/api/v1/jobs/{key}").status == 200


@pytest.mark.parametrize(
    "key",
    ["nosuch", "..", "%2e%2e%2f", "..%2f..%2fetc", "*", "%ff", "%25", "aaaabbbbcccc%0a", "x" * 2000, "%C3%A9"],
)
def test_a_key_that_names_no_job_is_not_found(key: str, make_spool: MakeSpool) -> None:
    spool = make_spool()
    filed(spool.done)
    answer = App.of(spool).get(f"/api/v1/jobs/{key}")
    assert answer.status == 404
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("path", ["/api/v1/jobs/%00", "/api/v1/jobs/a%00b", "/api/v1/jobs?text=%00"])
def test_a_nul_in_an_address_is_refused(path: str, make_spool: MakeSpool) -> None:
    assert App.of(make_spool()).get(path).status == 400


def test_a_job_with_a_record_made_to_hurt_is_one_row_among_others(make_spool: MakeSpool) -> None:
    spool = make_spool()
    filed(spool.done)
    text = json.dumps(RECORD | {"name": "hurts", "id": "aaaabbbbdddd", "cpu_seconds": 0.0, "peak_memory": 10**30})
    folder = filed(spool.done, name="hurts", id="aaaabbbbdddd")
    (folder / ".qm" / "job.json").write_text(text.replace('"cpu_seconds": 0.0', '"cpu_seconds": Infinity'))
    filed(spool.done, name="first", id="aaaabbbbffff", options={"script": "true", "priority": 10**30})
    filed(spool.done, name="\udcff<b>\x1b[31m", id="aaaabbbbeeee")
    (spool.done / "torn" / ".qm").mkdir(parents=True)
    (spool.done / "torn" / ".qm" / "job.json").write_text('{"format": 1, "sta')
    app = App.of(spool)
    answer = app.get("/api/v1/jobs")
    assert sorted(names(answer)) == sorted(["filed", "first", "hurts", "torn", "\udcff<b>\x1b[31m"])
    assert "Infinity" not in answer.text
    one = app.get("/api/v1/jobs/aaaabbbbdddd")
    assert one.status == 200 and "Infinity" not in one.text
    assert one.json()["record"]["cpu_seconds"] is None


def test_a_job_that_vanishes_between_two_looks_is_not_found(make_spool: MakeSpool) -> None:
    spool = make_spool()
    folder = filed(spool.done)
    app = App.of(spool)
    assert app.get("/api/v1/jobs/aaaabbbbcccc").status == 200
    shutil.rmtree(folder)
    assert app.get("/api/v1/jobs/aaaabbbbcccc").status == 404


# --- Display_details ---------------------------------------------------------------------------------------


def test_without_details_no_description_owner_or_record_is_told(make_spool: MakeSpool) -> None:
    spool = make_spool()
    filed(spool.done, reason="secret reason")
    app = App.of(spool, Display_details=False)
    listed, one = app.get("/api/v1/jobs"), app.get("/api/v1/jobs/aaaabbbbcccc")
    for answer in (listed, one):
        assert answer.status == 200 and "secret" not in answer.text and '"me"' not in answer.text
    assert one.json()["record"] is None
    for query in ("text=secret", "owner=me", "sort=owner"):
        assert app.get(f"/api/v1/jobs?{query}").status == 403


# --- sessions, addresses, methods --------------------------------------------------------------------------


def test_the_session_tells_who_asks_and_the_token(make_spool: MakeSpool) -> None:
    session = App.of(make_spool()).get("/api/v1/session").json()
    assert (session["name"], session["role"]) == ("", "operate") and session["csrf"]


@pytest.mark.parametrize("path", ["/api/", "/api/v1", "/api/v1/", "/api/v2/jobs", "/api/v1/job", "/api/v1/jobs/a/b"])
def test_an_unknown_address_of_the_api_is_told_in_json(path: str, make_spool: MakeSpool) -> None:
    answer = App.of(make_spool()).get(path)
    assert answer.status == 404 and answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/api/v1/status", "GET"),
        ("POST", "/api/v1/jobs/a", "GET"),
        ("PUT", "/api/v1/jobs", "GET"),
        ("DELETE", "/api/v1/jobs/a", "GET"),
        ("GET", "/api/v1/actions", "POST"),
        ("HEAD", "/api/v1/actions", "POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_one_in_json(
    method: str, path: str, allowed: str, make_spool: MakeSpool
) -> None:
    app = App.of(make_spool())
    answer = app.send(method, path, b"", {"X-CSRF-Token": app.csrf()} if method == "POST" else {})
    assert answer.status == 405
    assert allowed in re.split(r",\s*", answer.headers["allow"])
    if method != "HEAD":
        assert list(answer.json()) == ["error"]


def test_the_description_names_the_prefix_of_a_proxy(make_spool: MakeSpool) -> None:
    app = App.of(make_spool(), Public_URL="https://lab.example.org/qm", Anonymous="view")
    answer = app.send("GET", "/qm/api/v1/openapi.json", None, {"Host": "lab.example.org"})
    assert answer.json()["servers"] == [{"url": "/qm"}]
    assert App.of(make_spool("second")).get("/api/v1/openapi.json").json()["servers"] == [{"url": "/"}]


# --- what programs watch -----------------------------------------------------------------------------------


def test_metrics_are_what_prometheus_reads(spool: TestSpool) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    filed(spool.done)
    spool.drop("runs", FOREVER)
    spool.wait_running("runs")
    app = App.of(spool)
    until(lambda: 'qm_jobs{state="running"} 1.0' in app.get("/metrics").text, "the running job to be counted")
    answer = app.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert all(family.documentation and family.type == "gauge" for family in families.values())
    values = {(sample.name, *sample.labels.values()): sample.value for f in families.values() for sample in f.samples}
    assert values["qm_up",] == 1 and values["qm_draining",] == 0
    assert values["qm_jobs", "done"] == 1 and values["qm_jobs", "failed"] == 0
    assert (values["qm_processors", "used"], values["qm_processors", "limit"]) == (1, 2)
    assert values["qm_spool_disk_bytes", "total"] > 0 and values["qm_daemon_start_time_seconds",] > 1e9


def test_metrics_of_a_spool_without_a_daemon_say_so(make_spool: MakeSpool) -> None:
    text = App.of(make_spool()).get("/metrics").text
    assert "qm_up 0.0" in text and "qm_daemon_start_time_seconds" not in text


def test_metrics_are_told_as_openmetrics_to_those_who_ask(make_spool: MakeSpool) -> None:
    answer = App.of(make_spool()).get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_health_is_told_to_everybody_and_tells_nothing_else(
    make_spool: MakeSpool, make_web: Callable[..., WebServer]
) -> None:
    spool = make_spool()
    web = make_web(spool)
    assert web.get("/healthz").json() == {"status": "ok", "daemon": "down"}
    head = web.send("HEAD", "/healthz", None, {})
    assert (head.status, head.body) == (200, b"")
    spool.start()
    assert web.get("/healthz").json() == {"status": "ok", "daemon": "alive"}
