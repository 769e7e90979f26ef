"""Logs by byte offset over HTTP, as the live log of a job's page asks for them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import TestSpool, until
from webserver import App, Response

from qm.spool import joblog
from qm.spool.paths import JobPaths
from qm.vocabulary.record import Record, dump
from qm.vocabulary.states import PLACE_OF, State

Make = Callable[..., TestSpool]
ID = "abcdefghijkl"


def put(spool: TestSpool, name: str = "job", state: State = State.RUNNING, job_id: str = ID, **facts: Any) -> Path:
    """A job folder with a record, where it belongs."""
    folder = spool.root / PLACE_OF[state].value / name
    (folder / ".qm").mkdir(parents=True)
    facts.setdefault("started", None if PLACE_OF[state].value == "QM_qJobs" else 1_700_000_000.0)
    record = Record(job_id, name, "me", state, 1_700_000_000.0, attempt=1, **facts)
    (folder / ".qm" / "job.json").write_bytes(dump(record))
    return folder


def log(app: App, query: str = "", key: str = ID) -> Response:
    return app.get(f"/api/v1/jobs/{key}/log?{query}")


def places(answer: Response) -> tuple[int, int, int]:
    return tuple(int(answer.headers[f"qm-log-{word}"]) for word in ("start", "end", "size"))  # type: ignore[return-value]


@pytest.fixture
def spool(make_spool: Make) -> TestSpool:
    return make_spool()


def test_a_piece_of_a_log_comes_with_its_place_and_the_state_of_its_job(spool: TestSpool) -> None:
    (put(spool) / "process.log").write_bytes(b"0123456789")
    answer = log(App.of(spool), "offset=3&limit=4")
    assert (answer.status, answer.body, places(answer)) == (200, b"3456", (3, 7, 10))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["qm-job-state"] == "running"
    assert answer.headers["qm-job-ended"] == "0"


def test_a_growing_log_is_followed_to_the_end_of_its_job_across_the_move(spool: TestSpool) -> None:
    app, folder = App.of(spool), put(spool)
    paths = JobPaths(str(folder))
    os.close(joblog.open_new(paths.log, time.time(), ()))
    got = b""
    for number in range(20):
        with open(paths.log, "ab") as file:
            file.write(b"line %d\n" % number)
        if number == 10:
            ended = Record(ID, "job", "me", State.DONE, 1_700_000_000.0, started=1.0, finished=2.0, exit_status=0)
            (folder / ".qm" / "job.json").write_bytes(dump(ended))
            os.rename(folder, spool.done / "job.2")
            paths = JobPaths(str(spool.done / "job.2"))
        answer = log(app, f"offset={len(got)}&limit=1000")
        got += answer.body
        assert answer.headers["qm-log-generation"] == "0"
    assert got.endswith(b"line 19\n")
    assert got == Path(paths.log).read_bytes()
    assert answer.headers["qm-job-state"] == "done"
    assert answer.headers["qm-job-ended"] == "1"


def test_a_new_attempt_is_told_by_its_generation_and_its_size(spool: TestSpool) -> None:
    app, folder = App.of(spool), put(spool)
    (folder / "process.log").write_bytes(b"the first attempt\n" * 100)
    assert log(app, "offset=1800").headers["qm-log-generation"] == "0"
    os.close(joblog.open_new(JobPaths(str(folder)).log, 0.0, ()))
    answer = log(app, "offset=1800")
    assert answer.headers["qm-log-generation"] == "1"
    assert answer.body == b""
    assert places(answer)[2] < 1800
    assert log(app, "log=process.log.1&limit=9").body == b"the first"


def test_a_log_of_a_gigabyte_is_read_from_its_end_and_searched_piece_by_piece(spool: TestSpool) -> None:
    app, size = App.of(spool), 1 << 30
    with open(put(spool) / "process.log", "wb") as file:
        file.write(b"beginning\n")
        file.seek(size - 10)
        file.write(b"the Needle")
    begun = time.monotonic()
    answer = log(app, "offset=-262144&limit=262144")
    assert time.monotonic() - begun < 1
    assert (len(answer.body), answer.body[-10:], places(answer)[2]) == (262144, b"the Needle", size)
    search = f"/api/v1/jobs/{ID}/log/search"
    assert app.get(f"{search}?q=needle&offset={size}&back=1").json() == {"at": size - 6, "further": None, "size": size}
    first = app.get(f"{search}?q=needle").json()
    assert first["at"] is None
    assert 0 < first["further"] < size
    assert app.get(f"{search}?q=needle&offset={size - 1000}").json()["at"] == size - 6


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("offset=x", "offset"),
        ("offset=", "offset"),
        ("offset=1.5", "offset"),
        ("offset=1e3", "offset"),
        ("offset=9999999999999999999", "offset"),
        ("offset=%D9%A1", "offset"),
        ("limit=-1", "limit"),
        ("limit=4194305", "limit"),
        ("log=../../../etc/passwd", "log"),
        ("log=.qm/job.json", "log"),
        ("log=process.log%0A", "log"),
    ],
)
def test_what_no_log_has_is_refused_in_a_sentence(spool: TestSpool, query: str, said: str) -> None:
    (put(spool) / "process.log").write_bytes(b"text")
    answer = log(App.of(spool), query)
    assert answer.status == 400
    assert answer.json()["error"].startswith(f"{said} is ")


@pytest.mark.parametrize("query", ["", "q=", "q=%FF", f"q={'x' * 1001}", "q=x&offset=-1", "q=x&back=2"])
def test_a_search_for_nothing_is_refused(spool: TestSpool, query: str) -> None:
    (put(spool) / "process.log").write_bytes(b"text")
    assert App.of(spool).get(f"/api/v1/jobs/{ID}/log/search?{query}").status == 400


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_log_that_is_no_regular_file_is_not_read(spool: TestSpool, kind: str) -> None:
    path = put(spool) / "process.log"
    (spool.root / "secret").write_text("secret")
    {"link": lambda: path.symlink_to(spool.root / "secret"), "fifo": lambda: os.mkfifo(path), "folder": path.mkdir}[
        kind
    ]()
    app = App.of(spool)
    for address in ("log", "log/search?q=secret"):
        answer = app.get(f"/api/v1/jobs/{ID}/{address}")
        assert answer.status == 404
        assert b"secret" not in answer.body
    assert app.get(f"/job/{ID}").status == 200


def test_a_job_that_has_not_begun_has_an_empty_log(spool: TestSpool) -> None:
    put(spool, state=State.PENDING)
    answer = log(App.of(spool), "offset=-1000")
    assert (answer.status, answer.body, places(answer)) == (200, b"", (0, 0, 0))
    assert log(App.of(spool), "log=process.log.1").status == 404


def test_an_unknown_job_has_no_log(spool: TestSpool) -> None:
    assert log(App.of(spool), key="nosuchjob").status == 404


def test_without_details_there_is_no_log(spool: TestSpool) -> None:
    (put(spool) / "process.log").write_bytes(b"secret")
    app = App.of(spool, Display_details=False)
    for address in ("log", "log/search?q=secret", "usage"):
        answer = app.get(f"/api/v1/jobs/{ID}/{address}")
        assert answer.status == 403
        assert b"Display_details" in answer.body


def test_the_bytes_of_a_log_come_as_they_are(spool: TestSpool) -> None:
    data = bytes(range(256)) * 10
    (put(spool) / "process.log").write_bytes(data)
    assert log(App.of(spool)).body == data


def test_the_log_of_a_real_job_is_followed_to_its_end(make_spool: Make) -> None:
    spool = make_spool()
    spool.start()
    app = App.of(spool)
    spool.drop("counting", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.2; done")
    spool.wait_running("counting")
    key = spool.record(spool.jobs / "counting")["id"]
    got = b""

    def ended() -> bool:
        nonlocal got
        answer = log(app, f"offset={len(got)}", key)
        assert answer.status == 200
        got += answer.body
        return answer.headers["qm-job-ended"] == "1" and len(got) == places(answer)[2]

    until(ended, "the end of the log")
    assert b"line 1\n" in got
    assert b"line 6\n" in got
    assert b"Job finished at:" in got.splitlines()[-1]


# --- usage -------------------------------------------------------------------------------------------------


def test_usage_comes_as_columns_with_processors_in_use(spool: TestSpool) -> None:
    rows = "1700000005.0,5.00,1000\n1700000010.0,15.00,2000\n"
    (put(spool) / ".qm" / "usage.csv").write_text(f"time,cpu_seconds,memory_bytes\n{rows}")
    usage = App.of(spool).get(f"/api/v1/jobs/{ID}/usage").json()
    assert usage["time"] == [1700000005.0, 1700000010.0]
    assert usage["cpu"] == [1.0, 2.0]
    assert usage["memory"] == [1000, 2000]
    assert usage["ended"] is False


def test_strange_usage_is_left_out(spool: TestSpool) -> None:
    rows = "nan,1,1\ninf,1,1\n5,nan,1\n7,1,-3\n-1,1,1\n<b>,1,1\n1700000005.0,5.00,1000\n1700000001.0,9.00,1000\n"
    (put(spool) / ".qm" / "usage.csv").write_text(f"time,cpu_seconds,memory_bytes\n{rows}")
    assert App.of(spool).get(f"/api/v1/jobs/{ID}/usage").json()["time"] == [1700000005.0]


def test_a_job_without_usage_has_empty_columns(spool: TestSpool) -> None:
    put(spool)
    assert App.of(spool).get(f"/api/v1/jobs/{ID}/usage").json()["time"] == []
