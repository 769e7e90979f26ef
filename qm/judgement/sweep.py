"""A sweep: one command over every combination of some values. Text in, commands out.

In the template `{name}` stands for a value of that variable; `{{name}}` is `{name}` itself, and whatever else has
braces is the shell's (`${HOME}`, `{a,b}`, `{}`, awk's `{print $1}`). Values are quoted for the shell. Invariant: a
value is always one word, or part of one, of the command, whatever characters it has; where quotes around a
placeholder would break that, the sweep is refused. The combinations come in the order of nested loops: the first
variable varies slowest.
"""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from qm.vocabulary.values import MAX_TASKS

SLICE = "slice"
"""The variable of `--slice A:B` without a name."""

_NAMED = re.compile(r"([A-Za-z_]\w*)=(.*)\Z", re.ASCII | re.DOTALL)
_RANGE = re.compile(r"(-?[0-9]{1,15}):(-?[0-9]{1,15})(?::([0-9]{1,15}))?\Z")
_PLACE = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|(?<!\$)\{([A-Za-z_]\w*)\}", re.ASCII)


class SweepError(ValueError):
    """What is wrong with a sweep as it was given, in one sentence."""


class Variable(NamedTuple):
    """A name and the values it takes, in their order."""

    name: str
    values: Sequence[str]


class Piece(NamedTuple):
    """A part of a template: text, or the place of variable `name`; `quoted`: inside the template's own quotes."""

    text: str
    name: str = ""
    quoted: bool = False


class Sweep(NamedTuple):
    """The template, cut into pieces, and its variables. Task i runs the i-th command."""

    pieces: tuple[Piece, ...]
    variables: tuple[Variable, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The variables' names, slowest first."""
        return tuple(variable.name for variable in self.variables)

    @property
    def size(self) -> int:
        """How many commands there are."""
        return math.prod(len(variable.values) for variable in self.variables)

    @property
    def unused(self) -> list[str]:
        """The variables that the command does not mention."""
        used = {piece.name for piece in self.pieces}
        return [name for name in self.names if name not in used]

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The values of each task."""
        return itertools.product(*(variable.values for variable in self.variables))

    def commands(self) -> Iterator[str]:
        """The command of each task, one line each."""
        at = {name: index for index, name in enumerate(self.names)}
        parts = [(piece.text, at.get(piece.name)) for piece in self.pieces]
        for row in itertools.product(*([shlex.quote(value) for value in values] for _, values in self.variables)):
            yield "".join(text if index is None else row[index] for text, index in parts)


def make_sweep(template: str, variables: Sequence[Variable]) -> Sweep:
    """Put them together. SweepError for what does not go together."""
    if not template.strip() or "\n" in template or "\0" in template:
        raise SweepError("the command of a sweep is one line of text; put what is longer into a script")
    if not variables:
        raise SweepError("a sweep needs values: give --slice, --values, --lines or --glob")
    names = [variable.name for variable in variables]
    for name in names:
        if names.count(name) > 1:
            raise SweepError(f"{{{name}}} is given twice; a second variable needs another name (NAME=…)")
    for variable in variables:
        _check_values(variable)
    sweep = Sweep(tuple(_pieces(template)), tuple(variables))
    if sweep.size > MAX_TASKS:
        raise SweepError(f"these are {sweep.size:,} combinations; a sweep has at most {MAX_TASKS:,}")
    for piece in sweep.pieces:
        _check_place(piece, sweep)
    return sweep


def slice_of(text: str) -> Variable:
    """`A:B`, `A:B:STEP` or `NAME=A:B`: whole numbers, both ends included, as wide as bounds with leading zeros."""
    given = _NAMED.match(text)
    found = _RANGE.match(given[2] if given else text)
    if found is None:
        raise SweepError(f"--slice {text}: write A:B, A:B:STEP or NAME=A:B, such as 0:99")
    first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
    if last < first or step < 1:
        raise SweepError(f"--slice {text}: the second number must not be below the first, nor the step below 1")
    numbers = range(first, last + 1, step)
    if len(numbers) > MAX_TASKS:
        raise SweepError(f"--slice {text}: these are {len(numbers):,} values; a sweep has at most {MAX_TASKS:,}")
    bounds = (found[1], found[2])
    padded = any(re.match("-?0[0-9]", bound) for bound in bounds)
    width = max(map(len, bounds)) if padded else 0
    return Variable(given[1] if given else SLICE, [str(number).zfill(width) for number in numbers])


def values_of(text: str) -> Variable:
    """`NAME=a,b,c`."""
    name, listed = named(text, "--values", "a,b,c")
    values = listed.split(",")
    if not all(values):
        raise SweepError(f"--values {text}: there is an empty value; write NAME=a,b,c")
    return Variable(name, values)


def lines_of(name: str, text: str) -> Variable:
    """One value a line; lines without anything on them are none."""
    return Variable(name, [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()])


def named(text: str, option: str, example: str) -> tuple[str, str]:
    """The name and what stands behind it. SweepError where there is no name."""
    found = _NAMED.match(text)
    if found is None:
        raise SweepError(f"{option} {text}: write NAME={example}; a name is made of letters, digits and _")
    return found[1], found[2]


def _check_values(variable: Variable) -> None:
    if not variable.values:
        raise SweepError(f"there are no values for {{{variable.name}}}")
    for value in variable.values:
        if "\n" in value or "\r" in value or "\0" in value:
            raise SweepError(f"{{{variable.name}}}: the value {value!r} has a line break or NUL in it")


def _check_place(piece: Piece, sweep: Sweep) -> None:
    if not piece.name:
        return
    if piece.name not in sweep.names:
        known = ", ".join(f"{{{name}}}" for name in sweep.names)
        raise SweepError(
            f"the command has {{{piece.name}}}, of which no values are given (known: {known}); "
            f"for braces that are meant as such write {{{{{piece.name}}}}}"
        )
    if piece.quoted:
        values = sweep.variables[sweep.names.index(piece.name)].values
        odd = next((value for value in values if shlex.quote(value) != value), None)
        if odd is not None:
            raise SweepError(
                f"{{{piece.name}}} stands inside quotes, and its value {odd!r} needs quotes of its own; "
                f"write {{{piece.name}}} outside of them, QM quotes it"
            )


def _pieces(template: str) -> Iterator[Piece]:
    end = 0
    text = ""
    for found in _PLACE.finditer(template):
        text += template[end : found.start()]
        end = found.end()
        if found[1]:
            text += f"{{{found[1]}}}"
            continue
        if text:
            yield Piece(text)
        text = ""
        yield Piece("", found[2], _in_quotes(template[: found.start()]))
    if text + template[end:]:
        yield Piece(text + template[end:])


def _in_quotes(before: str) -> bool:
    """Would the shell, having read so much, take the next character as quoted?"""
    quote = ""
    escaped = False
    for char in before:
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"`":
            quote = char
    return bool(quote) or escaped
