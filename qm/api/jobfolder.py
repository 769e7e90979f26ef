"""The folder of a job of a class: its job file, and its way into the queue.

    [QMOptions]
    script : /usr/bin/python3 /usr/lib/python3/dist-packages/qm/api/runjob.py
    nb_proc : 2

    [Job]
    class : primes:PrimeJob
    kwargs : {"start": 1, "end": 1000}
    author : me
    parent : k3v7qhx2mzpa
    path : ["/home/me", "/usr/lib/python3.11"]

Invariant: a child stands in `children.jsonl` of its parent's folder before it comes into view in the queue, so no
crash makes a parent forget one. Such a folder can be written by hand, too.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from qm.api.classes import Reference
from qm.api.crewfile import environment
from qm.api.where import Spot
from qm.spool.files import exists, free_name, read_regular, write_all
from qm.spool.paths import JobPaths, SpoolPaths
from qm.spool.submission import Submitted, give_id, hidden_name, into_view, tidy_name, write_new
from qm.vocabulary.errors import ConfigError, QMError
from qm.vocabulary.jobfile import MAX_JOB_FILE, SECTION
from qm.vocabulary.options import Options, with_overrides
from qm.vocabulary.text import printable

OPTIONS = (
    "nb_proc mem gpus wall_time attempts retry_on error_time error_backoff defer_time defer_max zombie_time "
    "zombie_kill priority group max_parallel schedule info e_mail mail_type"
).split()
"""The attributes of a class that are keys of a job file."""
CHILDREN = "children.jsonl"
_MOST_CHILDREN = 1 << 28
_LONGEST_INFO = 120
_log = logging.getLogger("qm")
_RUNNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "runjob.py")


class ClassOptions(NamedTuple):
    """What the attributes of a class say: as lines of a job file, and read."""

    lines: Mapping[str, str]
    read: Options


def class_options(cls: type, label: str) -> ClassOptions:
    """The options of a class. ValueError names the attribute, its value and what would be right."""
    from qm.api.queue import job_options  # loads more than a job needs that enqueues nothing

    _tell_slips(cls)
    given = {name: value for name in OPTIONS if (value := getattr(cls, name, None)) is not None}
    if "max_parallel" in given and "group" not in given:
        given["group"] = label
    try:
        lines = job_options(**given)
    except ValueError as err:
        raise ValueError(f"{cls.__name__}: {str(err).removeprefix('option ')}") from err
    return ClassOptions(lines, with_overrides(Options(script="true"), lines))


def _tell_slips(cls: type) -> None:
    """Log a warning for an attribute that is nearly one that QM knows. It may be the class's own, so it is no error."""
    from difflib import get_close_matches

    known = {name.replace("_", ""): name for name in (*OPTIONS, "author")}
    for name, value in vars(cls).items():
        if name.startswith("_") or name in known.values() or callable(value) or hasattr(value, "__get__"):
            continue
        if close := get_close_matches(name.replace("_", "").lower(), known, n=1, cutoff=0.85):
            meant = known[close[0]]
            _log.warning("%s.%s means nothing to QM; did you mean %s?", cls.__qualname__, name, meant)


def as_json(kwargs: Mapping[str, Any]) -> str:
    """The arguments of a job as one line. TypeError names the argument that JSON cannot hold, and its type."""
    for key, value in kwargs.items():
        _check(key, value)
    text = json.dumps(kwargs, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # halves of characters, as file names may have them (PEP 383)
        text = json.dumps(kwargs)
    return text


def job_text(reference: Reference, options: Mapping[str, str], kwargs: str, author: str, parent: str) -> bytes:
    """The job file. ValueError when it would be larger than a job file may be."""
    script = shlex.join([sys.executable or "python3", _RUNNER])
    own = os.environ.get("QM_JOB_DIR")  # of the job that enqueues: it will lie elsewhere
    path = json.dumps([os.path.abspath(entry) for entry in sys.path if isinstance(entry, str) and entry != own])
    info = printable(f"{reference.label} {kwargs}")[:_LONGEST_INFO]
    lines = [f"[{SECTION}]", f"script : {script}"]
    lines += [f"{key} : {value}" for key, value in {"info": info, **options}.items()]
    lines += ["", "[Job]", f"class : {reference.text}"]
    lines += [f"{key} : {printable(value)}" for key, value in {"author": author, "parent": parent}.items() if value]
    lines += [f"kwargs : {kwargs}", f"path : {path}", ""]
    data = "\n".join(lines).encode(errors="surrogateescape")
    if len(data) > MAX_JOB_FILE:
        raise ValueError(
            f"the arguments of {reference.label} make a job file of {len(data)} bytes, more than the {MAX_JOB_FILE} "
            "that one may have; put the data into a file, and give the file's name"
        )
    return data


def submit_job(
    where: Spot, wanted: str, job_file: bytes, files: Mapping[str, bytes], announce: Callable[[str, str], None]
) -> Submitted:
    """Make the folder, `announce` its id and name, and bring it into the queue. QMError when that fails.

    It is announced once more if another client takes the name in the same moment.
    """
    paths = SpoolPaths(where.root)
    hidden, job_id = hidden_name(paths)
    job = JobPaths(hidden)
    try:
        os.makedirs(job.dot)
        for name, data in {job_file_name(where): job_file, **files}.items():
            write_new(f"{hidden}/{name}", data, 0o644)
        write_new(job.environment, environment({}), 0o600)
        give_id(job, job_id)
        name = name_free_everywhere(paths, tidy_name(wanted, "job"))
        announce(job_id, name)
        taken = into_view(paths, hidden, name)
    except OSError as err:
        shutil.rmtree(hidden, ignore_errors=True)
        raise QMError(f"cannot make a job in {where.root}: {err.strerror}") from err
    if taken != name:
        announce(job_id, taken)
    return Submitted(taken, job_id)


def job_file_name(where: Spot) -> str:
    """Under which name that spool's daemon reads an INI file. ConfigError if under none."""
    for name in where.job_files:
        if not name.lower().endswith((".sh", ".xml")):
            return name
    names = ", ".join(where.job_files)
    raise ConfigError(f"jobs of classes need a job file of the form of proc_config.cfg; job_file allows only {names}")


def name_free_everywhere(paths: SpoolPaths, wanted: str) -> str:
    """`wanted`, or `wanted.2`, …: a name that no folder has in any of the four places, so that it keeps it."""
    places = list(paths.places.values())
    name = max((free_name(place, wanted) for place in places), key=lambda free: (len(free), free))
    while any(exists(f"{place}/{name}") for place in places):
        stem, _, number = name.rpartition(".")
        name = f"{stem}.{int(number) + 1}" if stem and number.isdigit() else f"{name}.2"
    return name


def note_child(folder: str, job_id: str, name: str) -> None:
    """Write down in a parent's folder that it has this child. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    fd = os.open(f"{folder}/{CHILDREN}", flags, 0o644)
    try:
        write_all(fd, json.dumps({"id": job_id, "name": name}).encode() + b"\n")
    finally:
        os.close(fd)


def children_of(folder: str) -> dict[str, str]:
    """The children noted in a folder, oldest first: id and name. A line that a crash cut off is passed over."""
    try:
        data = read_regular(f"{folder}/{CHILDREN}", _MOST_CHILDREN)
    except OSError:
        return {}
    found = {}
    for line in data.split(b"\n"):
        try:
            entry = json.loads(line)
            found[str(entry["id"])] = str(entry["name"])
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _check(where: str, value: Any) -> None:
    """TypeError unless JSON gives back what it is given (tuples come back as lists)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}, a {type(key).__name__}; in JSON all keys are texts")
            _check(f"{where}[{key!r}]", inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _check(f"{where}[{number}]", inner)
    elif not (value is None or isinstance(value, str | int | float)):
        raise TypeError(
            f"argument {where} is a {type(value).__name__}; the arguments of a job are kept as JSON: "
            "texts, numbers, True, False, None, and lists and dicts of these"
        )
