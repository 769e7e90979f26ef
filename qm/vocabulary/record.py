"""The record: what QM knows about one job, kept as `.qm/job.json` inside the job's folder.

Invariant: a record is a value. It is replaced as a whole, never changed in part, and what it says about
the state only explains the folder in which the job lies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple

from qm.vocabulary import options as option_table
from qm.vocabulary.errors import JobFileError
from qm.vocabulary.options import Options
from qm.vocabulary.states import Place, State
from qm.vocabulary.values import MAX_TASKS

FORMAT = 1


class Survey(NamedTuple):
    """What a folder's tree looked like: enough to see that something in it changed (times in ns)."""

    entries: int = 0
    size: int = 0
    mtime: int = 0
    ctime: int = 0


class Run(NamedTuple):
    """One ended attempt, as the history keeps it. Times are UTC epoch seconds."""

    attempt: int
    started: float | None
    finished: float | None
    state: str
    reason: str = ""
    exit_status: int | None = None
    signal: int | None = None


class Dependency(NamedTuple):
    """One job that must come first (key `after`), bound once to an id, which is "" until a job of that name is there.

    `any_end` is afterany: ended in whatever way is enough. `met`: nothing more is waited for.
    """

    name: str
    id: str = ""
    any_end: bool = False
    met: bool = False


class Tasks(NamedTuple):
    """How far an array is: how many tasks it has, how many are done, failed (for good) and running.

    `earlier` is how many of those done were done before the last `qm retry`.
    """

    total: int
    done: int = 0
    failed: int = 0
    running: int = 0
    earlier: int = 0


class Task(NamedTuple):
    """What is run once: a whole job (`number` None), or one task of its array. `attempt` counts its starts from 1."""

    job_id: str
    number: int | None
    attempt: int

    @property
    def key(self) -> str:
        """What tells it from everything else that runs: the job's id, for a task of an array `id.7`."""
        return self.job_id if self.number is None else f"{self.job_id}.{self.number}"

    @property
    def label(self) -> str:
        """What its files are called: `1` for the first attempt of a job, `7.1` for that of an array's task 7."""
        return str(self.attempt) if self.number is None else f"{self.number}.{self.attempt}"


_NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})
_NO_OPTIONS = Options()


class Record(NamedTuple):
    """One job. Times are UTC epoch seconds, memory is bytes, processors are CPU numbers.

    `ending` is the event by which QM is ending a job that is still active, or `resume` for a paused one that
    waits for processors to go on, else "". Nothing is started before `not_before`. `deferred` is for how many seconds
    it has been deferred in a row, `retried` how many runs of the history lie before the last `qm retry`. `wall_end` is
    when its wall_time is over (monotonic seconds of the boot in `ticket`), `wall_left` what a paused one has left.
    `after` and `tasks` are what it waits for, and how far its array is. (A named tuple, since the daemon makes five of
    them for each job, and a frozen dataclass takes four times as long.)
    """

    id: str
    name: str
    owner: str
    state: State
    submitted: float
    reason: str = ""
    ending: str = ""
    started: float | None = None
    finished: float | None = None
    attempt: int = 0
    exit_status: int | None = None
    signal: int | None = None
    nb_proc: int = 1
    processors: tuple[int, ...] = ()
    gpus: tuple[int, ...] = ()
    launcher: str = "local"
    ticket: str = ""
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    job_file: str = ""
    options: Options = _NO_OPTIONS
    overrides: Mapping[str, str] = _NO_OVERRIDES
    notes: tuple[str, ...] = ()
    tree: Survey = Survey()
    history: tuple[Run, ...] = ()
    not_before: float | None = None
    deferred: float = 0.0
    retried: int = 0
    wall_end: float | None = None
    wall_left: float | None = None
    after: tuple[Dependency, ...] = ()
    tasks: Tasks | None = None

    @property
    def effective(self) -> Options:
        """The options that count: the job file's, under what `qm set` said."""
        return option_table.with_overrides(self.options, self.overrides) if self.overrides else self.options


class Job(NamedTuple):
    """A record and where its folder lies: `folder` is its name there, `record.name` the name submitted."""

    place: Place
    folder: str
    record: Record


_PLAIN = tuple(
    "id name owner submitted reason ending started finished attempt exit_status signal nb_proc "
    "launcher ticket cpu_seconds peak_memory job_file processors gpus notes tree".split()
)
_RARE = {name: Record._field_defaults[name] for name in "not_before deferred retried wall_end wall_left tasks".split()}
"""Left out where they say nothing: five records are written for each job."""
_plain_values = attrgetter(*_PLAIN)
_rare_values = attrgetter(*_RARE)
_NOTHING_RARE = tuple(_RARE.values())
_encode = json.JSONEncoder(check_circular=False).encode


def to_json(record: Record) -> dict[str, Any]:
    """The record as plain JSON values, in the order a person would read them."""
    data: dict[str, Any] = {"format": FORMAT, "state": record.state.value}
    data.update(zip(_PLAIN, _plain_values(record), strict=True))
    data["options"] = option_table.to_json(record.options)
    data["overrides"] = dict(record.overrides)
    if (rare := _rare_values(record)) != _NOTHING_RARE:
        data.update({name: value for name, value in zip(_RARE, rare, strict=True) if value != _RARE[name]})
    if record.after:
        data["after"] = [dependency._asdict() for dependency in record.after]
    data["history"] = [run._asdict() for run in record.history]
    return data


def dump(record: Record) -> bytes:
    """The bytes of job.json."""
    return _encode(to_json(record)).encode() + b"\n"


def load(data: bytes) -> Record | None:
    """The record in these bytes, or None: an unreadable record counts as none."""
    try:
        raw = json.loads(data)
        if raw["format"] != FORMAT:
            return None
        return _from_json(raw)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, JobFileError):
        return None


def _from_json(raw: dict[str, Any]) -> Record:
    plain = {name: raw[name] for name in (*_PLAIN, *_RARE) if name in raw}
    for name in ("processors", "gpus", "notes"):
        plain[name] = tuple(plain.get(name, ()))
    plain["tree"] = Survey(*map(int, plain.get("tree", ())))
    plain["tasks"] = Tasks(*map(int, plain["tasks"])) if plain.get("tasks") else None
    overrides = {str(key): str(value) for key, value in raw.get("overrides", {}).items()}
    record = Record(
        state=State(raw["state"]),
        options=option_table.from_json(raw["options"]) if raw.get("options") else _NO_OPTIONS,
        overrides=overrides or _NO_OVERRIDES,
        after=tuple(_dependency(one) for one in raw.get("after", ())),
        history=tuple(Run(**{name: run.get(name) for name in Run._fields}) for run in raw.get("history", ())),
        **plain,
    )
    _check(record)
    return record


def _dependency(raw: Mapping[str, Any]) -> Dependency:
    return Dependency(str(raw["name"]), str(raw["id"]), bool(raw["any_end"]), bool(raw["met"]))


def _check(record: Record) -> None:
    """A record lies where its job may write: nothing in it may end the daemon or lead out of the spool. ValueError."""
    texts = (record.owner, record.reason, record.ending, record.launcher, record.ticket, record.job_file, *record.notes)
    times = [record.submitted, record.started, record.finished, record.not_before, record.deferred]
    times += [record.wall_end, record.wall_left]
    for run in record.history:
        times += [run.started, run.finished]
        texts += (run.state, run.reason)
    whole = (record.exit_status, record.signal, record.peak_memory)
    good = (
        record.id.isascii()
        and record.id.isalnum()
        and record.name not in ("", ".", "..")
        and not {"/", "\0"} & set(record.name)
        and len(record.name.encode(errors="surrogateescape")) < 256
        and all(isinstance(text, str) for text in texts)
        and all(isinstance(when, int | float) for when in (record.submitted, record.deferred))
        and all(when is None or 0 <= when < 1e11 for when in times)  # false for nan, too
        and all(number is None or type(number) is int for number in whole)
        and all(type(number) is int and 0 <= number < 1 << 31 for number in (*record.processors, *record.gpus))
        and type(record.attempt) is type(record.nb_proc) is int
        and type(record.retried) is int
        and min(record.attempt, record.retried) >= 0
        and record.nb_proc >= 1
        and (record.cpu_seconds is None or record.cpu_seconds >= 0)
        and (record.tasks is None or 0 <= min(record.tasks) <= max(record.tasks) <= MAX_TASKS)
    )
    if not good:
        raise ValueError("no record that QM wrote")
    _ = record.effective  # JobFileError if `qm set` said what this version does not understand
