"""Sweeps: which commands a template and its values give, and that a value can never be more than a word."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qm.judgement.sweep import SweepError, Variable, lines_of, make_sweep, slice_of, values_of
from qm.vocabulary.values import MAX_TASKS


def commands(template: str, *variables: Variable) -> list[str]:
    return list(make_sweep(template, variables).commands())


def test_the_first_variable_varies_slowest() -> None:
    sweep = make_sweep("corr.py --file_1 mill2sort-{slice} --file_2 {b}", [slice_of("0:1"), values_of("b=x,y")])
    assert list(sweep.commands()) == [
        "corr.py --file_1 mill2sort-0 --file_2 x",
        "corr.py --file_1 mill2sort-0 --file_2 y",
        "corr.py --file_1 mill2sort-1 --file_2 x",
        "corr.py --file_1 mill2sort-1 --file_2 y",
    ]
    assert list(sweep.rows()) == [("0", "x"), ("0", "y"), ("1", "x"), ("1", "y")]
    assert (sweep.names, sweep.size) == (("slice", "b"), 4)


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("0:3", "slice", ["0", "1", "2", "3"]),
        ("5:5", "slice", ["5"]),
        ("0:10:5", "slice", ["0", "5", "10"]),
        ("0:9:5", "slice", ["0", "5"]),
        ("08:10", "slice", ["08", "09", "10"]),
        ("8:010", "slice", ["008", "009", "010"]),
        ("00:99:50", "slice", ["00", "50"]),
        ("-1:1", "slice", ["-1", "0", "1"]),
        ("n=1:2", "n", ["1", "2"]),
        ("0:0", "slice", ["0"]),
    ],
)
def test_a_slice_has_both_ends_and_keeps_the_width_of_zeros(text: str, name: str, values: list[str]) -> None:
    variable = slice_of(text)
    assert (variable.name, list(variable.values)) == (name, values)


@pytest.mark.parametrize(
    "text", ["", "5", "a:b", "1:2:3:4", "3:1", "1:2:0", "1.5:2", "n=", "=1:2", "0-9", "٣:٤", "1:9999999"]
)
def test_what_is_no_slice_is_refused_with_what_was_given(text: str) -> None:
    with pytest.raises(SweepError, match="--slice"):
        slice_of(text)


@pytest.mark.parametrize("text", ["", "a", "=a", "a b=c", "1=x", "b=", "b=x,,y", "é=x"])
def test_values_without_a_name_or_empty_ones_are_refused(text: str) -> None:
    with pytest.raises(SweepError, match="--values"):
        values_of(text)


def test_lines_without_anything_on_them_are_no_values() -> None:
    assert list(lines_of("f", "a\r\n\n  \n b c \nlast").values) == ["a", " b c ", "last"]


def test_braces_that_are_no_placeholder_are_left_alone() -> None:
    kept = "${HOME} {} {a,b} {1..3} {print $1} $" + "{n} { n } %{}"
    assert commands(f"{kept} {{n}}", Variable("n", ["1"])) == [f"{kept} 1"]


def test_doubled_braces_are_braces() -> None:
    assert commands("awk '{{print}}' {n} {{n}} {{{n}}}", Variable("n", ["1"])) == ["awk '{print}' 1 {n} {{n}}"]


def test_an_unknown_name_is_named_and_told_how_to_be_written() -> None:
    with pytest.raises(SweepError, match=r"\{slise\}.*known: \{slice\}.*\{\{slise\}\}"):
        make_sweep("x {slise}", [slice_of("0:1")])


@pytest.mark.parametrize(
    ("template", "variables", "said"),
    [
        ("", [slice_of("0:1")], "one line"),
        ("  ", [slice_of("0:1")], "one line"),
        ("a\nb {slice}", [slice_of("0:1")], "one line"),
        ("a", [], "needs values"),
        ("a {n}", [Variable("n", [])], "no values"),
        ("a {n}", [Variable("n", ["x\ny"])], "line break"),
        ("a {n}", [Variable("n", ["x\0y"])], "NUL"),
        ("a {n}", [Variable("n", ["1"]), Variable("n", ["2"])], "twice"),
        ("a {n} {m}", [slice_of("n=1:2000"), slice_of("m=1:2000")], "4,000,000 combinations"),
    ],
)
def test_what_does_not_go_together_is_refused(template: str, variables: list[Variable], said: str) -> None:
    with pytest.raises(SweepError, match=said):
        make_sweep(template, variables)


def test_a_sweep_may_have_as_many_commands_as_an_array_has_tasks() -> None:
    assert make_sweep("a {n}{m}", [slice_of("n=1:1000"), slice_of("m=1:1000")]).size == MAX_TASKS


def test_a_variable_that_the_command_does_not_use_is_told() -> None:
    assert make_sweep("a {n}", [slice_of("n=1:2"), values_of("b=x,y")]).unused == ["b"]


@pytest.mark.parametrize("template", ["a '{n}'", 'a "{n}"', "a `{n}`", 'a "x\\"{n}"', "a \\{n}", "a 'it'\"{n}\""])
def test_inside_quotes_only_plain_values_may_stand(template: str) -> None:
    assert commands(template, Variable("n", ["plain", "7"]))[0] == template.replace("{n}", "plain")
    with pytest.raises(SweepError, match="inside quotes"):
        make_sweep(template, [Variable("n", ["plain", "two words"])])


@pytest.mark.parametrize("template", ["a 'x'{n}", 'a "x" {n}', "a \\\\{n}", "a \\'{n}", "a 'it\\'{n}"])
def test_outside_of_quotes_every_value_may_stand(template: str) -> None:
    assert commands(template, Variable("n", ["two words"])) == [template.replace("{n}", "'two words'")]


WORDS = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(values=st.lists(WORDS, min_size=1, max_size=3), before=st.sampled_from(["", "x-", "'q r'", '"a\'b"', "\\'"]))
@settings(deadline=None)
def test_a_value_is_one_word_whatever_characters_it_has(values: list[str], before: str) -> None:
    prefix = shlex.split(before)[0] if before else ""
    for command, value in zip(commands(f"run {before}{{v}} end", Variable("v", values)), values, strict=True):
        assert shlex.split(command) == ["run", prefix + value, "end"]


def test_the_shell_reads_a_value_as_it_is() -> None:
    nasty = ["$(touch x)", "; rm -rf /", "`id`", "a'b\"c\\", "~", "*", "-n", "\udcff", "{n}", "${HOME}", "#x", "!"]
    for command, value in zip(commands("printf '%s' {v}", Variable("v", nasty)), nasty, strict=True):
        said = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=30)
        assert said.stdout == value.encode(errors="surrogateescape")
