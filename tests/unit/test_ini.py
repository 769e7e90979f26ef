"""INI text: sections, literal values, values of several lines, and what is none of our business."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.vocabulary.ini import Entry, IniError, Section, read_ini

SAMPLE = """\
    [QMOptions]
    nb_proc : 12
    e_mail : me@example.org
    info : some description of the job
    script : python process.py param1 param2
"""


def entries(text: str) -> dict[str, str]:
    """Keys and values of the section [QMOptions]."""
    (section,) = read_ini(text, only="QMOptions")
    return {entry.key: entry.value for entry in section.entries}


def options(*lines: str) -> dict[str, str]:
    return entries("\n".join(("[QMOptions]", *lines)))


def failure(text: str, only: str | None = None) -> tuple[str, int]:
    with pytest.raises(IniError) as caught:
        read_ini(text, only)
    return str(caught.value), caught.value.line


def test_sections_and_entries_know_their_lines() -> None:
    assert read_ini("# about\n[One]\na : 1\n\n[Two]\nb = 2\n") == [
        Section("One", 2, (Entry("a", "1", 3),)),
        Section("Two", 5, (Entry("b", "2", 6),)),
    ]


def test_a_whole_file_may_be_indented() -> None:
    assert entries(SAMPLE) == {
        "nb_proc": "12",
        "e_mail": "me@example.org",
        "info": "some description of the job",
        "script": "python process.py param1 param2",
    }


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("a : 1", "a", "1"),
        ("a=1", "a", "1"),
        ("a : b = c", "a", "b = c"),
        ("a = b : c", "a", "b : c"),
        ("script : A=1 run --b:c", "script", "A=1 run --b:c"),
        ("a :", "a", ""),
        ("two words : 1", "two words", "1"),
    ],
)
def test_the_first_of_colon_and_equals_separates(line: str, key: str, value: str) -> None:
    assert options(line) == {key: value}


@pytest.mark.parametrize(
    "value",
    ["date +%s", "%(home)s/x", "${HOME}", "echo a # b", "a ; b", "'quoted' \"too\"", "a\\nb", "[x]", "ä €", "a\u2028b"],
)
def test_a_value_is_literal(value: str) -> None:
    assert options(f"script : {value}") == {"script": value}


@pytest.mark.parametrize("comment", ["# a : 1", "; a : 1", "   # a : 1", "#", ";;"])
def test_a_line_that_begins_with_a_comment_sign_is_no_entry(comment: str) -> None:
    assert options(comment, "b : 2") == {"b": "2"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_any_line_end_and_a_byte_order_mark_are_accepted(end: str, mark: str) -> None:
    text = mark + end.join(("[QMOptions]", "a : 1", "b :", "    2", "    3", ""))
    assert entries(text) == {"a": "1", "b": "2\n3"}


# --- values of several lines -------------------------------------------------------------------------------


def test_deeper_lines_go_on_with_a_value() -> None:
    assert options("a : 1", "  2", "  3", "b : 4") == {"a": "1\n2\n3", "b": "4"}


def test_a_value_may_begin_on_the_next_line() -> None:
    assert options("script :", "    one", "    two") == {"script": "one\ntwo"}


def test_a_value_of_an_indented_file_goes_on_where_it_is_deeper_than_its_key() -> None:
    assert entries("    [QMOptions]\n    a : 1\n        2\n    b : 3\n") == {"a": "1\n2", "b": "3"}


def test_the_indentation_inside_a_value_is_kept() -> None:
    script = ["python3 - <<END", "for i in range(3):", "    if i:", "        print(i)", "END"]
    assert options("script :", *(f"    {line}" for line in script)) == {"script": "\n".join(script)}


def test_blank_lines_inside_a_value_are_kept_and_behind_it_dropped() -> None:
    assert options("a : 1", "  2", "", "  3", "", "", "b : 4") == {"a": "1\n2\n\n3", "b": "4"}


def test_an_indented_comment_below_a_value_is_a_comment() -> None:
    assert options("nb_proc : 12", "    # as many as there are", "info : x") == {"nb_proc": "12", "info": "x"}


def test_comments_inside_a_script_belong_to_the_script() -> None:
    lines = ["set -e", "# prepare", "mkdir x", "#done"]
    assert options("script :", *(f"  {line}" for line in lines)) == {"script": "\n".join(lines)}


def test_the_first_line_of_a_here_document_may_begin_with_a_hash() -> None:
    lines = ["#include <stdio.h>", "int x;", "END"]
    found = options("script : cat > a.c <<END", *(f"    {line}" for line in lines), "info : x")
    assert found == {"script": "cat > a.c <<END\n" + "\n".join(lines), "info": "x"}


def test_a_line_in_brackets_inside_a_script_opens_no_section() -> None:
    found = options("script :", "        cd x", "    [ -f a ] && [ -f b ]", "    [QMOptions]", "b : 1")
    assert found == {"script": "    cd x\n[ -f a ] && [ -f b ]\n[QMOptions]", "b": "1"}


@pytest.mark.parametrize("line", ["a : 1", "[x] y", "[x]"])
def test_a_long_value_is_read_in_reasonable_time(line: str) -> None:
    value = "\n".join([line] * 60_000)  # would take minutes if each line looked at all before it
    assert entries("[QMOptions]\nscript :\n" + "\n".join([f"  {line}"] * 60_000)) == {"script": value}


# --- sections of others ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "foreign",
    ["no entry at all", "a : 1\na : 2", ": 3", "= x", "{'python': [1, 2,", "a : 1\n[Proc]\na : 2", "[open"],
)
@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
def test_other_sections_may_hold_anything(foreign: str, first: bool) -> None:
    parts = [f"[Proc]\n{foreign}\n", "[QMOptions]\nscript : x\n"]
    assert entries("".join(parts if first else reversed(parts))) == {"script": "x"}


@pytest.mark.parametrize("name", ["QMOptions", "qmoptions", "QMOPTIONS"])
def test_the_section_asked_for_is_found_in_any_case(name: str) -> None:
    assert entries(f"[{name}]\na : 1\n") == {"a": "1"}


def test_a_file_without_the_section_asked_for_has_no_section() -> None:
    assert read_ini("x\n[Proc]\na : 1\n", only="QMOptions") == []


# --- what is refused ---------------------------------------------------------------------------------------


def test_a_key_that_stands_twice_is_refused_with_both_lines() -> None:
    message, line = failure("[QMOptions]\nscript : a\n\nScript : b\n", "QMOptions")
    assert "'Script'" in message
    assert "2" in message
    assert "4" in message
    assert line == 4


def test_environment_variables_that_differ_in_case_are_two_keys() -> None:
    assert options("env_path : 1", "env_PATH : 2") == {"env_path": "1", "env_PATH": "2"}


def test_the_same_environment_variable_twice_is_refused() -> None:
    assert failure("[QMOptions]\nenv_A : 1\nENV_A : 2\n", "QMOptions")[1] == 3


def test_a_section_that_stands_twice_is_refused_with_both_lines() -> None:
    message, line = failure("[QMOptions]\na : 1\n[qmoptions]\nb : 1\n", "QMOptions")
    assert "1" in message
    assert "3" in message
    assert line == 3


@pytest.mark.parametrize("line", ["python process.py", ": 3", "= 3"])
def test_a_line_that_is_no_entry_is_refused(line: str) -> None:
    assert failure(f"[QMOptions]\na : 1\n{line}\n", "QMOptions")[1] == 3


def test_an_entry_before_the_first_section_is_refused_when_all_are_asked_for() -> None:
    assert failure("# comment\na : 1\n[x]\n")[1] == 2


def test_a_nul_character_is_refused() -> None:
    assert failure("[QMOptions]\na : 1\nb : \0\n", "QMOptions")[1] == 3


@given(text=st.text() | st.text(alphabet="[]:=#; \t\r\nab\0"), only=st.sampled_from([None, "a"]))
def test_any_text_is_read_or_refused_with_a_line_it_has(text: str, only: str | None) -> None:
    try:
        sections = read_ini(text, only)
    except IniError as err:
        assert 1 <= err.line <= 1 + text.count("\n") + text.count("\r")
    else:
        assert all(entry.key for section in sections for entry in section.entries)
