"""The account of what became of every job, and daemons that die: for the crash tests."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import PATIENCE, TestSpool, lines_of

from qm.spool import requests
from qm.spool.paths import SpoolPaths
from qm.spool.submission import submit_folder
from qm.vocabulary.requests import Request, load_answer

TESTS = Path(__file__).parent


# --- daemons that die ----------------------------------------------------------------------------------------


class Nursery:
    """Starts daemons by fork (see tests/crashing_daemon.py), one at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "crashing_daemon.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), *filter(None, sys.path)])},
        )
        self._pid: int | None = None

    def start(self, config: Path, step: str = "", occurrence: int = 1) -> int:
        """A daemon that dies when `step` is reached the n-th time; returns its pid."""
        assert self._process.stdin is not None and self._pid is None
        self._process.stdin.write(f"{config}\t{step}\t{occurrence}\n".encode())
        self._process.stdin.flush()
        self._pid = int(self._line())
        return self._pid

    def died(self, patience: float) -> int | None:
        """How the daemon ended (its exit status, or minus the signal); None while it lives."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], patience)[0]:
            return None
        self._pid = None
        return os.waitstatus_to_exitcode(int(self._line()))

    def end(self, number: int) -> int:
        """Signal the daemon and wait for its end."""
        assert self._pid is not None
        os.kill(self._pid, number)
        status = self.died(PATIENCE)
        assert status is not None, f"the daemon does not end after signal {number}"
        return status

    def clear(self) -> None:
        """End the daemon that a failed test left."""
        if self._pid is not None:
            self.end(signal.SIGKILL)

    def close(self) -> None:
        """No more daemons."""
        self._process.communicate()

    def _line(self) -> bytes:
        # unbuffered, so that select() sees everything that was not yet read
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._process.stdout.fileno(), 1)
            assert byte, "the nursery is gone"
            line += byte
        return line


# --- the account ---------------------------------------------------------------------------------------------


@dataclass
class Job:
    """What one job is to end as: any of `ends`, and how often it may have run."""

    name: str
    ends: dict[str, int | None]
    given_id: str = ""
    kills: list[str] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)


class Books:
    """A spool, what was submitted to it, and the account at the end."""

    def __init__(self, spool: TestSpool) -> None:
        self.spool = spool
        self.paths = SpoolPaths(str(spool.root))
        self.jobs: dict[str, Job] = {}
        self.ledger = spool.root.parent / f"{spool.root.name}.ledger"
        self.signalled = spool.root.parent / f"{spool.root.name}.signalled"

    def submit(self, name: str, script: str, how: str, state: str, status: int | None, **keys: object) -> Job:
        """Submit a job by `rename`, with an id of its own, or by `cp`. It says in the ledger when it begins."""
        begin = f'echo "$QM_JOB_ID $QM_ATTEMPT" >> {self.ledger}\n'
        watch = f"trap 'echo \"$QM_JOB_ID\" >> {self.signalled}' TERM HUP INT\n"
        folder = self.spool.make(name, begin + watch + script, **keys)
        job = Job(name, {state: status})
        if how == "cp":
            shutil.copytree(folder, self.spool.queue / name)
        else:
            job.given_id = submit_folder(self.paths, str(folder), move=True).id
        self.jobs[name] = job
        return job

    def ask(self, verb: str, name: str) -> str:
        """Leave a request; returns the name of its answer."""
        return requests.leave(self.paths, Request(verb, name=name))

    def answered(self, request: str) -> bool:
        """Was the request granted?"""
        answer = load_answer(Path(self.paths.answers, request).read_bytes())
        assert answer is not None
        return answer.ok

    def found(self) -> list[str]:
        """The names of all folders that lie in the four places."""
        return sorted(entry.name for place in self.paths.places.values() for entry in Path(place).iterdir())

    def unsettled(self) -> list[str]:
        """The folders that have not ended."""
        return [entry.name for place in (self.spool.queue, self.spool.jobs) for entry in place.iterdir()]

    def history(self) -> dict[str, list[dict[str, Any]]]:
        """The lines of the history by id."""
        lines: dict[str, list[dict[str, Any]]] = {}
        for file in (self.spool.root / "QM_history").iterdir():
            for line in file.read_text().splitlines():
                entry = json.loads(line)
                lines.setdefault(entry["id"], []).append(entry)
        return lines

    def check(self) -> None:
        """Everything that was promised."""
        assert self.found() == sorted(self.jobs), "a folder was lost, doubled, or left under another name"
        history = self.history()
        began = Counter(lines_of(self.ledger))
        assert set(began.values()) <= {1}, f"an attempt ran twice: {began.most_common(3)}"
        ran = Counter(line.split()[0] for line in began)
        signalled = set(lines_of(self.signalled))
        ids = set()
        for job in self.jobs.values():
            record = self._record(job)
            ids.add(record["id"])
            self._check_end(job, record)
            self._check_counts(job, record, history.get(record["id"], []), ran[record["id"]])
            assert job.kills or record["id"] not in signalled, f"{job.name} was signalled"
        assert len(ids) == len(self.jobs), "two jobs have one id"
        assert set(history) <= ids, "the history knows of jobs that are not there"

    def _record(self, job: Job) -> dict[str, Any]:
        place = self.spool.done if (self.spool.done / job.name).exists() else self.spool.lost
        return self.spool.record(place / job.name)

    def _check_end(self, job: Job, record: dict[str, Any]) -> None:
        state = record["state"]
        text = f"{job.name}: {record}"
        assert record["name"] == job.name, text
        assert not job.given_id or record["id"] == job.given_id, text
        assert state in job.ends, text
        if state != "killed":
            assert record["exit_status"] == job.ends[state], text
        if any(map(self.answered, job.kills)):
            assert state == "killed", f"the daemon said that it kills {text}"
        place = "QM_dJobs" if state == "done" else "QM_lost+found"
        folder = self.spool.root / place / job.name
        assert folder.is_dir(), f"{text} is not in {place}"
        if record["started"] is not None:  # else it never ran, and its log, if there is one, has no such line
            ends = [line for line in lines_of(folder / "process.log") if line.startswith("Job finished at:")]
            assert len(ends) == 1, f"{job.name}: {ends}"

    def _check_counts(self, job: Job, record: dict[str, Any], ends: list[dict[str, Any]], ran: int) -> None:
        text = f"{job.name}: history {ends}, executions {ran}, {record}"
        granted = sum(map(self.answered, job.retries))
        assert 1 + granted <= len(ends) <= 1 + len(job.retries), text
        assert ends[-1]["state"] == record["state"] and ends[-1]["finished"] == record["finished"], text
        runs = sum(end["started"] is not None for end in ends)
        if job.kills:  # it may have been killed between its start mark and its first line
            assert ran <= runs, text
        else:
            assert ran == runs, text
