"""An array on the dashboard: how far it is, a grid of its tasks, their logs, and what programs are told of them."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from harness import TestSpool
from webserver import App

from qm.spool import tasks
from qm.spool.lock import Holder
from qm.spool.tasks import TaskEntry
from qm.spool.view import View
from qm.vocabulary.options import Options
from qm.vocabulary.record import Dependency, Record, Tasks, dump
from qm.vocabulary.states import PLACE_OF, Place, State

Make = Callable[..., TestSpool]
ID = "abcdefghijkl"
THEN = 1_700_000_000.0
MARKUP = '<img src=x onerror="alert(1)">\'&'


def put(spool: TestSpool, state: State = State.RUNNING, name: str = "array", id: str = ID, **facts: Any) -> Path:
    """An array of 100 tasks, or what `facts` say, as a folder where it belongs."""
    folder = spool.root / PLACE_OF[state].value / name
    (folder / ".qm").mkdir(parents=True)
    facts.setdefault("options", Options(script="true", array="0-99"))
    facts.setdefault("started", None if PLACE_OF[state] is Place.QUEUE else THEN + 10)
    record = Record(id=id, name=name, owner="me", state=state, submitted=THEN, attempt=1, **facts)
    (folder / ".qm" / "job.json").write_bytes(dump(record))
    return folder


def add(folder: Path, *entries: TaskEntry) -> None:
    tasks.append(f"{folder}/.qm/tasks.jsonl", entries)


def entry(task: int, state: State = State.DONE, **facts: Any) -> TaskEntry:
    facts.setdefault("finished", None if state is State.RUNNING else THEN + 20 + task)
    return TaskEntry(task, state, 1, THEN + 10, **facts)


def half(spool: TestSpool, **facts: Any) -> Path:
    """An array that runs: 61 done, 2 failed, 4 running."""
    folder = put(spool, tasks=Tasks(100, 61, 2, 4), **facts)
    add(folder, *map(entry, range(61)))
    add(folder, entry(61, State.FAILED, exit_status=3), entry(62, State.TIMEOUT, reason="wall_time of 00:10 is over"))
    add(folder, *(entry(number, State.RUNNING) for number in range(63, 67)))
    return folder


def live_part(text: str, name: str) -> str:
    return text.partition(f'data-live="{name}"')[2].partition("data-live=")[0]


@pytest.fixture
def spool(make_spool: Make) -> TestSpool:
    return make_spool()


def test_lists_say_how_far_an_array_is(spool: TestSpool) -> None:
    half(spool)
    put(spool, State.PENDING, "later", "b" * 12, tasks=Tasks(100))
    text = App.of(spool).get("/").text
    running = live_part(text, "running")
    assert "61 / 100, 2 failed" in running
    assert "63%" in running
    assert "100 tasks" in live_part(text, "waiting")


def test_an_array_takes_processors_for_each_task_that_runs_and_a_paused_job_none(spool: TestSpool) -> None:
    options = Options(script="true", array="0-99", mem=1 << 20, gpus=1)
    half(spool, nb_proc=3, options=options)
    put(spool, State.PAUSED, "paused", "b" * 12, nb_proc=5, options=Options(script="true", mem=1 << 20))
    status = App.of(spool).get("/api/v1/status").json()
    assert (status["processors"]["used"], status["gpus"]["used"]) == (12, 4)
    assert status["memory"]["used"] == 5 << 20


def test_a_flagged_job_says_so_in_the_list_and_on_its_page(spool: TestSpool) -> None:
    said = "no output and no CPU for 00:10:00"
    put(spool, reason=said, options=Options(script="true"))
    app = App.of(spool)
    assert said in live_part(app.get("/").text, "running")
    assert said in live_part(app.get(f"/job/{ID}").text, "job-head")


def reasons(spool: TestSpool, monkeypatch: pytest.MonkeyPatch, **web: object) -> str:
    """The list of waiting jobs while a daemon seems to serve the spool."""
    monkeypatch.setattr(View, "daemon", lambda self: Holder(1, "here", THEN))
    return unescape(live_part(App.of(spool, **web).get("/").text, "waiting"))


def test_waiting_jobs_say_what_they_wait_for(make_spool: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make_spool(MaxNbProcessors=8, MaxMemory="8G")
    io = Options(script="true", group="io", max_parallel=1)
    put(spool, State.RUNNING, "copies", "c" * 12, options=io, nb_proc=6)
    put(spool, State.PENDING, "second", "e" * 12, options=io)
    put(spool, State.PENDING, "after", "f" * 12, options=Options(script="true"), after=(Dependency("prepare"),))
    put(spool, State.PENDING, "wide", "g" * 12, options=Options(script="true"), nb_proc=4)
    put(spool, State.DEFERRED, "later", "h" * 12, options=Options(script="true"), not_before=time.time() + 86400 * 9)
    told = reasons(spool, monkeypatch)
    for expected in (
        "group `io` has its 1 running",
        "after `prepare`, which is not there yet",
        "2 of 8 processors free, needs 4",
        "runs again at 20",
    ):
        assert expected in told
    hidden = reasons(spool, monkeypatch, Display_details=False)
    assert "`io`" not in hidden
    assert "its group has its 1 running" in hidden


def test_programs_are_told_what_a_job_waits_for(spool: TestSpool) -> None:
    options = Options(script="true", group="io", max_parallel=1, mem=1 << 30, gpus=2)
    put(spool, State.PENDING, options=options, after=(Dependency("prepare"),), not_before=THEN)
    job = App.of(spool).get(f"/api/v1/jobs/{ID}").json()
    assert (job["group"], job["at_most"], job["mem"], job["gpus"], job["not_before"]) == ("io", 1, 1 << 30, 2, THEN)
    assert job["after"] == job["record"]["after"] == [{"name": "prepare", "id": "", "any_end": False, "met": False}]
    assert job["tasks"] is None


# --- the page ----------------------------------------------------------------------------------------------


def test_the_page_of_an_array_has_counts_a_grid_and_the_tasks_that_failed(spool: TestSpool) -> None:
    half(spool)
    text = App.of(spool).get(f"/job/{ID}").text
    assert "61 / 100, 2 failed, 4 running" in text
    part = live_part(text, "job-tasks")
    for told in ("61 done", "1 failed", "1 timeout", "4 running", "33 pending"):
        assert f">{told}<" in part
    assert (
        f'<a class="failed" href="/job/{ID}?task=61#log" tabindex="-1" title="task 61: failed, exit status 3">' in part
    )
    assert part.count('<i class="pending"') == 33
    assert "wall_time of 00:10 is over" in part
    assert "61 tasks that are done took 00:10 to 01:10" in part
    assert f'href="/job/{ID}/tasks.csv"' in part


def test_the_page_of_another_job_has_no_tasks(spool: TestSpool) -> None:
    put(spool, options=Options(script="true"))
    app = App.of(spool)
    assert "job-tasks" not in app.get(f"/job/{ID}").text
    assert app.get(f"/job/{ID}/tasks.csv").status == 404
    assert app.get(f"/api/v1/jobs/{ID}/tasks").status == 404


def test_the_log_of_a_task_is_shown_by_its_number(spool: TestSpool) -> None:
    folder = half(spool)
    (folder / "process.log").write_text("of the array\n")
    (folder / "process.7.log").write_text("of task 7\n")
    (folder / "process.7.log.1").write_text("its first attempt\n")
    (folder / "process.70.log").write_text("of task 70\n")
    app = App.of(spool)
    assert "<pre>of the array" in app.get(f"/job/{ID}").text
    seven = app.get(f"/job/{ID}?task=7").text
    assert "<pre>of task 7" in seven
    assert 'data-log="process.7.log"' in seven
    tabs = live_part(seven, "job-logs")
    assert re.findall(r"\?log=([a-z0-9.]+)#log", tabs) == ["process.7.log", "process.7.log.1"]
    assert "<pre>its first attempt" in app.get(f"/job/{ID}?log=process.7.log.1").text
    assert app.get(f"/job/{ID}?task=").status == 200
    for wrong in ("x", "-1", "1e3", "9" * 19, "7/../8"):
        assert app.get(f"/job/{ID}?task={wrong}").status == 400


def test_a_new_attempt_of_a_task_is_told_to_whoever_follows_its_log(spool: TestSpool) -> None:
    folder = half(spool)
    (folder / "process.7.log").write_text("one\n")
    app = App.of(spool)
    first = app.get(f"/api/v1/jobs/{ID}/log?log=process.7.log")
    (folder / "process.7.log").rename(folder / "process.7.log.1")
    (folder / "process.7.log").write_text("two\n")
    second = app.get(f"/api/v1/jobs/{ID}/log?log=process.7.log")
    assert (first.headers["qm-log-generation"], second.headers["qm-log-generation"]) == ("0", "1")


def test_retry_says_that_it_runs_the_failed_tasks_alone(spool: TestSpool) -> None:
    put(spool, State.FAILED, tasks=Tasks(100, 98, 2, 0), finished=THEN + 100)
    assert ">Retry 2 failed tasks</button>" in App.of(spool).get(f"/job/{ID}").text


def test_a_refresh_of_the_page_tells_only_of_tasks_that_changed(spool: TestSpool) -> None:
    folder = half(spool)
    app = App.of(spool)
    first = app.get(f"/job/{ID}", QM_Refresh="1")
    assert app.get(f"/job/{ID}", QM_Refresh="1", If_None_Match=first.headers["etag"]).status == 304
    add(folder, entry(63))
    second = app.get(f"/job/{ID}", QM_Refresh="1", If_None_Match=first.headers["etag"])
    assert second.status == 200
    assert "62 done" in live_part(second.text, "job-tasks")


def test_a_page_of_very_many_tasks_stays_small(spool: TestSpool) -> None:
    folder = put(spool, options=Options(script="true", array="0-99999"), tasks=Tasks(100_000, 3000))
    add(folder, *map(entry, range(3000)))
    for number in range(200):
        (folder / f"process.{number}.log").write_text("x\n")
    answer = App.of(spool).get(f"/job/{ID}")
    assert answer.status == 200
    assert len(answer.body) < 250_000
    assert "Each cell stands for 100 tasks." in answer.text


def test_what_a_job_may_have_written_there_is_only_text(spool: TestSpool) -> None:
    folder = put(spool, name=MARKUP.replace("/", ""), tasks=Tasks(100, 1, 1))
    add(folder, entry(1, State.FAILED, reason=MARKUP), entry(2, State.KILLED, exit_status=10**40, peak_memory=10**400))
    with open(folder / ".qm" / "tasks.jsonl", "a") as file:
        file.write('{"task": 3, "state": "failed", "started": 9e999}\n{"task": [], "state": 1}\n\0\n')
    (folder / "sweep.csv").write_text(f"task,{MARKUP}\n1,{MARKUP}\n2,\x1b[31m\n")
    app = App.of(spool)
    answer = app.get(f"/job/{ID}")
    assert answer.status == 200
    assert "<img" not in answer.text
    assert "\x1b" not in answer.text
    assert app.get(f"/api/v1/jobs/{ID}/tasks").status == 200
    assert app.get(f"/job/{ID}/tasks.csv").status == 200


def test_the_page_has_no_style_of_its_own(spool: TestSpool) -> None:
    half(spool)
    assert not re.search(r"\sstyle=|\son[a-z]+=", App.of(spool).get(f"/job/{ID}").text)


# --- for programs ------------------------------------------------------------------------------------------


def test_the_csv_has_every_task_with_the_values_of_the_sweep(spool: TestSpool) -> None:
    folder = half(spool)
    (folder / "sweep.csv").write_text("task,slice,b\n" + "".join(f"{n},{n:02},x\n" for n in range(100)))
    answer = App.of(spool).get(f"/job/{ID}/tasks.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 100
    assert (rows[61]["task"], rows[61]["slice"], rows[61]["b"]) == ("61", "61", "x")
    assert (rows[61]["state"], rows[61]["exit_status"], rows[99]["state"]) == ("failed", "3", "pending")
    assert float(rows[7]["seconds"]) == 17.0


def test_the_api_gives_tasks_page_by_page(spool: TestSpool) -> None:
    half(spool)
    app = App.of(spool)
    page = app.get(f"/api/v1/jobs/{ID}/tasks?per_page=30&page=3").json()
    assert [one["task"] for one in page["tasks"]] == list(range(60, 90))
    assert (page["total"], page["pages"], page["names"], page["ended"]) == (100, 4, [], False)
    failed = app.get(f"/api/v1/jobs/{ID}/tasks?state=failed").json()
    assert [(one["task"], one["exit_status"], one["seconds"]) for one in failed["tasks"]] == [(61, 3, 71.0)]
    waiting = app.get(f"/api/v1/jobs/{ID}/tasks?state=pending").json()
    assert waiting["total"] == 33
    for wrong in ("state=don", "page=0", "per_page=1001", "page=x"):
        assert app.get(f"/api/v1/jobs/{ID}/tasks?{wrong}").status == 400
    assert app.get("/api/v1/jobs/nosuchjob/tasks").status == 404


def test_the_api_tells_how_far_an_array_is(spool: TestSpool) -> None:
    half(spool)
    job = App.of(spool).get(f"/api/v1/jobs/{ID}").json()
    assert job["tasks"] == {"total": 100, "done": 61, "failed": 2, "running": 4, "earlier": 0}
    assert (job["progress"], job["progress_text"]) == (0.63, "61 / 100, 2 failed")


def test_without_details_only_counts_are_shown(spool: TestSpool) -> None:
    folder = half(
        spool, options=Options(script="true", array="0-99", group="secret-a"), after=(Dependency("secret-b"),)
    )
    add(folder, entry(70, State.FAILED, reason="secret-c"))
    (folder / "sweep.csv").write_text("task,secret-d\n70,secret-e\n")
    app = App.of(spool, Display_details=False)
    page = app.get(f"/job/{ID}")
    assert "61 / 100, 2 failed, 4 running" in page.text
    assert "secret-" not in page.text
    assert "secret-" not in json.dumps(app.get(f"/api/v1/jobs/{ID}").json())
    assert app.get(f"/api/v1/jobs/{ID}/tasks").status == 403
    assert app.get(f"/job/{ID}/tasks.csv").status == 403
    assert app.get(f"/job/{ID}?task=70").status == 200


# --- room --------------------------------------------------------------------------------------------------


def test_too_little_disk_is_said_on_the_overview(make_spool: Make) -> None:
    spool = make_spool(Disk_Reserve="1000000G")
    app = App.of(spool)
    assert "Disk_Reserve" in app.get("/api/v1/status").json()["disk_short"]
    assert "No job is started:" in live_part(app.get("/").text, "status")


def test_enough_disk_is_nothing_to_talk_about(make_spool: Make) -> None:
    app = App.of(make_spool(Disk_Reserve="0"))
    assert app.get("/api/v1/status").json()["disk_short"] == ""
    assert "No job is started:" not in app.get("/").text
