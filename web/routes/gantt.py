"""The Gantt chart of the last hours: which job had which processor slots, and where its bars are drawn.

Invariant: a chart has at most MOST_BARS jobs, and says how many more there were.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

from qm.judgement.timeline import Span, lanes, runs
from qm.vocabulary.states import Place, State
from qm_web.cache.index import Query
from qm_web.site import Site

MOST_BARS = 3000
MOST_RUNNING = 500
LEAST_WIDTH = 0.25
"""Percent of the chart: a shorter job is drawn this wide, so that it can be seen."""
TOP = 22
"""Pixels above the first slot, for the times."""
STEPS = (600, 3600, 3 * 3600, 6 * 3600, 86400)
MOST_TICKS = 9


@dataclass(frozen=True, slots=True)
class Bar:
    """One job in the chart. Times are UTC epoch seconds, `finished` None while it runs; `slots` are rows from 0 on.

    `filed` says whether there is still a folder that its page can show.
    """

    key: str
    name: str
    owner: str
    state: State
    started: float
    finished: float | None
    nb_proc: int
    processors: tuple[int, ...]
    slots: tuple[int, ...] = ()
    filed: bool = True


class Tick(NamedTuple):
    """A time on the axis, at so many percent."""

    at: float
    text: str


class Box(NamedTuple):
    """A rectangle: x and width in percent of the chart, y and height in pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars from `since` to `until`, newest first; `left_out` more would not fit. `labels` name the slots."""

    since: float
    until: float
    bars: list[Bar]
    labels: list[int]
    left_out: int

    @property
    def row(self) -> int:
        """Pixels that a slot is high."""
        return 18 if len(self.labels) <= 32 else 10 if len(self.labels) <= 96 else 5

    @property
    def height(self) -> int:
        """Pixels of the whole chart."""
        return TOP + max(1, len(self.labels)) * self.row + 4

    def boxes(self, bar: Bar) -> list[Box]:
        """The rectangles of a bar: one for slots that lie side by side."""
        whole = self.until - self.since
        begin = max(bar.started, self.since)
        end = min(bar.finished if bar.finished is not None else self.until, self.until)
        width = min(100.0, max(LEAST_WIDTH, (end - begin) / whole * 100))
        x = min((begin - self.since) / whole * 100, 100 - width)
        found = runs(bar.slots)
        return [Box(round(x, 3), TOP + row * self.row, round(width, 3), many * self.row - 1) for row, many in found]

    def ticks(self) -> list[Tick]:
        """Round times of this machine's clock, few enough for a telephone."""
        whole = self.until - self.since
        step = next((step for step in STEPS if whole / step <= MOST_TICKS), STEPS[-1])
        step *= math.ceil(whole / step / MOST_TICKS)
        offset = time.localtime(self.until).tm_gmtoff
        first = math.ceil((self.since + offset) / step) * step - offset
        pattern = "%m-%d" if step >= 86400 else "%H:%M"
        moments = [first + n * step for n in range(math.floor((self.until - first) / step) + 1)]
        found = [((moment - self.since) / whole * 100, moment) for moment in moments]
        return [Tick(round(at, 3), time.strftime(pattern, time.localtime(when))) for at, when in found if 3 <= at <= 97]


def chart(site: Site, hours: int) -> Chart:
    """What ran in the last hours, what runs included."""
    until = site.now()
    since = until - hours * 3600
    running = _running(site)
    site.past.refresh()  # after the look at what runs: a job's end is written before it leaves
    ended, left_out = site.past.between(since, until, MOST_BARS - len(running))
    over = {end.id: end.finished for end in ended}
    running = [bar for bar in running if over.get(bar.key, 0.0) < bar.started]
    there = site.index.present([end.id for end in ended])
    bars = running + [
        Bar(
            key=end.id,
            name=end.name,
            owner=end.owner,
            state=end.state,
            started=end.started or end.finished,
            finished=end.finished,
            nb_proc=end.nb_proc,
            processors=end.processors,
            filed=end.id in there,
        )
        for end in ended
    ]
    spans = [
        Span(bar.started, bar.finished if bar.finished is not None else math.inf, bar.nb_proc, bar.processors)
        for bar in bars
    ]
    found = lanes(spans)
    labels = sorted({lane for taken in found for lane in taken})
    rows = {lane: row for row, lane in enumerate(labels)}
    placed = [replace(bar, slots=tuple(rows[lane] for lane in taken)) for bar, taken in zip(bars, found, strict=True)]
    return Chart(since, until, placed, labels, left_out)


def _running(site: Site) -> list[Bar]:
    """What has begun and not ended; the processors that it has stand in its record."""
    rows, _ = site.index.list(Query(places=(Place.JOBS,), per_page=MOST_RUNNING))
    bars = []
    for row in rows:
        started = row.started or (row.submitted if row.state is State.RUNNING else None)
        if started is not None:  # without a record the folder's own time must do
            job = site.view.at(row.place, row.folder)
            processors = job.record.processors if job is not None else ()
            bars.append(Bar(row.key, row.name, row.owner, row.state, started, None, row.nb_proc, tuple(processors)))
    return bars
