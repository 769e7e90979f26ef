"""What this machine has, and what of it this process may use: processors, memory, GPUs, room on the disk.

Invariant: nothing here changes anything, and what cannot be told is the answer that starts no job too many
(no GPU, no memory left), but for the disk: a file system that does not say how full it is must not stop the queue.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import sys

from qm.judgement.processors import Cpu
from qm.judgement.waiting import Limits
from qm.spool.hierarchies import memory_left, memory_limit, place_of, text_of
from qm.vocabulary.config import Settings
from qm.vocabulary.text import size

MOST_RESERVE = 4 << 30
"""Bytes: of the machine's memory a tenth is kept for others than jobs, but no more than this."""
GPU_PATIENCE = 10.0
"""Seconds that nvidia-smi may take; it hangs when a driver does."""

_LINUX = sys.platform.startswith("linux")


def limits(settings: Settings) -> Limits:
    """What the running jobs may have together."""
    return Limits(
        processors=settings.max_processors or usable_processors(),
        memory=max_memory(settings),
        gpus=len(gpu_numbers(settings)),
        groups=dict(settings.groups),
    )


# --- processors --------------------------------------------------------------------------------------------


def usable_processors() -> int:
    """The processors this process may use: what `MaxNbProcessors = auto` means."""
    return len(_usable())


def _usable() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cpus(system: str = "/sys/devices/system") -> list[Cpu]:
    """The processors this process may use, with core and NUMA node.

    Of Linux's tables (its documents admin-guide/cputopology and ABI/stable/sysfs-devices-node). Without them
    each is a core of its own, and there is one node. A core is named by the first of its processors, so that
    two packages have no core in common.
    """
    nodes = _nodes(f"{system}/node") if _LINUX else {}
    return [Cpu(number, _core(number, f"{system}/cpu"), nodes.get(number, 0)) for number in _usable()]


def _core(number: int, folder: str) -> int:
    for name in ("core_cpus_list", "thread_siblings_list"):  # before Linux 5.3 it has only the second name
        siblings = _numbers(text_of(f"{folder}/cpu{number}/topology/{name}")) if _LINUX else ()
        if siblings:
            return min(siblings)
    return number


def _nodes(folder: str) -> dict[int, int]:
    """The node of each processor."""
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    numbers = [int(name.removeprefix("node")) for name in names if re.fullmatch("node[0-9]+", name)]
    return {cpu: node for node in numbers for cpu in _numbers(text_of(f"{folder}/node{node}/cpulist"))}


def _numbers(text: str) -> list[int]:
    """Linux's lists: `0-3,8-11`."""
    pairs = re.findall(r"([0-9]+)(?:-([0-9]+))?", text)
    return [number for first, last in pairs for number in range(int(first), int(last or first) + 1)]


# --- memory ------------------------------------------------------------------------------------------------


def total_memory() -> int:
    """Bytes of memory of the machine, or what this process's cgroup is limited to, if that is less."""
    place = place_of() if _LINUX else None
    limit = None if place is None else memory_limit(place)
    total = _machine_memory()
    return total if limit is None else min(total, limit)


def _machine_memory() -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import psutil

    return int(psutil.virtual_memory().total)


def max_memory(settings: Settings) -> int:
    """Bytes of memory that running jobs may ask for together: MaxMemory, or all but a reserve for everybody else."""
    if settings.max_memory is not None:
        return settings.max_memory
    total = total_memory()
    return total - min(total // 10, MOST_RESERVE)


def doubts(settings: Settings) -> list[str]:
    """What the settings promise, but this machine does not have."""
    if settings.max_memory is not None and settings.max_memory > (there := total_memory()):
        more = f"MaxMemory {size(settings.max_memory)} is more than this machine has, {size(there)}"
        return [f"{more}: a job that asks for more than there is would wait for ever, and hold up others"]
    return []


def available_memory(proc: str = "/proc") -> int:
    """Bytes that can be used now without swapping; 0 if that cannot be told."""
    if not _LINUX:
        import psutil

        return int(psutil.virtual_memory().available)
    found = re.search(r"^MemAvailable:\s*([0-9]+) kB", text_of(f"{proc}/meminfo"), re.MULTILINE)
    available = int(found[1]) << 10 if found else 0
    place = place_of(proc=proc)
    left = None if place is None else memory_left(place)
    return available if left is None else min(available, left)


# --- GPUs --------------------------------------------------------------------------------------------------


def gpu_numbers(settings: Settings) -> tuple[int, ...]:
    """The numbers of the GPUs that jobs may get.

    With `MaxGPUs = auto` those that nvidia-smi lists, and if CUDA_VISIBLE_DEVICES is set, only those it names: by
    numbers, for which GPU a UUID is cannot be told as CUDA may count in another order than the driver.
    """
    if settings.max_gpus is not None:
        return tuple(range(settings.max_gpus))
    program = shutil.which("nvidia-smi")
    listed = _listed(program) if program else ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return listed
    named = [int(word) if word.strip().isdecimal() else -1 for word in visible.split(",")]
    return tuple(dict.fromkeys(number for number in named if number in listed)) if -1 not in named else ()


@functools.cache  # it takes up to seconds, and a machine's GPUs stay
def _listed(program: str) -> tuple[int, ...]:
    import subprocess  # here, since it is slow to import and most machines have no such program

    words = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=GPU_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(int(line) for line in done.stdout.split() if line.isdigit())


# --- the disk ----------------------------------------------------------------------------------------------


def disk_short(root: str, reserve: int) -> str:
    """What is to be said when less than `reserve` bytes are free where `root` lies; "" when there is enough."""
    try:
        free = shutil.disk_usage(root).free if reserve else 0
    except OSError:
        return ""
    return f"{size(free)} of disk free, Disk_Reserve is {size(reserve)}" if free < reserve else ""
