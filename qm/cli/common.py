"""What the verbs share: the spool that is meant, and output that cannot hurt a terminal."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from qm.spool.settings import load_settings
from qm.spool.view import JobView, View
from qm.vocabulary.config import Settings
from qm.vocabulary.errors import NoSuchJob
from qm.vocabulary.record import Job, to_json
from qm.vocabulary.text import printable


def open_spool(args: argparse.Namespace) -> tuple[Settings, View]:
    """The configuration found and a view of its spool. ConfigError."""
    settings = load_settings(args.config)
    return settings, View(settings.folder)


def find_all(view: View, names: Sequence[str]) -> list[Job]:
    """The jobs of these names or ids; NoSuchJob names those that are unknown, all of them."""
    found, unknown = [], []
    for name in names:
        try:
            found.append(view.find(name))
        except NoSuchJob:
            unknown.append(name)
    if unknown:
        raise NoSuchJob(f"no job has the name or id {', '.join(map(repr, unknown))}; `qm status` lists them")
    return found


def view_of(view: View, job: Job) -> JobView:
    """A job that was found, as it is shown; it may have moved on since. NoSuchJob when it was taken away."""
    for _ in range(10):
        now = view.follow(job)
        shown = view.job(now.place, now.folder) if now is not None else None
        if shown is not None:
            return shown
    raise NoSuchJob(f"{job.record.name} ({job.record.id}) is gone: deleted, or taken out of the spool")


def say(text: str) -> None:
    """Print a line, with names and messages made safe."""
    print(printable(text))


def complain(text: str) -> None:
    """Print a line on standard error."""
    print(f"qm: {printable(text)}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print JSON; undecodable bytes in names come as escapes."""
    print(json.dumps(value, indent=2))


def as_json(job: JobView) -> dict[str, Any]:
    """A job as `--json` gives it: what lists show first, then the whole record."""
    data: dict[str, Any] = {
        "name": job.name,
        "id": job.id,
        "state": job.state.value,
        "folder": job.folder,
        "place": job.place.value,
        "path": job.path,
        "owner": job.owner,
        "info": job.info,
        "size": job.size,
        "nb_proc": job.nb_proc,
        "priority": job.priority,
        "submitted": job.submitted,
        "started": job.started,
        "finished": job.finished,
        "reason": job.reason,
        "progress": job.progress,
        "progress_text": job.progress_text,
        "tasks": job.tasks._asdict() if job.tasks is not None else None,
    }
    if job.record is not None:
        data["record"] = to_json(job.record) | {"state": job.state.value}
    return data


def moment(seconds: float | None) -> str:
    """Local time to the second, without the day when it is today."""
    if seconds is None:
        return ""
    local = time.localtime(seconds)
    today = time.localtime()
    same_day = (local.tm_year, local.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M", local)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Columns aligned by their widest cell; those in `right` to the right."""
    cells = [list(headers), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    align = set(right)
    return [
        "  ".join(
            cell.rjust(width) if column in align else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
