"""Grid Engine's commands: a pure pair each (how it is called, what its answer says), and one function that runs them.

Invariant: nothing but `run` starts a program, and whatever it answers (an exit status, nothing, garbage, no end) is a
TryAgain: a command that fails is not a job that fails.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from typing import NamedTuple, NoReturn
from xml.etree import ElementTree

from qm.vocabulary.errors import QMError, TryAgain

PATIENCE = 60.0
"""Seconds that a command may take before it is ended and counts as failed."""

_SAID = 300
"""Characters of a command's own words that go into an error's text."""

_SUBMITTED = re.compile(r"\bjob(?:-array)? (\d+)[ .]")
"""qsub(1): `Your job 17 ("name") has been submitted`."""

_NO_XML = dict.fromkeys([*range(9), 11, 12, *range(14, 32)], "?")
"""Characters that XML 1.0 forbids; somebody's job name with one in it must not hide everybody's jobs."""

_IN_PATHS = re.compile(r"[,:$\s]")
"""What qsub's -o and -e read as more than a part of the path: lists, hosts, variables (qsub(1))."""


class Submission(NamedTuple):
    """One job as qsub needs to know it. Paths are absolute; `queue` None leaves the choice to Grid Engine."""

    name: str
    queue: str | None
    python: str
    script: str
    argument: str
    stdout: str
    stderr: str


class Listed(NamedTuple):
    """One job as qstat shows it: `state` in Grid Engine's letters (`r`, `qw`, `Eqw`, `dr`, …), see qstat(1)."""

    number: str
    name: str
    state: str


def job_name(session: str, chunk: int) -> str:
    """The name of a chunk's job, as queue_map_reduce builds it. It begins with a letter, as Grid Engine wants."""
    return f"q{session}#{chunk:09d}"


def check_path(path: str) -> None:
    """ValueError for a folder in which Grid Engine would put the output of jobs somewhere else."""
    if found := _IN_PATHS.search(path):
        raise ValueError(f"work_dir {path}: Grid Engine cannot use a path with {found[0]!r} in it; give another one")


def submit_command(qsub: str, job: Submission) -> list[str]:
    queue = ["-q", job.queue] if job.queue else []
    output = ["-o", job.stdout, "-e", job.stderr]
    return [qsub, *queue, *output, "-N", job.name, "-V", "-S", job.python, job.script, job.argument]


def submitted_number(answer: str) -> str | None:
    """The number of the new job; None where qsub does not tell, which its exit status makes up for."""
    found = _SUBMITTED.search(answer)
    return found[1] if found else None


def list_command(qstat: str) -> list[str]:
    return [qstat, "-xml"]


def read_listing(answer: str) -> list[Listed]:
    """All jobs, be they pending or running. TryAgain for what is no listing of jobs."""
    parser = ElementTree.XMLParser(target=_Plain())
    try:
        parser.feed(answer.translate(_NO_XML))
        root = parser.close()
    except ElementTree.ParseError as err:
        raise TryAgain(f"qstat's answer is no XML ({err}): {_shortened(answer)}") from err
    if root is None or root.tag.rpartition("}")[2] != "job_info":
        raise TryAgain(f"qstat's answer is not the XML that `qstat -xml` gives: {_shortened(answer)}")
    jobs = (element for element in root.iter() if element.tag.rpartition("}")[2] == "job_list")
    return [Listed(_text(job, "JB_job_number"), _text(job, "JB_name"), _text(job, "state")) for job in jobs]


def delete_command(qdel: str, number: str) -> list[str]:
    return [qdel, number]


def run(command: Sequence[str], patience: float = PATIENCE) -> str:
    """Run one of the commands and return what it wrote. TryAgain when it fails; QMError when there is none."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=patience,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise TryAgain(f"{command[0]} did not end within {patience:g} s") from err
    except (FileNotFoundError, PermissionError, NotADirectoryError) as err:
        raise QMError(f"{command[0]} cannot be run: {err.strerror}; is Grid Engine installed on this machine?") from err
    except OSError as err:
        raise TryAgain(f"{command[0]} could not be started: {err.strerror}") from err
    if done.returncode:
        said = _shortened((done.stderr or done.stdout).decode(errors="replace"))
        raise TryAgain(f"{command[0]} ended with {done.returncode}{': ' + said if said else ''}")
    return done.stdout.decode(errors="replace")


class _Plain(ElementTree.TreeBuilder):
    """Refuses a DOCTYPE, and with it entities, which could make the parser read other files or grow without end."""

    def doctype(self, *_: str | None) -> NoReturn:
        raise TryAgain("qstat's answer has a DOCTYPE in it, which `qstat -xml` never gives")


def _text(job: ElementTree.Element, tag: str) -> str:
    return next(((child.text or "").strip() for child in job if child.tag.rpartition("}")[2] == tag), "")


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SAID else text[:_SAID] + "…"
