"""What a look at a running job means: is it over its memory, does it still live? Pure: facts in, a judgement out.

A zombie is core4's word for a job that has printed nothing and used no CPU for `zombie_time`. "No CPU" is less than
ACTIVE_CPU since it was last seen alive: to be asked by a poll whether something has come is no work.
"""

from __future__ import annotations

from typing import NamedTuple

from qm.vocabulary.options import Options
from qm.vocabulary.text import duration, size

ACTIVE_CPU = 0.05
"""Seconds of CPU that show that a run does something."""


class Usage(NamedTuple):
    """A look at a run. `cpu` is seconds so far, `memory` bytes, `output` a number that changes when it writes.

    `limited`: the kernel keeps it below its limit by itself; `oom_kills` tells how many processes it ended for that.
    """

    cpu: float
    memory: int
    output: int
    limited: bool = False
    oom_kills: int = 0


class Pulse(NamedTuple):
    """When (monotonic seconds) a run was last seen doing something, and with what CPU and output."""

    at: float
    cpu: float = 0.0
    output: int = 0


def over_memory(usage: Usage, mem: int | None) -> str:
    """Why a run is to be ended for its memory, with the numbers; "" if it is not."""
    if mem is None:
        return ""
    if usage.oom_kills:
        return f"it reached its memory limit of {size(mem)}: the kernel ended {usage.oom_kills} of its processes"
    if not usage.limited and usage.memory > mem:
        return f"it uses {size(usage.memory)} of memory, its limit is {size(mem)}"
    return ""


def pulse_after(pulse: Pulse, usage: Usage, now: float) -> Pulse:
    """The pulse after a look: a new one if it did anything since."""
    alive = usage.output != pulse.output or usage.cpu - pulse.cpu >= ACTIVE_CPU
    return Pulse(now, usage.cpu, usage.output) if alive else pulse


def zombie(pulse: Pulse, now: float, options: Options) -> str:
    """What to say of a run that seems dead; "" for one that lives, or that nobody asked about."""
    if options.zombie_time is None or now - pulse.at < options.zombie_time:
        return ""
    return f"no output and no CPU for {duration(options.zombie_time)} (zombie_time)"
