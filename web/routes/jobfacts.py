"""What the page of a job says about it: its record, as a person reads it.

Invariant: a record lies where its job may write, so any value in it may be strange; nothing here raises for one,
and every text that comes out is printable. Only what `Display_details` allows is said: see `details`.
"""

from __future__ import annotations

import signal
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from qm.judgement.progress import array_progress, earlier_part, remaining
from qm.judgement.verdict import signal_of
from qm.spool.logreader import LogFile
from qm.spool.paths import LOG_NAME
from qm.spool.view import JobView
from qm.vocabulary.optiontext import option_facts
from qm.vocabulary.record import Dependency, Record, Tasks
from qm.vocabulary.states import ACTIVE, ENDED, TRANSITIONS, WAITING, Event, State
from qm_web import words
from qm_web.cache.index import Row
from qm_web.live import Active

STATUS_WORDS = {
    0: "success",
    2: "often: wrong usage",
    64: "wrong usage (EX_USAGE)",
    65: "wrong data (EX_DATAERR)",
    66: "an input is missing (EX_NOINPUT)",
    69: "a service is unavailable (EX_UNAVAILABLE)",
    70: "an internal error of the program (EX_SOFTWARE)",
    71: "an error of the operating system (EX_OSERR)",
    73: "an output cannot be made (EX_CANTCREAT)",
    74: "an error while reading or writing (EX_IOERR)",
    75: "try again later (EX_TEMPFAIL)",
    77: "not permitted (EX_NOPERM)",
    78: "wrong configuration (EX_CONFIG)",
    126: "the command was found, but cannot be executed",
    127: "the command was not found",
}
"""What exit statuses say by convention: sysexits.h, and POSIX sh, 2.8.2."""

UNITS: dict[str, Callable[[float], str]] = {
    "mem": words.size_text,
    **dict.fromkeys(("wall_time", "error_time", "defer_time", "defer_max", "zombie_time"), words.duration),
}
"""How the values of options are said that are bytes or seconds."""

OFFERED = ("release", "resume", "pause", "hold", "retry", "kill")
"""The verbs that a page has buttons for, besides delete, in the order of the buttons."""

MOST_ATTEMPTS = 200


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: a label and a text. A moment has its `stamp`; `since` (UTC epoch seconds) goes on counting."""

    label: str
    text: str
    stamp: str = ""
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of the table of attempts. `log` is the name of the file with its output, "" if nobody can say."""

    number: int
    started: float | None
    took: str
    state: str
    outcome: str
    log: str


def verbs(row: Row, may: dict[str, bool]) -> list[str]:
    """What can be asked for a job in this state, as far as the visitor may."""
    possible = [verb for verb in OFFERED if Event(verb) in TRANSITIONS[row.state]]
    if row.state in ENDED or row.state in WAITING - {State.ARRIVING}:
        possible.append("delete")
    allowed = {"kill": may["kill"], "delete": may["delete"]}
    return [verb for verb in possible if allowed.get(verb, may["operate"])]


def retry_label(row: Row) -> str:
    """What the button says that runs a job again: of an array, its failed tasks alone."""
    failed = row.tasks.failed if row.tasks is not None else 0
    return f"Retry {failed} failed task{'s' if failed > 1 else ''}" if failed else "Retry"


def facts(row: Row, view: JobView | None, active: Active, now: float, details: bool) -> list[Fact]:
    """The facts about a job, those that are known."""
    record = view.record if view is not None else None
    found = [Fact("Id", row.id)]
    if details:
        found += [Fact("Owner", row.owner), Fact("Description", row.info), Fact("Size", row.size)]
    if row.tasks is not None:
        found.append(Fact("Tasks", _tasks(row.tasks)))
    found += _times(row, record, active, now)
    found += [
        Fact("Attempt", _attempt(row, record)),
        Fact("Exit status", status_in_words(row.exit_status)),
        Fact("Signal", signal_in_words(row.signal)),
        Fact("CPU now", "" if active.cpu is None else f"{active.cpu:.2f} processors"),
        Fact("Memory now", _said(words.size_text, active.memory)),
        Fact("CPU time", _said(words.duration, row.cpu_seconds)),
        Fact("Peak memory", _said(words.size_text, row.peak_memory)),
        Fact("Processors", _processors(row, record)),
        Fact("Priority", str(row.priority) if row.priority else ""),
    ]
    if details:
        found += _record_facts(record) if record is not None else []
        found.append(Fact("Folder", view.path if view is not None else f"{row.place}/{row.folder}"))
    return [Fact(fact.label, words.printable(fact.text), fact.stamp, fact.since) for fact in found if fact.text]


def _tasks(tasks: Tasks) -> str:
    """`61 / 100, 2 failed, 4 running`."""
    progress = array_progress(tasks)
    running = f", {tasks.running} running" if tasks.running else ""
    return f"{progress.text}{running}" if progress is not None else ""


def _times(row: Row, record: Record | None, active: Active, now: float) -> Iterable[Fact]:
    yield _moment("Submitted", row.submitted)
    begun = row.started if row.started else now if row.state in WAITING else None
    if begun is not None and row.submitted:
        waiting = row.submitted if row.started is None else None
        yield Fact("Waited", _said(words.duration, begun - row.submitted), since=waiting)
    if row.state in WAITING:
        yield _moment("Not before", row.not_before)
    yield _moment("Started", row.started)
    if row.started and row.state in ACTIVE:
        yield Fact("Running for", _said(words.duration, now - row.started), since=row.started)
        elapsed, progress = now - row.started, active.progress
        left = remaining(progress, elapsed, earlier_part(row.tasks)) if progress is not None else None
        yield Fact("Left, about", _said(words.duration, left))
    if row.state is State.PAUSED and record is not None:
        yield Fact("Wall time left", _said(words.duration, record.wall_left))
    yield _moment("Finished", row.finished)
    if row.started and row.finished:
        yield Fact("Took", _said(words.duration, row.finished - row.started))


def _record_facts(record: Record) -> Iterable[Fact]:
    yield Fact("After", ", ".join(map(_dependency, record.after)))
    yield Fact("GPUs", ranges(record.gpus))
    engine_job = record.ticket if record.launcher != "local" else ""  # the local launcher's tells only itself something
    yield Fact("Launcher", f"{record.launcher} {engine_job}".strip())
    yield Fact("Job file", record.job_file)
    for key, value in option_facts(record.options):
        if key not in ("script", "after"):  # they stand elsewhere on the page
            yield Fact(f"Option {key}", _said(UNITS[key], float(value)) if key in UNITS else value)
    for key, value in record.overrides.items():
        yield Fact(f"Set {key}", str(value))
    for note in record.notes:
        yield Fact("Note", str(note))


def _dependency(one: Dependency) -> str:
    """`prepare (abcdefghijkl, has ended)`."""
    known = one.id or "not there yet"
    return f"{one.name} ({known}{', done' if one.met and not one.any_end else ', has ended' if one.met else ''})"


def _moment(label: str, seconds: float | None) -> Fact:
    return Fact(label, words.moment(seconds), words.stamp(seconds))


def _said(say: Callable[[float], str], value: float | None) -> str:
    """A number in words; empty for none, and for one that no job can have had."""
    return say(value) if value is not None and 0 <= value < 1e18 else ""


def _attempt(row: Row, record: Record | None) -> str:
    if not row.attempt:
        return ""
    most = record.effective.attempts if record is not None else 1
    if most == 1:
        return str(row.attempt)
    before = record.retried if record is not None else 0
    return f"{row.attempt} of at most {max(row.attempt, most + before)}"


def _processors(row: Row, record: Record | None) -> str:
    cpus = ranges(record.processors) if record is not None else ""
    return f"{row.nb_proc} (CPU {cpus})" if cpus else str(row.nb_proc)


def ranges(numbers: Iterable[object]) -> str:
    """`0-3, 8` for 0, 1, 2, 3, 8; what are no numbers is left out."""
    whole = sorted({number for number in numbers if type(number) is int and number >= 0})
    runs = []
    for _, group in groupby(enumerate(whole), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        runs.append(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]))
    return ", ".join(runs)


def status_in_words(status: object) -> str:
    """`1`, `127: the command was not found`, `137: perhaps ended by signal 9 (SIGKILL)`; empty for none."""
    if type(status) is not int:
        return ""
    number = signal_of(status)
    said = STATUS_WORDS.get(status) or (f"perhaps ended by signal {signal_in_words(number)}" if number else "")
    return f"{status}: {said}" if said else str(status)


def signal_in_words(number: object) -> str:
    """`9 (SIGKILL)`; empty for none."""
    if type(number) is not int:
        return ""
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


# --- attempts ----------------------------------------------------------------------------------------------


def attempts(row: Row, record: Record | None, logs: Sequence[LogFile], now: float) -> list[Attempt]:
    """The ended attempts and the present one, newest first."""
    if record is None:
        return []
    found = [
        Attempt(
            number=run.attempt if type(run.attempt) is int else 0,
            started=run.started,
            took=_said(words.duration, run.finished - run.started) if run.started and run.finished else "",
            state=run.state if isinstance(run.state, str) and run.state in set(State) else "",
            outcome=words.printable(str(run.reason or "")) or status_in_words(run.exit_status),
            log=log_of(run.started, logs),
        )
        for run in record.history[-MOST_ATTEMPTS:]
    ]
    if row.state in ACTIVE and row.started:
        took = _said(words.duration, now - row.started)
        found.append(Attempt(row.attempt, row.started, took, str(row.state), "", log_of(row.started, logs)))
    return found[::-1]


def log_of(started: float | None, logs: Sequence[LogFile]) -> str:
    """The log in which a run that started then was written: the newest that begins no later.

    The lines in it are written to the second; a deferred run goes on in the log of the one before.
    """
    dated = sorted((log.started, log.name) for log in logs if log.started is not None and log.name.startswith(LOG_NAME))
    if started is None or not dated:
        return ""
    at = bisect_right(dated, (int(started) + 0.999, "\uffff"))
    return dated[at - 1][1] if at else ""
