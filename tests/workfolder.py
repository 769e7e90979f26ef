"""A work folder as a submitter makes it, and real workers on it, for tests."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
from harness import PATIENCE

import qm.api.worker
from qm.api import workfiles
from qm.api.workfiles import MAP, Call, Chunk, Failure, Results

WORKER = qm.api.worker.__file__


class Work:
    """A work folder, its workers, and what came of the chunks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dir = str(folder)
        self.chunks = 0
        self.calls = 0
        self.processes: list[subprocess.Popen[bytes]] = []
        folder.mkdir()

    def call(self, function: Callable[..., Any] | bytes, how: str = MAP, **changes: Any) -> int:
        """Write a call; a function of this file goes by value, as one of a script does."""
        call = Call(workfiles.FORMAT, how, "f", workfiles.VERSION, True, tuple(sys.path))._replace(**changes)
        pickled = function if isinstance(function, bytes) else cloudpickle.dumps(function)
        workfiles.write_new(
            self.dir, workfiles.call_name(self.calls), call, pickled, dump=lambda data, f: f.write(data)
        )
        self.calls += 1
        return self.calls - 1

    def chunk(self, items: Sequence[Any], first: int = 0, call: int | None = None) -> int:
        chunk = Chunk(self.calls - 1 if call is None else call, first, len(items))
        name = workfiles.chunk_name(self.chunks)
        workfiles.write_new(self.dir, name, chunk, list(items), dump=cloudpickle.dump)
        self.chunks += 1
        return self.chunks - 1

    def close(self) -> None:
        workfiles.write_new(self.dir, workfiles.CLOSED, self.chunks)

    def start(self, task: int = 0, attempt: int = 1, plain: bool = False, **env: object) -> subprocess.Popen[bytes]:
        """Start a worker as QM would, in an array or `plain`; its output goes to log.TASK, beside the folder."""
        environment = {
            **os.environ,
            "QM_JOB_DIR": self.dir,
            "QM_ATTEMPT": str(attempt),
            **({} if plain else {"QM_ARRAY_TASK_ID": str(task)}),
            **{name: str(value) for name, value in env.items()},
        }
        with open(f"{self.dir}.log.{task}", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, WORKER, "."], env=environment, cwd=self.folder.parent, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def run(self, **env: Any) -> int:
        """One worker from its start to its end; returns its exit status."""
        return self.start(**env).wait(PATIENCE)

    def log(self, task: int = 0) -> str:
        return Path(f"{self.dir}.log.{task}").read_text()

    def results(self, number: int = 0) -> list[Any]:
        """Values, and a Failure for each item that failed."""
        with open(self.folder / workfiles.out_name(number), "rb") as file:
            kind: Results = pickle.load(file)
            values: list[Any] = pickle.load(file)
        assert len(values) == kind.count
        if not kind.each:
            return values
        return [value if isinstance(value, Failure) else pickle.loads(value) for value in values]

    def failure(self, number: int = 0, index: int = 0) -> Failure:
        found = self.results(number)[index]
        assert isinstance(found, Failure)
        return found

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def single(work: Work, function: Callable[..., Any], item: Any = None, **env: Any) -> int:
    """One call with one item, to its end."""
    work.call(function)
    work.chunk([item])
    work.close()
    return work.run(**env)


def limited(work: Work, limit: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a worker that can write no file beyond `limit` bytes, as on a full disk."""
    return subprocess.run(
        [sys.executable, WORKER, *arguments],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
