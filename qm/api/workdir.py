"""Pool over Grid Engine's own commands, with no daemon: each call has a work folder, each chunk a job in the engine.

    000000007.pkl         the arguments of chunk 7              (workfiles)
    000000007.pkl.out     its results                           (workfiles)
    000000007.pkl.o .e    what its job wrote to standard output and standard error
    call.000000.pkl       the function                          (workfiles)
    worker_node_script.py what a job runs
    environment.pkl       the environment that its tasks get: any value, as it was at the submission
    log.jsonl             what was done and seen, a line of JSON each

The file names, the arguments of qsub and the rule by which the folder is kept are those of queue_map_reduce, whose
callers this serves. Invariant: the folder is removed only when every result was read and every `.e` is there and empty.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

from qm.api import gridscript, pickling, workfiles
from qm.api.asyncresults import Sink
from qm.api.crew import Setup
from qm.api.gridmap import Folder, Grid, GridMap, check
from qm.api.outcomes import Outcomes, Told, failures, read_outcomes
from qm.api.runner import Kept
from qm.api.workfiles import Chunk
from qm.launchers import gridengine
from qm.vocabulary.errors import QMError

LOG = "log.jsonl"

PATIENCE = 60.0
"""Seconds that an interrupted program waits for its jobs to be deleted."""


class How(NamedTuple):
    """What all calls of a pool have in common. `setup`: an initializer with its arguments."""

    grid: Grid
    kept: Kept
    setup: Setup | None


def on_grid(kept: Kept, setup: Setup | None, python_path: str | None, **given: Any) -> WorkDirs:
    """The runner for a pool in Grid Engine; what is None is as in queue_map_reduce. TypeError, ValueError."""
    given = {key: value for key, value in given.items() if value is not None}
    grid = Grid(**{"queue_name": None, "python_path": python_path or sys.executable, **given})
    check(grid)
    return WorkDirs(How(grid, kept, setup))


class WorkDirs:
    """The calls of a Pool that runs in Grid Engine. A call begins when all of its arguments are known."""

    streams = False  # a call's jobs are submitted together
    stays = False

    workers = 1
    """How many jobs run at a time only Grid Engine knows."""

    def __init__(self, how: How) -> None:
        self._how = how
        self._lock = threading.Lock()
        self._calls: dict[int, WorkDir] = {}
        self._begun = 0

    def begin(self, function: Callable[..., Any], how: str, sink: Sink) -> int:
        """Make the folder of a new call. FileExistsError when work_dir is there; PicklingError, TypeError, OSError."""
        session = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime()) + f"-{os.urandom(3).hex()}"
        with self._lock:
            number = self._begun
            self._begun += 1
        path = os.path.abspath(self._how.kept.work_dir or f".qpool_{session}")
        if self._how.kept.work_dir and number:
            path += f".{number + 1}"
        gridengine.check_path(path)
        call = WorkDir(self._how, path, session, sink, Told(pickling.name_of(function), how))
        call.prepare(function)
        with self._lock:
            self._calls[number] = call
        return number

    def add(self, call: int, items: Sequence[Any], first: int) -> None:
        """Write a chunk. PicklingError, TypeError, OSError."""
        self._calls[call].add(items, first)

    def complete(self, call: int) -> None:
        """All chunks are written: run them."""
        self._calls[call].start()

    def cancel(self, call: int) -> None:
        """Delete what is left of its jobs; waits for that."""
        self._calls[call].cancel()

    def forget(self, call: int) -> None:
        """A call has all of its outcomes; its thread is still waited for by `join`."""

    def close(self) -> None:
        """No more calls will come."""

    def terminate(self) -> None:
        """Delete what is left of all jobs."""
        with self._lock:
            calls = list(self._calls.values())
        for call in calls:
            call.cancel()

    def join(self) -> None:
        """Wait for the end of all calls."""
        with self._lock:
            calls = list(self._calls.values())
        for call in calls:
            call.join()


class WorkDir:
    """One call: its folder, and the thread that sees to its jobs."""

    def __init__(self, how: How, path: str, session: str, sink: Sink, told: Told) -> None:
        self._how, self._path, self._session, self._sink, self._told = how, path, session, sink, told
        self._chunks: list[Chunk] = []
        self._left = 0
        self._last: tuple[int, Outcomes] | None = None
        self._failed = False
        self._map: GridMap | None = None
        self._thread: threading.Thread | None = None

    def prepare(self, function: Callable[..., Any]) -> None:
        """Make the folder. FileExistsError, PicklingError, TypeError, OSError: there is none."""
        try:
            os.makedirs(self._path)
        except FileExistsError as err:
            raise FileExistsError(f"work_dir {self._path} exists; move it away, or give the pool another one") from err
        try:
            self._fill(function)
        except BaseException:
            shutil.rmtree(self._path, ignore_errors=True)
            raise

    def _fill(self, function: Callable[..., Any]) -> None:
        pickling.write_call(self._path, 0, function, self._told.how, self._told.name)
        if self._how.setup is not None:
            pickling.write_setup(self._path, self._how.setup)
        gridscript.write(self._path, self._how.grid.python_path)

    def add(self, items: Sequence[Any], first: int) -> None:
        chunk = Chunk(0, first, len(items))
        try:
            pickling.write_chunk(self._path, len(self._chunks), chunk, items, self._told.name)
        except BaseException:
            shutil.rmtree(self._path, ignore_errors=True)
            raise
        self._chunks.append(chunk)

    # --- its life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._left = len(self._chunks)
        folder = Folder(self._path, f"{self._path}/{gridscript.SCRIPT}", self._session, self._results, self.log)
        self._map = GridMap(self._how.grid, folder, [self._named(chunk) for chunk in self._chunks], self._over)
        self._thread = threading.Thread(target=self._run, name=f"qm.Pool {self._session}", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        if self._map is not None:
            self._map.cancel()
            self.join(PATIENCE)
        elif self._thread is None:  # nothing runs yet
            shutil.rmtree(self._path, ignore_errors=True)

    def join(self, timeout: float | None = None) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        assert self._map is not None
        error: BaseException = CancelledError(f"{self._told.name} was cancelled")
        try:
            self.log("INFO", "start", f"{len(self._chunks)} chunks in {self._path}", chunks=len(self._chunks))
            self._map.run()
        except (QMError, OSError) as err:
            error = err
            self._failed = True
            self._how.kept.logger.error("%s", err)
        finally:
            try:
                self._finish()
            finally:
                if self._last is not None:
                    self._sink.put(*self._last)
                self._sink.fail(error)  # whatever has no outcome; nobody waits for ever

    def _over(self, number: int, error: Exception | None) -> None:
        chunk = self._chunks[number]
        if error is not None:
            outcomes = failures(chunk, self._told, lambda what: _renamed(error, what))
        else:
            outcomes = read_outcomes(self._path, number, chunk, self._told)
        self._failed = self._failed or not all(succeeded for succeeded, _ in outcomes)
        self._left -= 1
        if self._left:
            self._sink.put(chunk.first, outcomes)
        else:
            self._last = (chunk.first, outcomes)  # who waits for it shall find the folder as it is to be

    def _named(self, chunk: Chunk) -> str:
        last = chunk.first + chunk.count - 1
        which = f"task {last}" if chunk.count == 1 else f"tasks {chunk.first}-{last}"
        return f"{which} of {self._told.name}"

    def _results(self) -> set[int]:
        numbers = (workfiles.number_of(name, ".out") for name in os.listdir(self._path))
        return {number for number in numbers if number is not None}

    def _finish(self) -> None:
        """Remove the folder, or say why it stays."""
        why = self._why_kept()
        if why:
            self.log("WARNING" if not self._how.kept.always else "INFO", "keep", f"keeping {self._path}: {why}")
        else:
            shutil.rmtree(self._path, ignore_errors=True)

    def _why_kept(self) -> str:
        if self._how.kept.always:
            return "keep_work_dir"
        if self._failed or self._results() != set(range(len(self._chunks))):
            return "not everything has a result"
        for number in range(len(self._chunks)):
            name = f"{workfiles.chunk_name(number)}.e"
            try:
                size = os.stat(f"{self._path}/{name}").st_size
            except OSError as err:
                return f"{name}: {err.strerror}"
            if size:
                return f"something was written to standard error, see {name}"
        return ""

    def log(self, level: str, event: str, message: str, **counts: Any) -> None:
        """To the pool's logger, and as a line of JSON to log.jsonl: time (UTC), level, event, message, counts."""
        getattr(self._how.kept.logger, level.lower())(message)  # queue_map_reduce's own loggers have no more than that
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        line = {"time": now, "level": level, "event": event, "message": message, **counts}
        try:
            with open(f"{self._path}/{LOG}", "a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as err:
            self._how.kept.logger.warning("cannot write %s/%s: %s", self._path, LOG, err.strerror)


def _renamed(error: Exception, what: str) -> Exception:
    """The same failure, of one task: each has an exception of its own, which may be raised anywhere."""
    copied = type(error)(*error.args)
    if hasattr(copied, "what"):
        copied.what = what
    return copied
