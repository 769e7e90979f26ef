"""What a job of a class leaves in its folder for others to read.

    section [Job] of its job file    class, kwargs, parent, …    written by qm.api.jobfolder
    result.json                      what `execute` returned     written by qm.api.runjob
    .qm/no_result                    why there is no result.json, though `execute` returned something

Invariant: a result that was not kept is an error for whoever asks for it, never a None.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from qm.spool.files import read_regular, read_tail
from qm.spool.paths import LOG_NAME
from qm.vocabulary.ini import IniError, read_ini
from qm.vocabulary.jobfile import DEFAULT_JOB_FILES, MAX_JOB_FILE

RESULT = "result.json"
NO_RESULT = ".qm/no_result"
SECTION = "Job"
MOST_LOG = 1 << 30
_TAIL = 4096
_MOST_LINES = 20


def job_section(folder: str, job_file: str = "") -> dict[str, str]:
    """The section [Job] in the job file of a folder, its keys in lower case; empty where there is none."""
    with contextlib.suppress(OSError, IniError, UnicodeDecodeError):
        text = read_regular(f"{folder}/{job_file or DEFAULT_JOB_FILES[0]}", MAX_JOB_FILE).decode("utf-8-sig")
        for section in read_ini(text, only=SECTION):
            return {entry.key.lower(): entry.value for entry in section.entries}
    return {}


def result_in(folder: str) -> Any:
    """What `execute` returned; None if that was None, or if it is no job of a class. TypeError if it was not kept."""
    try:
        return json.loads(read_regular(f"{folder}/{RESULT}", MOST_LOG))
    except FileNotFoundError:
        with contextlib.suppress(FileNotFoundError):
            raise TypeError(read_regular(f"{folder}/{NO_RESULT}", _TAIL).decode(errors="replace").strip()) from None
        return None


def end_of_log(folder: str) -> str:
    """The last lines of its process.log; "" where there is none."""
    with contextlib.suppress(OSError):
        lines = read_tail(f"{folder}/{LOG_NAME}", _TAIL).decode(errors="replace").splitlines()
        return "\n".join(lines[-_MOST_LINES:])
    return ""
