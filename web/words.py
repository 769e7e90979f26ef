"""Numbers, times and addresses as templates write them."""

from __future__ import annotations

import os
import time
from typing import TypeGuard
from urllib.parse import quote

from qm.vocabulary.text import duration, printable
from qm.vocabulary.text import size as size_text

__all__ = ["date_seconds", "duration", "moment", "path_part", "percent", "printable", "short", "size_text", "stamp"]


_LAST = 2.5e11
"""UTC epoch seconds, about the year 9900: a file may have any time, and the system's functions fail for some."""


def moment(seconds: float | None) -> str:
    """A moment in this machine's time, to the second; empty for one that has not come."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if _is_known(seconds) else ""


def short(seconds: float | None, now: float) -> str:
    """The same as short as it can be said: no date today, no seconds on other days."""
    if not _is_known(seconds):
        return ""
    local, today = time.localtime(seconds), time.localtime(now)
    same_day = (local.tm_year, local.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M", local)


def date_seconds(text: str, days: int = 0) -> float | None:
    """The beginning of a day `2026-01-31` in this machine's time, `days` later; None for what is no date."""
    try:
        day = time.strptime(text, "%Y-%m-%d")
        return time.mktime((day.tm_year, day.tm_mon, day.tm_mday + days, 0, 0, 0, 0, 0, -1))
    except (ValueError, OverflowError):
        return None


def stamp(seconds: float | None) -> str:
    """The same for `<time datetime=…>`: ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if _is_known(seconds) else ""


def _is_known(seconds: float | None) -> TypeGuard[float]:
    return seconds is not None and seconds != 0 and abs(seconds) < _LAST


def percent(fraction: float | None) -> str:
    """`45%`, empty if unknown; never 100% before it is done."""
    return "" if fraction is None else f"{int(fraction * 100)}%"


def path_part(name: str) -> str:
    """A file's name as one part of an address, whatever bytes it has."""
    return quote(os.fsencode(name), safe="")
