"""The launcher for this machine.

Invariants: a job runs in a session of its own, in a shim that outlives the daemon; a run counts as over only
when nothing of its process tree is left, so its processors are really free and nobody writes into its folder
any more while it is filed.

What a job leaves behind is found cheaply on Linux: the daemon is the subreaper (prctl(2)) of all its jobs, so
an orphan shows up among its own children. Elsewhere, and for jobs taken over from an earlier daemon, every
process is looked at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from qm.judgement.verdict import Exit
from qm.launchers.base import Ended, read_exit, read_exit_mark
from qm.launchers.environment import job_variables, parse_kept, script_environment
from qm.launchers.orphans import Orphans
from qm.launchers.processes import Process, ProcessTable, any_undecided, descendants, open_table, tree_of
from qm.launchers.shim import NOT_BEGUN, SHELL, command_words, shim_words, stream_notes, streams
from qm.spool import joblog, usage
from qm.spool.files import TRANSIENT, exists, explained, read_regular
from qm.spool.paths import JobPaths
from qm.vocabulary.errors import JobFileError, TryAgain
from qm.vocabulary.record import Job

SAMPLE_EVERY = 5.0
"""Seconds between two rows of usage.csv."""
UNDECIDED_FOR = 0.5
"""Seconds that are waited, after the end of a shim, for processes that cannot be told to be its job's or not."""
LOOK_AGAIN = 0.02
"""Seconds between two looks at what an ended shim may have left."""
INSIST_EVERY = 0.2
"""Seconds between two KILLs of what is still there."""
LOOK_EVERY = 0.1
"""Seconds between two looks at processes whose end the system does not report."""
SPARE_DESCRIPTORS = 16
"""Descriptors that are not spent on watching processes: logs and records want some too."""
MAX_ENVIRONMENT = 4 << 20

_DEFAULT_AGAIN = sorted(signal.valid_signals() - {getattr(signal, "SIGKILL", 0), getattr(signal, "SIGSTOP", 0)})
"""What a daemon started by nohup, a shell or Python itself ignores, its jobs must not."""


@dataclass(slots=True)
class _Run:
    """One run and how far it is. `start` is the shim's start time when it is not our child."""

    job_id: str
    paths: JobPaths
    attempt: int
    pid: int
    ours: bool
    pidfd: int | None = None
    start: float | None = None
    exit: Exit | None = None
    kill_at: float | None = None
    over_at: float = 0.0
    cpu: float = 0.0
    peak: int = 0


class LocalLauncher:
    """Runs jobs as processes of this machine. `kill_grace`: seconds between TERM and KILL."""

    def __init__(
        self,
        root: str,
        kill_grace: float,
        portable: bool = False,
        table: ProcessTable | None = None,
        step: Callable[[str], None] | None = None,
    ) -> None:
        self.root = root
        self.kill_grace = kill_grace
        self.table = table or open_table(portable)
        self._step = step
        self._runs: dict[str, _Run] = {}
        self._over: list[_Run] = []
        self._by_fd: dict[int, _Run] = {}
        pidfds = hasattr(os, "pidfd_open") and sys.platform.startswith("linux") and not portable
        self._epoll = select.epoll() if pidfds else None
        self._orphans = Orphans() if pidfds else None
        self._null = os.open(os.devnull, os.O_RDWR)
        self._boot = boot_id()
        self._sample_at = 0.0
        self._base = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}

    # --- beginning -----------------------------------------------------------------------------------------

    def fileno(self) -> int | None:
        return self._epoll.fileno() if self._epoll is not None else None

    def ticket(self) -> str:
        """This boot, and the seconds since it: the shim will have started after that."""
        return f"{self._boot} {_since_boot():.2f}"

    def start(self, job: Job, paths: JobPaths) -> None:
        record = job.record
        options = record.effective
        with explained(f"cannot write the log of {job.folder}"):
            log = joblog.open_new(paths, record.started or 0.0, (*record.notes, *stream_notes(record)))
        if record.attempt > 1:
            with contextlib.suppress(OSError):
                os.unlink(paths.progress)  # it was an earlier attempt's
        if self._step is not None:
            self._step("start: log opened")
        try:
            command = command_words(options, paths.dir)
            mark = f"{self._boot} {record.id}"
            words = shim_words(paths.dir, record.attempt, mark, streams(record), options.chdir, command)
            pid = self._spawn(words, self._environment(job, paths), log)
        except OSError as err:
            if err.errno == errno.E2BIG:
                text = "the script or its environment is longer than the system allows; put the script into a file"
                raise JobFileError(text) from err
            raise TryAgain(f"cannot start {job.folder}: {err.strerror}") from err
        except ValueError as err:  # a record that QM did not write: the job file's readers let no such text pass
            raise JobFileError(f"no words for a program: {err}") from err
        finally:
            os.close(log)
        self._watch(_Run(record.id, paths, record.attempt, pid, ours=True))

    def _spawn(self, words: list[str], environment: dict[bytes, bytes], log: int) -> int:
        actions = [
            (os.POSIX_SPAWN_DUP2, self._null, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]
        try:
            return os.posix_spawn(
                SHELL,
                words,
                environment,
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=_DEFAULT_AGAIN,
            )
        except NotImplementedError:  # a C library without POSIX_SPAWN_SETSID
            import subprocess

            spawned = subprocess.Popen(
                words, env=environment, stdin=self._null, stdout=log, stderr=log, start_new_session=True
            )
            spawned.returncode = 0  # we reap it ourselves
            return spawned.pid

    def _environment(self, job: Job, paths: JobPaths) -> dict[bytes, bytes]:
        kept: dict[bytes, bytes] = {}
        base = self._base
        try:
            kept = parse_kept(read_regular(paths.environment, MAX_ENVIRONMENT))
            base = {}
        except FileNotFoundError:
            pass  # it came as a folder: it runs in the daemon's
        except OSError as err:
            if err.errno in TRANSIENT:
                raise
            raise JobFileError(f".qm/env, the environment to run in, cannot be read: {err.strerror}") from err
        variables = job_variables(job.record, paths.dir, self.root)
        return script_environment(base, kept, variables, dict(job.record.effective.env))

    def take_over(self, job: Job, paths: JobPaths) -> None:
        run = _Run(job.record.id, paths, job.record.attempt, 0, ours=False)
        shim = self._find_shim(job, paths)
        if shim is None:
            run.exit = read_exit(paths, run.attempt)
            self._is_over(run)
        else:
            run.pid, run.start = shim.pid, shim.start
        self._watch(run)

    def _find_shim(self, job: Job, paths: JobPaths) -> Process | None:
        """The shim that wrote the start mark, if it still runs: same boot, same pid, and no stranger under it."""
        try:
            number, boot, _ = read_regular(paths.start_mark(job.record.attempt), 256).decode().split()
            pid, begun = int(number), float(job.record.ticket.split()[1])
        except (OSError, ValueError, IndexError):
            return self._find_by_environment(job.record.id)
        process = self.table.find(pid) if boot == self._boot and pid > 0 else None
        if process is None or process.state in "ZX":
            return None
        if self.table.uid(process.pid) not in (None, _own_uid()) or process.session not in (0, process.pid):
            return None
        carried = self.table.job_of(process.pid)
        if carried is not None:
            return process if carried == job.record.id else None
        near = 0.0 <= _started_since_boot(process) - begun + 1.0 < 60.0
        return process if near else None

    def _find_by_environment(self, job_id: str) -> Process | None:
        """A start mark without its text (the daemon's machine was full): the shim leads its session."""
        everything = self.table.snapshot()
        for process in tree_of(self.table, everything, None, job_id):
            if process.session == process.pid:
                return process
        return None

    def _watch(self, run: _Run) -> None:
        self._runs[run.job_id] = run
        if self._epoll is not None and run.exit is None:
            try:
                run.pidfd = os.pidfd_open(run.pid)
                self._by_fd[run.pidfd] = run
                if not run.ours and not self._is_same(run):
                    self._unwatch(run)  # gone, and its number is another's by now
                elif run.pidfd >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS:
                    self._unwatch(run)
                else:
                    self._epoll.register(run.pidfd, select.EPOLLIN)
            except OSError:  # out of descriptors, no pidfds before Linux 5.3, gone: looked at by the clock instead
                self._unwatch(run)

    # --- ending --------------------------------------------------------------------------------------------

    def poll(self) -> list[Ended]:
        for run in self._candidates():
            if run.exit is None:
                try:
                    run.exit = self._collect(run)
                except OSError:  # nobody can say: unknown is not over, and the clock looks again
                    self._unwatch(run)
                if run.exit is not None:
                    self._unwatch(run)
                    self._is_over(run)
        ended = []
        for run in list(self._over):
            left = self._is_left_of(run)
            if left is None and time.monotonic() < run.over_at + UNDECIDED_FOR:
                continue
            if left:
                if run.kill_at is None:
                    self.end(run.job_id)
            else:
                self._over.remove(run)
                del self._runs[run.job_id]
                ended.append(Ended(run.job_id, run.exit or Exit(None)))
        return ended

    def _is_over(self, run: _Run) -> None:
        run.over_at = time.monotonic()
        self._over.append(run)

    def _candidates(self) -> list[_Run]:
        if self._epoll is None:
            return list(self._runs.values())
        ready = [self._by_fd[fd] for fd, _ in self._epoll.poll(0) if fd in self._by_fd]
        return ready + [run for run in self._runs.values() if run.pidfd is None and run.exit is None]

    def _collect(self, run: _Run) -> Exit | None:
        """How the shim ended, or None while it runs. OSError when nobody can say."""
        if not run.ours:
            if self._is_alive(run):
                return None
            exit_ = read_exit(run.paths, run.attempt)
            return replace(exit_, cpu_seconds=run.cpu or None, peak_memory=run.peak or None)
        try:
            pid, status, used = os.wait4(run.pid, os.WNOHANG)
        except ChildProcessError:  # the system reaped it, as it does where SIGCHLD is ignored
            return read_exit(run.paths, run.attempt)
        if pid == 0:
            return None
        try:
            said = read_exit_mark(run.paths, run.attempt)
        except OSError:
            said = None  # the shim ends with the same status
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        if said is None and ended_by is None:
            said = os.WEXITSTATUS(status)
            if said in NOT_BEGUN and not self._has_begun(run):
                return Exit(None, begun=False)
        peak = max(run.peak, _largest_process(used)) or None
        return Exit(said, ended_by if said is None else None, used.ru_utime + used.ru_stime, peak)

    def _has_begun(self, run: _Run) -> bool:
        """An exit mark that cannot be read now, or a `.qm` that only the script can have removed, tell that it has."""
        paths = run.paths
        return exists(paths.exit_mark(run.attempt)) or (exists(paths.dir) and not exists(paths.run))

    def _is_alive(self, run: _Run) -> bool:
        if run.pidfd is None:
            return self._is_same(run)
        poll = select.poll()
        poll.register(run.pidfd, select.POLLIN)
        return not poll.poll(0)

    def _is_same(self, run: _Run) -> bool:
        now = self.table.find(run.pid)
        return now is not None and now.start == run.start and now.state not in "ZX"

    def _unwatch(self, run: _Run) -> None:
        if run.pidfd is not None and self._epoll is not None:
            with contextlib.suppress(OSError):  # it could not be registered
                self._epoll.unregister(run.pidfd)
            del self._by_fd[run.pidfd]
            os.close(run.pidfd)
            run.pidfd = None

    def _is_left_of(self, run: _Run) -> bool | None:
        """Is anything left of a job whose shim has ended? None: that cannot be told at the moment."""
        if run.ours and self._orphans is not None:
            shims = {other.pid for other in self._runs.values() if other.ours and other.exit is None}
            if not self._orphans.living(shims):
                return False
        try:
            if self._tree(run):
                return True
            # Only where a full look is rare: it costs time, and elsewhere it comes after every job.
            undecided = self._orphans is not None and any_undecided(self.table, self.table.snapshot())
            return None if undecided else False
        except OSError:
            return True

    def _tree(self, run: _Run) -> list[Process]:
        everything = self.table.snapshot()
        leader = run.pid if run.exit is None or run.pid not in everything else None
        return tree_of(self.table, everything, leader or None, run.job_id)

    def end(self, job_id: str) -> None:
        run = self._runs[job_id]
        if run.kill_at is None:
            run.kill_at = time.monotonic() + self.kill_grace
            with contextlib.suppress(OSError):  # out of descriptors: the end of the grace period will tell
                self._signal(run, signal.SIGTERM)
                self._signal(run, signal.SIGCONT)  # a stopped process takes its TERM only when it goes on
                self._signal_shim(run, signal.SIGCONT)

    def _signal(self, run: _Run, number: int) -> None:
        for process in self._tree(run):
            self.table.send(process, number)

    def _insist(self, run: _Run, now: float) -> None:
        """KILL what is left; the shim last, so that it can still write the status."""
        late = run.kill_at is not None and now - run.kill_at > 1.0 + self.kill_grace
        self._signal(run, signal.SIGKILL)
        if late:
            self._signal_shim(run, signal.SIGKILL)

    def _signal_shim(self, run: _Run, number: int) -> None:
        shim = self.table.find(run.pid) if run.exit is None else None
        if shim is not None and (run.ours or shim.start == run.start):
            self.table.send(shim, number)

    # --- pausing -------------------------------------------------------------------------------------------

    def pause(self, job_id: str) -> None:
        run = self._runs[job_id]
        for _ in range(10):  # a process may have been forked while we looked
            going = [process for process in self._tree(run) if process.state not in "Tt"]
            if not going:
                break
            for process in going:
                self.table.send(process, signal.SIGSTOP)

    def resume(self, job_id: str) -> None:
        self._signal(self._runs[job_id], signal.SIGCONT)

    # --- by the clock --------------------------------------------------------------------------------------

    def tick(self) -> float | None:
        now = time.monotonic()
        due: list[float] = []
        for run in list(self._runs.values()):
            if run.kill_at is not None:
                if now >= run.kill_at:
                    with contextlib.suppress(OSError):  # out of descriptors: next time
                        self._insist(run, now)
                due.append(max(run.kill_at, now + INSIST_EVERY))
            if run.pidfd is None:
                undecided = run.exit is not None and run.kill_at is None
                due.append(now + (LOOK_AGAIN if undecided else LOOK_EVERY))
        if not self._runs:
            self._sample_at = now + SAMPLE_EVERY
        elif now >= self._sample_at:
            self._sample_at = now + SAMPLE_EVERY
            with contextlib.suppress(OSError):
                self._sample()
        if self._runs:
            due.append(self._sample_at)
        if self._orphans is not None:
            self._orphans.reap({run.pid for run in self._runs.values() if run.ours and run.exit is None})
        return min(due, default=None)

    def _sample(self) -> None:
        everything = self.table.snapshot()
        for run in [run for run in self._runs.values() if run.exit is None]:
            tree = descendants(everything, run.pid)
            run.cpu = max(run.cpu, sum(process.cpu for process in tree))
            memory = sum(process.memory for process in tree)
            run.peak = max(run.peak, memory)
            with contextlib.suppress(OSError):  # a full disk must not stop the daemon
                usage.add_row(run.paths.usage, time.time(), run.cpu, memory)


def boot_id() -> str:
    """What tells one boot of this machine from the next."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        import psutil

        return f"boot-{psutil.boot_time():.0f}"


def _largest_process(used: resource.struct_rusage) -> int:
    """Peak bytes of the largest process of a run; 0 if unknown.

    A child's peak begins with its parent's (the kernel counts what it was before exec), so a figure that is
    not above the daemon's own says nothing.
    """
    per_unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB elsewhere
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used.ru_maxrss * per_unit if used.ru_maxrss > own else 0


def _own_uid() -> int | None:
    return os.getuid() if hasattr(os, "getuid") else None


def _since_boot() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


def _started_since_boot(process: Process) -> float:
    """Seconds from boot to the start of a process, on the clock of `_since_boot`."""
    if sys.platform.startswith("linux") and process.start < 1e9:
        return process.start / os.sysconf("SC_CLK_TCK")
    return _since_boot() - (time.time() - process.start)
