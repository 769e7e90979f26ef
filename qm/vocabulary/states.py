"""The states of a job and every transition between them.

Invariant: a job changes its state only along TRANSITIONS. The diagram in ARCHITECTURE.md is drawn from
this table (`python -m qm.vocabulary.states`), and a test keeps it current.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from qm.vocabulary.errors import RequestError


class State(str, Enum):
    """What a job is doing; the value is the word users see and records hold."""

    ARRIVING = "arriving"
    PENDING = "pending"
    HELD = "held"
    DEFERRED = "deferred"
    SUBMITTED = "submitted"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"
    INVALID = "invalid"
    SKIPPED = "skipped"
    INACTIVE = "inactive"
    LOST = "lost"

    def __str__(self) -> str:
        return self.value


class Place(str, Enum):
    """The four folders; the value is the folder's name below QM_FOLDER."""

    QUEUE = "QM_qJobs"
    JOBS = "QM_Jobs"
    DONE = "QM_dJobs"
    LOST = "QM_lost+found"

    def __str__(self) -> str:
        return self.value


class Event(str, Enum):
    """What can happen to a job; requests of users carry the same words as the command line."""

    ACCEPT = "accept"
    ACCEPT_HELD = "accept held"
    REJECT = "reject"
    CHANGE = "change"
    HOLD = "hold"
    RELEASE = "release"
    START = "start"
    SUBMIT = "submit"
    BEGIN = "begin"
    VOID = "void start"
    PAUSE = "pause"
    RESUME = "resume"
    SUCCEED = "exit 0"
    FAIL = "exit not 0"
    RUN_OUT_OF_TIME = "wall_time over"
    RUN_OUT_OF_MEMORY = "mem exceeded"
    DEFER = "defer"
    TRY_AGAIN = "attempt left"
    DUE = "due"
    EXPIRE = "defer_max over"
    SKIP = "dependency failed"
    LOSE = "gone without status"
    KILL = "kill"
    RETRY = "retry"

    def __str__(self) -> str:
        return self.value


PLACE_OF: dict[State, Place] = {
    State.ARRIVING: Place.QUEUE,
    State.PENDING: Place.QUEUE,
    State.HELD: Place.QUEUE,
    State.DEFERRED: Place.QUEUE,
    State.SUBMITTED: Place.JOBS,
    State.RUNNING: Place.JOBS,
    State.PAUSED: Place.JOBS,
    State.DONE: Place.DONE,
    State.FAILED: Place.LOST,
    State.TIMEOUT: Place.LOST,
    State.OUT_OF_MEMORY: Place.LOST,
    State.KILLED: Place.LOST,
    State.INVALID: Place.LOST,
    State.SKIPPED: Place.LOST,
    State.INACTIVE: Place.LOST,
    State.LOST: Place.LOST,
}

WAITING = frozenset(state for state, place in PLACE_OF.items() if place is Place.QUEUE)
ACTIVE = frozenset(state for state, place in PLACE_OF.items() if place is Place.JOBS)
ENDED = frozenset(PLACE_OF) - WAITING - ACTIVE

_ENDINGS = {
    Event.SUCCEED: State.DONE,
    Event.FAIL: State.FAILED,
    Event.RUN_OUT_OF_TIME: State.TIMEOUT,
    Event.RUN_OUT_OF_MEMORY: State.OUT_OF_MEMORY,
    Event.KILL: State.KILLED,
    Event.LOSE: State.LOST,
    Event.DEFER: State.DEFERRED,
    Event.EXPIRE: State.INACTIVE,
    Event.TRY_AGAIN: State.DEFERRED,
    Event.VOID: State.PENDING,
}

TRANSITIONS: dict[State, dict[Event, State]] = {
    State.ARRIVING: {
        Event.ACCEPT: State.PENDING,
        Event.ACCEPT_HELD: State.HELD,
        Event.REJECT: State.INVALID,
    },
    State.PENDING: {
        Event.START: State.RUNNING,
        Event.SUBMIT: State.SUBMITTED,
        Event.HOLD: State.HELD,
        Event.CHANGE: State.ARRIVING,
        Event.REJECT: State.INVALID,
        Event.SKIP: State.SKIPPED,
        Event.KILL: State.KILLED,
    },
    State.HELD: {
        Event.RELEASE: State.PENDING,
        Event.REJECT: State.INVALID,
        Event.SKIP: State.SKIPPED,
        Event.KILL: State.KILLED,
    },
    State.DEFERRED: {
        Event.DUE: State.PENDING,
        Event.RETRY: State.PENDING,
        Event.HOLD: State.HELD,
        Event.REJECT: State.INVALID,
        Event.SKIP: State.SKIPPED,
        Event.KILL: State.KILLED,
    },
    State.SUBMITTED: {Event.BEGIN: State.RUNNING, **_ENDINGS},
    State.RUNNING: {Event.PAUSE: State.PAUSED, **_ENDINGS},
    State.PAUSED: {Event.RESUME: State.RUNNING, **_ENDINGS},
    **{state: {Event.RETRY: State.PENDING} for state in PLACE_OF if state in ENDED},
}


def after(state: State, event: Event) -> State:
    """The state that follows; RequestError says where the event would have been possible."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        possible = ", ".join(str(s) for s, events in TRANSITIONS.items() if event in events)
        raise RequestError(f"cannot {event} a job that is {state}; possible for: {possible}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram; transitions between the same two states share one arrow."""
    lines = ["stateDiagram-v2", "    [*] --> arriving"]
    lines += [f"    {source} --> {target}: {label}" for source, target, label in _arrows()]
    lines += [f"    {state} --> [*]" for state in PLACE_OF if state in ENDED]
    return "\n".join(lines) + "\n"


def _arrows() -> Iterator[tuple[str, str, str]]:
    for source, events in TRANSITIONS.items():
        targets: dict[State, list[str]] = {}
        for event, target in events.items():
            targets.setdefault(target, []).append(str(event))
        for target, labels in targets.items():
            yield str(source), str(target), ", ".join(labels)


if __name__ == "__main__":
    print(diagram(), end="")
