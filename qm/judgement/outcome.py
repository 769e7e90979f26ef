"""What became of an array, by what became of its tasks. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from qm.vocabulary.states import State

NAMED = 20
"""Tasks that the reason names."""


def outcome(total: int, bad: Mapping[int, State]) -> tuple[State, str]:
    """The state of an array whose tasks have all ended, those in `bad` otherwise than done; and the reason.

    Tasks that all ended in one way give the array that state; else it has failed.
    """
    if not bad:
        return State.DONE, ""
    kinds = set(bad.values())
    state = kinds.pop() if len(kinds) == 1 else State.FAILED
    first = sorted(bad)[:NAMED]
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    word = "task" if len(bad) == 1 else "tasks"
    return state, f"{len(bad)} of {total} tasks did not succeed: {word} {', '.join(map(str, first))}{more}"
