"""Fixtures: spools with or without a daemon, ended with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import TestSpool
from webserver import WebServer


@pytest.fixture
def make_spool(tmp_path: Path) -> Iterator[Callable[..., TestSpool]]:
    """A function that makes spools, with settings of QMserv.cfg as keywords; no daemon runs yet."""
    made: list[TestSpool] = []

    def make(name: str = "spool", **settings: object) -> TestSpool:
        made.append(TestSpool(tmp_path / name, **settings))
        return made[-1]

    yield make
    for spool in made:
        spool.close()


@pytest.fixture
def spool(make_spool: Callable[..., TestSpool]) -> TestSpool:
    """A spool with a daemon that serves it."""
    made = make_spool()
    made.start()
    return made


@pytest.fixture(params=["events", "portable"])
def any_spool(make_spool: Callable[..., TestSpool], request: pytest.FixtureRequest) -> TestSpool:
    """The same test with file events and pidfds, and with polling and psutil alone."""
    portable = request.param == "portable"
    made = make_spool(Portable="True" if portable else "False", Poll_Interval=0.2)
    made.start()
    return made


@pytest.fixture
def make_web() -> Iterator[Callable[..., WebServer]]:
    """A function that starts dashboards: `make_web(spool, Delete_Jobs=True)`."""
    started: list[WebServer] = []

    def make(spool: TestSpool, **web: object) -> WebServer:
        started.append(WebServer(spool, **web))
        return started[-1]

    yield make
    for server in started:
        server.stop()
