"""qm status --watch: the queue as a live view with progress bars."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from qm.cli.common import moment
from qm.cli.main import usage_error
from qm.cli.situation import reasons, with_reasons
from qm.cli.verbs.status import daemon_line, done_text, named_views, processors_text, remaining_text
from qm.spool.view import JobView, View
from qm.vocabulary.config import Settings
from qm.vocabulary.errors import EX_DONE, NoSuchJob
from qm.vocabulary.states import ACTIVE, ENDED, WAITING, State
from qm.vocabulary.text import duration, printable

REFRESH = 1.0
"""Seconds between two looks."""
SHARE = 0.2
"""Of a processor, that looking at a long queue may take: it is looked at less often."""

COLOURS = {
    State.DONE: "green",
    State.RUNNING: "cyan",
    State.PAUSED: "yellow",
    State.HELD: "yellow",
    State.ARRIVING: "dim",
}


def watch(settings: Settings, view: View, names: list[str]) -> int:
    """Draw until Ctrl-C; with `names`, only these jobs. NoSuchJob when one of them is unknown at the beginning."""
    if not sys.stdout.isatty():
        return usage_error("--watch draws on a terminal, and this is none; `qm status` prints the queue once")
    named_views(view, names)
    console = Console()
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                begun = time.monotonic()
                live.update(picture(settings, view, console.height, names), refresh=True)
                time.sleep(max(REFRESH, (time.monotonic() - begun) / SHARE))
    except KeyboardInterrupt:
        return EX_DONE


def picture(settings: Settings, view: View, height: int, names: list[str]) -> Group:
    """Everything that fits the screen: all that runs, then what waits, then what ended last."""
    active = view.active()
    headline = daemon_line(settings, view, active)
    room = max(2, (height - len(active) - 9) // 2)
    if names:
        chosen = with_reasons(settings, view, _those_left(view, names))
        active = [job for job in chosen if job.state in ACTIVE]
        waiting = [job for job in chosen if job.state in WAITING]
        why = [job.reason for job in waiting]
        ended = [job for job in chosen if job.state in ENDED]
    else:
        waiting, ended = view.waiting(), view.ended(room)
        why = reasons(settings, view, active, waiting[:room])
    parts: list[RenderableType] = [
        Text(printable(headline), style="bold"),
        _running(active),
    ]
    if waiting:
        parts.append(_waiting(waiting, why[:room]))
    if ended:
        parts.append(_ended(ended))
    return Group(*parts)


def _those_left(view: View, names: list[str]) -> list[JobView]:
    """The jobs of these names; one that was deleted meanwhile is left out."""
    found: list[JobView] = []
    for name in names:
        with contextlib.suppress(NoSuchJob):
            found += named_views(view, [name])
    return found


def _table(*columns: str) -> Table:
    drawn = Table(box=None, expand=True, header_style="dim", pad_edge=False)
    for column in columns:
        drawn.add_column(column, no_wrap=True, ratio=3 if column in ("INFO", "REASON", "PROGRESS") else None)
    return drawn


def _state(state: State) -> Text:
    return Text(state.value, style=COLOURS.get(state, "red" if state.value in ("failed", "lost", "killed") else ""))


def _plain(text: str) -> Text:
    return Text(printable(text), overflow="ellipsis")


def _running(jobs: list[JobView]) -> Table:
    drawn = _table("RUNNING", "STATE", "PROC", "ELAPSED", "PROGRESS", "DONE", "LEFT", "INFO")
    now = time.time()
    for job in jobs:
        bar = ProgressBar(total=1.0, completed=job.progress) if job.progress is not None else Text("")
        elapsed = duration(now - job.started) if job.started else ""
        drawn.add_row(
            _plain(job.name),
            _state(job.state),
            processors_text(job),
            elapsed,
            bar,
            _plain(done_text(job)),
            remaining_text(job, now),
            _plain(job.info),
        )
    return drawn


def _waiting(jobs: list[JobView], why: Sequence[str]) -> Table:
    drawn = _table(f"WAITING ({len(jobs)})", "STATE", "PROC", "PRIO", "SINCE", "REASON", "INFO")
    for job, reason in zip(jobs, why, strict=False):  # as many as there is room for
        drawn.add_row(
            _plain(job.name),
            _state(job.state),
            str(job.nb_proc),
            str(job.priority),
            moment(job.submitted),
            _plain(reason),
            _plain(job.info),
        )
    return drawn


def _ended(jobs: list[JobView]) -> Table:
    drawn = _table("ENDED", "STATE", "TOOK", "AT", "REASON")
    for job in jobs:
        took = duration(job.finished - job.started) if job.finished and job.started else ""
        drawn.add_row(_plain(job.name), _state(job.state), took, moment(job.finished), _plain(job.reason))
    return drawn
