"""What the script of a job of a class runs: `python /path/of/qm/api/runjob.py`, inside the job's folder.

    exit status 0    `execute` returned; what it returned is in result.json
    1                it raised an exception; the traceback is in the log
    75               it deferred itself: QM runs it again
    78               its class cannot be loaded or made, or its job file is wrong: the last line of the log says what

Invariant: a person who reads the log sees tracebacks of the job's own code, and sentences for everything else.
"""

from __future__ import annotations

import sys

if not __package__:  # run by its path: `qm` need not be installed, and `import queue` must not find the file here
    _here = __file__.rpartition("/")[0]
    sys.path[:] = [__file__.rpartition("/qm/api/")[0] or "/", *(entry for entry in sys.path if entry != _here)]

import contextlib
import json
import logging
import os
import traceback
from typing import Any

from qm.api.classes import ClassNotFound, own_frames
from qm.api.job import LOG_FORMAT, Context, Deferred, Job, job_class
from qm.api.jobdata import NO_RESULT, RESULT, job_section
from qm.api.where import Spot
from qm.spool.dot import MAX_RECORD
from qm.spool.files import read_regular, write_whole
from qm.spool.paths import JobPaths
from qm.vocabulary.errors import EX_CONFIG, EX_DONE, EX_FAILED, EX_TEMPFAIL, ConfigError
from qm.vocabulary.record import Record, load
from qm.vocabulary.states import State

_LONGEST = 150


def main() -> int:
    """Run the job in whose folder this was started; returns the exit status."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # the log is followed
    logging.basicConfig(stream=sys.stdout, format=LOG_FORMAT)
    os.environ["QM_WORKER"] = "1"  # a Pool in here must not wait for processors that this job holds: launcher="local"
    folder = os.environ.get("QM_JOB_DIR") or os.getcwd()
    say(folder, "")  # what an earlier run said
    try:
        job, context = prepared(folder)
    except (ConfigError, ClassNotFound, TypeError) as err:
        if isinstance(err.__cause__, Exception) and (trace := own_frames(err.__cause__.__traceback__)):
            traceback.print_exception(type(err.__cause__), err.__cause__, trace)
        print(f"QM: {err}", file=sys.stderr, flush=True)
        say(folder, str(err))
        return EX_CONFIG
    return run(job, context)


def prepared(folder: str) -> tuple[Job, Context]:
    """The job that lies in a folder, and which run of it this is. ConfigError, ClassNotFound, TypeError."""
    record = _record(folder)
    name = record.job_file if record is not None else ""
    section = job_section(folder, name)
    file = f"{folder}/{name or 'the job file'}"
    if not section.get("class"):
        raise ConfigError(f"{file}: below [Job] there is no key `class`; write class : module:Class")
    kwargs, path = _json(section, "kwargs", {}, file), _json(section, "path", [], file)
    sys.path[:] = list(dict.fromkeys([folder, *map(str, path), *sys.path]))
    where = Spot(os.environ["QM_FOLDER"], (name,)) if os.environ.get("QM_FOLDER") and name else None
    context = Context(
        where=where,
        folder=folder,
        id=record.id if record is not None else "",
        name=record.name if record is not None else os.path.basename(folder),
        parent=section.get("parent", ""),
        trial=trial_of(record) if record is not None else 1,
        kwargs=kwargs,
        progress_file=os.environ.get("QM_PROGRESS", ""),
    )
    cls = job_class(section["class"], folder)
    try:
        job = cls()
    except Exception as err:  # the class's own code
        raise ClassNotFound(f"an object of {section['class']} cannot be made: {type(err).__name__}: {err}") from err
    job._given = context
    return job, context


def run(job: Job, context: Context) -> int:
    """Execute it and keep its result; returns the exit status."""
    for old in (RESULT, NO_RESULT):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{context.folder}/{old}")
    try:
        value = job.execute(**context.kwargs)
    except Deferred as err:
        job.logger.info("deferred: %s", err)
        say(context.folder, str(err))
        return EX_TEMPFAIL
    except Exception as err:  # noqa: BLE001 (whatever the job's own code raises)
        sys.stdout.flush()
        trace = own_frames(err.__traceback__)
        traceback.print_exception(type(err), err, trace)
        say(context.folder, f"{type(err).__name__}: {err}")
        return EX_FAILED
    if value is not None:
        keep(job, context, value)
    return EX_DONE


def say(folder: str, text: str) -> None:
    """Why this run did not end well, for the job's record: the first line, cut short. A full disk keeps nothing."""
    line = next(iter(text.strip().splitlines()), "")[:_LONGEST]
    with contextlib.suppress(OSError):
        write_whole(JobPaths(folder).said, line.encode(errors="replace"))


def keep(job: Job, context: Context, value: Any) -> None:
    """Write result.json; what JSON cannot hold is named in the log, and to whoever asks for it. Raises OSError (a full
    disk)."""
    try:
        data = json.dumps(value).encode()
    except (TypeError, ValueError, RecursionError) as err:
        text = f"what execute returned, a {type(value).__name__}, is not kept, for JSON cannot hold it: {err}"
        job.logger.warning("%s", text)
        write_whole(f"{context.folder}/{NO_RESULT}", text.encode(errors="replace") + b"\n")
        return
    write_whole(f"{context.folder}/{RESULT}", data + b"\n")


def trial_of(record: Record) -> int:
    """Which run this is: all that ended before count, but not the starts that were void."""
    return 1 + sum(run.state != State.PENDING.value for run in record.history)


def _record(folder: str) -> Record | None:
    try:
        return load(read_regular(JobPaths(folder).record, MAX_RECORD))
    except OSError:
        return None


def _json(section: dict[str, str], key: str, default: Any, file: str) -> Any:
    text = section.get(key)
    if text is None:
        return default
    try:
        value = json.loads(text)
    except ValueError as err:
        raise ConfigError(f"{file}: {key} : {text[:200]} is no JSON ({err})") from err
    if type(value) is not type(default):
        raise ConfigError(f"{file}: {key} : {text[:200]} must be a JSON {'object' if default == {} else 'list'}")
    return value


if __name__ == "__main__":
    sys.exit(main())
