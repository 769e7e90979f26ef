"""What the kernel says of the machine, and of the CPU time and memory of a process tree (Linux)."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def process_tree(pid: int) -> list[int]:
    """`pid` and all its descendants, so that a daemon's helpers are counted too."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it may have ended meanwhile
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    tree = [pid]
    for member in tree:  # grows while it is walked
        tree.extend(children.get(member, ()))
    return tree


def cpu_times(pid: int) -> dict[str, int]:
    """Nanoseconds on a CPU, for each thread of the tree (schedstat: finer than the 10 ms ticks of stat)."""
    times: dict[str, int] = {}
    for member in process_tree(pid):
        for thread in _threads(member):
            with contextlib.suppress(OSError):
                times[thread.name] = int((thread / "schedstat").read_text().split()[0])
    return times


def _threads(pid: int) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (PROC / str(pid) / "task").iterdir()


def cpu_ms(before: dict[str, int], after: dict[str, int]) -> float:
    """Milliseconds of CPU between two readings; a thread that is new has spent all of its time in between."""
    return sum(after[thread] - before.get(thread, 0) for thread in after) / 1e6


def resident_mb(pid: int) -> float:
    """Resident memory of the tree in MB (10**6 bytes); pages that two processes share count twice."""
    total = 0
    for member in process_tree(pid):
        with contextlib.suppress(OSError):
            for line in (PROC / str(member) / "status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
    return total / 1e6


def describe(folder: Path) -> list[str]:
    """The machine in a few lines, without its name or any path; `folder` is where the measures work."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return [
        f"{_cpu_model()}, {len(os.sched_getaffinity(0))} processors, {memory:.0f} GB, "
        f"load {os.getloadavg()[0]:.2f} before the run",
        f"{platform.system()} {platform.release()}, {file_system(folder)}, "
        f"{platform.python_implementation()} {platform.python_version()}",
        f"QM at {_commit()}",
    ]


def _cpu_model() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.lower().startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def file_system(folder: Path) -> str:
    """The type of the file system that holds `folder`: that of the longest mount point above it (proc(5))."""
    best, kind = "", "unknown file system"
    for line in (PROC / "self" / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mount = before.split()[4]
        if len(mount) >= len(best) and folder.resolve().is_relative_to(mount):
            best, kind = mount, after.split()[0]
    return kind


def _commit() -> str:
    """The commit of the source beside this file, and whether it has been changed since."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"
    return f"commit {commit.stdout.strip()}" + (", modified" if status.stdout else "")
