"""`.qm/usage.csv`: time, CPU and memory of a job's process tree over its life.

Columns: UTC epoch seconds, CPU seconds so far, resident bytes. Thinned by dropping every second row, so a
job of a month has no larger file than one of three hours.
"""

from __future__ import annotations

import os

from qm.spool.files import open_regular, read_regular, write_all, write_whole

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
        lines = read_regular(path, MAX_ROWS * _ROW_BYTES * 2).decode("ascii", "replace").splitlines()[1:]
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            when, cpu, memory = line.split(",")
            rows.append((float(when), float(cpu), int(memory)))
        except ValueError:
            continue
    return rows
