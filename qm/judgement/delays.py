"""When may a job start that is not to start at once? Pure: moments are UTC epoch seconds.

Two kinds of waiting: for a moment by the clock on the wall (`begin : 22:00`), and for a time to pass (`begin : +2h`,
the next attempt, the next run of a deferred one). A clock that is set anew changes the first kind, and must not change
the second: that is counted on a clock that cannot be set, and is never longer than it was to be.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import log

from qm.vocabulary.options import Options
from qm.vocabulary.record import Record
from qm.vocabulary.states import State
from qm.vocabulary.values import MAX_SECONDS, seconds

RELATIVE = "+"


def begin_at(text: str, now: float) -> float | None:
    """The moment that the key `begin` means for a job that comes now; None for at once.

    `22:00` is the next time that the local clock shows it, also across daylight saving; a moment in the past is itself.
    """
    if text in ("", "now"):
        return None
    if text.startswith(RELATIVE):
        return now + seconds(text[1:])
    if "-" in text:
        return datetime.fromisoformat(_padded(text.replace(" ", "T"))).timestamp()
    hour, minute, second = (*map(int, text.split(":")), 0)[:3]
    today = datetime.fromtimestamp(now).replace(hour=hour, minute=minute, second=second, microsecond=0)
    moment = today.timestamp()
    return moment if moment >= now else (today + timedelta(days=1)).timestamp()


def _padded(text: str) -> str:
    day, _, clock = text.partition("T")
    return f"{day}T{clock or '00:00'}"


def longest_wait(record: Record) -> float | None:
    """How many seconds a waiting job waits at most, from any moment on; None if it waits for the clock on the wall."""
    options = record.effective
    if record.state is State.DEFERRED:
        by_itself = bool(record.history) and record.history[-1].state == State.DEFERRED.value
        return options.defer_time if by_itself else error_wait(options, options.attempts)
    return seconds(options.begin[1:]) if options.begin.startswith(RELATIVE) else None


def error_wait(options: Options, made: int) -> float:
    """Seconds before the next attempt after `made` of them: error_time, times error_backoff for each before the last.

    Never more than a century.
    """
    if (made - 1) * log(options.error_backoff) > log(MAX_SECONDS):
        return MAX_SECONDS if options.error_time else 0.0
    return min(options.error_time * options.error_backoff ** (made - 1), MAX_SECONDS)
