"""Kill, hold, retry, delete, … through the dashboard: real daemon, real server, requests as browsers send them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import TestSpool, until
from webserver import App, Response, WebServer

from qm.spool.paths import SpoolPaths
from qm.spool.requests import ask
from qm.spool.submission import submit_script
from qm.spool.view import View
from qm.vocabulary.requests import Request

MakeSpool = Callable[..., TestSpool]
MakeWeb = Callable[..., WebServer]
FOREVER = "while :; do sleep 0.05; done"
EVERYTHING = {"Delete_Jobs": True, "Licence_to_kill": True}


@pytest.fixture
def web(spool: TestSpool, make_web: MakeWeb) -> WebServer:
    """A dashboard that may do everything, on a spool with a daemon."""
    return make_web(spool, **EVERYTHING)


def row(web: WebServer, name: str) -> dict[str, Any]:
    """The job of that name, as soon as the dashboard lists it."""

    def listed() -> dict[str, Any] | None:
        jobs: list[dict[str, Any]] = web.get("/api/v1/jobs?per_page=500").json()["jobs"]
        return next((job for job in jobs if job["name"] == name), None)

    found: dict[str, Any] = until(listed, f"{name} in the list")
    return found


def act(web: WebServer, verb: str, *keys: str, **args: object) -> Response:
    """POST to the address for programs."""
    return web.post("/api/v1/actions", json={"verb": verb, "keys": list(keys), "args": args})


def results(web: WebServer, verb: str, *keys: str, **args: object) -> list[dict[str, Any]]:
    """The same, which must be answered with results."""
    answer = act(web, verb, *keys, **args)
    assert answer.status == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def granted(web: WebServer, verb: str, *keys: str, **args: object) -> None:
    """The same, which must be obeyed for every job."""
    for result in results(web, verb, *keys, **args):
        assert result["ok"] is True, result


def submit(spool: TestSpool, name: str, script: str, **keys: object) -> str:
    """Drop a job into the queue; its id, once the daemon has accepted it."""
    spool.drop(name, script, **keys)

    def accepted() -> str:
        live = [job for job in View(str(spool.root)).jobs() if job.name == name and job.record is not None]
        return live[0].id if live else ""

    job_id: str = until(accepted, f"{name} to be accepted")
    return job_id


def state_of(spool: TestSpool, job_id: str) -> str:
    """A job's state as its folder and record say it."""
    return next((str(job.state) for job in View(str(spool.root)).jobs() if job.id == job_id), "")


# --- what the verbs do -------------------------------------------------------------------------------------


def test_hold_and_release_of_a_waiting_job(make_spool: MakeSpool, make_web: MakeWeb) -> None:
    spool = make_spool()
    spool.start()
    web = make_web(spool)
    granted(web, "drain")
    job = submit(spool, "waits", "touch ran")
    (result,) = results(web, "hold", job)
    assert (result["key"], result["name"], result["ok"]) == (job, "waits", True)
    assert state_of(spool, job) == "held"
    granted(web, "release", job)
    granted(web, "undrain")
    assert (spool.wait_for("waits", spool.done) / "ran").exists()


def test_kill_ends_a_running_job(spool: TestSpool, web: WebServer) -> None:
    job = submit(spool, "runs", FOREVER)
    spool.wait_running("runs")
    granted(web, "kill", job)
    assert spool.record(spool.wait_for("runs", spool.lost))["state"] == "killed"


def test_pause_and_resume(spool: TestSpool, web: WebServer) -> None:
    job = submit(spool, "runs", FOREVER)
    spool.wait_running("runs")
    granted(web, "pause", job)
    assert state_of(spool, job) == "paused"
    granted(web, "resume", job)
    until(lambda: state_of(spool, job) == "running", "the job to go on")


def test_retry_runs_an_ended_job_again(spool: TestSpool, web: WebServer) -> None:
    job = submit(spool, "again", "[ -e once ] || { touch once; exit 3; }")
    spool.wait_for("again", spool.lost)
    granted(web, "retry", job)
    assert spool.record(spool.wait_for("again", spool.done))["id"] == job


def test_delete_takes_the_folder_and_no_other_of_the_same_name(spool: TestSpool, web: WebServer) -> None:
    for folder in ("twin", "twin.2"):
        spool.drop("twin", "true")
        spool.wait_for(folder, spool.done)
    granted(web, "delete", spool.record(spool.done / "twin.2")["id"])
    assert [folder.name for folder in spool.done.iterdir() if not folder.name.startswith(".")] == ["twin"]


def test_set_changes_a_waiting_job_with_texts_and_numbers(spool: TestSpool, web: WebServer) -> None:
    granted(web, "drain")
    job = submit(spool, "waits", "true")
    granted(web, "set", job, priority=7, info="changed")
    shown = web.get(f"/api/v1/jobs/{job}").json()
    assert (shown["priority"], shown["info"]) == (7, "changed")
    (result,) = results(web, "set", job, nb_proc="twelve")
    assert result["ok"] is False and "nb_proc" in result["message"]


def test_drain_and_undrain_have_addresses_of_their_own(spool: TestSpool, web: WebServer) -> None:
    answer = web.post("/api/v1/queue/drain", json={})
    assert answer.json()["ok"] is True and "draining" in answer.json()["message"]
    assert web.get("/api/v1/status").json()["draining"] is True
    assert web.post("/api/v1/queue/undrain").json()["ok"] is True
    assert web.get("/api/v1/status").json()["draining"] is False
    assert web.post("/api/v1/queue/drain", json={"now": True}).status == 400


# --- several at once ---------------------------------------------------------------------------------------


def test_a_hundred_jobs_are_held_by_one_request_and_unknown_ones_are_named(spool: TestSpool, web: WebServer) -> None:
    granted(web, "drain")
    jobs = [submit(spool, f"job{number}", "true") for number in range(100)]
    begun = time.monotonic()
    answer = act(web, "hold", *jobs, "nosuchjobher")
    assert time.monotonic() - begun < 20  # a busy machine; what counts is the bound for the waiting
    by_key = {result["key"]: result for result in answer.json()["results"]}
    assert by_key.pop("nosuchjobher")["ok"] is False
    assert set(by_key) == set(jobs)
    assert {result["ok"] for result in by_key.values()} <= {True, None}, by_key
    until(lambda: all(state_of(spool, job) == "held" for job in jobs), "all to be held")
    assert "1 job refused" in answer.json()["message"]


def test_more_jobs_than_a_thousand_are_refused_and_none_is_touched(spool: TestSpool, web: WebServer) -> None:
    granted(web, "drain")
    job = submit(spool, "waits", "true")
    answer = act(web, "hold", job, *(f"job{number}" for number in range(1000)))
    assert answer.status == 400 and "at most 1000" in answer.json()["error"]
    assert state_of(spool, job) == "pending"


def test_all_answers_together_are_waited_for_two_seconds(make_spool: MakeSpool, make_web: MakeWeb) -> None:
    spool = make_spool()
    daemon = spool.start()
    web = make_web(spool)
    granted(web, "drain")
    jobs = [submit(spool, f"job{number}", "true") for number in range(3)]
    daemon.send_signal(signal.SIGSTOP)  # it holds its lock, and does nothing
    try:
        csrf = web.csrf()
        begun = time.monotonic()
        answer = web.post("/api/v1/actions", json={"verb": "hold", "keys": jobs}, csrf=False, X_CSRF_Token=csrf)
        assert 1.5 < time.monotonic() - begun < 4
    finally:
        daemon.send_signal(signal.SIGCONT)
    for result in answer.json()["results"]:
        assert result["ok"] is None and "kept" in result["message"]
    until(lambda: all(state_of(spool, job) == "held" for job in jobs), "the kept requests to be obeyed")


def test_a_daemon_that_is_down_is_not_waited_for_and_obeys_when_it_starts(
    make_spool: MakeSpool, make_web: MakeWeb
) -> None:
    spool = make_spool()
    spool.start()
    web = make_web(spool, **EVERYTHING)
    job = submit(spool, "ends", "true")
    spool.wait_for("ends", spool.done)
    spool.stop()
    (result,) = results(web, "delete", job)
    assert result["ok"] is None
    assert "QueueManager is not running; the request is kept and will be obeyed when it starts" in result["message"]
    assert (spool.done / "ends").exists()
    spool.start()
    until(lambda: not (spool.done / "ends").exists(), "the kept request to be obeyed")


# --- folders without an id ---------------------------------------------------------------------------------


def test_an_old_folder_without_a_record_is_deleted_alone(make_spool: MakeSpool, make_web: MakeWeb) -> None:
    spool = make_spool()
    spool.make("old", "true", where=spool.done)
    spool.make("old", "true", where=spool.lost)
    spool.start()
    web = make_web(spool, **EVERYTHING)
    granted(web, "drain")
    waiting = submit(spool, "old", "true")
    listed = web.get("/api/v1/jobs?place=QM_dJobs").json()["jobs"]
    (old,) = [job for job in listed if job["id"] == ""]
    granted(web, "delete", old["key"])
    assert not (spool.done / "old").exists()
    assert (spool.lost / "old").exists() and state_of(spool, waiting) == "pending"
    granted(web, "hold", waiting)  # it still waits, though an ended one of its folder name was deleted


def test_an_old_folder_without_a_record_is_retried_as_a_job_with_an_id(
    make_spool: MakeSpool, make_web: MakeWeb
) -> None:
    spool = make_spool()
    spool.make("old", "echo again", where=spool.lost)
    spool.start()
    web = make_web(spool)
    old = row(web, "old")
    granted(web, "retry", old["key"])
    folder = spool.wait_for("old", spool.done)
    assert spool.record(folder)["state"] == "done" and "again" in (folder / "process.log").read_text()


def test_an_old_folder_cannot_be_held(make_spool: MakeSpool, make_web: MakeWeb) -> None:
    spool = make_spool()
    spool.make("old", "true", where=spool.done)
    spool.start()
    web = make_web(spool)
    (result,) = results(web, "hold", row(web, "old")["key"])
    assert result["ok"] is False and "cannot hold a job that is done" in result["message"]


def test_a_folder_that_still_arrives_is_killed_when_it_has_arrived(make_spool: MakeSpool, make_web: MakeWeb) -> None:
    spool = make_spool(Settle_Time=2)
    spool.start()
    web = make_web(spool, **EVERYTHING)
    spool.make("comes", "touch ran", where=spool.queue)
    key = row(web, "comes")["key"]
    (result,) = results(web, "kill", key)
    assert result["ok"] in (True, None), result
    folder = spool.wait_for("comes", spool.lost)
    assert spool.record(folder)["state"] == "killed" and not (folder / "ran").exists()


# --- gates -------------------------------------------------------------------------------------------------


def test_kill_and_delete_are_refused_where_the_configuration_does_not_allow_them(
    spool: TestSpool, make_web: MakeWeb
) -> None:
    web = make_web(spool)
    job = submit(spool, "runs", FOREVER)
    spool.wait_running("runs")
    for verb, switch in (("kill", "Licence_to_kill"), ("delete", "Delete_Jobs")):
        answer = act(web, verb, job)
        assert answer.status == 403 and switch in answer.json()["error"]
        page = web.post("/action", {"verb": verb, "key": job, "confirm": "1", "back": "/"})
        assert page.status == 403 and switch in page.text
    assert state_of(spool, job) == "running"


def test_nothing_is_asked_for_without_the_token_of_the_session(spool: TestSpool, web: WebServer) -> None:
    job = submit(spool, "runs", FOREVER)
    spool.wait_running("runs")
    form = {"verb": "kill", "key": job, "confirm": "1"}
    attempts = [
        web.post("/action", form, csrf=False),
        web.post("/action", {**form, "csrf": "guessed"}, csrf=False),
        web.post("/api/v1/actions", json={"verb": "kill", "keys": [job]}, csrf=False),
        web.post("/api/v1/actions", json={"verb": "kill", "keys": [job]}, csrf=False, X_CSRF_Token="guessed"),
        web.post("/api/v1/actions", {"verb": "kill", "keys": job}, csrf=False),
        web.post("/api/v1/actions", form, csrf=True),  # a form is no JSON
        web.post("/api/v1/queue/drain", {}, csrf=False),
        web.post("/api/v1/queue/drain", {"x": "y"}),
        web.post("/api/v1/actions", data=b'{"verb": "kill", "keys": ["%s"]}' % job.encode(), Content_Type="text/plain"),
    ]
    assert {attempt.status for attempt in attempts} <= {403, 415}
    assert state_of(spool, job) == "running"
    assert not (spool.root / ".qm" / "drained").exists()


@pytest.mark.parametrize("address", ["/action", "/api/v1/actions", "/api/v1/queue/drain", "/api/v1/queue/undrain"])
def test_get_changes_nothing_and_is_told_which_method_is_right(
    address: str, make_spool: MakeSpool, make_web: MakeWeb
) -> None:
    spool = make_spool()
    spool.start()
    web = make_web(spool, **EVERYTHING)
    job = submit(spool, "runs", FOREVER)
    spool.wait_running("runs")
    answer = web.get(f"{address}?verb=kill&key={job}&keys={job}&confirm=1&csrf={web.csrf()}")
    assert answer.status == 405
    assert "POST" in answer.headers["allow"]
    if address.startswith("/api/"):
        assert set(answer.json()) == {"error"}
    assert state_of(spool, job) == "running"
    assert not (spool.root / ".qm" / "drained").exists()
    assert not list((spool.root / ".qm" / "requests").iterdir())


@pytest.mark.parametrize(
    "key",
    [
        "..",
        ".",
        "/",
        "../x",
        "%2e%2e%2f",
        "..%2fQM_dJobs",
        "a\0b",
        "\0",
        "QM_dJobs/keep",
        "QM_dJobs/..",
        "*",
        "\ud800",
        "é",
    ],
)
def test_a_hostile_key_touches_nothing(key: str, make_spool: MakeSpool, make_web: MakeWeb) -> None:
    spool = make_spool()
    spool.make("keep", "true", where=spool.done)
    spool.start()
    web = make_web(spool, **EVERYTHING)
    before = tree(spool.root)
    for verb in ("delete", "kill", "retry"):
        (result,) = results(web, verb, key)
        assert result["ok"] is False
    if key.isprintable():
        form = {"verb": "delete", "key": key, "confirm": "1"}
        assert web.post("/action", form).status == 303
    assert tree(spool.root) == before


def tree(root: Path) -> list[str]:
    """What lies in the four folders."""
    return sorted(str(path.relative_to(root)) for place in root.glob("QM_*") for path in place.rglob("*"))


@pytest.mark.parametrize("address", ["/api/v1/actions", "/api/v1/queue/drain", "/api/v1/commands"])
def test_json_that_cannot_be_read_is_refused_in_a_sentence(address: str, make_spool: MakeSpool) -> None:
    app = App.of(make_spool())
    for body, kind, status in (
        (b"[" * 50_000, "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff", "application/json; charset=utf-8", 400),
        (b"{}", "text/plain", 415),
        (b" " * 200_000, "application/json", 413),
    ):
        answer = app.post(address, data=body, Content_Type=kind)
        assert (answer.status, list(answer.json())) == (status, ["error"])


# --- forms -------------------------------------------------------------------------------------------------


def test_a_form_leads_back_and_says_once_what_became_of_it(spool: TestSpool, web: WebServer) -> None:
    granted(web, "drain")
    job = submit(spool, "waits", "true")
    answer = web.post("/action", {"verb": "hold", "key": job, "back": "/?q=waits"})
    assert (answer.status, answer.headers["location"]) == (303, "/?q=waits")
    cookie = next(cookie for cookie in answer.cookies if cookie.startswith("qm_said="))
    assert "httponly" in cookie.lower() and "samesite=lax" in cookie.lower()
    shown = web.get("/?q=waits").text
    assert re.search(rf'role="status"[^>]*>[^<]*waits \({job}\): held', shown)
    assert ": held" not in web.get("/?q=waits").text


def test_a_sentence_that_somebody_else_put_there_is_not_shown(spool: TestSpool, web: WebServer) -> None:
    shown = web.get("/", Cookie='qm_said="your password is out, go to evil.example"').text
    assert "evil.example" not in shown


def test_delete_and_kill_are_asked_about_first(spool: TestSpool, web: WebServer) -> None:
    jobs = []
    for name in ("a<b>", "second", "third"):
        jobs.append(submit(spool, name, "true"))
        spool.wait_for(name, spool.done)
    page = web.post("/action", {"verb": "delete", "key": jobs, "back": "/"})
    assert page.status == 200
    assert "Delete 3 jobs" in page.text and "cannot be undone" in page.text and "Cancel" in page.text
    assert "a&lt;b&gt;" in page.text and "a<b>" not in page.text
    assert all((spool.done / name).exists() for name in ("a<b>", "second", "third"))
    answer = web.post("/action", {"verb": "delete", "key": jobs, "back": "/", "confirm": "1"})
    assert answer.status == 303
    assert "3 jobs: deleted" in web.get("/").text
    assert not any((spool.done / name).exists() for name in ("a<b>", "second", "third"))


@pytest.mark.parametrize("confirm", ["", "0", "False", "yes"])
def test_only_the_answer_of_the_page_that_asks_counts_as_yes(confirm: str, spool: TestSpool, web: WebServer) -> None:
    job = submit(spool, "ends", "true")
    spool.wait_for("ends", spool.done)
    assert web.post("/action", {"verb": "delete", "key": job, "confirm": confirm}).status == 200
    assert (spool.done / "ends").exists()


def test_deleting_a_job_from_its_own_page_leads_to_the_overview(spool: TestSpool, web: WebServer) -> None:
    job = submit(spool, "ends", "true")
    spool.wait_for("ends", spool.done)
    answer = web.post("/action", {"verb": "delete", "key": job, "confirm": "1", "back": f"/job/{job}"})
    assert (answer.status, answer.headers["location"]) == (303, "/")


def test_a_form_leads_to_no_other_site(spool: TestSpool, web: WebServer) -> None:
    for back in ("//evil.example/", "https://evil.example/", "/\\evil.example"):
        answer = web.post("/action", {"verb": "drain", "back": back})
        assert (answer.status, answer.headers["location"]) == (303, "/")


def test_a_form_without_a_chosen_job_says_so(spool: TestSpool, web: WebServer) -> None:
    assert web.post("/action", {"verb": "hold", "back": "/"}).status == 303
    assert "No job was chosen" in web.get("/").text


def test_a_form_sets_keys_line_by_line(spool: TestSpool, web: WebServer) -> None:
    granted(web, "drain")
    job = submit(spool, "waits", "true")
    answer = web.post("/action", {"verb": "set", "key": job, "args": "priority = 3\r\ninfo=50% & more", "back": "/"})
    assert answer.status == 303
    shown = web.get(f"/api/v1/jobs/{job}").json()
    assert (shown["priority"], shown["info"]) == (3, "50% & more")


def test_of_two_folders_that_say_they_are_one_job_neither_is_deleted(spool: TestSpool, web: WebServer) -> None:
    spool.drop("mine", "true")
    shutil.copytree(spool.wait_for("mine"), spool.done / "mine.kept")
    until(lambda: web.get("/api/v1/jobs").json()["total"] == 2)
    (result,) = results(web, "delete", row(web, "mine")["key"])
    assert result["ok"] is False and "QM_dJobs/mine.kept" in result["message"]
    assert sorted(os.listdir(spool.done)) == ["mine", "mine.kept"]
    shutil.rmtree(spool.done / "mine.kept")
    granted(web, "delete", row(web, "mine")["key"])


def test_a_key_from_before_a_folder_had_an_id_does_nothing_to_a_later_job_of_its_name(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.make("again", "true", where=spool.queue)
    app = App.of(spool, **EVERYTHING)
    (old,) = (job["key"] for job in app.get("/api/v1/jobs").json()["jobs"])
    shutil.rmtree(spool.queue / "again")
    submit_script(SpoolPaths(str(spool.root)), "again", b"#!/bin/sh\ntrue\n", None)
    answer = app.post("/api/v1/actions", json={"verb": "delete", "keys": [old]})
    (result,) = answer.json()["results"]
    assert result["ok"] is False and "has an id by now" in result["message"]
    assert not any((spool.root / ".qm" / "requests").glob("*"))


def test_a_request_for_a_name_that_no_folder_can_have_is_refused(spool: TestSpool) -> None:
    for name in ("QM_dJobs/\ud800", "QM_qJobs/\ud800", "QM_dJobs/" + "x" * 5000):
        answer = ask(SpoolPaths(str(spool.root)), Request("delete", "", name))
        assert answer.ok is False, name
