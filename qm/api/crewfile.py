"""The job file and the environment of a crew's job, so that people and every program of QM understand it.

Invariant: whatever this process's folder, program and environment are called, the job file can be read: what no line
of it can hold goes by the environment.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from qm.spool.files import exists
from qm.spool.paths import JobPaths
from qm.spool.submission import kept, write_new
from qm.vocabulary.text import printable

if TYPE_CHECKING:
    from qm.api.crew import Crew

JOB_FILE = "proc_config.cfg"
SECTION = "Call"
WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")
CHUNK_ATTEMPTS = "QM_CHUNK_ATTEMPTS"
WORKER_ATTEMPTS = {"attempts": "100", "error_time": "0.1"}
"""Of the workers of an array: each dies of one chunk, and the next goes on with the others."""
OF_A_JOB = frozenset(
    "NB_PROC QM_JOB_NAME QM_JOB_ID QM_JOB_DIR QM_ATTEMPT QM_FOLDER QM_PROGRESS QM_RUN_ID QM_ARRAY_TASK_ID "
    "QM_WORKER QM_OWNER QM_PYTHON QM_PROGRAM QM_DIRECTORY QM_CHUNK_ATTEMPTS".split()
)
"""Variables that tell a job who it is: one that is submitted from within a job is another."""


def write(job: JobPaths, crew: Crew) -> None:
    """Write proc_config.cfg and `.qm/env` into a crew's folder. OSError."""
    if not exists(job.dot):
        os.mkdir(job.dot)
    extra: dict[str, str] = {CHUNK_ATTEMPTS: crew.plan.options.get("attempts", "1")}
    text = job_file(crew, own_directory(), extra)
    extra.update(crew.queue.variables())
    extra.update(crew.plan.environment)
    write_new(f"{job.dir}/{JOB_FILE}", text.encode("utf-8", "backslashreplace"), 0o644)
    write_new(job.environment, environment(extra), 0o600)


def own_directory() -> str:
    """Where this process works; "" when that folder is gone."""
    with contextlib.suppress(OSError):
        return os.getcwd()
    return ""


def job_file(crew: Crew, directory: str, extra: dict[str, str]) -> str:
    """The text of proc_config.cfg; puts into `extra` what it cannot hold."""
    plan = crew.plan
    words = [_word(plan.python, "QM_PYTHON", extra), _word(WORKER, "QM_PROGRAM", extra), "."]
    script = " ".join(words)
    keys = {"info": _info(crew)}
    if directory and directory.isprintable() and directory == directory.strip():
        keys["chdir"] = directory
    elif directory:
        extra["QM_DIRECTORY"] = directory
        script = f'cd -- "$QM_DIRECTORY" && exec {script}'
    keys["script"] = script
    if crew.is_open or plan.workers > 1 or len(crew.chunks) > 1:
        keys["array"] = f"0-{plan.workers - 1}" if plan.workers > 1 else "0"
        keys |= {key: value for key, value in plan.options.items() if key != "retry_on"} | WORKER_ATTEMPTS
    else:
        keys |= plan.options
    labels = {"function": crew.calls[0].name, **plan.labels} if crew.calls else dict(plan.labels)
    return "\n".join([*_section("QMOptions", keys), "", *_section(SECTION, labels), ""])


def _info(crew: Crew) -> str:
    """`f, 100 items`, or just the function's name; what a pool is for is not known yet."""
    if not crew.calls or crew.is_open:
        return "a pool of workers"
    items = sum(chunk.count for chunk in crew.chunks)
    return crew.calls[0].name if items == 1 else f"{crew.calls[0].name}, {items} items"


def _section(name: str, keys: Mapping[str, str]) -> list[str]:
    return [f"[{name}]", *(f"{key} : {printable(value).strip()}" for key, value in keys.items())]


def _word(text: str, variable: str, extra: dict[str, str]) -> str:
    """A path as a word of a command for the shell."""
    if text.isprintable():
        return shlex.quote(text)
    extra[variable] = text
    return f'"${variable}"'


def environment(extra: Mapping[str, str]) -> bytes:
    """This process's environment, and more, as `.qm/env` has it."""
    strange = {os.fsencode(name) for name in OF_A_JOB}
    if "QM_JOB_ID" in os.environ:  # QM set them for that job
        from qm.launchers.environment import THREAD_VARIABLES  # slow to import

        strange |= {os.fsencode(name) for name in THREAD_VARIABLES}
    own = {name: value for name, value in os.environb.items() if name not in strange}
    return kept(own | {os.fsencode(name): os.fsencode(value) for name, value in extra.items()})
