"""qsub, qstat and qdel of a Grid Engine that consists of one file, for tests. `qstat` itself runs the jobs.

Each look at it is one step: pending jobs go into the error state as often as the test asked for, or begin; jobs that
had begun run to their end and are gone from then on.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START: dict[str, Any] = {"next": 1, "jobs": [], "calls": [], "errors": {}, "failures": {}, "held": False, "killed": []}
"""errors: how often the job of a chunk goes into Eqw; failures: what the next calls of a program answer (see FAILURES);
held: nothing begins; killed: chunks whose job is gone without having run."""

FAILURES = {
    "status": "echo 'commlib error: got read error' >&2; exit 1",
    "garbage": "echo '<job_info><job_list'",
    "doctype": "echo '<!DOCTYPE x [<!ENTITY a \"b\">]><job_info>&a;</job_info>'",
    "hang": "sleep 60",
}


class FakeGrid:
    """The engine in a folder; `pool()` gives the paths as arguments for qm.Pool."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.file = folder / "state.json"
        self.file.write_text(json.dumps(START))
        for program in ("qsub", "qstat", "qdel"):
            path = folder / program
            path.write_text(f'#!/bin/sh\nexec {sys.executable} -S {__file__} {self.file} {program} "$@"\n')
            path.chmod(0o755)

    def pool(self) -> dict[str, Any]:
        paths = {f"{program}_path": str(self.folder / program) for program in ("qsub", "qstat", "qdel")}
        return {**paths, "polling_interval_qstat": 0.02}

    @property
    def state(self) -> dict[str, Any]:
        with _state(self.file) as state:
            return state

    def set(self, **values: Any) -> None:
        with _state(self.file) as state:
            state.update(values)

    def calls(self, program: str) -> list[list[str]]:
        """The arguments of each call of a program so far."""
        return [arguments for name, *arguments in self.state["calls"] if name == program]


@contextmanager
def _state(file: Path) -> Iterator[dict[str, Any]]:
    with open(file, "r+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        state = json.load(handle)
        before = json.dumps(state)
        yield state
        if json.dumps(state) != before:
            handle.seek(0)
            handle.truncate()
            json.dump(state, handle)


def _qsub(state: dict[str, Any], arguments: list[str]) -> str:
    words = iter(arguments)
    job: dict[str, Any] = {"state": "qw", "positional": []}
    for word in words:
        if word == "-V":
            continue
        if word.startswith("-"):
            job[word] = next(words)
        else:
            job["positional"].append(word)
    assert len(job["positional"]) == 2, job
    job["number"] = str(state["next"])
    job["chunk"] = int(job["-N"].partition("#")[2])
    state["next"] += 1
    state["jobs"].append(job)
    return f'Your job {job["number"]} ("{job["-N"]}") has been submitted\n'


def _qstat(state: dict[str, Any], arguments: list[str]) -> str:
    assert arguments == ["-xml"]
    for job in list(state["jobs"]):
        if job["chunk"] in state["killed"]:
            state["jobs"].remove(job)
        elif job["state"] == "r":
            _run(job)
            state["jobs"].remove(job)
        elif job["state"] == "qw" and not state["held"]:
            left = state["errors"].get(str(job["chunk"]), 0)
            state["errors"][str(job["chunk"])] = max(0, left - 1)
            job["state"] = "Eqw" if left else "r"
    return LISTING.format("".join(map(_listed, state["jobs"])))


LISTING = """<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <queue_info>
    <job_list state="running">
      <JB_job_number>900001</JB_job_number><JB_name>somebody&apos;s &amp; other</JB_name><state>Eqw</state>
    </job_list>
  </queue_info>
  <job_info>{}</job_info>
</job_info>
"""


def _listed(job: dict[str, Any]) -> str:
    return (
        f'<job_list state="pending"><JB_job_number>{job["number"]}</JB_job_number><JAT_prio>0.5</JAT_prio>'
        f"<JB_name>{job['-N']}</JB_name><JB_owner>me</JB_owner><state>{job['state']}</state><slots>1</slots></job_list>"
    )


def _run(job: dict[str, Any]) -> None:
    """As sge_shepherd: in another folder, with variables of its own."""
    # Grid Engine 8.1 makes a temporary folder for a job, says so in TMP, and takes TMPDIR out of the environment.
    environment = {"PATH": os.environ["PATH"], "HOME": "/", "JOB_ID": job["number"], "TMP": "/tmp"}
    with open(job["-o"], "ab") as output, open(job["-e"], "ab") as errors:
        command = [job["-S"], *job["positional"]]
        subprocess.run(command, env=environment, cwd="/", stdout=output, stderr=errors, check=False)


def _qdel(state: dict[str, Any], arguments: list[str]) -> str:
    (number,) = arguments
    state["jobs"] = [job for job in state["jobs"] if job["number"] != number]
    return f"me has deleted job {number}\n"


def main() -> None:
    file, program, *arguments = sys.argv[1:]
    with _state(Path(file)) as state:
        state["calls"].append([program, *arguments])
        failures = state["failures"].get(program) or []
        failure = failures.pop(0) if failures else None
        if failure is None:
            sys.stdout.write({"qsub": _qsub, "qstat": _qstat, "qdel": _qdel}[program](state, arguments))
    if failure is not None:
        os.execv("/bin/sh", ["sh", "-c", FAILURES[failure]])


if __name__ == "__main__":
    main()
