"""Why did a worker die? What QM wrote down about an earlier run of it, read by its next run."""

from __future__ import annotations

import json
from typing import Any


def why_it_died(directory: str, mark: str) -> str:
    """One sentence about the run whose claim says `TASK ATTEMPT`; it is vague where QM's files tell nothing."""
    task, attempt = mark.split()
    for run in (*_tasks(f"{directory}/.qm/tasks.jsonl", task), *_history(f"{directory}/.qm/job.json")):
        if str(run.get("attempt")) == attempt and (run.get("reason") or run.get("exit_status") is not None):
            status = f"exit status {run['exit_status']}" if run.get("exit_status") is not None else ""
            reason = str(run.get("reason") or "").partition("; attempt ")[0]  # the worker's, not the call's
            return f"the worker that ran it died: {reason or status}"
    return "the worker that ran it died"


def _tasks(path: str, task: str) -> list[dict[str, Any]]:
    """What tasks.jsonl says of one task of an array, the newest first."""
    return [entry for entry in map(_parsed, reversed(_text(path).splitlines())) if str(entry.get("task")) == task]


def _history(path: str) -> list[dict[str, Any]]:
    """The runs of a plain job."""
    runs = _parsed(_text(path)).get("history")
    return [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
