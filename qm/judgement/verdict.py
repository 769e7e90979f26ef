"""The verdict: what an ended run means, and whether it is run again.

The rule, written where it is applied:

1. A script that could not be begun has not run: it waits again, and no attempt is used up.
2. Status 0 is success, even when QM had just asked the run to end, unless a person killed it.
3. Exit status 75 (EX_TEMPFAIL, sysexits(3)) defers: again in `defer_time`, until `defer_max` of deferring is over.
   No attempt is used up.
4. A failure or a timeout is tried again while attempts are left, after `error_time`, which `error_backoff` multiplies
   each time; with `retry_on` only after these exit statuses. Too much memory, or a person, is final.
5. Gone without a status (the machine went down): again at once while attempts are left.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from qm.judgement.delays import error_wait
from qm.vocabulary.options import Options
from qm.vocabulary.record import Run
from qm.vocabulary.states import Event, State
from qm.vocabulary.text import duration

SIGNAL_BASE = 128
"""A shell reports a command ended by signal n with status 128 + n (POSIX, sh, 2.8.2)."""
EX_TEMPFAIL = 75
LEAST_DEFERRED = 0.1
"""Seconds that each deferral counts at least, and lasts: with `defer_time : 0` it would never come to an end."""
NO_ATTEMPT = frozenset((State.PENDING.value, State.DEFERRED.value))
"""How the history says that a run was none that counts: a voided start, and exit status 75."""


class Exit(NamedTuple):
    """How a run ended. `status` is the shim's word, None when it left none; `signal` ended the shim itself.

    `cpu_seconds` is user plus system time of all processes that were waited for, `peak_memory` the largest
    single process in bytes; None where nobody could tell. `begun` is False when the shim could not begin the
    script at all. `out_of_memory` says how it is known that the kernel ended it for that, "" if it did not. `said` is
    what the script itself gives as the reason, in one line, "" if it does not.
    """

    status: int | None
    signal: int | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    begun: bool = True
    out_of_memory: str = ""
    said: str = ""


class Trial(NamedTuple):
    """What is known of the run that ended, beside its exit.

    `tries` is how many attempts counted before it, `deferring` for how many seconds it has been deferred in a row
    (0.0 when it was not). `wanted` is why QM itself was ending it (kill, a limit), or None, `why` that in words.
    """

    options: Options
    tries: int = 0
    deferring: float = 0.0
    wanted: Event | None = None
    why: str = ""


class Verdict(NamedTuple):
    """The event that follows, the reason in words, and what the run itself was, as the history keeps it.

    `wait` is how many seconds later it is run again, if it is.
    """

    event: Event
    reason: str
    outcome: State
    signal: int | None = None
    wait: float = 0.0


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
    """How many of these runs count as attempts."""
    return sum(run.state not in NO_ATTEMPT for run in history)


def judge(exit_: Exit, trial: Trial) -> Verdict:
    """What becomes of the job, or of the task of an array."""
    if not exit_.begun and trial.wanted is None:
        return Verdict(Event.VOID, "its script could not be begun (is the disk full?)", State.PENDING)
    signal = exit_.signal or (signal_of(exit_.status) if exit_.status is not None else None)
    event, reason = _what_it_was(exit_, trial)
    if event is Event.DEFER:
        return _deferred(trial, reason, exit_.said)
    found = Verdict(event, reason, _OUTCOMES[event], signal)
    return _tried_again(found, exit_, trial)


_OUTCOMES = {
    Event.SUCCEED: State.DONE,
    Event.FAIL: State.FAILED,
    Event.KILL: State.KILLED,
    Event.LOSE: State.LOST,
    Event.RUN_OUT_OF_TIME: State.TIMEOUT,
    Event.RUN_OUT_OF_MEMORY: State.OUT_OF_MEMORY,
}


def _what_it_was(exit_: Exit, trial: Trial) -> tuple[Event, str]:
    if trial.wanted is Event.KILL or (trial.wanted is not None and exit_.status != 0):
        return trial.wanted, trial.why
    if exit_.status == 0:
        return Event.SUCCEED, ""
    if exit_.out_of_memory:
        return Event.RUN_OUT_OF_MEMORY, exit_.out_of_memory
    if exit_.status == EX_TEMPFAIL:
        return Event.DEFER, "exit status 75"
    if exit_.status is not None:
        return Event.FAIL, f"exit status {code_in_words(exit_)}{exit_.said and f': {exit_.said}'}"
    if exit_.signal is not None:
        return Event.FAIL, f"its shell was ended by signal {exit_.signal}"
    return Event.LOSE, "its processes are gone and left no exit status (reboot, power cut, kill -9 of all of them?)"


def _deferred(trial: Trial, reason: str, words: str) -> Verdict:
    options = trial.options
    if trial.deferring >= options.defer_max:
        said = f"{words or reason}: deferred for {duration(trial.deferring)}, which is defer_max"
        return Verdict(Event.EXPIRE, said, State.INACTIVE)
    said = f"deferred: {words}" if words else f"{reason}: deferred"
    return Verdict(Event.DEFER, said, State.DEFERRED, wait=max(options.defer_time, LEAST_DEFERRED))


def _tried_again(found: Verdict, exit_: Exit, trial: Trial) -> Verdict:
    options, made = trial.options, trial.tries + 1
    if made >= options.attempts or trial.wanted is Event.KILL:
        return found
    if found.event is Event.LOSE:
        wait = 0.0
    elif found.event in (Event.FAIL, Event.RUN_OUT_OF_TIME) and _may_retry(options, exit_.status):
        wait = error_wait(options, made)
    else:
        return found
    reason = f"{found.reason}; attempt {made} of {options.attempts}"
    return Verdict(Event.TRY_AGAIN, reason, found.outcome, found.signal, wait)


def _may_retry(options: Options, status: int | None) -> bool:
    return options.retry_on is None or status in options.retry_on
