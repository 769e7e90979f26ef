"""`.qm/usage.csv`: time, CPU and memory of a job's process tree over its life.

Columns: UTC epoch seconds, CPU seconds so far, resident bytes. Thinned by dropping every second row, so a
job of a month has no larger file than one of three hours.
"""

from __future__ import annotations

import os

from qm.spool.files import open_regular, read_regular, read_tail, write_all, write_whole

HEADER = b"time,cpu_seconds,memory_bytes\n"
MAX_ROWS = 2000
_ROW_BYTES = 80


def add_row(path: str, now: float, cpu_seconds: float, memory: int) -> None:
    """Append one row. Raises OSError."""
    row = f"{now:.1f},{cpu_seconds:.2f},{memory}\n".encode()
    try:
        fd = open_regular(path, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        write_whole(path, HEADER + row)
        return
    try:
        write_all(fd, row)
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    if size > MAX_ROWS * 20:  # a row has 20 to 40 bytes: counting starts only near the limit
        _thin(path)


def _thin(path: str) -> None:
    rows = read_regular(path, MAX_ROWS * _ROW_BYTES * 2).splitlines(keepends=True)[1:]
    if len(rows) > MAX_ROWS:
        write_whole(path, HEADER + b"".join(rows[::2]))


def read_rows(path: str) -> list[tuple[float, float, int]]:
    """All rows that can be read; none where there is no file."""
    try:
        return _parsed(read_regular(path, MAX_ROWS * _ROW_BYTES * 2))
    except OSError:
        return []


def last_rows(path: str, number: int) -> list[tuple[float, float, int]]:
    """The last rows, without reading the others."""
    try:
        tail = read_tail(path, (number + 1) * _ROW_BYTES)
    except OSError:
        return []
    return _parsed(b"\n" + tail.partition(b"\n")[2])[-number:]


def _parsed(data: bytes) -> list[tuple[float, float, int]]:
    """The rows below the first line."""
    rows = []
    for line in data.decode("ascii", "replace").splitlines()[1:]:
        try:
            when, cpu, memory = line.split(",")
            rows.append((float(when), float(cpu), int(memory)))
        except ValueError:
            continue
    return rows
