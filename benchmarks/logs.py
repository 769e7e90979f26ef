"""What the live log of the dashboard takes from the server: the end of a 1 GB log, a search through it, and a log
that grows by 10 MB/s and is followed as the page follows it.

The page asks for what follows the last byte it has, twice a second, and at once again while there is more. All
requests go over loopback and one connection. The browser's share is not in here.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from email.message import Message
from pathlib import Path

from common import BenchmarkError, Settings, Spool, Table, percentile
from dashboard import Web, dashboard
from machine import cpu_ms, cpu_times, resident_mb

SIZE = 1 << 30
RATE = 10_000_000
"""Bytes a second."""
FOLLOWED = 10.0
EVERY = 0.5
PIECE = 256 << 10
MOST = 4 << 20
LINE = b"2026-01-31 12:00:00 step 0123456789 of 9876543210: nothing to be seen here, go on, go on\n"


def measure(settings: Settings) -> Table:
    """Milliseconds of pieces, seconds of searches, and how far a follower lags behind."""
    spool = Spool(settings.folder / "logs")
    size = SIZE // 16 if settings.quick else SIZE
    for name in ("large", "grows"):
        (spool.done / name).mkdir()
    fill(spool.done / "large" / "process.log", size)
    (spool.done / "grows" / "process.log").touch()
    with dashboard(spool, settings) as web:
        web.wait_until_read()
        log = Log(web, "large")
        before = resident_mb(web.pid)
        end = [log.piece(-PIECE)[0] for _ in range(30)]
        empty = [log.piece(size)[0] for _ in range(200)]
        begun = time.perf_counter()
        found = log.search("needle at the end")
        searched = time.perf_counter() - begun
        if found is None or found < size - 4096:
            raise BenchmarkError(f"the text at the end was found at {found}")
        lag, cpu = followed(settings, spool.done / "grows" / "process.log", web)
        behind = f"{statistics.median(lag):.0f}", f"{percentile(lag, 95):.0f}"
        grown = resident_mb(web.pid) - before
    return Table(
        f"logs: what a viewer's requests take, of a log of {size / (1 << 30):.2g} GiB",
        ("figure", "median", "p95"),
        [
            ["its last 256 KiB, ms", f"{statistics.median(end):.2f}", f"{percentile(end, 95):.2f}"],
            ["nothing new, ms", f"{statistics.median(empty):.2f}", f"{percentile(empty, 95):.2f}"],
            ["a text at its end, found from its beginning, s", f"{searched:.2f}", ""],
            ["10 MB/s followed: behind after a round, KiB", *behind],
            ["10 MB/s followed: CPU of the dashboard, ms/s", f"{cpu:.0f}", ""],
            ["memory more than before, MB", f"{grown:.1f}", ""],
        ],
    )


def fill(path: Path, size: int) -> None:
    """A log of lines, with one text at its end."""
    block = LINE * (1 + (1 << 20) // len(LINE))
    with path.open("wb") as file:
        while file.tell() < size - len(block):
            file.write(block)
        file.write(b"the needle at the end\n".rjust(size - file.tell(), b"."))


class Log:
    """One job's log, over one connection."""

    def __init__(self, web: Web, name: str) -> None:
        self._connection = web.connection()
        jobs = json.loads(self._get("/api/v1/jobs")[1])["jobs"]
        key = next(job["key"] for job in jobs if job["name"] == name)
        self._address = f"/api/v1/jobs/{key}/log"

    def _get(self, address: str) -> tuple[float, bytes, Message]:
        begun = time.perf_counter()
        self._connection.request("GET", address)
        answer = self._connection.getresponse()
        body = answer.read()
        took = 1e3 * (time.perf_counter() - begun)
        if answer.status != 200:
            raise BenchmarkError(f"{address} answered {answer.status}: {body[:200]!r}")
        return took, body, answer.headers

    def piece(self, offset: int) -> tuple[float, int, int]:
        """Milliseconds, how many bytes came, and how large the log is."""
        limit = PIECE if offset < 0 else MOST
        took, body, headers = self._get(f"{self._address}?offset={offset}&limit={limit}")
        return took, len(body), int(headers["QM-Log-Size"])

    def search(self, text: str) -> int | None:
        """Where the text stands, asked for as often as it takes."""
        offset: int | None = 0
        while offset is not None:
            address = f"{self._address}/search?q={text.replace(' ', '+')}&offset={offset}"
            answer = json.loads(self._get(address)[1])
            if answer["at"] is not None:
                return int(answer["at"])
            offset = answer["further"]
        return None


def followed(settings: Settings, path: Path, web: Web) -> tuple[list[float], float]:
    """How many KiB the follower lacks when it has asked for all it knows of, and the dashboard's CPU in ms a second."""
    seconds = 3.0 if settings.quick else FOLLOWED
    writer = threading.Thread(target=write_on, args=(path, seconds))
    log = Log(web, "grows")
    lag: list[float] = []
    before = cpu_times(web.pid)
    begun = time.monotonic()
    writer.start()
    have = 0
    while writer.is_alive():
        time.sleep(EVERY)
        size = have + 1
        while have < size:
            _, came, size = log.piece(have)
            have += came
            if not came:
                break
        lag.append((path.stat().st_size - have) / 1024)
    writer.join()
    return lag, cpu_ms(before, cpu_times(web.pid)) / (time.monotonic() - begun)


def write_on(path: Path, seconds: float) -> None:
    """Append RATE bytes a second, twenty times a second."""
    block = LINE * (RATE // 20 // len(LINE))
    begun = time.monotonic()
    with path.open("ab", buffering=0) as file:
        for number in range(int(seconds * 20)):
            file.write(block)
            time.sleep(max(0.0, begun + (number + 1) / 20 - time.monotonic()))
