"""The keys of a job file: which there are, how they are read, changed by `qm set`, and kept in the record."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.vocabulary.errors import JobFileError
from qm.vocabulary.options import KEYS, Options, from_json, not_obeyed, read_options, to_json, with_overrides

FILE = "proc_config.cfg"
NO_KEYS = {"interpreter", "env", "job_name", "slurm", "ntasks"}
"""Fields that no key of their own name fills."""

EVERY_KEY: dict[str, tuple[str, Any]] = {
    "script": ("python process.py", "python process.py"),
    "nb_proc": ("12", 12),
    "mem": ("2G", 2 << 30),
    "gpus": ("2", 2),
    "e_mail": ("me@example.org", "me@example.org"),
    "mail_type": ("start, fail", ("start", "fail")),
    "info": ("100 % done # not", "100 % done # not"),
    "size": ("24", "24"),
    "priority": ("-5", -5),
    "wall_time": ("01:30:00", 5400.0),
    "attempts": ("3", 3),
    "retry_on": ("1, 75", (1, 75)),
    "error_time": ("5m", 300.0),
    "error_backoff": ("1.5", 1.5),
    "defer_time": ("1m", 60.0),
    "defer_max": ("1d", 86400.0),
    "zombie_time": ("2h", 7200.0),
    "zombie_kill": ("yes", True),
    "group": ("licences", "licences"),
    "max_parallel": ("4", 4),
    "after": ("one, afterany:two", ("one", "afterany:two")),
    "array": ("0-99%4", "0-99%4"),
    "begin": ("22:00", "22:00"),
    "hold": ("yes", True),
    "chdir": ("sub folder", "sub folder"),
    "output": ("out.txt", "out.txt"),
    "error": ("err.txt", "err.txt"),
    "launcher": ("slurm", "slurm"),
    "then": ("next", "next"),
    "on_failure": ("rescue", "rescue"),
    "schedule": ("daily", "daily"),
    "overlap": ("yes", True),
}


def options(**given: str) -> Options:
    return read(given)[0]


def read(given: dict[str, str]) -> tuple[Options, tuple[str, ...]]:
    """What these keys give, on lines 2, 3, …, with a script if none is among them."""
    keys = {"script": "x", **given} if "script" not in {key.lower() for key in given} else given
    return read_options([(key, value, line) for line, (key, value) in enumerate(keys.items(), 2)], FILE)


def refusal(**given: str) -> str:
    with pytest.raises(JobFileError) as caught:
        read(given)
    return str(caught.value)


# --- keys --------------------------------------------------------------------------------------------------


def test_every_key_of_the_contract_is_read() -> None:
    found = options(**{key: text for key, (text, _) in EVERY_KEY.items()})
    assert found == Options(**{key: value for key, (_, value) in EVERY_KEY.items()})


def test_every_field_has_a_key_with_a_meaning_and_a_default() -> None:
    assert {key.name for key in KEYS} == set(EVERY_KEY) == {field.name for field in fields(Options)} - NO_KEYS
    assert len(KEYS) == len(EVERY_KEY)
    assert all(key.meaning and key.default for key in KEYS)


def test_what_is_left_out_has_its_default() -> None:
    assert options() == Options(script="x")


def test_keys_ignore_case() -> None:
    assert options(SCRIPT="x", NB_Proc="2").nb_proc == 2


def test_a_hyphen_in_e_mail_is_as_good() -> None:
    assert read({"e-mail": "me@example.org"})[0].e_mail == "me@example.org"


def test_an_empty_e_mail_is_nobody() -> None:
    assert options(e_mail="").e_mail == ""


def test_variables_keep_their_case() -> None:
    assert read({"env_Path": "1", "ENV_PATH": "a = b"})[0].env == (("Path", "1"), ("PATH", "a = b"))


def test_keys_that_are_only_kept_so_far_are_named() -> None:
    assert not_obeyed(options(then="next", nb_proc="2")) == ["then"]


# --- what cannot be read -----------------------------------------------------------------------------------


def test_a_wrong_value_is_told_with_file_line_key_value_and_what_is_right() -> None:
    assert refusal(nb_proc="twelve") == (
        "proc_config.cfg, line 3: nb_proc = 'twelve' is not understood; accepted: a whole number of 1 or more"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nb_proc", "0"), ("nb_proc", "-1"), ("nb_proc", "1.5"), ("nb_proc", ""), ("nb_proc", "12\ninfo : x"),
        ("attempts", "0"), ("max_parallel", "0"), ("gpus", "-1"), ("mem", "lots"), ("mem", "-1G"),
        ("priority", "high"), ("wall_time", "-5"), ("wall_time", "nan"), ("error_time", "1e999"),
        ("error_backoff", "0"), ("retry_on", "256"), ("hold", "maybe"), ("array", "9-1"), ("after", "a/b"),
        ("begin", "later"), ("launcher", "moon"), ("mail_type", "often"), ("e_mail", "a\nb@c"), ("chdir", ""),
        ("info", "a\0b"), ("env_A", "a\0b"), ("script", "a\0b"),
    ],
)  # fmt: skip
def test_an_impossible_value_is_refused(key: str, value: str) -> None:
    message = refusal(**{key: value})
    assert message.startswith("proc_config.cfg, line ")
    assert key in message


@pytest.mark.parametrize("given", [{"nb_proc": "2"}, {"script": ""}, {"script": " \n "}, {"scrpt": "x"}])
def test_a_job_without_a_script_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(JobFileError, match=r"proc_config\.cfg.*no script"):
        read_options([(key, value, 2) for key, value in given.items()], FILE)


def test_two_writings_of_one_key_are_refused() -> None:
    assert "stands twice" in refusal(**{"e_mail": "a@b", "e-mail": "c@d"})


def test_a_long_value_is_shortened_in_the_message() -> None:
    assert len(refusal(nb_proc="x" * 100_000)) < 300


# --- keys that are not known -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("nbproc", "nb_proc"), ("wall-time", "wall_time"), ("priorty", "priority"), ("WallTime", "wall_time")],
)
def test_a_key_that_is_nearly_known_is_noted(slip: str, meant: str) -> None:
    _, notes = read({slip: "1"})
    assert notes == (f"proc_config.cfg, line 3: key {slip!r} is not known to QM; did you mean {meant}?",)


@pytest.mark.parametrize("key", ["project", "x", "sample", "my_time", "QM", "colour"])
def test_a_key_of_the_user_s_own_is_left_alone(key: str) -> None:
    assert read({key: "anything % at all"}) == (Options(script="x"), ())


def test_thousands_of_own_keys_do_not_hold_up_the_daemon() -> None:
    given = {f"measurement_{number}": "1" for number in range(20_000)}
    begun = time.process_time()
    assert read(given)[0] == Options(script="x")
    assert time.process_time() - begun < 10  # looking for slips among all of them would take minutes


# --- qm set ------------------------------------------------------------------------------------------------


def test_qm_set_changes_what_it_names_and_nothing_else() -> None:
    before = options(nb_proc="2", info="first", env_A="1", env_B="2")
    after = with_overrides(before, {"nb_proc": "4", "E-Mail": "a@b", "env_B": "3"})
    expected = options(nb_proc="4", info="first", e_mail="a@b", env_A="1", env_B="3")
    assert after == expected
    assert before.nb_proc == 2


def test_qm_set_of_a_script_replaces_a_job_sh() -> None:
    before = Options(script="job.sh", interpreter=("/bin/sh",))
    assert with_overrides(before, {"script": "echo"}) == Options(script="echo")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("nbproc", "2", "did you mean nb_proc"),
        ("colour", "2", "nb_proc"),
        ("nb_proc", "0", "1 or more"),
        ("script", " ", "script"),
        ("info", "a\0b", "NUL"),
        ("env_", "1", "env_"),
    ],
)
def test_qm_set_refuses_what_a_job_file_may_not_say(key: str, value: str, said: str) -> None:
    with pytest.raises(JobFileError) as caught:
        with_overrides(Options(script="x"), {key: value})
    assert said in str(caught.value)


@pytest.mark.parametrize("key", ["script", "info", "env_A"])
def test_qm_set_refuses_text_that_no_file_could_hold(key: str) -> None:
    with pytest.raises(JobFileError):
        with_overrides(Options(script="x"), {key: "\ud800"})


# --- the record --------------------------------------------------------------------------------------------


def test_only_what_differs_from_the_defaults_is_kept() -> None:
    assert to_json(options(nb_proc="1", gpus="2")) == {"script": "x", "gpus": 2}


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, (text, _) in EVERY_KEY.items()])
def test_every_key_survives_the_record(key: str, text: str) -> None:
    before = options(**{key: text})
    assert from_json(json.loads(json.dumps(to_json(before)))) == before


@given(
    built=st.builds(
        Options,
        script=st.text(),
        interpreter=st.tuples(st.text(), st.text()) | st.just(()),
        nb_proc=st.integers(1, 10**6),
        mem=st.none() | st.integers(1, 10**15),
        retry_on=st.none() | st.lists(st.integers(0, 255)).map(tuple),
        wall_time=st.none() | st.floats(0, 1e9),
        after=st.lists(st.text()).map(tuple),
        hold=st.booleans(),
        env=st.lists(st.tuples(st.text(), st.text())).map(tuple),
    )
)
def test_any_options_survive_the_record(built: Options) -> None:
    assert from_json(json.loads(json.dumps(to_json(built)))) == built


def test_names_of_a_later_version_are_left_out() -> None:
    assert from_json({"script": "x", "colour": "red"}) == Options(script="x")


@pytest.mark.parametrize(
    "raw",
    [
        {"nb_proc": "x"}, {"nb_proc": -5}, {"nb_proc": 0}, {"nb_proc": 1.5}, {"nb_proc": None}, {"nb_proc": True},
        {"script": ["x"]}, {"script": None}, {"after": "abc"}, {"after": [1]}, {"interpreter": 5},
        {"retry_on": ["1"]}, {"env": [["a"]]}, {"env": "ab"}, {"hold": "no"}, {"wall_time": "x"},
        {"wall_time": float("nan")}, {"mem": "1G"}, {"priority": []}, {"ntasks": 0},
        {"array": "many"}, {"begin": "soon"}, {"error_backoff": 0}, {"error_time": -1}, {"defer_time": float("inf")},
    ],
)  # fmt: skip
def test_a_record_with_nonsense_in_it_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        from_json(raw)
