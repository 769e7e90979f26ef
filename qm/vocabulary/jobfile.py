"""Job files in their three formats: proc_config.cfg, info.xml, job.sh.

Invariant: whatever bytes a file has, reading it gives options or a JobFileError that says which file, which
line, what is wrong and what would be right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from qm.vocabulary.errors import JobFileError
from qm.vocabulary.ini import IniError, read_ini
from qm.vocabulary.options import Given, Options, not_obeyed, read_options

DEFAULT_JOB_FILES = ("proc_config.cfg", "info.xml", "infos.xml", "job.sh")
"""The first of these that a folder has is its job file."""

MAX_JOB_FILE = 1 << 20
"""Bytes; read at most one more, so that a larger file can be refused."""

SECTION = "QMOptions"
SHELL = "/bin/sh"
_ROOT = "PARAMETER"


MOST_NOTES = 20


@dataclass(frozen=True, slots=True)
class JobFile:
    """A job file that was read: its name, its options, and notes for the job's log."""

    name: str
    options: Options
    notes: tuple[str, ...] = ()


def read_job_file(name: str, data: bytes) -> JobFile:
    """Read a job file by the format its name says: .xml, .sh, anything else is an INI file. JobFileError."""
    if len(data) > MAX_JOB_FILE:
        raise JobFileError(f"{name} is larger than 1 MiB, which no job file needs; put the data into another file")
    if not data.strip():
        raise JobFileError(f"{name} is empty")
    if name.lower().endswith(".sh"):
        job_file = _read_script(name, data)
    elif name.lower().endswith(".xml"):
        job_file = _read_xml(name, data)
    else:
        job_file = _read_config(name, data)
    waiting = not_obeyed(job_file.options)
    notes = job_file.notes
    if waiting:
        notes = (f"kept, but not obeyed by this version of QM: {', '.join(waiting)}", *notes)
    return replace(job_file, notes=_few(notes)) if notes else job_file


def _few(notes: tuple[str, ...]) -> tuple[str, ...]:
    """Notes are kept in every record: not more, and not longer ones, than a person would read."""
    short = tuple(note if len(note) <= 300 else note[:297] + "..." for note in notes[:MOST_NOTES])
    return short if len(notes) <= MOST_NOTES else (*short, f"and {len(notes) - MOST_NOTES} more like these")


# --- proc_config.cfg -----------------------------------------------------------------------------------------


def _read_config(name: str, data: bytes) -> JobFile:
    text = _text(name, data)
    try:
        sections = read_ini(text, only=SECTION)
    except IniError as err:
        raise JobFileError(f"{name}, line {err.line}: {err}") from err
    if not sections:
        raise JobFileError(f"{name} has no section [{SECTION}]; the options of a job stand below such a line")
    given = [(entry.key, entry.value, entry.line) for entry in sections[0].entries]
    return JobFile(name, *read_options(given, name))


def _text(name: str, data: bytes) -> str:
    if b"\0" in data:
        raise JobFileError(f"{name} is no text file: it has a NUL byte at position {data.index(0)}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        found = f"byte 0x{data[err.start]:02x} on line {line}"
        raise JobFileError(f"{name} is not UTF-8 text ({found}); save it as UTF-8") from err


# --- info.xml ------------------------------------------------------------------------------------------------


class _XmlReader:
    """Collects `<key value="…"/>` below the root; anything that could make the parser read more is refused."""

    def __init__(self, name: str) -> None:
        from xml.parsers import expat  # only for folders that have such a file

        self.name = name
        self.given: list[Given] = []
        self._depth = 0
        self._key = ""
        self._value: str | None = None
        self._content: list[str] = []
        self._line = 0
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._content.append
        self._error = expat.ExpatError

    def read(self, data: bytes) -> list[Given]:
        try:
            self._parser.Parse(data, True)
        except self._error as err:
            hint = "; it is not UTF-8 text: save it as UTF-8" if "\ufffd" in data.decode("utf-8", "replace") else ""
            raise JobFileError(f"{self.name}, line {err.lineno}: no well-formed XML ({err}){hint}") from err
        except (LookupError, ValueError) as err:
            raise JobFileError(f"{self.name}: its encoding cannot be read ({err}); save it as UTF-8") from err
        return self.given

    def _refuse_doctype(self, *_: Any) -> None:
        text = "a DOCTYPE (and so entities) is not allowed in a job file; take it out"
        raise JobFileError(f"{self.name}, line {self._parser.CurrentLineNumber}: {text}")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1 and tag.upper() != _ROOT:
            raise JobFileError(f"{self.name}: the outermost element is <{tag}>, but must be <{_ROOT}>")
        if self._depth == 2:
            self._key, self._value = tag, attributes.get("value")
            self._content.clear()
            self._line = self._parser.CurrentLineNumber

    def _end(self, _tag: str) -> None:
        if self._depth == 2:
            value = self._value if self._value is not None else "".join(self._content)
            self.given.append((self._key, value.strip(), self._line))
        self._depth -= 1


def _read_xml(name: str, data: bytes) -> JobFile:
    return JobFile(name, *read_options(_XmlReader(name).read(data), name))


# --- job.sh --------------------------------------------------------------------------------------------------


def _read_script(name: str, data: bytes) -> JobFile:
    """Options stand in the comments above the first command, as for sbatch(1); the rest may be any bytes."""
    from qm.vocabulary.sbatch import read_sbatch

    interpreter: tuple[str, ...] = (SHELL,)
    given: list[Given] = []
    slurm: list[tuple[int, str]] = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        line = raw.strip()
        if line and not line.startswith(b"#"):
            break
        if number == 1 and line.startswith(b"#!"):
            interpreter = _interpreter(name, _option_line(name, number, line[2:]))
        elif line.startswith(b"#SBATCH") and line[7:8].isspace():
            slurm.append((number, _option_line(name, number, line[7:])))
        elif line.startswith(b"#QM") and line[3:4].isspace():
            given.append(_key_and_value(name, number, _option_line(name, number, line[3:])))
    own = {key.lower().replace("-", "_") for key, _, _ in given}
    if "script" in own:
        raise JobFileError(f"{name}: it is the script itself; take the key `script` out")
    options, notes = read_options([("script", name, 0), *given], name)
    if slurm:
        fields, slurm_notes = read_sbatch(slurm, name, options.nb_proc if "nb_proc" in own else None)
        if "attempts" in own:
            own.add("retry_on")  # what --requeue says is said otherwise
        if "email" in own:
            own.add("e_mail")
        env = {**dict(fields.pop("env", ())), **dict(options.env)}
        theirs = {field: value for field, value in fields.items() if field not in own}
        options = replace(options, **theirs, env=tuple(env.items()))
        notes = (*notes, *slurm_notes)
    return JobFile(name, replace(options, interpreter=interpreter), notes)


def _option_line(name: str, number: int, line: bytes) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as err:
        raise JobFileError(f"{name}, line {number}: this option is not UTF-8 text; save it as UTF-8") from err
    if "\0" in text:
        raise JobFileError(f"{name}, line {number}: this option has a NUL byte in it")
    return text.strip()


def _key_and_value(name: str, number: int, text: str) -> Given:
    colon, equals = text.find(":"), text.find("=")
    at = min(colon, equals) if min(colon, equals) >= 0 else max(colon, equals)
    if at < 1:
        raise JobFileError(f"{name}, line {number}: #QM {text}: write #QM key = value")
    return text[:at].strip(), text[at + 1 :].strip(), number


def _interpreter(name: str, text: str) -> tuple[str, ...]:
    """As the kernel reads `#!`: a path, and everything behind it as one argument (execve(2))."""
    words = text.split(None, 1)
    if not words:
        raise JobFileError(f"{name}, line 1: behind #! stands no interpreter; write #!/bin/sh")
    return tuple(word.strip() for word in words)
