"""static/openapi.json says what the server does: every address, and with schemathesis every answer to made-up requests.

The jobs that are made up must not run: commands and archives are only sent while no daemon serves the spool.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bottle
import pytest
from harness import TestSpool, until
from webserver import App, WebServer, configure_web

import qm_web
from qm.spool import tasks
from qm.spool.tasks import TaskEntry
from qm.vocabulary.options import Options
from qm.vocabulary.record import Dependency, Record, Tasks, dump
from qm.vocabulary.states import State

MakeSpool = Callable[..., TestSpool]
MakeWeb = Callable[..., WebServer]
FOREVER = "while :; do sleep 0.05; done"
DESCRIPTION = Path(qm_web.__file__).parent / "static" / "openapi.json"
EXAMPLES = "12"
"""Made-up requests for each operation, besides those at the bounds of each parameter."""
EVERYTHING = {"Users_File": "users", "Delete_Jobs": True, "Licence_to_kill": True, "Max_Upload": "1M"}

BRINGS_JOBS_IN = ("submit", "command")
"""Operations whose body may be as described, and yet be no archive or no job: which 400 then says."""


def spool_with_jobs(make_spool: MakeSpool) -> TestSpool:
    """A spool with a daemon and a job in every state that comes about quickly."""
    spool = make_spool(MaxNbProcessors=2, Settle_Time=0.1)
    spool.start()
    make_array(spool)
    spool.drop("done", "echo one; echo two", info="a job")
    spool.drop("failed", "exit 3")
    spool.wait_for("done")
    spool.wait_for("failed")
    spool.drop("paused", FOREVER)
    spool.wait_running("paused")
    spool.qm("pause", "paused")
    for name in ("runs", "runs too"):
        spool.drop(name, f"echo 'step  1 / 2'; {FOREVER}")
        spool.wait_running(name)
    spool.drop("waits", "true", nb_proc=2)
    spool.drop("held", "true", hold="yes")
    spool.make("old", "true", where=spool.done)
    spool.make("old lost", "true", where=spool.lost)
    (spool.queue / "arrives").mkdir()
    until(lambda: sum(job["state"] in ("pending", "held") for job in spool.status()) == 2, "the waiting jobs")
    return spool


def make_array(spool: TestSpool) -> None:
    """An ended array of which one task failed."""
    folder = spool.done / "array"
    (folder / ".qm").mkdir(parents=True)
    options = Options(script="true", array="0-9", group="some", max_parallel=2, after=("done",))
    record = Record(
        "array" * 2 + "ab", "array", "me", State.FAILED, 1e9, started=1e9, finished=1e9 + 9, options=options
    )
    record = record._replace(tasks=Tasks(10, 9, 1), after=(Dependency("done", "b" * 12, met=True),), not_before=1e9)
    (folder / ".qm" / "job.json").write_bytes(dump(record))
    (folder / "sweep.csv").write_text("task,slice\n" + "".join(f"{number},{number}\n" for number in range(10)))
    ended = [TaskEntry(number, State.DONE, 1, 1e9, 1e9 + number, 0, cpu_seconds=0.5) for number in range(9)]
    tasks.append(f"{folder}/.qm/tasks.jsonl", [*ended, TaskEntry(9, State.FAILED, 2, 1e9, 1e9 + 9, 3)])


def served(make_spool: MakeSpool, make_web: MakeWeb) -> tuple[WebServer, str]:
    """A dashboard on such a spool, and a token that may do everything there."""
    spool = spool_with_jobs(make_spool)
    configure_web(spool, **EVERYTHING)
    token = spool.qm("web", "token", "tests", "--role", "operate").stdout.strip()
    return make_web(spool, **EVERYTHING), token


def described(web: WebServer, token: str, where: Path) -> Path:
    """The description that the server gives, with the keys of real jobs for keys, and nothing else changed."""
    bearer = {"Authorization": f"Bearer {token}"}
    raw: dict[str, Any] = web.get("/api/v1/openapi.json", **bearer).json()
    jobs = web.get("/api/v1/jobs?per_page=500", **bearer).json()["jobs"]
    there = {job["state"] for job in jobs}
    assert there >= {"running", "paused", "pending", "held", "arriving", "done", "failed", "lost"}
    raw["components"]["schemas"]["Key"] = {"enum": [*(job["key"] for job in jobs), "nosuchjobher"]}
    file = where / "openapi.json"
    file.write_text(json.dumps(raw))
    return file


def check(web: WebServer, token: str, file: Path, *options: str) -> None:
    """Run schemathesis with all its checks; whatever it finds is in the failure's text."""
    result = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", web.url, "--checks", "all",
         "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--generation-deterministic",
         "--warnings", "off", "--continue-on-failure",
         "--header", f"Authorization: Bearer {token}", *options],
        cwd=file.parent,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-2000:] + web.said()[-5000:]


def test_the_server_answers_as_described(make_spool: MakeSpool, make_web: MakeWeb, tmp_path: Path) -> None:
    web, token = served(make_spool, make_web)
    others = [word for name in BRINGS_JOBS_IN for word in ("--exclude-operation-id", name)]
    check(web, token, described(web, token, tmp_path), *others)


def test_what_is_asked_and_sent_while_the_daemon_is_down_is_answered_as_described(
    make_spool: MakeSpool, make_web: MakeWeb, tmp_path: Path
) -> None:
    web, token = served(make_spool, make_web)
    file = described(web, token, tmp_path)
    web.spool.stop()
    check(web, token, file, "--include-method", "POST", "--exclude-checks", "positive_data_acceptance",
          "--suppress-health-check", "filter_too_much")  # fmt: skip


# --- the same addresses ------------------------------------------------------------------------------------


def routes_of(app: Any) -> Iterator[tuple[str, str]]:
    """Method and address of every route of an application for programs, as a description writes them."""
    for route in app.routes:
        address = re.sub(r"<(\w+)[^>]*>", r"{\1}", route.rule)
        if address.startswith("/api/") or address in ("/metrics", "/healthz"):
            yield route.method, address


def test_every_address_for_programs_is_described_and_no_other(
    make_spool: Callable[..., TestSpool], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bottle.Bottle] = []

    class Kept(bottle.Bottle):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(bottle, "Bottle", Kept)
    App.of(make_spool())
    there = {found for app in made for found in routes_of(app)}
    paths = json.loads(DESCRIPTION.read_text(encoding="utf-8"))["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert there == described


def test_every_reference_in_the_description_leads_somewhere() -> None:
    raw = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    used = set(re.findall(r'"#/components/(\w+)/(\w+)"', DESCRIPTION.read_text(encoding="utf-8")))
    there = {(kind, name) for kind, entries in raw["components"].items() for name in entries}
    assert used <= there
    assert {(kind, name) for kind, name in there if kind != "securitySchemes"} <= used
