"""The account of what became of every job: for the crash tests.

Two books are kept: what the scripts themselves said (see ledger.py), and what QM says in records, history and logs.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from harness import TestSpool, lines_of
from ledger import Execution, Ledger, Line, most_at_once

from qm.judgement.outcome import outcome
from qm.spool import requests, tasks
from qm.spool.paths import SpoolPaths
from qm.spool.submission import submit_folder
from qm.vocabulary.arrays import read_array
from qm.vocabulary.requests import Request, load_answer
from qm.vocabulary.states import State

COUNT = "@count"
"""A line of a script: from there on $runs says how often it has begun."""
NEVER_BEGUN = ("killed", "invalid", "skipped")
PLAIN = None
"""The number of the only task of a job that is no array."""


class Kind(NamedTuple):
    """A script, how a job with it ends (state and exit status), and how its runs end one after the other.

    `runs` is by task; () stands for the one run of a job that is no array and has no attempts. `keys` are of its file.
    """

    script: str
    state: str
    status: int | None
    runs: Mapping[int | None, tuple[str, ...]] | tuple[()] = ()
    keys: Mapping[str, object] = {}

    def runs_by_task(self) -> Mapping[int | None, tuple[str, ...]]:
        """The same, always by task."""
        return self.runs or ({} if self.state in NEVER_BEGUN else {PLAIN: (self.state,)})


@dataclass
class Job:
    """What one job is to end as: any of `ends`, and how its runs are to end if nobody kills it."""

    name: str
    ends: dict[str, int | None]
    runs: Mapping[int | None, tuple[str, ...]]
    keys: Mapping[str, object]
    given_id: str = ""
    kills: list[str] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)

    @property
    def is_array(self) -> bool:
        """Has it tasks?"""
        return "array" in self.keys

    @property
    def after(self) -> str:
        """The name of the job that it waits for, or ""."""
        return str(self.keys.get("after", ""))

    def ran(self, task: int | None, rounds: int) -> int:
        """How often a task has to begin in so many rounds: `qm retry` runs those that are bad, or all if none is."""
        runs = self.runs[task]
        some_bad = any(other[-1] != "done" for other in self.runs.values())
        return len(runs) * (rounds if runs[-1] != "done" or not some_bad else min(1, rounds))


class Books:
    """A spool, what was submitted to it, and the account at the end."""

    def __init__(self, spool: TestSpool) -> None:
        self.spool = spool
        self.paths = SpoolPaths(str(spool.root))
        self.jobs: dict[str, Job] = {}
        self.ledger = Ledger(spool.root.parent / f"{spool.root.name}.ledger")

    def submit(self, name: str, kind: Kind, how: str = "rename", **more: object) -> Job:
        """Submit a job by `rename`, with an id of its own, or by `cp`."""
        script = self.ledger.head() + kind.script.replace(f"{COUNT}\n", self.ledger.counting())
        keys = {**kind.keys, **more}
        folder = self.spool.make(name, script, **keys)
        job = Job(name, {kind.state: kind.status}, kind.runs_by_task(), keys)
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

    # --- everything that was promised ----------------------------------------------------------------------

    def check(self, processors: int | None = None) -> None:
        """Every job ended once, as it should; every run of it began once; `processors` were never exceeded."""
        assert self.found() == sorted(self.jobs), "a folder was lost, doubled, or left under another name"
        history, lines = self.history(), self.ledger.read()
        records = {name: self._record(job) for name, job in self.jobs.items()}
        for job in self.jobs.values():
            record = records[job.name]
            own = [line for line in lines if line.who.id == record["id"]]
            self._check_end(job, record)
            self._check_counts(job, record, history.get(record["id"], []), own)
            if job.is_array:
                self._check_tasks(job, record, own)
            if job.after and own:
                self._check_order(job, lines, records)
        ids = {record["id"] for record in records.values()}
        assert len(ids) == len(self.jobs), "two jobs have one id"
        assert set(history) <= ids, "the history knows of jobs that are not there"
        assert {line.who.id for line in lines} <= ids, "something ran that is no job"
        self._check_limits(lines, records, processors)

    def _record(self, job: Job) -> dict[str, Any]:
        return self.spool.record(self._folder(job))

    def _folder(self, job: Job) -> Path:
        return (self.spool.done if (self.spool.done / job.name).exists() else self.spool.lost) / job.name

    def may_end(self, job: Job) -> set[str]:
        """As what a job may end, by what the one that it waits for may end as."""
        if not job.after:
            return set(job.ends)
        before = self.may_end(self.jobs[job.after])
        skipped = {"skipped"} if before != {"done"} else set()
        return skipped | (set(job.ends) if "done" in before else set(job.ends) & {"killed"})

    def _check_end(self, job: Job, record: dict[str, Any]) -> None:
        state = record["state"]
        text = f"{job.name}: {record}"
        assert record["name"] == job.name, text
        assert not job.given_id or record["id"] == job.given_id, text
        assert state in self.may_end(job), text
        if state not in ("killed", "timeout"):
            assert record["exit_status"] == job.ends.get(state), text
        if any(map(self.answered, job.kills)):
            assert state == "killed", f"the daemon said that it kills {text}"
        place = "QM_dJobs" if state == "done" else "QM_lost+found"
        assert (self.spool.root / place / job.name).is_dir(), f"{text} is not in {place}"

    def _check_counts(self, job: Job, record: dict[str, Any], ends: list[dict[str, Any]], own: Sequence[Line]) -> None:
        """How often it ended, by the history and its logs, and how often it began, by the ledger."""
        text = f"{job.name}: history {ends}, ledger {own}, {record}"
        granted = sum(map(self.answered, job.retries))
        assert 1 + granted <= len(ends) <= 1 + len(job.retries), text
        assert ends[-1]["state"] == record["state"] and ends[-1]["finished"] == record["finished"], text
        began = Counter(line.who for line in own if line.word == "begin")
        assert job.is_array or set(began.values()) <= {1}, f"an attempt ran twice: {text}"
        runs = [run["state"] for run in record["history"] if run["state"] != "pending"]
        rounds = sum(end["started"] is not None for end in ends)
        assert self._finished_lines(job, "process.log") == (rounds if job.is_array else len(runs)), text
        if job.is_array and rounds:
            assert self._finished_lines(job, "process.log", old=False) == 1, f"two rounds in one log: {text}"
        by_task = Counter(who.task for who in began.elements())
        assert set(by_task) <= set(job.runs), text
        # It may have been ended between its start mark and its first line.
        exact = not job.kills and "timeout" not in job.ends
        for task in job.runs:
            wanted = job.ran(task, rounds if not job.kills else max(rounds, 1))
            assert by_task[task] == wanted if exact else by_task[task] <= wanted, f"task {task} of {text}"
        if not job.is_array and not job.kills and job.runs:
            assert runs == list(job.runs[PLAIN]) * rounds, text
        if not job.kills and "timeout" not in job.ends:
            assert not any(line.word == "signalled" for line in own), f"it was signalled: {text}"

    def _finished_lines(self, job: Job, log: str, old: bool = True) -> int:
        """How often the log of a job or of one of its tasks, and its old ones, say that it has finished."""
        folder = self._folder(job)
        logs = [folder / log, *(folder.glob(f"{log}.[0-9]*") if old else ())]
        return sum(line.startswith("Job finished at:") for file in logs for line in lines_of(file))

    def _check_tasks(self, job: Job, record: dict[str, Any], own: Sequence[Line]) -> None:
        """What tasks.jsonl, the summary and the reason say of the tasks of an array."""
        began = Counter(line.who for line in own if line.word == "begin")
        entries = tasks.read(str(self._folder(job) / ".qm/tasks.jsonl"))
        text = f"{job.name}: {entries}, ledger {own}, {record}"
        all_done = all(runs[-1] == "done" for runs in job.runs.values())
        rounds = 1 + len(job.retries) if all_done else 1  # all of them anew, from the first attempt on
        assert all(count <= rounds for count in began.values()), f"an attempt ran twice: {text}"
        if job.kills or record["started"] is None:
            for task, entry in entries.items():
                assert entry.state.value in (*job.runs[task], "killed", "pending"), f"task {task}: {text}"
            return
        assert {task: entry.state.value for task, entry in entries.items()} == {
            task: runs[-1] for task, runs in job.runs.items()
        }, text
        bad = {task: State(runs[-1]) for task, runs in job.runs.items() if task is not None and runs[-1] != "done"}
        state, reason = outcome(len(job.runs), bad)
        assert (record["state"], record["reason"]) == (state.value, reason), text
        assert record["tasks"][:4] == [len(job.runs), len(job.runs) - len(bad), len(bad), 0], text
        for task, runs in job.runs.items():
            if "timeout" not in runs:
                times = sum(count for who, count in began.items() if who.task == task)
                assert self._finished_lines(job, f"process.{task}.log") == times, f"the logs of task {task}: {text}"
            tries = sum(run != "deferred" for run in runs) if task is not None else 0
            assert task is None or entries[task].tries == tries, f"task {task}: {text}"

    def _check_order(self, job: Job, lines: Sequence[Line], records: Mapping[str, dict[str, Any]]) -> None:
        """It began after everything of the job that it waits for had ended well."""
        own, other = records[job.name]["id"], records[job.after]["id"]
        first = next(number for number, line in enumerate(lines) if line.who.id == own)
        ended = {line.who.task for line in lines[:first] if line.who.id == other and line.status == 0}
        assert ended == set(self.jobs[job.after].runs), f"{job.name} ran before {job.after} was done: {lines[:first]}"

    def _check_limits(
        self, lines: Sequence[Line], records: Mapping[str, dict[str, Any]], processors: int | None
    ) -> None:
        groups: dict[str, set[str]] = {}
        for job in self.jobs.values():
            own = records[job.name]["id"]
            if "group" in job.keys:
                groups.setdefault(f"{job.keys['group']} {job.keys['max_parallel']}", set()).add(own)
            if job.is_array and (limit := read_array(str(job.keys["array"])).at_a_time) is not None:
                groups[f"{job.name} {limit}"] = {own}
        for group, ids in groups.items():
            most = most_at_once(lines, lambda who, ids=ids: who.id in ids)  # type: ignore[misc]
            assert most <= int(group.split()[-1]), f"{most} of {group} ran at once"
        if processors is not None:
            assert most_at_once(lines, _anybody) <= processors, "more ran at once than there are processors"


def _anybody(_who: Execution) -> bool:
    return True
