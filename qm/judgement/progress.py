"""How far is a job? Read from what its script prints, or from what it writes to the file QM_PROGRESS.

Invariant: any bytes give a `Progress` with 0 <= fraction <= 1 and a text fit for one line of a page, or
None; nothing raises, and the time is linear in the bytes. (In every pattern below a digit run is bounded and
cannot be entered in its middle, and two neighbouring repeats share no character: nothing is tried twice.)

Three forms are read from process.log, and the newest line that has one wins:

    45%|####   | 45/100 [00:12<00:15, 3.5it/s]    tqdm's bar, which redraws itself with a carriage return
    Processing col 8154   5 / 32                  QM 0.4's `i / n`: whole numbers, 0 <= i <= n, n > 0
    copying 45.5 %                                a percentage from 0 to 100

Within a line they are tried in that order: in `Epoch 3/10, accuracy 93%` it is the epochs that count. No
progress is better than a wrong one, so these are left alone: dates (31/12/2026), paths (/3/4, 3/4.txt),
versions and addresses (10.0.0.0/16), what stands after `=` (rsync's to-chk=3/9), and prose (3/4 of, where no
space is beside the slash). What cannot be told from progress is taken for it: `12/2026`, or a percentage that
means a load. A script that prints such things writes to QM_PROGRESS instead.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from qm.vocabulary.record import Tasks

STARTED = "Job started by QM at:"
FINISHED = "Job finished at:"
LONGEST_TEXT = 200  # characters of the line that are kept for display
SHORTEST_CUT = 1024  # bytes; a reader of the end of a log takes some KB, so what is shorter is the whole log

# ECMA-48: control sequences (colours, cursor movements) and operating system commands (window titles, links).
ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?)")
LINE_ENDS = re.compile(r"[\r\n\b]+")  # a bar is redrawn after a carriage return, or after backspaces
BEFORE = r"(?<![\w/=+-])(?<!/ )(?<![^.][.,])(?<!^[.,])"  # `....20%` is one, `.5%` is not
RATIO = re.compile(BEFORE + r"([0-9]{1,15})([ \t]{0,3})/[ \t]{0,3}([0-9]{1,15})(?!\w|[ \t]{0,3}/|[.,-]\w|%)")
PERCENT = re.compile(BEFORE + r"([0-9]{1,3}(?:[.,][0-9]{1,15})?)[ \u00a0\u202f]?%(?![\w%])")
TQDM = re.compile(BEFORE + r"[0-9]{1,3}%\|")
PROSE = re.compile(r" of\b")
FRACTION = re.compile(r"([0-9]{0,9}(?:[.,][0-9]{0,30})?(?:[eE]-?[0-9]{1,3})?) ?(%?)(?: +(.*))?")


@dataclass(frozen=True, slots=True)
class Progress:
    """`fraction` of the work done, 0 to 1, and the line that said so (at most 200 printable characters)."""

    fraction: float
    text: str


def read_progress(tail: bytes) -> Progress | None:
    """The newest progress in the end of a process.log, or None.

    `tail` may begin inside a line, a number or a character. What stands before the newest line "Job started
    by QM at:" belongs to an earlier run (a deferred job appends to its log) and is not read.
    """
    text = ANSI.sub("", tail.decode("utf-8", "replace"))
    if len(tail) >= SHORTEST_CUT:
        text = text.lstrip("\ufffd").lstrip("0123456789.,")  # perhaps only the end of a number
    text = text[text.rfind(STARTED) + 1 :]  # the rest of that line itself holds neither `%` nor `/`
    lines = LINE_ENDS.split(text)
    newest = _newest(lines, len(lines) - 1)
    if newest is None:
        return None
    at, progress, total = newest
    if at == len(lines) - 1 and total and lines[at].endswith(total):
        # The log ends in the middle of a line: `12 / 1` may become `12 / 100`, as the line before it says.
        before = _newest(lines, at - 1)
        if before is not None and len(before[2]) > len(total) and before[2].startswith(total):
            return before[1]
    return progress


def _newest(lines: list[str], last: int) -> tuple[int, Progress, str] | None:
    """Index, progress and printed total ("" for a percentage) of the newest line that has any."""
    for at in range(last, -1, -1):
        line = lines[at].partition(FINISHED)[0]
        found = _in_line(line)
        if found is not None:
            fraction, end, total = found
            return at, Progress(fraction, _shown(line, end)), total
    return None


def _in_line(line: str) -> tuple[float, int, str] | None:
    """Fraction, where it ends in the line, and printed total, of the best progress that one line holds."""
    bar = TQDM.search(line)
    start = bar.start() if bar else 0  # a bar's description (`Epoch 3/10:`) says nothing about this bar
    best: tuple[float, int, str] | None = None
    for ratio in RATIO.finditer(line, start):
        done, space, total = ratio.groups()
        if int(done) > int(total) or int(total) == 0:
            continue
        if not space and PROSE.match(line, ratio.end()):
            continue
        # The first total is the outer loop's: `epoch 3/10 batch 5/99`. A line that never ends repeats it.
        if best is None or best[2] == total:
            best = int(done) / int(total), ratio.end(), total
    if best is not None:
        return best
    for percent in PERCENT.finditer(line, start):
        value = float(percent.group(1).replace(",", "."))
        if value <= 100:
            best = value / 100, percent.end(), ""
    return best


def read_progress_file(data: bytes) -> Progress | None:
    """The progress in the file QM_PROGRESS: its last complete line `0.45 message` or `45% message`.

    A line is complete when a line end follows it. A file without any line end, such as
    `printf 0.45 >"$QM_PROGRESS"` leaves, counts as one line. A number above 1 needs the percent sign;
    without it the line is not read.
    """
    lines = LINE_ENDS.split(ANSI.sub("", data.decode("utf-8", "replace")))
    for line in reversed(lines[:-1] or lines):
        progress = _in_progress_line(line.replace("\t", " ").strip(" "))
        if progress is not None:
            return progress
    return None


def _in_progress_line(line: str) -> Progress | None:
    match = FRACTION.fullmatch(line)
    if match is None:
        return None
    number, percent, message = match.groups()
    try:
        value = float(number.replace(",", ".")) / (100 if percent else 1)
    except ValueError:  # "", "." and "e-5" fit the pattern
        return None
    if value > 1 + 1e-9:  # a sum of steps may end a rounding error above 1
        return None
    return Progress(min(value, 1.0), _shown(message or "", 0))


def array_progress(tasks: Tasks) -> Progress | None:
    """How far an array is: the tasks that ended, however they did, of all. None for one without tasks."""
    if tasks.total < 1:
        return None
    failed = f", {tasks.failed} failed" if tasks.failed else ""
    return Progress(min(1.0, (tasks.done + tasks.failed) / tasks.total), f"{tasks.done} / {tasks.total}{failed}")


def earlier_part(tasks: Tasks | None) -> float:
    """What part of an array was done before it was started this time; 0 for a job that is none."""
    return min(1.0, tasks.earlier / tasks.total) if tasks is not None and tasks.total > 0 else 0.0


def remaining(fraction: float, elapsed: float, earlier: float = 0.0) -> float | None:
    """Seconds left if the rest goes as what was done in `elapsed` seconds; None where that says nothing.

    `earlier` is the part that was done before those.
    """
    if not earlier < fraction <= 1 or not elapsed >= 0:  # written so that NaN is refused too
        return None
    seconds = elapsed * (1 - fraction) / (fraction - earlier)
    return seconds if math.isfinite(seconds) else None


def _shown(line: str, end: int) -> str:
    """At most LONGEST_TEXT printable characters of `line`; of a longer line, those that lead up to `end`."""
    if len(line) > LONGEST_TEXT:
        line = line[max(0, end - LONGEST_TEXT) :][:LONGEST_TEXT]
    return "".join(c if c.isprintable() else " " for c in line).strip(" \ufffd")
