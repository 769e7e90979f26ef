"""`.qm/tasks.jsonl` and `sweep.csv`: what is kept of the tasks of an array, and what is made of strange lines."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qm.spool import tasks
from qm.spool.tasks import STATES, TaskEntry, append, csv_lines, read, read_values, with_waiting
from qm.vocabulary.states import State

RUNNING = TaskEntry(7, State.RUNNING, attempt=1, started=1000.5, processors=(2, 3), gpus=(0,))
FAILED = RUNNING._replace(state=State.FAILED, finished=1002.25, exit_status=3, reason="exit status 3", tries=1)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "tasks.jsonl")


def test_the_last_line_of_a_task_counts(path: str) -> None:
    append(path, [RUNNING, TaskEntry(0, State.DONE)])
    append(path, [FAILED])
    assert read(path) == {7: FAILED, 0: TaskEntry(0, State.DONE)}
    assert len(Path(path).read_text().splitlines()) == 3, "nothing is written over"


def test_there_are_no_entries_where_there_is_no_file(path: str, tmp_path: Path) -> None:
    assert read(path) == {} and read(str(tmp_path)) == {}


def test_nothing_to_append_makes_no_file(path: str) -> None:
    append(path, [])
    assert not os.path.exists(path)


def test_half_a_last_line_is_not_read_and_does_not_swallow_the_next(path: str) -> None:
    append(path, [RUNNING, FAILED])
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[:-20])
    assert read(path) == {7: RUNNING}
    append(path, [TaskEntry(8, State.DONE)])
    assert read(path) == {7: RUNNING, 8: TaskEntry(8, State.DONE)}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"what the job wrote",
        b"[1]",
        b"null",
        b'{"task":7}',
        b'{"task":7,"state":"nonsense"}',
        b'{"task":7,"state":"arriving"}',
        b'{"task":7,"state":[]}',
        b'{"task":7,"state":"done","attempt":-1}',
        b'{"task":7,"state":"done","attempt":true}',
        b'{"task":7,"state":"done","started":"now"}',
        b'{"task":7,"state":"done","started":NaN}',
        b'{"task":7,"state":"done","started":-5}',
        b'{"task":7,"state":"done","processors":"0123"}',
        b'{"task":7,"state":"done","processors":[-1]}',
        b'{"task":7,"state":"done","reason":5}',
        b'{"task":7,"state":"done","exit_status":1.5}',
        b'{"task":7,"state":"done","reason":"' + b"x" * 5000 + b'"}',
        b'{"task":7,"state":"done"' + b"}" * 100_000,
        b'{"task":7,"state":"done","reason":' + b"[" * 50_000,
        b'{"task":99999999999,"state":"done"}',
        b'{"task":-1,"state":"done"}',
        b'{"task":7.0,"state":"done"}',
        b"\xff\x00\xfe",
    ],
)
def test_a_line_that_qm_did_not_write_hides_nothing(path: str, line: bytes) -> None:
    append(path, [RUNNING])
    with open(path, "ab") as file:
        file.write(line + b"\n")
    assert read(path) == {7: RUNNING}
    append(path, [FAILED])
    assert read(path) == {7: FAILED}


def test_what_a_later_version_adds_is_passed_over(path: str) -> None:
    Path(path).write_text('{"task":1,"state":"done","colour":"red"}\n')
    assert read(path) == {1: TaskEntry(1, State.DONE)}


def test_a_line_without_an_end_costs_no_memory(path: str) -> None:
    append(path, [RUNNING])
    with open(path, "ab") as file:
        file.write(b"x" * (3 << 20) + b"\n")
    append(path, [FAILED])
    assert read(path) == {7: FAILED}


def test_no_more_tasks_are_kept_than_an_array_may_have(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MOST_TASKS", 3)
    append(path, [TaskEntry(number, State.RUNNING) for number in range(5)])
    append(path, [TaskEntry(1, State.DONE), TaskEntry(4, State.DONE)])
    assert sorted(read(path)) == [0, 1, 2]
    assert read(path)[1].state is State.DONE


def test_a_link_is_neither_written_through_nor_read(path: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    append(str(elsewhere), [RUNNING])
    before = elsewhere.read_bytes()
    os.symlink(elsewhere, path)
    with pytest.raises(OSError):
        append(path, [FAILED])
    assert read(path) == {} and elsewhere.read_bytes() == before


def test_a_long_reason_is_cut_and_still_read(path: str) -> None:
    append(path, [FAILED._replace(reason="\U0001f600" * 5000)])
    assert read(path)[7].reason.endswith("…") and len(read(path)[7].reason) == tasks.LONGEST_REASON


TIMES = st.none() | st.floats(0, 1e11, exclude_max=True)
COUNTS = st.integers(0, (1 << 31) - 1)
ENTRIES = st.builds(
    TaskEntry,
    task=st.integers(0, 20),
    state=st.sampled_from(sorted(STATES)),
    attempt=COUNTS,
    started=TIMES,
    finished=TIMES,
    exit_status=st.none() | st.integers(-255, 255),
    signal=st.none() | st.integers(1, 64),
    processors=st.lists(COUNTS, max_size=4).map(tuple),
    gpus=st.lists(COUNTS, max_size=2).map(tuple),
    cpu_seconds=TIMES,
    peak_memory=st.none() | st.integers(0, 1 << 62),
    reason=st.text(max_size=50),
    not_before=TIMES,
    deferred=TIMES,
    tries=COUNTS,
    ticket=st.text(max_size=20),
    wall_end=TIMES,
    wall_left=st.none() | st.floats(-1e10, 1e10),
    ending=st.sampled_from(["", *map(str, tasks.ENDING_EVENTS)]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(written=st.lists(st.lists(ENTRIES, max_size=3), max_size=5), cut=st.integers(0, 40))
def test_what_was_appended_is_read_again_but_for_what_a_crash_cut_off(
    path: str, written: list[list[TaskEntry]], cut: int
) -> None:
    Path(path).unlink(missing_ok=True)
    for entries in written:
        append(path, entries)
    flat = [entry for entries in written for entry in entries]
    assert read(path) == {entry.task: entry for entry in flat}
    if flat and cut:
        data = Path(path).read_bytes()
        Path(path).write_bytes(data[:-cut])
        left = data[:-cut].count(b"\n")
        assert read(path) == {entry.task: entry for entry in flat[:left]}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.binary(max_size=400))
def test_any_bytes_give_entries_or_none(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)
    assert isinstance(read(path), dict)


# --- CSV -------------------------------------------------------------------------------------------------------


def test_every_task_has_a_line_of_csv_with_the_values_of_the_sweep() -> None:
    every = with_waiting({7: FAILED}, [7, 8])
    lines = list(csv_lines(every, {7: ("a,b", 'say "x"')}, ("file", "word")))
    rows = list(csv.DictReader(io.StringIO("".join(lines))))
    assert [(row["task"], row["file"], row["word"], row["state"]) for row in rows] == [
        ("7", "a,b", 'say "x"', "failed"),
        ("8", "", "", "pending"),
    ]
    assert (rows[0]["seconds"], rows[0]["exit_status"], rows[0]["reason"]) == ("1.75", "3", "exit status 3")
    assert rows[1]["attempt"] == rows[1]["started"] == ""


def test_a_reason_cannot_begin_a_new_line_of_csv() -> None:
    (_, line) = csv_lines({7: FAILED._replace(reason="a\nb\x1b[2J\ud800")})
    assert line.endswith(r"a\nb\x1b[2J\ud800" + "\n") and line.count("\n") == 1


# --- sweep.csv -------------------------------------------------------------------------------------------------


def test_the_values_of_a_sweep_are_read_by_task(tmp_path: Path) -> None:
    (tmp_path / "sweep.csv").write_bytes(b'task,slice,b\n0,1,x\n1,1,"y z, \xff"\n')
    assert read_values(str(tmp_path)) == (("slice", "b"), {0: ("1", "x"), 1: ("1", "y z, \udcff")})


def test_rows_that_do_not_fit_and_half_a_last_line_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "sweep.csv").write_text("task,a\n0,x\n1,y,z\nq,x\n\n-1,x\n2,w\n3,unend")
    assert read_values(str(tmp_path)) == (("a",), {0: ("x",), 2: ("w",)})


@pytest.mark.parametrize("data", [b"", b"\n", b"no end", b"a\0b\n1\0,2\n", b'"' + b"x" * 200_000 + b"\n"])
def test_a_table_that_is_none_has_no_values(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "sweep.csv").write_bytes(data)
    assert read_values(str(tmp_path))[1] == {}


def test_without_a_table_there_are_no_values(tmp_path: Path) -> None:
    assert read_values(str(tmp_path)) == ((), {})
