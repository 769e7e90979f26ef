"""What the dashboard takes: to show a page, to say that nothing is new, to serve many viewers, and from the daemon.

The dashboard has one processor to itself (its affinity), this driver the others. All requests go over loopback, one
connection a viewer, and a time is from the first byte sent to the last byte read, so it includes the driver's share.
The finished jobs are made up (made_up.py): real records in real folders.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from common import Beacon, BenchmarkError, Daemon, Settings, Spool, Table, percentile, wait_until
from contestants import QM
from latency import WARM_UP, one
from machine import resident_mb
from made_up import make_ended

VIEWERS = 60
WATCHED = 20.0
"""Seconds for which the viewers look."""
REFRESH = {"QM-Refresh": "1"}


def measure(settings: Settings) -> Table:
    """Milliseconds of pages and refreshes, MB of memory, with 10,000 and with 100,000 finished jobs."""
    rows = []
    for jobs, page_target, memory_target in ((settings.count(10_000, 1_000), "50", "80"), (100_000, "100", "-")):
        if settings.quick and jobs == 100_000:
            continue
        spool = Spool(settings.folder / f"dashboard{jobs}")
        make_ended(str(spool.folder), jobs)
        with dashboard(spool, settings) as web:
            web.wait_until_read()
            page = [web.ask("/") for _ in range(60)][10:]
            quiet = web.refreshes(120)[20:]
            rows += [
                [f"{jobs:,} finished: page, ms", middle(page), worst(page), page_target],
                [f"{jobs:,} finished: refresh, nothing new, ms", middle(quiet), worst(quiet), "5"],
                [f"{jobs:,} finished: resident, MB", f"{resident_mb(web.pid):.0f}", "", memory_target],
            ]
            if jobs != 100_000:
                rows += watched(settings, spool, web)
    rows += started_beside(settings)
    return Table(
        "dashboard: on one processor",
        ("figure", "median", "p95", "target"),
        rows,
        (f"{VIEWERS} viewers refresh every second while two jobs run whose progress changes every second",),
    )


class Web:
    """A running dashboard, and one connection to it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.pid = process.pid
        self.port = port
        self._connection = self.connection()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, path: str) -> float:
        """Milliseconds that a page takes."""
        return get(self._connection, path, {})[0]

    def refreshes(self, number: int) -> list[float]:
        """Milliseconds of so many refreshes, those that said 304."""
        etag, times = "", []
        for _ in range(number):
            took, status, etag = get(self._connection, "/", {**REFRESH, "If-None-Match": etag or '""'}, etag)
            if status == 304:
                times.append(took)
            time.sleep(0.01)
        if len(times) < number // 2:
            raise BenchmarkError(f"only {len(times)} of {number} refreshes found nothing new")
        return times

    def wait_until_read(self) -> None:
        """Until the index has all jobs."""
        self._connection.request("GET", "/")
        self._connection.getresponse().read()

        def complete() -> bool:
            self._connection.request("GET", "/")
            return b"Reading the folders" not in self._connection.getresponse().read()

        wait_until(complete, "the dashboard had read all jobs", 300, every=0.2)


def get(
    connection: http.client.HTTPConnection, path: str, headers: dict[str, str], etag: str = ""
) -> tuple[float, int, str]:
    """Milliseconds, status and ETag of one request."""
    begun = time.perf_counter()
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    took = 1e3 * (time.perf_counter() - begun)
    if answer.status not in (200, 304):
        raise BenchmarkError(f"{path} answered {answer.status}")
    return took, answer.status, answer.headers.get("ETag") or etag


@contextmanager
def dashboard(spool: Spool, settings: Settings) -> Iterator[Web]:
    """WEB_QMserver on a free port, on the first processor alone; this process takes the others meanwhile."""
    with spool.config.open("a", encoding="utf-8") as config:
        config.write("[WEB_QMserver]\nThe_Port : 0\nRefresh_Rate : 1\n")
    output = spool.staging.parent / "web.out"
    usable = sorted(os.sched_getaffinity(0))
    with output.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "qm_web.main", "-c", str(spool.config)],
            env={**os.environ, "XDG_CACHE_HOME": str(spool.staging.parent / "cache")},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        os.sched_setaffinity(process.pid, usable[:1])
        os.sched_setaffinity(0, usable[1:] or usable)
        wait_until(lambda: b"\n" in output.read_bytes(), "the dashboard served", 30)
        port = re.search(r"http://127\.0\.0\.1:(\d+)/", output.read_text(encoding="utf-8"))
        if port is None:
            raise BenchmarkError(f"the dashboard said: {output.read_text(encoding='utf-8')[-500:]}")
        yield Web(process, int(port[1]))
    finally:
        os.sched_setaffinity(0, usable)
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def watched(settings: Settings, spool: Spool, web: Web) -> list[list[str]]:
    """The page alone and under VIEWERS, with two jobs whose progress changes."""
    with Daemon(settings.daemon, spool):
        for name in ("one", "two"):
            spool.submit(name, "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo $i / 1000; sleep 1; done")
        time.sleep(2)
        alone = [paced(web) for _ in range(20)]
        viewers = Viewers(web)
        viewers.start()
        period = 5.0 if settings.quick else WATCHED
        end = time.monotonic() + period
        crowded = []
        while time.monotonic() < end:
            crowded.append(paced(web))
        viewers.stop()
        for pid in running(spool):
            os.killpg(pid, signal.SIGKILL)
    slower = statistics.median(crowded) / statistics.median(alone)
    rate, times = viewers.rate(period), viewers.times
    return [
        ["page with two running jobs, nobody else, ms", middle(alone), worst(alone), "-"],
        [f"the same with {VIEWERS} viewers, ms", middle(crowded), worst(crowded), "-"],
        ["times as long", f"{slower:.2f}", "", "1.5"],
        [f"refreshes of the viewers ({rate:.0f}/s), ms", middle(times), worst(times), "-"],
    ]


def running(spool: Spool) -> list[int]:
    """The sessions of the jobs that run: the pids in their start marks."""
    return [int(mark.read_text().split()[0]) for mark in spool.running.glob("*/.qm/run/*.start")]


def paced(web: Web) -> float:
    time.sleep(0.1)
    return web.ask("/")


class Viewers:
    """Many browsers with the page open, spread over the second."""

    def __init__(self, web: Web) -> None:
        self.times: list[float] = []
        self._web = web
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._look, args=(number,)) for number in range(VIEWERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def rate(self, seconds: float) -> float:
        return len(self.times) / seconds

    def _look(self, number: int) -> None:
        connection = self._web.connection()
        etag = '""'
        at = time.monotonic() + number / VIEWERS
        while not self._over.wait(max(0.0, at - time.monotonic())):
            took, _, etag = get(connection, "/", {**REFRESH, "If-None-Match": etag}, etag)
            self.times.append(took)
            at += 1.0
        connection.close()


def started_beside(settings: Settings) -> list[list[str]]:
    """The daemon's start latency without and with VIEWERS looking, in turns."""
    jobs = settings.count(150, 30)
    beacon = Beacon(settings.folder / "dashboard-beacon")
    seconds: dict[bool, list[float]] = {False: [], True: []}
    try:
        for number in range(4):
            with QM(settings.folder / f"beside{number}", settings) as queue:
                if number % 2 == 0:
                    seconds[False] += [one(queue, beacon) for _ in range(WARM_UP + jobs)][WARM_UP:]
                    continue
                with dashboard(queue.spool, settings) as web:
                    viewers = Viewers(web)
                    viewers.start()
                    time.sleep(1.5)
                    seconds[True] += [one(queue, beacon) for _ in range(WARM_UP + jobs)][WARM_UP:]
                    viewers.stop()
    finally:
        beacon.close()
    rows = []
    for looked_at, text in (
        (False, "start latency, no dashboard, ms"),
        (True, f"start latency, {VIEWERS} viewers, ms"),
    ):
        times = [1e3 * value for value in seconds[looked_at]]
        rows.append([text, middle(times), worst(times), "-"])
    return rows


def middle(values: list[float]) -> str:
    return f"{statistics.median(values):.2f}"


def worst(values: list[float]) -> str:
    return f"{percentile(values, 95):.2f}"
