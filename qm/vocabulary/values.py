"""Readers of single values: text in, value out.

Each raises ValueError whose text says what would be right, to stand behind "accepted: ".
"""

from __future__ import annotations

import re

_DIGITS = re.compile(r"[+-]?[0-9]{1,15}\Z")
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?\Z")
_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_COMPOUND = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[smhdw])+\Z")
_COMPOUND_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([KMGTP]?)(?:i?B)?\Z", re.IGNORECASE | re.ASCII)
_ARRAY_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?\Z")
_BEGIN = re.compile(
    r"now|\+[0-9]+(\.[0-9]+)?[smhdw]?|([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?"
    r"|([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?)?\Z"
)

MAX_TASKS = 1_000_000
"""Tasks that one array may have."""
MAX_SECONDS = 3.2e9
"""About a hundred years: longer is a slip of the keyboard."""

MAX_MEMORY = 2**60
"""Bytes: more is a slip of the keyboard."""

TRUE = frozenset(("yes", "true", "on", "1"))
FALSE = frozenset(("no", "false", "off", "0"))


def whole(text: str, least: int | None = None, most: int | None = None) -> int:
    """A whole number in plain decimal digits."""
    bounds = f" of {least} or more" if least is not None and most is None else ""
    bounds = f" from {least} to {most}" if most is not None else bounds
    if not _DIGITS.match(text):
        raise ValueError(f"a whole number{bounds}")
    value = int(text)
    if (least is not None and value < least) or (most is not None and value > most):
        raise ValueError(f"a whole number{bounds}")
    return value


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    return whole(text, 1)


def natural(text: str) -> int:
    """A whole number of 0 or more."""
    return whole(text, 0)


def factor(text: str) -> float:
    """A decimal number of 1 or more."""
    if not _NUMBER.match(text) or float(text) < 1:
        raise ValueError("a number of 1 or more, for instance 1.5")
    return float(text)


def boolean(text: str) -> bool:
    """yes, no and their like."""
    folded = text.lower()
    if folded in TRUE | FALSE:
        return folded in TRUE
    raise ValueError("yes or no")


def seconds(text: str) -> float:
    """A duration: `90`, `90s`, `15m`, `1h30m`, `2d`, `10:00`, `01:30:00`, `2-00:00:00`."""
    said = "a duration: 90 (seconds), 15m, 1h30m, 2d, 01:30:00 or 2-00:00:00"
    folded = text.strip().lower()
    if _NUMBER.match(folded):
        value = float(folded)
    elif len(folded) < 40 and _COMPOUND.match(folded):
        value = sum(float(count) * _UNIT_SECONDS[unit] for count, unit in _COMPOUND_PART.findall(folded))
    else:
        value = _clock(folded, said)
    if value > MAX_SECONDS:
        raise ValueError(said)
    return value


def _clock(text: str, said: str, bare_unit: float = 1.0) -> float:
    """`[D-]H:M:S`, `M:S`; behind days, `D-H` and `D-H:M` too."""
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    good = all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts) and len(parts) <= 3
    if dash:
        good = good and days.isascii() and days.isdigit() and len(days) < 7
    else:
        good = good and len(parts) >= 2
    if not good or any(int(part) > 59 for part in parts[1:]):
        raise ValueError(said)
    numbers = [int(part) for part in parts]
    if dash:
        hours, minutes, secs = [*numbers, 0, 0][:3]
        return int(days) * 86400.0 + hours * 3600 + minutes * 60 + secs
    if len(numbers) == 2:
        return numbers[0] * 60.0 + numbers[1]
    return numbers[0] * 3600.0 + numbers[1] * 60 + numbers[2]


def slurm_seconds(text: str) -> float:
    """A duration by sbatch(1)'s rule: `minutes`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`."""
    said = "minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S (sbatch --time)"
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text) * 60.0
    return _clock(text, said)


def memory(text: str) -> int:
    """Bytes: `512M`, `2G`, `1.5GB`, `1048576`; K, M, G, T, P are powers of 1024."""
    found = _SIZE.match(text.strip())
    size = int(float(found[1]) * 1024 ** " KMGTP".index((found[2] or " ").upper())) if found else 0
    if not 0 < size <= MAX_MEMORY:
        raise ValueError("an amount of memory above 0: 512M, 2G, or bytes")
    return size


def array(text: str) -> str:
    """An array of tasks: `0-99`, `1-9:2`, `1,5,7`, `0-99%4`; returned without blanks, not expanded."""
    said = "task numbers: 0-99, 1-9:2, 1,5,7 or 0-99%4"
    plain = text.replace(" ", "")
    numbers, percent, limit = plain.partition("%")
    if percent and (not limit.isascii() or not limit.isdigit() or int(limit[:9]) < 1 or len(limit) > 9):
        raise ValueError(said)
    tasks = 0
    for part in numbers.split(","):
        found = _ARRAY_PART.match(part)
        if not found:
            raise ValueError(said)
        first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        if last < first or step < 1:
            raise ValueError(said)
        tasks += (last - first) // step + 1
    if tasks > MAX_TASKS:
        raise ValueError(f"at most {MAX_TASKS} tasks")
    return plain


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas, none empty."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise ValueError("names separated by commas")
    return parts


def statuses(text: str) -> tuple[int, ...]:
    """Exit statuses, 0 to 255, separated by commas; empty means none."""
    if not text.strip():
        return ()
    try:
        return tuple(whole(part.strip(), 0, 255) for part in text.split(","))
    except ValueError:
        raise ValueError("exit statuses from 0 to 255, separated by commas") from None


ANY_END = "afterany:"


def after(text: str) -> tuple[str, ...]:
    """What must come first: names or ids; `afterany:NAME` is enough to have ended, `afterok:` is the default."""
    said = "names or ids of jobs, separated by commas, each perhaps behind afterany:"
    found = []
    for part in text.split(","):
        kind, colon, name = part.strip().partition(":")
        if not colon:
            kind, name = "afterok", kind
        if kind not in ("afterok", "afterany") or not name or "/" in name:
            raise ValueError(said)
        found.append(name if kind == "afterok" else f"{ANY_END}{name}")
    return tuple(found)


def awaited(text: str) -> tuple[str, bool]:
    """One entry of what `after` gave: the name or id, and whether any end of that job will do."""
    return text.removeprefix(ANY_END), text.startswith(ANY_END)


def begin(text: str) -> str:
    """A moment, kept as text: `now`, `22:00`, `+2h`, `2026-01-31`, `2026-01-31T22:00`."""
    said = "a time: 22:00, +2h, 2026-01-31, 2026-01-31T22:00, or now"
    plain = text.strip()
    found = _BEGIN.fullmatch(plain)
    if not found:
        raise ValueError(said)
    if found[4]:
        from datetime import date  # slow to import, and rarely needed

        try:
            date(int(found[4]), int(found[5]), int(found[6]))
        except ValueError:
            raise ValueError(said) from None
    return plain


def one_of(*words: str) -> _OneOf:
    """A reader that accepts these words, case ignored."""
    return _OneOf(words)


class _OneOf:
    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words

    def __call__(self, text: str) -> str:
        folded = text.strip().lower()
        if folded not in self.words:
            raise ValueError(" or ".join(self.words))
        return folded


def mail_types(text: str) -> tuple[str, ...]:
    """When to mail: end, fail, start, none, digest; several with commas."""
    known = ("end", "fail", "start", "none", "digest")
    parts = tuple(part.strip().lower() for part in text.split(","))
    if not all(part in known for part in parts):
        raise ValueError(f"{', '.join(known[:-1])} or {known[-1]}, separated by commas")
    return parts


def address(text: str) -> str:
    """A mail address, or several with commas; only what cannot be one is refused."""
    if not text:
        return ""
    if any(char.isspace() and char != " " for char in text) or not all("@" in part for part in text.split(",")):
        raise ValueError("a mail address, me@example.org")
    return text


def line(text: str) -> str:
    """Any text without NUL."""
    if "\0" in text:
        raise ValueError("text without NUL characters")
    return text


def path(text: str) -> str:
    """A path: text in one line."""
    if not text or any(char in text for char in "\0\n"):
        raise ValueError("a path in one line")
    return text
