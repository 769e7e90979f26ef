"""The one table of transitions: that it is whole, and that the diagram says the same."""

from __future__ import annotations

import itertools

import pytest

from qm.vocabulary.errors import RequestError
from qm.vocabulary.states import (
    ACTIVE,
    ENDED,
    PLACE_OF,
    TRANSITIONS,
    WAITING,
    Event,
    Place,
    State,
    after,
    diagram,
)

LOST_AND_FOUND = {"failed", "timeout", "out_of_memory", "killed", "invalid", "skipped", "inactive", "lost"}


def test_every_state_has_its_folder_as_the_contract_says() -> None:
    by_place = {place: {state.value for state in State if PLACE_OF[state] is place} for place in Place}
    assert by_place == {
        Place.QUEUE: {"arriving", "pending", "held", "deferred"},
        Place.JOBS: {"submitted", "running", "paused"},
        Place.DONE: {"done"},
        Place.LOST: LOST_AND_FOUND,
    }


def test_waiting_active_and_ended_are_all_states_and_none_twice() -> None:
    assert set(State) == WAITING | ACTIVE | ENDED
    assert not WAITING & ACTIVE and not ACTIVE & ENDED and not ENDED & WAITING


def test_every_event_and_every_state_stands_in_the_table() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {event for events in TRANSITIONS.values() for event in events} == set(Event)


def test_every_state_can_be_reached_from_arriving() -> None:
    reached, new = set(), {State.ARRIVING}
    while new:
        reached |= new
        new = {target for state in new for target in TRANSITIONS[state].values()} - reached
    assert reached == set(State)


def test_every_state_leads_to_an_end() -> None:
    ending = set(ENDED)
    for _ in State:
        ending |= {state for state in State if set(TRANSITIONS[state].values()) & ending}
    assert ending == set(State)


def test_an_ended_job_can_only_be_tried_again() -> None:
    for state in ENDED:
        assert TRANSITIONS[state] == {Event.RETRY: State.PENDING}


def test_a_job_can_be_killed_wherever_it_waits_or_runs_but_not_when_it_has_ended() -> None:
    for state in (WAITING | ACTIVE) - {State.ARRIVING}:
        assert after(state, Event.KILL) is State.KILLED
    for state in ENDED:
        with pytest.raises(RequestError):
            after(state, Event.KILL)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_an_event_leads_along_the_table_or_is_refused_with_where_it_is_possible(state: State, event: Event) -> None:
    if event in TRANSITIONS[state]:
        assert after(state, event) is TRANSITIONS[state][event]
        return
    with pytest.raises(RequestError) as refused:
        after(state, event)
    said = str(refused.value)
    assert str(state) in said and str(event) in said
    for possible in (source for source in State if event in TRANSITIONS[source]):
        assert str(possible) in said


def test_the_diagram_has_every_transition() -> None:
    arrows = [line.strip().partition(": ") for line in diagram().splitlines() if ": " in line]
    drawn = {(ends.strip(), label) for ends, _, labels in arrows for label in labels.split(", ")}
    table = {
        (f"{source} --> {target}", str(event))
        for source, events in TRANSITIONS.items()
        for event, target in events.items()
    }
    assert drawn == table


def test_the_diagram_begins_and_ends() -> None:
    lines = [line.strip() for line in diagram().splitlines()]
    assert lines[0] == "stateDiagram-v2"
    assert "[*] --> arriving" in lines
    assert {line for line in lines if line.endswith("--> [*]")} == {f"{state} --> [*]" for state in ENDED}
