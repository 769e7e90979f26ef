"""What a job file may say: one table of keys, and the options that come of it.

Invariant: every key stands once in KEYS, with its reader, its default and its meaning; reading, checking,
`qm set`, the suggestions for slips and the table in the docs all use that. Options is a value with no
text left in it that could be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from qm.vocabulary import values
from qm.vocabulary.errors import JobFileError


@dataclass(frozen=True, slots=True)
class Options:
    """What a job asks for. Times are seconds, memory is bytes.

    `interpreter`, when there is one, runs the file `script` (a job.sh). `retry_on` None means after any exit
    status, () after none (only when the machine was lost). `slurm` says that #SBATCH options were read;
    `ntasks` of the processors' product is only for SLURM_NTASKS.
    """

    script: str = ""
    interpreter: tuple[str, ...] = ()
    nb_proc: int = 1
    mem: int | None = None
    gpus: int = 0
    e_mail: str = ""
    mail_type: tuple[str, ...] = ("end",)
    info: str = ""
    size: str = ""
    priority: int = 0
    wall_time: float | None = None
    attempts: int = 1
    retry_on: tuple[int, ...] | None = None
    error_time: float = 600.0
    error_backoff: float = 1.0
    defer_time: float = 300.0
    defer_max: float = 3600.0
    zombie_time: float | None = None
    zombie_kill: bool = False
    group: str = ""
    max_parallel: int | None = None
    after: tuple[str, ...] = ()
    array: str = ""
    begin: str = ""
    hold: bool = False
    chdir: str = ""
    output: str = ""
    error: str = ""
    launcher: str = ""
    then: str = ""
    on_failure: str = ""
    schedule: str = ""
    overlap: bool = False
    env: tuple[tuple[str, str], ...] = ()
    job_name: str = ""
    slurm: bool = False
    ntasks: int = 1


@dataclass(frozen=True, slots=True)
class Key:
    """One key: how its value is read, what it is without it, what it means, and whether it is obeyed yet."""

    name: str
    read: Callable[[str], Any]
    default: str
    meaning: str
    obeyed: bool = True


KEYS = (
    Key("script", values.line, "required", "the command, run by the shell inside the job folder"),
    Key("nb_proc", values.positive, "1", "processors; more than MaxNbProcessors is lowered to it"),
    Key("mem", values.memory, "none", "memory limit: 512M, 2G"),
    Key("gpus", values.natural, "0", "how many GPUs"),
    Key("e_mail", values.address, "none", "who is told (e-mail in info.xml)", obeyed=False),
    Key("mail_type", values.mail_types, "end", "when: end, fail, start, none, digest", obeyed=False),
    Key("info", values.line, "empty", "a description, shown in lists"),
    Key("size", values.line, "none", "shown in lists"),
    Key("priority", values.whole, "0", "higher first, may be negative"),
    Key("wall_time", values.seconds, "none", "how long it may run: 90, 15m, 01:30:00, 2-00:00:00"),
    Key("attempts", values.positive, "1", "how often to try at most"),
    Key("retry_on", values.statuses, "any", "try again only after these exit statuses"),
    Key("error_time", values.seconds, "600", "wait before the next attempt, after a failure or a timeout"),
    Key("error_backoff", values.factor, "1", "what multiplies error_time each time"),
    Key("defer_time", values.seconds, "300", "wait before the next run after exit status 75"),
    Key("defer_max", values.seconds, "3600", "after so long of deferring: inactive"),
    Key("zombie_time", values.seconds, "none", "flagged after so long without output and CPU"),
    Key("zombie_kill", values.boolean, "no", "end it then"),
    Key("group", values.line, "none", "the group that max_parallel counts"),
    Key("max_parallel", values.positive, "none", "how many jobs of this group (without one: of this name) at a time"),
    Key("after", values.after, "none", "names or ids that must be done first; afterany:NAME"),
    Key("array", values.array, "none", "tasks: 0-99, 1-9:2, 1,5,7, 0-99%4"),
    Key("begin", values.begin, "now", "not before: 22:00, +2h, 2026-01-31T22:00"),
    Key("hold", values.boolean, "no", "arrives as held"),
    Key("chdir", values.path, "the job folder", "where the script runs"),
    Key("output", values.path, "process.log", "another file for standard output"),
    Key("error", values.path, "process.log", "another file for standard error"),
    Key("launcher", values.one_of("local", "slurm", "gridengine"), "launch_type", "who runs it", obeyed=False),
    Key("then", values.line, "none", "queue this template when it is done", obeyed=False),
    Key("on_failure", values.line, "none", "queue this template when it is not", obeyed=False),
    Key("schedule", values.line, "none", "when to repeat it", obeyed=False),
    Key("overlap", values.boolean, "no", "repeat it even while the last one runs", obeyed=False),
)

_BY_NAME = {key.name: key for key in KEYS}
_ALIASES = {"e-mail": "e_mail", "email": "e_mail"}
_ENV = "env_"

MOST_STRANGE = 20
"""Unknown keys that are compared with the known ones: that is slow, and whoever has more means them."""

Given = tuple[str, str, int]
"""A key, its value, and the line it stands on (0: no line)."""


def read_options(given: Iterable[Given], file: str) -> tuple[Options, tuple[str, ...]]:
    """The options of a job file, and notes on keys that are nearly known. JobFileError for what cannot be read."""
    found: dict[str, Any] = {}
    env: dict[str, str] = {}
    notes: list[str] = []
    strange: set[str] = set()
    for key, value, line in given:
        where = f"{file}, line {line}" if line else file
        name = _canonical(key)
        if name in _BY_NAME:
            if name in found:
                raise JobFileError(f"{where}: key {key!r} stands twice")
            found[name] = _read(_BY_NAME[name], value, where)
        elif key[:4].lower() == _ENV and len(key) > 4:
            env[key[4:]] = _variable(key, value, where)
        elif len(strange) < MOST_STRANGE and name not in strange:
            strange.add(name)
            if (meant := _nearly(name)) is None:
                continue
            notes.append(f"{where}: key {key!r} is not known to QM; did you mean {meant}?")
    if not found.get("script", "").strip():
        raise JobFileError(f"{file}: there is no script; say what to run: `script : python process.py`")
    return Options(**found, env=tuple(env.items())), tuple(notes)


def with_overrides(options: Options, overrides: Mapping[str, str]) -> Options:
    """The options under what `qm set key=value` said; `key=` sets its default.

    JobFileError for an unknown key or a wrong value.
    """
    found: dict[str, Any] = {}
    env = dict(options.env)
    for key, value in overrides.items():
        name = _canonical(key)
        if name in _BY_NAME and name != "script" and not value.strip():
            found[name] = getattr(_DEFAULTS, name)  # `key=` takes it back to what it is without it
        elif name in _BY_NAME:
            found[name] = _read(_BY_NAME[name], value, "set")
        elif key[:4].lower() == _ENV and len(key) > 4:
            env[key[4:]] = _variable(key, value, "set")
        else:
            meant = _nearly(name)
            hint = f"did you mean {meant}?" if meant else f"known: {', '.join(_BY_NAME)}, env_NAME"
            raise JobFileError(f"set: key {key!r} is not known; {hint}")
    if "script" in found:
        if not found["script"].strip():
            raise JobFileError("set: script must not be empty")
        found["interpreter"] = ()
    return replace(options, **found, env=tuple(env.items()))


def _canonical(key: str) -> str:
    name = key.lower()
    return _ALIASES.get(name, name)


def _read(key: Key, value: str, where: str) -> Any:
    try:
        if not _is_text(value):
            raise ValueError("text without NUL characters and halves of characters")
        if key.default in ("none", "any") and value.strip().lower() == key.default:
            return getattr(_DEFAULTS, key.name)
        return key.read(value)
    except ValueError as err:
        raise JobFileError(f"{where}: {key.name} = {shortened(value)} is not understood; accepted: {err}") from err


def _variable(key: str, value: str, where: str) -> str:
    if "=" in key or not _is_text(key + value):
        raise JobFileError(f"{where}: {key!r} cannot be an environment variable")
    return value


def _is_text(value: str) -> bool:
    """Can a file or an argument hold it? (Undecodable bytes, PEP 383, are fine.)"""
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def shortened(value: str) -> str:
    """A value as messages quote it."""
    return repr(value if len(value) <= 80 else value[:77] + "...")


def _nearly(name: str) -> str | None:
    """The key that was probably meant. What is another key with other words around it is the user's own."""
    from difflib import get_close_matches  # slow to import, and rarely needed

    squeezed = name.replace("-", "_").replace(" ", "_")
    if squeezed in _BY_NAME:
        return squeezed
    joined = {key.replace("_", ""): key for key in _BY_NAME}
    if squeezed.replace("_", "") in joined:
        return joined[squeezed.replace("_", "")]
    close = get_close_matches(squeezed, _BY_NAME, n=1, cutoff=0.8)
    return close[0] if close and len(squeezed) > 3 else None


_DEFAULTS = Options()
_NOT_OBEYED = tuple(key.name for key in KEYS if not key.obeyed)
_FIELDS = tuple(Options.__dataclass_fields__)
_values = attrgetter(*_FIELDS)
_DEFAULT_VALUES = _values(_DEFAULTS)
_TUPLES = {"interpreter": str, "mail_type": str, "retry_on": int, "after": str}
_LEAST = {"nb_proc": 1, "attempts": 1, "ntasks": 1, "gpus": 0, "mem": 1, "max_parallel": 1}
_LEAST |= {"error_backoff": 1, "error_time": 0, "wall_time": 0, "defer_time": 0, "defer_max": 0, "zombie_time": 0}
_MOST = {"float": 1e12, "int": values.MAX_MEMORY}
_TEXTS = {"array": values.array, "begin": values.begin}
"""Texts that are read again when they are needed: one in a record must be as good as one in a job file."""


def not_obeyed(options: Options) -> list[str]:
    """The keys that were given, but that this version only keeps."""
    return [name for name in _NOT_OBEYED if getattr(options, name) != getattr(_DEFAULTS, name)]


def to_json(options: Options) -> dict[str, Any]:
    """What differs from the defaults."""
    given = zip(_FIELDS, _values(options), _DEFAULT_VALUES, strict=True)
    return {name: value for name, value, default in given if value != default}


def from_json(raw: Mapping[str, Any]) -> Options:
    """Options from what to_json gave; names unknown to this version are left out. TypeError on nonsense."""
    found = {name: value for name, value in raw.items() if name in _FIELDS}
    for name in found:
        found[name] = _restored(name, found[name])
    return Options(**found)


def _restored(name: str, value: Any) -> Any:
    """A field's value from JSON; ValueError if it is of another kind, or smaller than any reader allows."""
    kind, _, optional = str(Options.__dataclass_fields__[name].type).partition(" | ")
    if value is None and optional:
        return None
    if name == "env":
        return tuple((str(variable), str(text)) for variable, text in value)
    if name in _TUPLES and isinstance(value, list | tuple):
        good, value = all(type(item) is _TUPLES[name] for item in value), tuple(value)
    elif kind in _MOST:
        good = type(value) is int or (kind == "float" and type(value) is float)
        good = good and _LEAST.get(name, -_MOST[kind]) <= value <= _MOST[kind]  # false for nan, too
    else:
        good = type(value).__name__ == kind
        if good and value and name in _TEXTS:
            good = _TEXTS[name](value) == value
    if not good:
        raise ValueError(f"{name} cannot be {shortened(repr(value))}")
    return value
