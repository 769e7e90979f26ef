"""What the command line makes of facts: tables, moments, JSON, names, exit statuses. No daemon, no spool."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qm.cli import main
from qm.cli.common import as_json, moment, table
from qm.cli.making import command_name
from qm.cli.unit import quoted
from qm.cli.verbs.log import _start_of_last_lines
from qm.cli.verbs.status import ended_table, remaining_text, running_table, waiting_table
from qm.cli.verbs.wait import own_exit_status
from qm.judgement.arrival import marks_a_copy
from qm.spool.view import JobView
from qm.vocabulary.options import Options
from qm.vocabulary.optiontext import option_facts
from qm.vocabulary.record import Record, Tasks
from qm.vocabulary.states import Place, State

NOW = 1_800_000_000.0


def job(**facts: Any) -> JobView:
    """A running job, but for what is said."""
    plain: dict[str, Any] = {
        "place": Place.JOBS,
        "folder": "j",
        "path": "/spool/QM_Jobs/j",
        "name": "j",
        "id": "abcdefghijkl",
        "state": State.RUNNING,
        "owner": "me",
        "info": "",
        "size": "",
        "nb_proc": 1,
        "priority": 0,
        "submitted": NOW,
        "started": NOW,
        "finished": None,
        "reason": "",
        "progress": None,
        "progress_text": "",
        "record": None,
    }
    return JobView(**plain | facts)


# --- tables ----------------------------------------------------------------------------------------------------


def test_columns_are_as_wide_as_their_widest_cell_and_no_line_ends_in_blanks() -> None:
    lines = table(("NAME", "N", "INFO"), [("a", "1", ""), ("longer", "100", "x")], right=(1,))
    assert lines == ["NAME      N  INFO", "a         1", "longer  100  x"]


def test_a_cell_cannot_begin_a_new_line_or_move_the_cursor() -> None:
    assert table(("NAME",), [("a\nb\x1b[2Jc\t\u202e",)]) == ["NAME", r"a\nb\x1b[2Jc\t\u202e"]


def test_a_table_without_rows_is_its_headers() -> None:
    assert table(("A", "B"), []) == ["A  B"]


def test_a_running_job_without_progress_or_start_has_empty_cells() -> None:
    (_, line) = running_table([job(started=None, info="i")])
    assert line.split() == ["j", "abcdefghijkl", "running", "1", "me", "i"]


def test_an_array_shows_its_tasks_and_what_those_that_run_take() -> None:
    array = job(nb_proc=2, tasks=Tasks(100, 61, 2, 3), progress=0.63, progress_text="61 / 100, 2 failed")
    (_, line) = running_table([array])
    assert re.search(r" running +6 .* 61 / 100, 2 failed ", line)


def test_a_waiting_job_shows_its_priority_and_processors() -> None:
    (_, line) = waiting_table([job(state=State.PENDING, place=Place.QUEUE, priority=-3, nb_proc=12)], ["starts next"])
    assert line.split()[2:5] == ["pending", "12", "-3"] and line.endswith(" me     starts next")


def test_an_ended_job_shows_why_or_else_what_it_was_for() -> None:
    ended = job(state=State.FAILED, place=Place.LOST, finished=NOW + 3725, info="what for")
    assert ended_table([ended])[1].endswith("  what for") and " 01:02:05 " in ended_table([ended])[1]
    assert ended_table([replace(ended, reason="exit status 3")])[1].endswith("  exit status 3")


def test_the_time_left_needs_progress_and_a_start() -> None:
    assert remaining_text(job(progress=0.25), NOW + 10) == "00:30"
    assert remaining_text(job(progress=0.0), NOW + 10) == ""
    assert remaining_text(job(), NOW + 10) == remaining_text(job(progress=0.5, started=None), NOW) == ""


# --- moments and JSON ------------------------------------------------------------------------------------------


def test_a_moment_has_its_day_only_when_that_is_not_today() -> None:
    assert moment(None) == ""
    now = time.time()
    assert moment(now) in (
        time.strftime("%H:%M:%S", time.localtime(now)),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(now)),
    )
    assert moment(now - 400 * 86400).startswith(time.strftime("%Y-%m-", time.localtime(now - 400 * 86400)))


def test_json_has_what_lists_show_and_the_whole_record() -> None:
    record = Record("abcdefghijkl", "j", "me", State.RUNNING, NOW)
    data = as_json(job(record=record, state=State.PAUSED))
    assert (data["state"], data["place"], data["record"]["id"]) == ("paused", "QM_Jobs", "abcdefghijkl")
    assert data["record"]["state"] == "paused", "the folder decides the state, not the record"
    assert "record" not in as_json(job())


# --- names and statuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["make all"], "make"),
        (["/usr/bin/env", "x"], "env"),
        (["./my program", "x"], "my program"),
        ([".hidden"], "hidden"),
        (["@x.part.tmp~"], "x"),
        (["~"], "command"),
        (["dir/"], "command"),
        (["x" * 300], "x" * 100),
        (["ü" * 300, "y"], "ü" * 100),
    ],
)
def test_a_command_gives_a_name_that_a_job_may_have(words: list[str], name: str) -> None:
    assert command_name(words) == name
    assert not marks_a_copy(name) and len(os.fsencode(f"{name}.999999")) < 255


@pytest.mark.parametrize(
    ("exit_status", "signal", "own"),
    [(0, None, 0), (7, None, 7), (143, 15, 143), (None, 9, 137), (None, None, 1)],
)
def test_a_jobs_own_exit_status_is_told_as_a_shell_would(exit_status: int | None, signal: int | None, own: int) -> None:
    record = Record("abcdefghijkl", "j", "me", State.FAILED, NOW, exit_status=exit_status, signal=signal)
    assert own_exit_status(record) == own
    if exit_status is signal is None:
        assert own_exit_status(record._replace(state=State.DONE)) == 0, "an array has no exit status of its own"


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/srv/qm/QMserv.cfg", "/srv/qm/QMserv.cfg"),
        ("/two words", '"/two words"'),
        ("/100%", "/100%%"),
        ('/a"b\\c', '"/a\\"b\\\\c"'),
        ("/it's", '"/it\'s"'),
    ],
)
def test_a_path_in_a_unit_is_written_as_systemd_reads_it(path: str, written: str) -> None:
    assert quoted(path) == written


def test_options_are_shown_nearly_as_a_job_file_has_them() -> None:
    given = Options(
        script="job.sh",
        interpreter=("/bin/bash", "-e"),
        nb_proc=4,
        hold=True,
        wall_time=5400.0,
        after=("one", "afterany:two"),
        env=(("X", "a = b"),),
        slurm=True,
    )
    assert dict(option_facts(given)) == {
        "script": "/bin/bash -e job.sh",
        "hold": "yes",
        "wall_time": "5400",
        "after": "one, afterany:two",
        "env_X": "a = b",
    }
    assert option_facts(Options(script="date +%s")) == [("script", "date +%s")]


# --- the end of a log ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines", "end"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\n", 0, b""),
        (b"a\nb\n", 5, b"a\nb\n"),
        (b"", 3, b""),
        (b"\n\n\n", 1, b"\n"),
        (b"x" * 70_000 + b"\n" + b"y" * 70_000 + b"\n", 1, b"y" * 70_000 + b"\n"),
    ],
    ids=["ended", "unended", "none", "more than there are", "empty", "empty lines", "across two blocks"],
)
def test_the_last_lines_of_a_log_are_found_from_its_end(tmp_path: Path, text: bytes, lines: int, end: bytes) -> None:
    file = tmp_path / "log"
    file.write_bytes(text)
    fd = os.open(file, os.O_RDONLY)
    try:
        assert text[_start_of_last_lines(fd, lines) :] == end
    finally:
        os.close(fd)


# --- the command line itself -----------------------------------------------------------------------------------


def test_what_follows_dashes_is_kept_from_the_options_of_qm() -> None:
    argv, rest = main._without_command(["submit", "-n", "2", "--", "ls", "--json", "--", "-n"])
    assert (list(argv), rest.command) == (["submit", "-n", "2"], ["ls", "--json", "--", "-n"])
    argv, rest = main._without_command(["wait", "--", "-odd-"])
    assert (list(argv), rest.command) == (["wait", "--", "-odd-"], None), "other verbs keep what argparse makes of it"
    args = main.parser().parse_args(argv, rest)
    assert args.names == ["-odd-"]


def test_help_needs_no_module_that_is_slow_to_import() -> None:
    slow = {"rich", "psutil", "subprocess", "logging", "json", "importlib.metadata", "inotify_simple", "argcomplete"}
    code = (
        f"import sys; b = set(sys.modules); import qm.cli.main as m; m.parser().format_help(); "
        f"print(*({slow} & set(sys.modules) - b))"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout.split() == []
