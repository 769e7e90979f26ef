"""The record: what QM knows about one job, kept as `.qm/job.json` inside the job's folder.

Invariant: a record is a value. It is replaced as a whole, never changed in part, and what it says about
the state only explains the folder in which the job lies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qm.vocabulary import options as option_table
from qm.vocabulary.options import Options
from qm.vocabulary.states import Place, State

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Survey:
    """What a folder's tree looked like: enough to see that something in it changed (times in ns)."""

    count: int = 0
    size: int = 0
    mtime: int = 0
    ctime: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One ended attempt, as the history keeps it. Times are UTC epoch seconds."""

    attempt: int
    started: float | None
    finished: float | None
    state: str
    reason: str = ""
    exit_status: int | None = None
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One job. Times are UTC epoch seconds, memory is bytes, processors are CPU numbers.

    `ending` is the event by which QM is ending a job that is still active, else "".
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
    options: Options = field(default_factory=Options)
    overrides: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tree: Survey = field(default_factory=Survey)
    history: tuple[Run, ...] = ()

    @property
    def effective(self) -> Options:
        """The options that count: the job file's, under what `qm set` said."""
        return option_table.with_overrides(self.options, self.overrides) if self.overrides else self.options


@dataclass(frozen=True, slots=True)
class Job:
    """A record and where its folder lies: `folder` is its name there, `record.name` the name submitted."""

    place: Place
    folder: str
    record: Record


_PLAIN = (
    "id name owner submitted reason ending started finished attempt exit_status signal nb_proc "
    "launcher ticket cpu_seconds peak_memory job_file"
).split()
_RUN = tuple(Run.__dataclass_fields__)


def to_json(record: Record) -> dict[str, Any]:
    """The record as plain JSON values, in the order a person would read them."""
    data: dict[str, Any] = {"format": FORMAT, "state": record.state.value}
    for name in _PLAIN:
        data[name] = getattr(record, name)
    data["processors"] = record.processors
    data["gpus"] = record.gpus
    data["options"] = option_table.to_json(record.options)
    data["overrides"] = dict(record.overrides)
    data["notes"] = record.notes
    tree = record.tree
    data["tree"] = (tree.count, tree.size, tree.mtime, tree.ctime)
    data["history"] = [{name: getattr(run, name) for name in _RUN} for run in record.history]
    return data


_encode = json.JSONEncoder(check_circular=False).encode


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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _from_json(raw: dict[str, Any]) -> Record:
    plain = {name: raw[name] for name in _PLAIN if name in raw}
    if not (isinstance(plain["id"], str) and isinstance(plain["name"], str) and plain["id"]):
        raise ValueError("a record needs an id and a name")
    return Record(
        state=State(raw["state"]),
        processors=tuple(raw.get("processors", ())),
        gpus=tuple(raw.get("gpus", ())),
        options=option_table.from_json(raw.get("options", {})),
        overrides={str(key): str(value) for key, value in raw.get("overrides", {}).items()},
        notes=tuple(raw.get("notes", ())),
        tree=Survey(*map(int, raw.get("tree", ()))),
        history=tuple(Run(**{name: run.get(name) for name in _RUN}) for run in raw.get("history", ())),
        **plain,
    )
