"""What every measure needs: a spool of its own, a daemon on it, and figures read from the kernel.

Invariant: what is started here is ended here, by its pid, however the measure ends; and no measure reads more
of a running daemon than the folders it works on, so that watching costs it next to nothing.
"""

from __future__ import annotations

import math
import os
import select
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

FOLDERS = ("QM_qJobs", "QM_Jobs", "QM_dJobs", "QM_lost+found")
CONFIG = "[QMServer]\nQM_FOLDER : .\nMaxNbProcessors : 2\nlaunch_type : non-blocking\n"
TRUE = "/bin/true"


class BenchmarkError(Exception):
    """A figure could not be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asks for; `jobs` and `repeat` are None where a measure has its own default."""

    folder: Path  # made for this run, empty, deleted after it
    daemon: Sequence[str]
    only: Sequence[str] = ()  # contestants, by their short names; empty: all
    quick: bool = False
    jobs: int | None = None
    repeat: int | None = None

    def count(self, usual: int, quick: int) -> int:
        """How many jobs: as asked for, else the usual number, or the smaller one for --quick."""
        return self.jobs or (quick if self.quick else usual)

    def repeats(self, usual: int) -> int:
        """How many repeats: as asked for, else the usual number, or one for --quick."""
        return self.repeat or (1 if self.quick else usual)


@dataclass(frozen=True, slots=True)
class Table:
    """One measure's result: what was counted, a row of texts for each contestant, and remarks."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def wait_until(holds: Callable[[], bool], what: str, seconds: float, every: float = 0.002) -> None:
    """Wait until `holds()`, asking each `every` seconds; BenchmarkError naming `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise BenchmarkError(f"waited {seconds:g} s in vain until {what}")
        time.sleep(every)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median_and_range(values: Sequence[float], form: str = ".0f") -> str:
    """`740 (702 to 761)`, or the one value alone."""
    middle = format(statistics.median(values), form)
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):{form}} to {max(values):{form}})"


def count_folders(path: Path) -> int:
    """How many folders are in `path`: from its link count where the file system keeps one, else listed."""
    links = os.stat(path).st_nlink
    if links >= 2:
        return links - 2
    with os.scandir(path) as entries:  # btrfs, overlayfs: always one link
        return sum(entry.is_dir(follow_symlinks=False) for entry in entries)


def change_times(path: Path) -> dict[str, float]:
    """When each folder in `path` was last renamed or changed (its ctime, epoch seconds)."""
    with os.scandir(path) as entries:
        return {entry.name: entry.stat(follow_symlinks=False).st_ctime for entry in entries}


class Beacon:
    """A FIFO on which the driver blocks until a job's shell writes a line; `script` is what the job runs.

    The shell's built-in echo is the script's first instruction, so that no other program has to be started.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.script = f"echo >{path}"
        self._fd = os.open(path, os.O_RDWR)  # with a reader always there, no writer ever blocks

    def wait(self, seconds: float = 30) -> None:
        """Block until one line has come; BenchmarkError after `seconds`."""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            raise BenchmarkError(f"no job gave a sign of life within {seconds:g} s")
        os.read(self._fd, 1)

    def close(self) -> None:
        os.close(self._fd)


class Spool:
    """The four folders with their QMserv.cfg, and a staging folder beside them on the same file system."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "spool"
        self.staging = root / "staging"
        self.waiting, self.running, self.done, self.lost = (self.folder / name for name in FOLDERS)
        for path in (self.staging, self.waiting, self.running, self.done, self.lost):
            path.mkdir(parents=True)
        self.config = self.folder / "QMserv.cfg"
        self.config.write_text(CONFIG, encoding="utf-8")

    def make(self, name: str, script: str = TRUE) -> str:
        """A complete job folder in staging, with the fewest system calls; gives its path."""
        path = f"{self.staging}/{name}"
        os.mkdir(path)
        fd = os.open(f"{path}/proc_config.cfg", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, f"[QMOptions]\nscript : {script}\n".encode())
        os.close(fd)
        return path

    def submit(self, name: str, script: str = TRUE) -> None:
        """Make a job folder and rename it into the queue, as a careful user would."""
        os.rename(self.make(name, script), f"{self.waiting}/{name}")

    def finished(self) -> int:
        """How many jobs are in QM_dJobs; BenchmarkError as soon as one is in lost+found."""
        if count_folders(self.lost):
            names = ", ".join(sorted(os.listdir(self.lost))[:3])
            raise BenchmarkError(f"jobs ended in QM_lost+found instead of QM_dJobs: {names}, …")
        return count_folders(self.done)

    def wait_finished(self, number: int, seconds: float = 600) -> None:
        """Wait until `number` jobs are in QM_dJobs."""
        wait_until(lambda: self.finished() >= number, f"{number} jobs were in QM_dJobs", seconds)


def folder_cost(folder: Path, folders: int = 500) -> float:
    """Microseconds to make and queue one job folder, here and now: it shows whether ext4 is being slow."""
    spool = Spool(folder)
    begun = time.perf_counter()
    for number in range(folders):
        spool.submit(f"probe{number}")
    return 1e6 * (time.perf_counter() - begun) / folders


class Daemon:
    """The daemon on one spool: started on entering, ended on leaving, and in between as a measure likes."""

    def __init__(self, command: Sequence[str], spool: Spool) -> None:
        self.spool = spool
        self._command = [*command, "-c", str(spool.config)]
        self._output = spool.staging.parent / "daemon.out"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BenchmarkError("the daemon is not running")
        return self._process.pid

    def start(self, ready: bool = True) -> None:
        """Start it, and wait until it holds its lock unless `ready` is False."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(  # in a session of its own: a Ctrl-C is for the driver alone
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        if ready:
            wait_until(self._is_ready, "the daemon held its lock", 30)

    def _is_ready(self) -> bool:
        """Whether the lock is taken. Read from /proc/locks: trying to lock would be in the daemon's way."""
        if self._process is not None and self._process.poll() is not None:
            said = self._output.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
            status = self._process.returncode
            raise BenchmarkError(f"the daemon ended with status {status}: " + " | ".join(said))
        try:
            inode = os.stat(self.spool.folder / ".qm" / "lock").st_ino
        except FileNotFoundError:
            return False
        return f":{inode} " in Path("/proc/locks").read_text(encoding="ascii")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it has not gone after 10 s; jobs that run go on."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
