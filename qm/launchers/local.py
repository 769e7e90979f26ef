"""The launcher for this machine.

Invariants: a run happens in a session of its own, in a shim that outlives the daemon; it counts as over only
when nothing of its process tree is left, so its processors are really free and nobody writes into its folder
any more while it is filed.

What a run leaves behind is found cheaply on Linux: the daemon is the subreaper (prctl(2)) of all its runs, so
an orphan shows up among its own children. Elsewhere, and for runs taken over from an earlier daemon, every
process is looked at.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable

from qm.judgement.verdict import SIGNAL_BASE, Exit
from qm.launchers.affinity import pin
from qm.launchers.base import Ended, Seen, Start, read_exit, read_exit_mark
from qm.launchers.cgroups import open_cgroups
from qm.launchers.execution import Execution
from qm.launchers.finding import boot_id, find_shim, since_boot
from qm.launchers.measuring import Meter
from qm.launchers.orphans import Orphans
from qm.launchers.processes import Process, ProcessTable, any_undecided, open_table, tree_of
from qm.launchers.shim import NOT_BEGUN, streams
from qm.launchers.spawning import Spawner
from qm.launchers.watching import Watch
from qm.spool.files import exists
from qm.spool.paths import JobPaths
from qm.vocabulary.record import Job
from qm.vocabulary.text import size

UNDECIDED_FOR = 0.5
"""Seconds that are waited, after the end of a shim, for processes that cannot be told to be its run's or not."""
LOOK_AGAIN = 0.02
"""Seconds between two looks at what an ended shim may have left."""
INSIST_EVERY = 0.2
"""Seconds between two KILLs of what is still there."""
LOOK_EVERY = 0.1
"""Seconds between two looks at processes whose end the system does not report."""
LEAST_VICTIM = 32 << 20
"""Bytes: the kernel ends the largest processes for want of memory (proc(5), oom_score), so none that had less."""
KILLED = SIGNAL_BASE + 9
"""The status of a command that was ended by KILL, as by the kernel for want of memory."""


_PER_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in a unit of ru_maxrss (getrusage(2)): bytes on macOS, KiB elsewhere."""


class LocalLauncher:
    """Runs jobs as processes of this machine. `kill_grace`: seconds between TERM and KILL.

    `adopts`: this process has no children but runs, so it may adopt their orphans and reap whatever ends. Without
    that, nobody's children but its own are waited for.
    """

    def __init__(
        self,
        root: str,
        kill_grace: float,
        portable: bool = False,
        table: ProcessTable | None = None,
        step: Callable[[str], None] | None = None,
        log: logging.Logger | None = None,
        adopts: bool = True,
    ) -> None:
        self.kill_grace = kill_grace
        self.table = table or open_table(portable)
        pidfds = hasattr(os, "pidfd_open") and sys.platform.startswith("linux") and not portable
        self._boot = boot_id()
        self._spawner = Spawner(root, self._boot, step)
        self._watch = Watch(self.table, pidfds)
        self._meter = Meter(self.table)
        self._orphans = Orphans() if pidfds and adopts else None
        self._cgroups = open_cgroups(log) if log is not None and not portable else None
        self._runs: dict[str, Execution] = {}
        self._over: list[Execution] = []

    # --- beginning -----------------------------------------------------------------------------------------

    def fileno(self) -> int | None:
        return self._watch.fileno()

    def ticket(self) -> str:
        """This boot, and the seconds since it: the shim will have started after that."""
        return f"{self._boot} {since_boot():.2f}"

    def start(self, job: Job, paths: JobPaths, start: Start) -> None:
        run = Execution(start.task, paths, 0, ours=True)
        self._prepare(run, job)
        if run.mem is not None and self._cgroups is not None:
            with contextlib.suppress(OSError):  # then its memory is looked at instead
                run.cgroup = self._cgroups.make(f"qm-{run.key}-{start.task.attempt}", run.mem)
        try:
            groups = run.cgroup.procs_files if run.cgroup is not None else ()
            run.pid = self._spawner.begin(job, paths, start, groups)
        except BaseException:
            self._remove_group(run)
            raise
        self._add(run)

    def _prepare(self, run: Execution, job: Job) -> None:
        """What is to be watched of it: its memory, its streams."""
        options = job.record.effective
        run.mem = options.mem
        if options.zombie_time is not None:
            where = os.path.join(run.paths.dir, options.chdir)
            files = [os.path.join(where, file) for file in streams(job.record, run.task) if file]
            number = run.task.number
            run.outputs = (run.paths.task_log(number), run.paths.task_progress(number), *files)

    def take_over(self, job: Job, paths: JobPaths, start: Start) -> None:
        run = Execution(start.task, paths, 0, ours=False)
        if run.key in self._runs:  # the daemon was interrupted when it took over an array's tasks
            return
        self._prepare(run, job)
        shim = find_shim(self.table, self._boot, paths, start)
        if shim is None:
            run.exit = read_exit(paths, run.task.label)
            self._note_end(run)
        else:
            run.pid, run.start = shim.pid, shim.start
            if self._cgroups is not None and run.mem is not None:
                run.cgroup = self._cgroups.find(shim.pid)
        self._add(run)

    def tidy(self) -> None:
        if self._cgroups is not None:
            self._cgroups.remove_empty()

    def _add(self, run: Execution) -> None:
        self._runs[run.key] = run
        self._watch.add(run)

    # --- ending --------------------------------------------------------------------------------------------

    def poll(self) -> list[Ended]:
        for run in self._watch.candidates(self._runs.values()):
            if run.exit is None:
                try:
                    run.exit = self._collect(run)
                except OSError:  # nobody can say: unknown is not over, and the clock looks again
                    self._watch.drop(run)
                if run.exit is not None:
                    self._watch.drop(run)
                    self._note_end(run)
        ended = []
        for run in list(self._over):
            left = self._is_left_of(run)
            if left is None and time.monotonic() < run.over_at + UNDECIDED_FOR:
                continue
            if left:
                if run.kill_at is None:
                    self.end(run.key)
            else:
                self._over.remove(run)
                del self._runs[run.key]
                exit_ = run.exit or Exit(None)
                if why := self._out_of_memory(run):
                    exit_ = exit_._replace(out_of_memory=why)
                self._remove_group(run)
                self._meter.ended(run, exit_.cpu_seconds)
                ended.append(Ended(run.key, exit_))
        return ended

    def _note_end(self, run: Execution) -> None:
        run.over_at = time.monotonic()
        self._over.append(run)

    def _out_of_memory(self, run: Execution) -> str:
        """Why it is known, or presumed, that the kernel ended it for want of memory; "" when it is neither."""
        if run.cgroup is not None and (count := run.cgroup.oom_kills()):
            limit = size(run.mem or 0)
            return f"it reached its memory limit of {limit}: the kernel ended {count} of its processes"
        exit_ = run.exit or Exit(None)
        killed = run.kill_at is None and (exit_.status == KILLED or exit_.signal == signal.SIGKILL)
        small = 0 < run.largest < LEAST_VICTIM  # it was another that the kernel chose
        if killed and not small and self._meter.oom_kills_since():
            return "presumably ended by the kernel for want of memory (oom_kill in /proc/vmstat rose)"
        return ""

    def _remove_group(self, run: Execution) -> None:
        if run.cgroup is not None:
            run.cgroup.remove()
            run.cgroup = None

    def _collect(self, run: Execution) -> Exit | None:
        """How the shim ended, or None while it runs. OSError when nobody can say."""
        if not run.ours:
            if self._watch.is_alive(run):
                return None
            exit_ = read_exit(run.paths, run.task.label)
            return exit_._replace(cpu_seconds=run.cpu or None, peak_memory=run.peak or None)
        try:
            pid, status, used = os.wait4(run.pid, os.WNOHANG)
        except ChildProcessError:  # the system reaped it, as it does where SIGCHLD is ignored
            return read_exit(run.paths, run.task.label)
        if pid == 0:
            return None
        try:
            said = read_exit_mark(run.paths, run.task.label)
        except OSError:
            said = None  # the shim ends with the same status
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        if said is None and ended_by is None:
            said = os.WEXITSTATUS(status)
            if said in NOT_BEGUN and not self._has_begun(run):
                return Exit(None, begun=False)
        run.largest = _largest_process(used)
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PER_UNIT
        peak = max(run.peak, run.largest if run.largest > own else 0) or None
        return Exit(said, ended_by if said is None else None, used.ru_utime + used.ru_stime, peak)

    def _has_begun(self, run: Execution) -> bool:
        """An exit mark that cannot be read now, or a `.qm` that only the script can have removed, tell that it has."""
        paths = run.paths
        return exists(paths.exit_mark(run.task.label)) or (exists(paths.dir) and not exists(paths.run))

    def _is_left_of(self, run: Execution) -> bool | None:
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

    def _tree(self, run: Execution) -> list[Process]:
        everything = self.table.snapshot()
        leader = run.pid if run.exit is None or run.pid not in everything else None
        tree = tree_of(self.table, everything, leader or None, run.key)
        if run.cgroup is not None:
            known = {run.pid, *(process.pid for process in tree)}
            tree += [everything[pid] for pid in run.cgroup.pids() if pid in everything and pid not in known]
        return tree

    def is_over(self, key: str) -> bool:
        return self._runs[key].exit is not None

    def end(self, key: str) -> None:
        run = self._runs[key]
        if run.kill_at is None:
            run.kill_at = time.monotonic() + self.kill_grace
            with contextlib.suppress(OSError):  # out of descriptors: the end of the grace period will tell
                self._signal(run, signal.SIGTERM)
                self._signal(run, signal.SIGCONT)  # a stopped process takes its TERM only when it goes on
                self._signal_shim(run, signal.SIGCONT)

    def _signal(self, run: Execution, number: int) -> None:
        for process in self._tree(run):
            self.table.send(process, number)

    def _insist(self, run: Execution, now: float) -> None:
        """KILL what is left; the shim last, so that it can still write the status."""
        late = run.kill_at is not None and now - run.kill_at > 1.0 + self.kill_grace
        self._signal(run, signal.SIGKILL)
        if late:
            self._signal_shim(run, signal.SIGKILL)

    def _signal_shim(self, run: Execution, number: int) -> None:
        shim = self.table.find(run.pid) if run.exit is None else None
        if shim is not None and (run.ours or shim.start == run.start):
            self.table.send(shim, number)

    def close(self, patience: float) -> None:
        """End all that runs, waiting up to `patience` seconds for that, and give back all descriptors."""
        deadline = time.monotonic() + patience
        for key in list(self._runs):
            self.end(key)
        while self._runs and time.monotonic() < deadline:
            self.poll()
            self.tick()
            time.sleep(LOOK_AGAIN)
        for run in self._runs.values():
            self._watch.drop(run)
        self._watch.close()
        self._spawner.close()

    # --- pausing -------------------------------------------------------------------------------------------

    def pause(self, key: str) -> None:
        run = self._runs[key]
        for _ in range(10):  # a process may have been forked while we looked
            going = [process for process in self._tree(run) if process.state not in "Tt"]
            if not going:
                break
            for process in going:
                self.table.send(process, signal.SIGSTOP)

    def resume(self, key: str, processors: tuple[int, ...]) -> None:
        run = self._runs[key]
        if processors:
            for process in self._tree(run):
                pin(process.pid, processors)
            pin(run.pid, processors)
        self._signal(run, signal.SIGCONT)

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
        if (measure_at := self._meter.tick(self._runs.values(), now)) is not None:
            due.append(measure_at)
        if self._orphans is not None:
            self._orphans.reap({run.pid for run in self._runs.values() if run.ours and run.exit is None})
        return min(due, default=None)

    def seen(self) -> list[Seen]:
        return self._meter.seen()

    def promised(self) -> int:
        return sum(max(0, run.mem - run.memory) for run in self._runs.values() if run.mem is not None)


def _largest_process(used: resource.struct_rusage) -> int:
    """Peak bytes of the largest process of a run, or of the daemon, if that is more.

    A child's peak begins with its parent's (the kernel counts what it was before exec), so a figure that is
    not above the daemon's own is only a bound.
    """
    return used.ru_maxrss * _PER_UNIT
