"""What cannot be, or is surely not meant, in a job's options on this machine: told at arrival and by `qm check`."""

from __future__ import annotations

from qm.judgement.delays import begin_at
from qm.judgement.waiting import Limits
from qm.vocabulary.options import Options
from qm.vocabulary.text import size
from qm.vocabulary.values import awaited


def impossible(options: Options, limits: Limits) -> list[str]:
    """Why the job could never start; processors are none of it, since nb_proc is lowered."""
    found = []
    if options.mem is not None and options.mem > limits.memory:
        found.append(f"mem = {size(options.mem)} is more than MaxMemory, {size(limits.memory)}; ask for less")
    if options.gpus > limits.gpus:
        found.append(f"gpus = {options.gpus} is more than MaxGPUs, {limits.gpus}; ask for less")
    return found


def doubtful(options: Options, limits: Limits, name: str, now: float) -> list[str]:
    """What the job's owner should know; the job runs all the same."""
    found = []
    if options.nb_proc > limits.processors:
        found.append(f"nb_proc {options.nb_proc} is more than MaxNbProcessors: lowered to {limits.processors}")
    begin = begin_at(options.begin, now)
    if begin is not None and begin < now:
        found.append(f"begin = {options.begin} is in the past: it may start at once")
    if name in {awaited(one)[0] for one in options.after}:
        found.append(
            f"after = {name} is its own name: it waits for an earlier job of that name, and is invalid without one"
        )
    if options.group and options.max_parallel is None and options.group not in limits.groups:
        found.append(
            f"group {options.group} has no limit; max_parallel, or [Group {options.group}] in QMserv.cfg, sets one"
        )
    if options.array and any(file and "%a" not in file for file in (options.output, options.error)):
        found.append("all tasks of the array write to the same file; %a in output or error is the task's number")
    if options.wall_time == 0:
        found.append("wall_time = 0 leaves it no time at all: it is taken as no limit")
    return found
