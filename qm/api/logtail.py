"""The end of a job's log, for the message of an exception."""

from __future__ import annotations

import os

from qm.spool.files import read_tail_below
from qm.spool.paths import log_name

LINES = 5
BYTES = 4096


def last_lines(folder: str, task: int) -> str:
    """The last lines that a task of an array wrote (the job, where that has no log), without QM's own; "" for none."""
    name = log_name(task if task >= 0 else None)
    if not os.path.exists(f"{folder}/{name}"):
        name = log_name(None)
    try:
        text = read_tail_below(folder, name, BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("Job ", "QM: "))]
    return "\n".join(lines[-LINES:])
