"""How calls are shown, and futures settled, without a queue."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import CancelledError
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qm.api.errors import DaemonAway
from qm.api.executor import MOST_INFO, shown
from qm.api.futures import Awaited, Future, Gathered
from qm.api.listener import End


class Host:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.learnt: list[BaseException] = []
        self.ended: list[Awaited] = []

    def learn(self, error: BaseException) -> None:
        self.learnt.append(error)

    def over(self, awaited: Awaited, end: End | None) -> None:
        self.ended.append(awaited)


class Crew(SimpleNamespace):
    """A crew that counts how often it is killed."""

    def __init__(self) -> None:
        super().__init__(id="abc", name="x_1", folder="/nowhere", kills=0)

    def kill(self) -> None:
        self.kills += 1


END = End("done", "", 0, "/nowhere")


def made(kind: type[Awaited], *counts: int) -> tuple[Any, Awaited, list[list[Future]], Host]:
    """A crew with chunks of so many futures each."""
    crew: Any = Crew()
    host = Host()
    awaited = kind(host)
    awaited.crew, awaited.submitted = crew, True
    chunks = [[Future(crew) for _ in range(count)] for count in counts]
    for number, futures in enumerate(chunks):
        awaited.expect(number, futures)
    return crew, awaited, chunks, host


# --- how a call is shown -----------------------------------------------------------------------------------


def test_a_call_is_shown_as_it_would_be_written() -> None:
    assert shown(pow, (2, 5), {}) == "pow(2, 5)"
    assert shown(functools.partial(pow, 2), (5,), {"mod": "x"}) == "pow(5, mod='x')"


def test_large_and_strange_arguments_are_shown_in_few_words() -> None:
    class Slow:
        def __repr__(self) -> str:
            raise AssertionError("a repr may take minutes")

    text = shown(print, (Slow(), list(range(10_000)), "a\nb"), {})
    assert text.startswith("print(<Slow>, [0, 1, 2, 3, 4, 5, ...], ")
    assert len(shown(print, tuple(range(1000)), {})) <= MOST_INFO


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text() | st.binary() | st.floats() | st.dictionaries(st.text(), st.integers()), max_size=5))
def test_whatever_the_arguments_are_it_is_one_printable_line(args: list[Any]) -> None:
    text = shown(print, tuple(args), {"key": args})
    assert text.isprintable() and text == text.strip() and len(text) <= MOST_INFO


# --- who settles a future ----------------------------------------------------------------------------------


def test_each_future_gets_the_outcome_of_its_item() -> None:
    crew, awaited, [first, second], host = made(Awaited, 2, 1)
    awaited.began(crew)
    assert all(future.running() for future in (*first, *second))
    error = KeyError("x")
    awaited.out(crew, 1, [(False, error)])
    awaited.out(crew, 0, [(True, 1), (True, 2)])
    awaited.ended(crew, END)
    assert [future.result(0) for future in first] == [1, 2]
    assert second[0].exception(0) is error
    assert host.ended == [awaited] and not awaited.good


def test_a_gathered_future_gets_all_outcomes_of_its_chunk() -> None:
    crew, awaited, [[future]], _ = made(Gathered, 1)
    awaited.out(crew, 0, [(True, 1), (True, 2)])
    assert future.result(0) == [(True, 1), (True, 2)]


def test_what_comes_after_cancel_is_dropped() -> None:
    crew, awaited, [[future]], _ = made(Awaited, 1)
    called: list[Any] = []
    future.add_done_callback(called.append)
    assert future.cancel()
    awaited.out(crew, 0, [(True, 1)])
    awaited.ended(crew, END)
    assert future.cancelled() and crew.kills == 1 and called == [future]
    with pytest.raises(CancelledError):
        future.result(0)


def test_cancel_after_the_result_changes_nothing() -> None:
    crew, awaited, [[future]], _ = made(Awaited, 1)
    awaited.out(crew, 0, [(True, 1)])
    assert not future.cancel()
    awaited.cancel()
    assert future.result(0) == 1 and crew.kills == 0


def test_cancelling_what_waits_leaves_a_call_that_runs() -> None:
    crew, awaited, [[future]], _ = made(Awaited, 1)
    awaited.began(crew)
    awaited.cancel_waiting()
    assert future.running() and crew.kills == 0


def test_what_got_no_outcome_is_cancelled_with_the_end() -> None:
    crew, awaited, [[future]], _ = made(Awaited, 1)
    awaited.ended(crew, END)
    assert future.cancelled()


def test_the_end_of_all_is_known_before_a_future_is_settled() -> None:
    crew, awaited, [[future]], host = made(Awaited, 1)
    known: list[list[BaseException]] = []
    future.add_done_callback(lambda _: known.append(list(host.learnt)))
    error = DaemonAway("away")
    awaited.out(crew, 0, [(False, error)])
    assert known == [[error]]


def test_cancel_wins_or_loses_against_a_result_but_never_both() -> None:
    for _ in range(200):
        crew, awaited, [[future]], _ = made(Awaited, 1)
        thread = threading.Thread(target=awaited.out, args=(crew, 0, [(True, 1)]))
        thread.start()
        cancelled = future.cancel()
        thread.join()
        assert future.cancelled() == cancelled
        assert cancelled or future.result(0) == 1
