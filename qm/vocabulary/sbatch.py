"""#SBATCH options in a job.sh, as sbatch(1) has them, translated to QM's keys. Pure.

An option that QM does not know is noted and left out, so a script written for a cluster runs as it is.
"""

from __future__ import annotations

import re
import shlex
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from qm.vocabulary import values
from qm.vocabulary.errors import JobFileError
from qm.vocabulary.options import shortened

_SHORT = {
    "c": "cpus-per-task", "n": "ntasks", "t": "time", "a": "array", "d": "dependency", "o": "output", "e": "error",
    "H": "hold", "b": "begin", "D": "chdir", "J": "job-name", "G": "gpus",
    "p": "partition", "A": "account", "N": "nodes", "w": "nodelist", "x": "exclude", "q": "qos", "C": "constraint",
    "L": "licenses", "M": "clusters", "Q": "quiet", "s": "oversubscribe", "v": "verbose", "k": "no-kill", "i": "input",
}  # fmt: skip
_FLAGS = frozenset(("hold", "requeue", "no-requeue", "quiet", "oversubscribe", "verbose", "no-kill", "exclusive"))
_OPTIONAL = frozenset(("nice", "exclusive", "no-kill"))
"""Long options that may stand without a value."""

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_NOW_PLUS = re.compile(r"now\s*\+\s*([0-9]{1,9})\s*(second|minute|hour|day|week)?s?\Z")
_CLOCK_12 = re.compile(r"(1[0-2]|0?[1-9]):([0-5][0-9])\s*([AP])M\Z", re.IGNORECASE)


@dataclass(slots=True)
class _Found:
    """What the options said so far."""

    fields: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ntasks: int = 1
    cpus: int = 1
    mem_per_cpu: int | None = None
    requeue: bool = False


def read_sbatch(
    lines: Iterable[tuple[int, str]], file: str, nb_proc: int | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Fields of Options, and notes, from `(line number, what stands behind #SBATCH)`. JobFileError.

    `nb_proc`, if #QM gave one, stands for the product of tasks and their processors.
    """
    found = _Found()
    for number, text in lines:
        where = f"{file}, line {number}"
        try:
            words = shlex.split(text, comments=True)
        except ValueError as err:
            raise JobFileError(f"{where}: #SBATCH {text.strip()}: {err} (a quote is not closed?)") from err
        for name, value in _options(words, where, found):
            _take(name, value, where, found)
    if nb_proc is not None:
        found.ntasks, found.cpus = 1, nb_proc
    return _fields(found), tuple(found.notes)


def _options(words: list[str], where: str, found: _Found) -> Iterable[tuple[str, str]]:
    """Pairs of long name and value, "" for a flag."""
    rest = deque(words)
    while rest:
        word = rest.popleft()
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            takes_next = not equals and name not in _FLAGS and name not in _OPTIONAL
            if takes_next and rest and not rest[0].startswith("--" if name in _READERS else "-"):
                value = rest.popleft()
            yield name, value
        elif word.startswith("-") and len(word) > 1 and word[1] in _SHORT:
            name, value = _SHORT[word[1]], word[2:]
            if not value and name not in _FLAGS and rest:
                value = rest.popleft()
            yield name, value.removeprefix("=")
        else:
            found.notes.append(f"{where}: #SBATCH {word} is not known to QM and is ignored")


def _fields(found: _Found) -> dict[str, Any]:
    fields = found.fields
    width = found.ntasks * found.cpus
    if width > 1:
        fields["nb_proc"] = width
    if found.ntasks > 1:
        fields["ntasks"] = found.ntasks
    if found.mem_per_cpu is not None and "mem" not in fields:
        fields["mem"] = found.mem_per_cpu * width
    if found.requeue:
        fields |= {"attempts": 2, "retry_on": ()}
    if found.env:
        fields["env"] = tuple(found.env.items())
    return fields | {"slurm": True}


def _take(name: str, value: str, where: str, found: _Found) -> None:
    reader = _READERS.get(name)
    if reader is None:
        said = f"--{name}={value}" if value else f"--{name}"
        found.notes.append(f"{where}: #SBATCH {said} is not known to QM and is ignored")
        return
    try:
        reader(value, found)
    except ValueError as err:
        text = f"{where}: #SBATCH --{name} = {shortened(value)} is not understood; accepted: {err}"
        raise JobFileError(text) from err
    except LookupError as err:
        found.notes.append(f"{where}: #SBATCH --{name}={value}: {err.args[0]}")


# --- one reader an option: ValueError says what is accepted, LookupError what is ignored ---------------------


def _ntasks(value: str, found: _Found) -> None:
    found.ntasks = values.positive(value)


def _cpus(value: str, found: _Found) -> None:
    found.cpus = values.positive(value)


def _megabytes(value: str) -> int:
    return values.memory(value + "M" if value[-1:].isdigit() else value)


def _mem(value: str, found: _Found) -> None:
    if value == "0":
        raise LookupError("all the memory of a machine is not kept for one job; ignored")
    found.fields["mem"] = _megabytes(value)


def _mem_per_cpu(value: str, found: _Found) -> None:
    found.mem_per_cpu = _megabytes(value)


def _time(value: str, found: _Found) -> None:
    limit = 0.0 if value.upper() in ("UNLIMITED", "INFINITE") else values.slurm_seconds(value)
    found.fields["wall_time"] = limit or None  # sbatch(1): zero requests that no limit be imposed


def _array(value: str, found: _Found) -> None:
    found.fields["array"] = values.array(value)


def _dependency(value: str, found: _Found) -> None:
    after: list[str] = []
    ignored: list[str] = []
    for part in re.split(r"[,?]", value):
        kind, *jobs = part.split(":")
        jobs = [job.partition("+")[0] for job in jobs]
        if kind in ("afterok", "afterany") and jobs and all(jobs):
            after += [job if kind == "afterok" else f"afterany:{job}" for job in jobs]
        else:
            ignored.append(part)
    if after:
        found.fields["after"] = tuple(after)
    if ignored:
        raise LookupError(f"only afterok:ID and afterany:ID are known to QM; {', '.join(ignored)} is ignored")


def _text(name: str) -> Any:
    def take(value: str, found: _Found) -> None:
        if not value:
            raise ValueError("a value")
        found.fields[name] = values.path(value)

    return take


def _mail_type(value: str, found: _Found) -> None:
    known: dict[str, tuple[str, ...]] = {
        "BEGIN": ("start",),
        "END": ("end",),
        "FAIL": ("fail",),
        "NONE": ("none",),
        "ALL": ("start", "end", "fail"),
    }
    kinds = [kind.strip().upper() for kind in value.split(",")]
    types = tuple(dict.fromkeys(one for kind in kinds for one in known.get(kind, ())))
    if types:
        found.fields["mail_type"] = types
    if ignored := [kind for kind in kinds if kind not in known]:
        raise LookupError(f"{', '.join(ignored)} is not known to QM and is ignored")


def _mail_user(value: str, found: _Found) -> None:
    found.fields["e_mail"] = value  # sbatch(1) takes a user's name, too


def _nice(value: str, found: _Found) -> None:
    found.fields["priority"] = -values.whole(value) if value else -100  # sbatch(1): 100 when no value is given


def _requeue(_value: str, found: _Found) -> None:
    found.requeue = True


def _no_requeue(_value: str, found: _Found) -> None:
    found.requeue = False


def _hold(_value: str, found: _Found) -> None:
    found.fields["hold"] = True


def _begin(value: str, found: _Found) -> None:
    relative = _NOW_PLUS.match(value)
    half_day = _CLOCK_12.match(value)
    if relative:
        text = f"+{int(relative[1]) * _UNITS[relative[2] or 'second']}s"
    elif half_day:
        text = f"{int(half_day[1]) % 12 + (12 if half_day[3].upper() == 'P' else 0):02}:{half_day[2]}"
    else:
        text = {"midnight": "00:00", "noon": "12:00", "teatime": "16:00"}.get(value, value)
    found.fields["begin"] = values.begin(text)


def _export(value: str, found: _Found) -> None:
    ignored = []
    for part in value.split(","):
        name, equals, text = part.partition("=")
        if equals and name:
            found.env[name] = text
        elif part not in ("ALL", ""):
            ignored.append(part)
    if ignored:
        raise LookupError(f"the daemon's environment is passed on whole; {', '.join(ignored)} is ignored")


def _gres(value: str, found: _Found) -> None:
    for part in value.split(","):
        name, *details = part.split(":")
        if name not in ("gpu", "gres/gpu"):
            raise LookupError(f"only gpu is known to QM; {part} is ignored")
        _gpus(":".join(details) or "1", found)


def _gpus(value: str, found: _Found) -> None:
    found.fields["gpus"] = values.natural(value.rpartition(":")[2])


_READERS = {
    "ntasks": _ntasks,
    "cpus-per-task": _cpus,
    "mem": _mem,
    "mem-per-cpu": _mem_per_cpu,
    "time": _time,
    "array": _array,
    "dependency": _dependency,
    "output": _text("output"),
    "error": _text("error"),
    "job-name": _text("job_name"),
    "comment": _text("info"),
    "chdir": _text("chdir"),
    "mail-user": _mail_user,
    "mail-type": _mail_type,
    "nice": _nice,
    "requeue": _requeue,
    "no-requeue": _no_requeue,
    "hold": _hold,
    "begin": _begin,
    "export": _export,
    "gres": _gres,
    "gpus": _gpus,
}
