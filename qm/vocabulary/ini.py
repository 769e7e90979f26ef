"""A small reader of INI files, for proc_config.cfg and QMserv.cfg.

    [section]
    # a comment
    key : value
    other = a value that goes on
        over lines that are indented deeper than their key

Invariant: values are literal. `%`, `#` and `;` are ordinary characters in them; only a line that begins with
`#` or `;` is a comment. The first of `:` and `=` ends the key. A whole file may be indented.

A comment line indented deeper than the key above it belongs to the value if other deeper lines stand before or
behind it, so scripts keep their own comments and here-documents; alone below a key it is a comment.
A line in brackets that is indented deeper than the key above it, `[ -f x ]` in a script, opens no section.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class IniError(ValueError):
    """The file is no INI file at `line` (1-based)."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key : value`, and the line its key stands on (1-based)."""

    key: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """One `[name]` with its entries in the order of the file."""

    name: str
    line: int
    entries: tuple[Entry, ...]


def read_ini(text: str, only: str | None = None) -> list[Section]:
    """The sections of a file; with `only`, just those of that name (case ignored).

    Raises IniError for a NUL character, for a line that is no `key : value`, and for a key or section that
    stands twice. With `only`, whatever the other sections hold is none of our business.
    """
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise IniError("there is a NUL character, so this is no text file", line)
    sections: list[Section] = []
    name, line, depth = "", 0, -1  # depth: how far the last key is indented
    lines: list[tuple[int, str]] = []
    for number, content in enumerate(_lines(text), 1):
        stripped = content.strip()
        if stripped.startswith("[") and stripped.endswith("]") and not 0 <= depth < _indent(content):
            _close(sections, name, line, lines, only)
            name, line, depth, lines = stripped[1:-1].strip(), number, -1, []
        else:
            lines.append((number, content))
            if stripped and not stripped.startswith(("#", ";")) and (depth < 0 or _indent(content) <= depth):
                depth = _indent(content)
    _close(sections, name, line, lines, only)
    return sections


def _lines(text: str) -> list[str]:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _close(sections: list[Section], name: str, line: int, lines: list[tuple[int, str]], only: str | None) -> None:
    """Read the lines of a section that has ended."""
    if only is not None and name.lower() != only.lower():
        return
    if not line:
        for number, content in lines:
            if content.strip() and not content.lstrip().startswith(("#", ";")):
                raise IniError("this line stands before the first [section]", number)
        return
    for earlier in sections:
        if earlier.name.lower() == name.lower():
            raise IniError(f"section [{name}] stands twice: on lines {earlier.line} and {line}", line)
    sections.append(Section(name, line, tuple(_entries(lines))))


def _entries(lines: list[tuple[int, str]]) -> Iterable[Entry]:
    """The entries of one section."""
    seen: dict[str, int] = {}
    entries: list[Entry] = []
    more: list[str] = []
    held: list[str] = []  # comments right below a key: part of its value only if that goes on behind them
    key, first, start, depth = "", "", 0, 0
    for number, content in lines:
        stripped = content.strip()
        deeper = bool(key) and _indent(content) > depth
        comment = stripped.startswith(("#", ";"))
        if not stripped:
            if more:
                more.append("")
        elif comment and not deeper:
            continue
        elif comment and not more:
            held.append(content.rstrip())
        elif deeper:
            more += [*held, content.rstrip()]
            held = []
        else:
            if key:
                entries.append(Entry(key, _joined(first, more), start))
            more, held = [], []
            key, first = _split(content, number)
            start, depth = number, _indent(content)
            folded = f"env_{key[4:]}" if key[:4].lower() == "env_" else key.lower()
            if folded in seen:
                raise IniError(f"key {key!r} stands twice: on lines {seen[folded]} and {number}", number)
            seen[folded] = number
    if key:
        entries.append(Entry(key, _joined(first, more), start))
    return entries


def _split(content: str, number: int) -> tuple[str, str]:
    colon, equals = content.find(":"), content.find("=")
    at = min(colon, equals) if min(colon, equals) >= 0 else max(colon, equals)
    key = content[:at].strip() if at >= 0 else ""
    if not key:
        raise IniError(f"{content.strip()[:60]!r} is no `key : value`", number)
    return key, content[at + 1 :].strip()


def _joined(first: str, more: list[str]) -> str:
    """The value over its lines, without the indentation they have in common."""
    if not more:
        return first
    while more and not more[-1]:
        more.pop()
    common = min((_indent(line) for line in more if line), default=0)
    rest = [line[common:] for line in more]
    return "\n".join([first, *rest] if first else rest)
