"""Bookmarks of QM 0.4's dashboard still lead to the right page."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness import TestSpool
from webserver import App


@pytest.fixture
def old(make_spool: Callable[..., TestSpool]) -> tuple[App, TestSpool]:
    spool = make_spool()
    for place, name in ((spool.done, "my job[1]"), (spool.jobs, "now"), (spool.lost, "lost")):
        (place / name / "out").mkdir(parents=True)
        (place / name / "process.log").write_text("hello\n")
        (place / name / "out" / "a b.txt").write_text("text\n")
    return App.of(spool, Licence_to_kill=True, Delete_Jobs=True), spool


def landed(app: App, path: str) -> str:
    """Where an old address leads, and what is there."""
    answer = app.get(path)
    assert answer.status in (302, 303), answer.text
    return answer.headers["location"]


@pytest.mark.parametrize(
    ("address", "page"),
    [("/QM", "/"), ("/stats", "/statistics"), ("/QM_dJobs/", "/?state=ended"), ("/QM_qJobs", "/?state=waiting")],
)
def test_pages_have_moved(old: tuple[App, TestSpool], address: str, page: str) -> None:
    assert landed(old[0], address) == page


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("/QM_dJobs/my%20job%5B1%5D/", "process.log"),
        ("/QM_dJobs/my%20job%5B1%5D/out", "a b.txt"),
        ("/QM_lost+found/lost/", "process.log"),
        ("/view/QM_Jobs/now/process.log", "hello"),
        ("/view/now/process.log", "hello"),
        ("/view/my%20job%5B1%5D/out/a%20b.txt", "text"),
    ],
)
def test_folders_and_files_are_where_they_lead(old: tuple[App, TestSpool], address: str, text: str) -> None:
    answer = old[0].get(landed(old[0], address))
    assert (answer.status, text in answer.text) == (200, True)


def test_a_download_is_the_whole_folder_as_a_zip(old: tuple[App, TestSpool]) -> None:
    answer = old[0].get(landed(old[0], "/download/my%20job%5B1%5D"))
    assert answer.body[:2] == b"PK"


@pytest.mark.parametrize("verb", ["kill", "delete"])
def test_an_address_that_killed_or_deleted_only_shows_the_job(old: tuple[App, TestSpool], verb: str) -> None:
    app, spool = old
    assert app.get(landed(app, f"/{verb}/QM_dJobs/my%20job%5B1%5D?conf=1")).status == 200
    assert (spool.done / "my job[1]").is_dir()
    assert not list(spool.root.glob(".qm/requests/*"))


@pytest.mark.parametrize(
    "address",
    [
        "/QM_dJobs/nothing/",
        "/QM_dJobs/../../etc/",
        "/QM_dJobs/%2e%2e/%2e%2e/etc/passwd",
        "/delete/QM_dJobs/..?conf=1",
        "/delete/../x",
        "/view/../../etc/passwd",
        "/download/..",
        "/download/%00",
    ],
)
def test_what_is_no_job_is_not_found(old: tuple[App, TestSpool], address: str) -> None:
    app, _ = old
    answer = app.get(address)
    if answer.status in (302, 303):
        answer = app.get(answer.headers["location"])
    assert answer.status in (400, 404)
    assert "root:" not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "["])
def test_an_old_address_leads_nowhere_else_whatever_a_header_says(old: tuple[App, TestSpool], host: str) -> None:
    answer = old[0].get("/stats", X_Forwarded_Host=host)
    assert (answer.status, answer.headers["location"]) == (303, "/statistics")
