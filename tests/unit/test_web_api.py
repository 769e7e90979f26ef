"""The dashboard's JSON, requests and sentences, without a server: parameters, wishes, the way back, what was said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults

import bottle
import pytest

from qm.vocabulary.states import Place, State
from qm_web.routes import actions, api, asking
from qm_web.routes.asking import Outcome, summary
from qm_web.routes.bodies import json_body
from qm_web.said import LONGEST, Notes

Bind = Callable[..., None]


@pytest.fixture
def ask() -> Iterator[Bind]:
    """A function that makes a request the present one, for code that reads bottle.request."""

    def bind(query: str = "", root: str = "", kind: str = "", body: bytes = b"", **form: object) -> None:
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        if form:
            kind, body = "application/x-www-form-urlencoded", urlencode(form, doseq=True).encode()
        environ |= {
            "QUERY_STRING": query,
            "SCRIPT_NAME": root,
            "CONTENT_TYPE": kind,
            "CONTENT_LENGTH": str(len(body)),
            "REQUEST_METHOD": "POST" if body else "GET",
            "wsgi.input": BytesIO(body),
        }
        bottle.request.bind(environ)
        bottle.response.bind()

    yield bind
    bottle.request.bind({})


def refused(call: Callable[[], object]) -> tuple[int, str]:
    """The status and the sentence with which something is refused."""
    with pytest.raises(bottle.HTTPError) as caught:
        call()
    return caught.value.status_code, str(caught.value.body)


def site(details: bool = True) -> Any:
    """As much of a site as parameters need."""
    return SimpleNamespace(need_details=lambda: None if details else bottle.abort(403, "Display_details is off"))


# --- parameters of lists -----------------------------------------------------------------------------------


def test_a_list_without_parameters_is_the_first_page_of_everything(ask: Bind) -> None:
    ask()
    query = api.asked(site())
    assert (query.places, query.states, query.page, query.per_page) == (tuple(Place), (), 1, 50)


def test_every_parameter_reaches_the_query(ask: Bind) -> None:
    ask(
        "text=a%25b&state=done&state=failed&place=QM_dJobs&owner=me&since=1.5&until=2e9"
        "&sort=name&descending=true&page=3&per_page=500"
    )
    query = api.asked(site())
    assert (query.text, query.owner, query.since, query.until) == ("a%b", "me", 1.5, 2e9)
    assert (query.states, query.places) == ((State.DONE, State.FAILED), (Place.DONE,))
    assert (query.sort, query.descending, query.page, query.per_page) == ("name", True, 3, 500)


@pytest.mark.parametrize(
    "wrong",
    [
        "page=0", "page=-1", "page=x", "page=1.5", "page=", "page=1000001", "page=%D9%A1", "page=1&page=2",
        "per_page=501", "state=don", "state=", "place=QM_dJobs/..", "since=nan", "since=-1", "since=1e300",
        "until=inf", "since=1_0", "sort=path", "sort=", "descending=1", "txt=a", "text=%ff", f"text={'a' * 201}",
    ],
)  # fmt: skip
def test_a_parameter_that_is_not_understood_is_refused_by_its_name(wrong: str, ask: Bind) -> None:
    ask(wrong)
    status, message = refused(lambda: api.asked(site()))
    assert status == 400
    assert wrong.partition("=")[0] in message


@pytest.mark.parametrize("query", ["text=secret", "owner=me", "sort=owner"])
def test_what_is_not_shown_cannot_be_searched_for(query: str, ask: Bind) -> None:
    ask(query)
    assert refused(lambda: api.asked(site(details=False)))[0] == 403


def test_a_number_that_json_cannot_write_is_null() -> None:
    value = {"a": float("inf"), "b": [float("nan"), 1.5], "c": ("x", {"d": float("-inf")})}
    assert api.plain(value) == {"a": None, "b": [None, 1.5], "c": ["x", {"d": None}]}


# --- wishes ------------------------------------------------------------------------------------------------


def test_a_wish_names_each_job_once_and_keeps_their_order() -> None:
    wish = actions.wish_of({"verb": "hold", "keys": ["b", "a", "b"]})
    assert wish.keys == ("b", "a")


def test_numbers_and_truths_to_set_become_what_a_job_file_says() -> None:
    wish = actions.wish_of({"verb": "set", "keys": ["a"], "args": {"priority": 5, "hold": True, "info": "x"}})
    assert wish.args == {"priority": "5", "hold": "yes", "info": "x"}


@pytest.mark.parametrize(
    "raw",
    [
        None, [], "kill", {}, {"verb": 1}, {"verb": "destroy", "keys": ["a"]}, {"verb": "hold"},
        {"verb": "hold", "keys": []}, {"verb": "hold", "keys": "abc"}, {"verb": "hold", "keys": [1]},
        {"verb": "hold", "keys": [""]}, {"verb": "hold", "keys": ["a" * 301]}, {"verb": "drain", "keys": ["a"]},
        {"verb": "hold", "keys": ["a"], "args": {"priority": "1"}}, {"verb": "set", "keys": ["a"]},
        {"verb": "set", "keys": ["a"], "args": {"info": None}}, {"verb": "set", "keys": ["a"], "args": ["x"]},
        {"verb": "set", "keys": ["a"], "args": {"info": "x" * 40_000}},
        {"verb": "set", "keys": ["a"], "args": {str(number): "" for number in range(101)}},
        {"verb": "hold", "keys": ["a"], "force": True},
    ],
)  # fmt: skip
def test_a_wish_that_is_not_understood_is_refused_as_a_whole(raw: object) -> None:
    assert refused(lambda: actions.wish_of(raw))[0] == 400


def test_a_thousand_jobs_may_be_named_at_once_and_no_more() -> None:
    keys = [f"job{number}" for number in range(1001)]
    assert len(actions.wish_of({"verb": "hold", "keys": keys[:1000]}).keys) == 1000
    assert "at most 1000" in refused(lambda: actions.wish_of({"verb": "hold", "keys": keys}))[1]


def test_a_body_of_another_type_than_json_is_refused(ask: Bind) -> None:
    ask(kind="text/plain", body=b'{"verb": "hold"}')
    assert refused(json_body)[0] == 415


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 50_000, b"9" * 5000])
def test_a_body_that_is_no_json_is_refused(body: bytes, ask: Bind) -> None:
    ask(kind="application/json", body=body)
    assert refused(json_body)[0] == 400


# --- forms -------------------------------------------------------------------------------------------------


def test_a_form_names_jobs_by_repeated_fields_and_sets_by_lines(ask: Bind) -> None:
    ask(key=["a", "b"], args="priority = 5\r\ninfo=x=y\n")
    assert actions.fields("key") == ["a", "b"]
    assert actions.pairs(actions.fields("args")) == {"priority": "5", "info": "x=y"}


@pytest.mark.parametrize(
    "wanted",
    [
        "", "job/x", "//evil.example/", "/\\evil.example", "\\/evil.example", "https://evil.example/",
        "/\t/evil.example", "/x\r\nSet-Cookie: a=b", "javascript:alert(1)", "/%s" % ("x" * 2001), "//[x",
    ],
)  # fmt: skip
def test_the_way_back_never_leaves_this_site(wanted: str, ask: Bind) -> None:
    ask(back=wanted)
    assert actions.back() == "/"


def test_the_way_back_keeps_its_filter_and_gets_the_prefix_once(ask: Bind) -> None:
    ask(back="/?q=a%20b&state=done#x")
    assert actions.back() == "/?q=a%20b&state=done#x"
    ask(root="/qm", back="/qm/job/abc")
    assert actions.back() == "/job/abc"
    assert actions.rooted(actions.back()) == "/qm/job/abc"
    ask(root="/qm", back="/job/abc")
    assert actions.rooted(actions.back()) == "/qm/job/abc"


# --- what is said ------------------------------------------------------------------------------------------


def test_one_outcome_is_told_in_the_daemon_s_words() -> None:
    assert summary("hold", [Outcome("k", "a", True, "a (k): held")]) == "a (k): held"


def test_many_outcomes_are_counted_and_refusals_are_named() -> None:
    told = summary(
        "kill",
        [
            *(Outcome(str(number), "a", True, "killed") for number in range(3)),
            Outcome("x", "b", None, asking.DOWN),
            Outcome("y", "c", False, "c: it has ended"),
        ],
    )
    assert told.startswith("3 jobs: killed") and "1 job: QueueManager is not running" in told
    assert told.endswith("1 job refused: c: it has ended")


def test_a_sentence_is_believed_only_from_this_program_and_for_a_minute() -> None:
    clock = [1000.0]
    notes = Notes(lambda: clock[0], b"key")
    value = notes.sign("a & ü")
    assert notes.verify(value) == "a & ü"
    assert Notes(lambda: clock[0], b"other").verify(value) == ""
    for forged in (value[:-1], value.replace(".", "x."), "", ".", "a.b", "ü.ü", value + "0"):
        assert notes.verify(forged) == ""
    clock[0] += 61
    assert notes.verify(value) == ""


def test_the_longest_sentence_fits_into_a_cookie() -> None:
    assert len(Notes(key=b"key").sign("\U0001f600" * LONGEST)) < 4000
