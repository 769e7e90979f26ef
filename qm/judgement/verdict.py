"""The verdict: what an ended run means for its job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qm.vocabulary.record import Run
from qm.vocabulary.states import Event, State

SIGNAL_BASE = 128
"""A shell reports a command ended by signal n with status 128 + n (POSIX, sh, 2.8.2)."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run ended. `status` is the shim's word, None when it left none; `signal` ended the shim itself.

    `cpu_seconds` is user plus system time of all processes that were waited for, `peak_memory` the largest
    single process in bytes; None where nobody could tell. `begun` is False when the shim could not begin the
    script at all.
    """

    status: int | None
    signal: int | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    begun: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """The event that follows from an exit, and the reason in words."""

    event: Event
    reason: str
    signal: int | None = None


def signal_of(status: int) -> int | None:
    """The signal that a shell's exit status may stand for; it cannot be told from a plain exit with that number."""
    number = status - SIGNAL_BASE
    return number if 0 < number < 65 else None


def code_in_words(exit_: Exit) -> str:
    """As the last line of process.log has it: `0`, `143 (signal 15?)`, `none (signal 9)`, `none`."""
    if exit_.status is None:
        return f"none (signal {exit_.signal})" if exit_.signal else "none"
    signal = signal_of(exit_.status)
    return f"{exit_.status} (signal {signal}?)" if signal else str(exit_.status)


def attempts_made(history: Iterable[Run]) -> int:
    """How many of these runs count as attempts: one whose script was not begun is none, though it has a number."""
    return sum(run.state != State.PENDING.value for run in history)


def judge(exit_: Exit, wanted: Event | None, wanted_reason: str, attempts_left: int) -> Verdict:
    """What becomes of the job.

    `wanted` is why QM itself was ending the job (kill, a limit), or None. A run that exited 0 although it
    was asked to end has done its work: it counts as done unless a person killed it.
    """
    if not exit_.begun and wanted is None:
        return Verdict(Event.VOID, "its script could not be begun (is the disk full?)")
    signal = exit_.signal or (signal_of(exit_.status) if exit_.status is not None else None)
    if wanted is Event.KILL or (wanted is not None and exit_.status != 0):
        return Verdict(wanted, wanted_reason, signal)
    if exit_.status == 0:
        return Verdict(Event.SUCCEED, "")
    if exit_.status is not None:
        return Verdict(Event.FAIL, f"exit status {code_in_words(exit_)}", signal)
    if exit_.signal is not None:
        return Verdict(Event.FAIL, f"its shell was ended by signal {exit_.signal}", signal)
    gone = "its processes are gone and left no exit status (reboot, power cut, kill -9 of all of them?)"
    return Verdict(Event.TRY_AGAIN if attempts_left > 0 else Event.LOSE, gone)
