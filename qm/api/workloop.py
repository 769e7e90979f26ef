"""A worker's way through the chunks of a work folder: take one, run it, look for the next, end when none can come.

Invariants: a chunk runs only under a claim of this worker. A chunk whose worker died is run again by the same task of
the job, and by no other, in an array at most QM_CHUNK_ATTEMPTS times; then its `.out` says so. Imports little: see
workfiles.
"""

from __future__ import annotations

import os
import sys
import time
from _pickle import UnpicklingError, load
from _thread import allocate_lock, start_new_thread  # threading costs 3 ms

from qm.api import workfiles
from qm.api.failures import flush, say
from qm.api.marks import process_mark
from qm.api.runchunk import EX_NOINPUT, EX_SOFTWARE, OK, Runner, failure_in, run_one, set_up
from qm.api.workfiles import Chunk, Failure, Results

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

EX_FAILED, EX_USAGE, EX_UNAVAILABLE, EX_IOERR = 1, 64, 69, 74

SHORTEST_PAUSE, LONGEST_PAUSE = 0.0005, 0.025
"""Seconds between two looks for a new chunk: twice as long each time."""

IDLE = 10.0
LISTING_SHARE = 20
"""A folder of many files is listed for at most one part in this many of a waiting worker's time."""

SECOND = 1.0
"""Between two reports of progress, and two looks at whether the work is still wanted."""


class Worker:
    """One process, taking chunk after chunk. `environ` is as QM made it."""

    def __init__(self, directory: str, environ: Mapping[str, str]) -> None:
        self._dir = directory
        self._environ = dict(environ)
        self._cwd = os.getcwd()
        self.task = environ.get("QM_ARRAY_TASK_ID", "0")
        self._mark = f"{self.task} {environ.get('QM_ATTEMPT', '1')}"
        self._alone = "QM_ARRAY_TASK_ID" not in environ
        """Is this a job of one chunk? Then its end is that of the chunk, for QM, too."""
        self._attempts = 0 if self._alone else int(environ.get("QM_CHUNK_ATTEMPTS", "0"))
        """How often a chunk may be tried; 0 where the job's own attempts decide, and `qm retry`."""
        self._idle = float(environ.get("QM_WORKER_IDLE", IDLE))
        self._longest_pause = float(environ.get("QM_WORKER_PAUSE", LONGEST_PAUSE))
        self._most_items = int(environ.get("QM_WORKER_TASKS", "0"))
        self._owner = environ.get("QM_OWNER", "")
        self._runner = Runner(directory)
        self._items = 0
        self._position = 0
        """Where the next new chunk will be."""
        self._free: list[int] = []
        """Chunks without a claim when the folder was last listed, the lowest last."""
        self._all_listed = False
        self._list_at = 0.0
        self._report_at = 0.0
        self._running: int | None = None
        """The call whose chunk is run now: changed under the lock, for the watchdog ends what runs."""
        self._lock = allocate_lock()

    def work(self) -> int:
        """Until nothing is left to do, or has not been for a while; returns the exit status. OSError."""
        start_new_thread(self._watch, ())
        pause, idle_since = SHORTEST_PAUSE, time.monotonic()
        if self._alone and failure_in(self._dir, 0):  # of an earlier attempt, or before `qm retry`
            workfiles.discard(f"{self._dir}/{workfiles.out_name(0)}")
        for begun in sorted(self._list()):
            self._resume(begun)
        while not self._there(workfiles.BROKEN):
            number = self._next()
            if number is not None:
                self._run(number)
                self._report()
                if self._items >= self._most_items > 0:
                    self._begin_anew()
                pause, idle_since = SHORTEST_PAUSE, time.monotonic()
            elif self._all_listed or time.monotonic() - idle_since > self._idle:
                break
            else:
                time.sleep(pause)
                pause = min(2 * pause, self._longest_pause)
        failure = failure_in(self._dir, 0) if self._alone else None
        self._tell(failure)
        return OK if failure is None else EX_FAILED

    def _tell(self, failure: Failure | None) -> None:
        """Say in a line why the job fails, for `qm status`."""
        if self._environ.get("QM_PROGRESS"):
            path = f"{os.path.dirname(self._environ['QM_PROGRESS'])}/said"
            workfiles.discard(path)
            if failure is not None:
                line = f"{failure.kind}: {failure.message}".splitlines()[0][:150]
                try:
                    with open(path, "w", encoding="utf-8", errors="replace") as file:
                        file.write(line)
                except OSError as err:
                    say(f"{path}: {err.strerror}\n")

    # --- which chunk ---------------------------------------------------------------------------------------

    def _next(self) -> int | None:
        """Claim the lowest chunk that nobody has; None when there is none now."""
        while True:
            if self._free:
                number = self._free.pop()
            elif self._there(workfiles.chunk_name(self._position)):
                number = self._position
                self._position += 1
            elif not self._all_listed and time.monotonic() >= self._list_at:
                self._list()
                if not self._free:
                    return None
                continue
            else:
                return None
            if workfiles.claim(self._dir, number, self._mark):
                return number

    def _list(self) -> list[int]:
        """Look through the whole folder, for numbers may be missing; returns the chunks begun but not ended."""
        began = time.monotonic()
        self._all_listed = self._there(workfiles.CLOSED)
        names = set(os.listdir(self._dir))
        chunks = [number for name in names if (number := workfiles.number_of(name, "")) is not None]
        self._free = sorted((n for n in chunks if workfiles.claim_name(n) not in names), reverse=True)
        self._position = max((self._position, *(number + 1 for number in chunks)))
        now = time.monotonic()
        self._list_at = now + LISTING_SHARE * (now - began)
        return [n for n in chunks if workfiles.claim_name(n) in names and workfiles.out_name(n) not in names]

    def _there(self, name: str) -> bool:
        return os.access(f"{self._dir}/{name}", os.F_OK)

    # --- running -------------------------------------------------------------------------------------------

    def _run(self, number: int) -> None:
        """Run a chunk that is claimed by this worker, unless its call was cancelled."""
        with open(f"{self._dir}/{workfiles.chunk_name(number)}", "rb") as file:
            chunk: Chunk = load(file)
            with self._lock:
                self._running = chunk.call
            try:
                if not self._there(workfiles.cancel_name(chunk.call)):
                    self._runner.run(chunk, file, number)
            finally:
                with self._lock:
                    self._running = None
        self._items += chunk.count

    def _resume(self, number: int) -> None:
        """A chunk that was begun and has no result: if it was this worker's, in an earlier life, it died of it."""
        tries = workfiles.claims(self._dir, number)
        if not tries or tries[-1].split()[0] != self.task:
            return
        if len(tries) < self._attempts or self._attempts < 1:
            workfiles.claim_again(self._dir, number, self._mark)
            self._run(number)
            return
        with open(f"{self._dir}/{workfiles.chunk_name(number)}", "rb") as file:
            chunk: Chunk = load(file)
        if not self._there(workfiles.cancel_name(chunk.call)):
            from qm.api.lastwords import why_it_died

            failure = Failure(b"", workfiles.DIED, why_it_died(self._dir, tries[-1]), "")
            workfiles.write_new(
                self._dir, workfiles.out_name(number), Results(True, chunk.count), [failure] * chunk.count
            )

    def _begin_anew(self) -> None:
        """The same program in a fresh process (execve(2): the process keeps its number, so QM sees none end)."""
        flush()
        os.chdir(self._cwd)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], self._environ)

    def _report(self) -> None:
        """Write how many of the chunks have results to QM_PROGRESS, once a second at most."""
        path = self._environ.get("QM_PROGRESS")
        now = time.monotonic()
        if not path or now < self._report_at:
            return
        self._report_at = now + SECOND
        names = os.listdir(self._dir)
        known = sum(workfiles.number_of(name, "") is not None for name in names)
        ended = sum(name.endswith(".out") for name in names)
        if known > 1:  # of a single call the function itself may have something to say
            line = f"{ended / known:.4f} {ended} of {known}"
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
                os.write(fd, f"{line:<40}\n".encode())  # always as long, so that no reader sees a part of two
                os.close(fd)
            except OSError as err:
                say(f"{path}: {err.strerror}\n")

    # --- is it still wanted? -------------------------------------------------------------------------------

    def _watch(self) -> None:
        """In a thread of its own: end the process in the middle of a function whose result nobody wants."""
        owner = int(self._owner.split()[0]) if self._owner else 0
        while True:
            time.sleep(SECOND)
            with self._lock:
                call = self._running
                cancelled = call is not None and self._there(workfiles.cancel_name(call))
                if cancelled or not self._there("") or (owner and process_mark(owner) != self._owner):
                    os._exit(EX_UNAVAILABLE)


def _end_loudly() -> None:
    """A function that calls os._exit(0) ends its worker in the middle of the work: to QM that must not look well."""
    really, ours = os._exit, os.getpid()

    def leave(status: int) -> NoReturn:
        really(status or EX_SOFTWARE if os.getpid() == ours else status)

    os._exit = leave


def main(arguments: list[str]) -> int:
    """See qm.api.worker."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # the log can be followed
    try:
        if len(arguments) == 2 and arguments[0] == "--chunk":
            return run_one(arguments[1])
        if len(arguments) != 1 or arguments[0].startswith("-"):
            say("usage: worker.py DIR | worker.py --chunk FILE\n")
            return EX_USAGE
        _end_loudly()
        directory = os.path.abspath(os.environ.get("QM_JOB_DIR", ".") if arguments[0] == "." else arguments[0])
        worker = Worker(directory, os.environ)
        os.environ["QM_WORKER"] = "1"
        if os.path.exists(f"{directory}/{workfiles.BROKEN}"):
            say("an initializer has failed in another worker: nothing is run any more\n")
            return OK
        return worker.work() if set_up(directory, worker.task) else EX_SOFTWARE
    except FileNotFoundError as err:
        say(f"{err.filename}: {err.strerror}: the work folder is gone, or was changed by somebody\n")
        return EX_NOINPUT
    except (OSError, EOFError, UnpicklingError) as err:
        say(f"worker of {arguments[-1]}: {type(err).__name__}: {err}\n")
        return EX_IOERR
