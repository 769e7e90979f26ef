"""Every file name QM uses, in one place: those of a spool and those inside a job's folder.

Paths are `str` as the system gives them (undecodable bytes as surrogates, PEP 383).
"""

from __future__ import annotations

from qm.vocabulary.states import Place

LOG_NAME = "process.log"
DOT_NAME = ".qm"


def log_name(task: int | None) -> str:
    """The name of the log of a job, or of one task of its array."""
    return LOG_NAME if task is None else f"process.{task}.log"


class JobPaths:
    """The files of one job."""

    __slots__ = ("dir",)

    def __init__(self, directory: str) -> None:
        self.dir = directory

    @property
    def dot(self) -> str:
        return f"{self.dir}/{DOT_NAME}"

    @property
    def record(self) -> str:
        return f"{self.dir}/{DOT_NAME}/job.json"

    @property
    def run(self) -> str:
        """Where the shim writes."""
        return f"{self.dir}/{DOT_NAME}/run"

    def start_mark(self, label: str) -> str:
        """`label` is that of a Task: `1`, or `7.1` for a task of an array."""
        return f"{self.run}/{label}.start"

    def exit_mark(self, label: str) -> str:
        return f"{self.run}/{label}.exit"

    @property
    def progress(self) -> str:
        """What the script sees as QM_PROGRESS."""
        return self.task_progress(None)

    @property
    def said(self) -> str:
        """Where a job of a class says in one line why it did not end well."""
        return f"{self.run}/said"

    def task_progress(self, task: int | None) -> str:
        """The same for one task of an array."""
        return f"{self.run}/progress" if task is None else f"{self.run}/{task}.progress"

    @property
    def given_id(self) -> str:
        """The id that `qm submit` chose, before there is a record."""
        return f"{self.dir}/{DOT_NAME}/id"

    @property
    def environment(self) -> str:
        """The submitter's environment, `NAME=value` ended by NUL each, as in /proc/PID/environ."""
        return f"{self.dir}/{DOT_NAME}/env"

    @property
    def usage(self) -> str:
        return f"{self.dir}/{DOT_NAME}/usage.csv"

    @property
    def tasks(self) -> str:
        """What became of the tasks of an array."""
        return f"{self.dir}/{DOT_NAME}/tasks.jsonl"

    @property
    def log(self) -> str:
        return self.task_log(None)

    def task_log(self, task: int | None) -> str:
        """`process.log`, for a task of an array `process.7.log`."""
        return f"{self.dir}/{log_name(task)}"


class SpoolPaths:
    """The files of one spool. `root` is QM_FOLDER."""

    __slots__ = ("answers", "drained", "history", "lock", "log", "places", "requests", "root")

    def __init__(self, root: str) -> None:
        self.root = root
        self.places = {place: f"{root}/{place.value}" for place in Place}
        self.lock = f"{root}/.qm/lock"
        self.requests = f"{root}/.qm/requests"
        self.answers = f"{root}/.qm/answers"
        self.drained = f"{root}/.qm/drained"
        self.history = f"{root}/QM_history"
        self.log = f"{root}/QueueManager.log"

    def job(self, place: Place, folder: str) -> JobPaths:
        """The files of the job that lies in this folder."""
        return JobPaths(f"{self.places[place]}/{folder}")
