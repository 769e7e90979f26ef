"""What the page of an array shows of its tasks, and how seldom their file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qm.spool import tasks
from qm.spool.paths import JobPaths
from qm.spool.tasks import TaskEntry
from qm.vocabulary.arrays import ArraySpec, read_array
from qm.vocabulary.states import State
from qm_web.cache.taskbook import KEPT, Array, TaskBook
from qm_web.routes.taskgrid import BARS, LISTED, MOST_CELLS, RANGES, durations, grid_of, said

NOW = 1_700_000_000.0


def entry(task: int, state: State = State.DONE, took: float | None = 10.0, **facts: Any) -> TaskEntry:
    finished = NOW + took if took is not None else None
    return TaskEntry(task, state, 1, NOW, finished, **facts)


def array(spec: str, *entries: TaskEntry, **sweep: Any) -> Array:
    found = {one.task: one for one in entries}
    return Array(read_array(spec), 1, found, sweep.get("names", ()), sweep.get("values", {}))


# --- the grid ----------------------------------------------------------------------------------------------


def test_every_task_has_a_cell_that_says_how_it_is() -> None:
    failed = entry(2, State.FAILED, exit_status=3)
    grid = grid_of(array("0-4", entry(0), entry(1, State.RUNNING, None), failed))
    assert [cell.text for cell in grid.cells] == [
        "task 0: done in 00:10",
        "task 1: running",
        "task 2: failed, exit status 3",
        "task 3: pending",
        "task 4: pending",
    ]
    assert [cell.kind for cell in grid.cells] == ["done", "running", "failed", "pending", "pending"]
    assert [cell.task for cell in grid.cells] == [0, 1, 2, None, None]
    assert grid.counts == [("running", 1), ("done", 1), ("failed", 1), ("pending", 2)]


def test_a_task_of_a_sweep_says_its_values() -> None:
    grid = grid_of(array("0-1", entry(0), names=("slice", "b"), values={0: ("7", "x\n")}))
    assert grid.cells[0].text == r"task 0 (slice=7, b=x\n): done in 00:10"


def test_of_many_tasks_a_cell_stands_for_a_range_and_shows_its_worst() -> None:
    bad = entry(3, State.TIMEOUT)
    grid = grid_of(array("0-4999", *(entry(number) for number in range(7) if number != 3), bad))
    assert (len(grid.cells), grid.per_cell) == (1000, 5)
    first, second, third = grid.cells[:3]
    assert (first.kind, first.task, first.text) == ("timeout", 3, "tasks 0 to 4: 4 done, 1 timeout")
    assert (second.kind, second.text) == ("part", "tasks 5 to 9: 2 done, 3 pending")
    assert (third.kind, third.task) == ("pending", None)


def test_only_some_of_the_failed_and_the_running_are_listed_the_failed_first() -> None:
    running = [entry(number, State.RUNNING, None) for number in range(30)]
    failed = [entry(number, State.FAILED) for number in range(30, 80)]
    grid = grid_of(array("0-99", *running, *failed))
    assert [one.task for one in grid.listed] == [*range(30, 30 + LISTED), *range(LISTED)]
    assert grid.more == 30 - LISTED + 50 - LISTED


def test_entries_of_tasks_that_the_array_does_not_have_are_left_out() -> None:
    grid = grid_of(array("5,7", entry(6, State.FAILED), entry(7)))
    assert grid.counts == [("done", 1), ("pending", 1)]
    assert grid.listed == []


@given(st.integers(1, 12_000), st.data())
def test_the_cells_stay_few_and_the_counts_add_up(total: int, data: st.DataObject) -> None:
    states = data.draw(st.dictionaries(st.integers(0, total - 1), st.sampled_from(sorted(tasks.STATES)), max_size=20))
    grid = grid_of(array(f"0-{total - 1}", *(entry(task, state) for task, state in states.items())))
    assert sum(number for _, number in grid.counts) == grid.total == total
    assert len(grid.cells) <= max(MOST_CELLS, RANGES)
    assert len(grid.cells) * grid.per_cell >= total


def test_an_outcome_is_the_reason_else_the_exit_status() -> None:
    assert said(entry(0, State.OUT_OF_MEMORY, reason="used 3.0 GiB")) == "out_of_memory, used 3.0 GiB"
    assert said(entry(0, State.FAILED, exit_status=2)) == "failed, exit status 2"
    assert said(entry(0, State.KILLED)) == "killed"


# --- durations ---------------------------------------------------------------------------------------------


def test_durations_are_told_in_words_and_bars() -> None:
    told = durations([1.0, 2.0, 3.0, 100.0])
    assert told is not None
    assert told.text == "4 tasks that are done took 00:01 to 01:40, half of them at most 00:02."
    assert len(told.bars) == BARS
    assert [bar.number for bar in told.bars] == [3, *[0] * (BARS - 2), 1]
    assert (told.bars[0].height, told.bars[0].low, told.bars[-1].high) == (1.0, 1.0, 100.0)


def test_durations_that_are_all_alike_need_no_bars() -> None:
    told = durations([5.0, 5.0])
    assert told is not None
    assert told.bars == []
    assert durations([5.0]) is None


@given(st.lists(st.floats(0, 1e11), min_size=2))
def test_every_duration_is_in_a_bar(took: list[float]) -> None:
    told = durations(took)
    assert told is not None
    assert sum(bar.number for bar in told.bars) in (0, len(took))


# --- reading -----------------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass only when they are told to; each look may cost some."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cost = 0.0

    def __call__(self) -> float:
        self.now += self.cost
        return self.now


def folder(tmp_path: Path, name: str = "job") -> JobPaths:
    (tmp_path / name / ".qm").mkdir(parents=True)
    return JobPaths(str(tmp_path / name))


SPEC = ArraySpec((range(3),))


def test_tasks_are_read_once_and_again_when_they_have_changed(tmp_path: Path) -> None:
    paths, book = folder(tmp_path), TaskBook(Clock())
    assert book.of("key", paths, SPEC).entries == {}
    tasks.append(paths.tasks, [entry(1)])
    first = book.of("key", paths, SPEC)
    assert list(first.entries) == [1]
    assert book.of("key", paths, SPEC) is first
    tasks.append(paths.tasks, [entry(2)])
    assert list(book.of("key", paths, SPEC).entries) == [1, 2]


def test_what_took_long_to_read_is_not_read_again_at_once(tmp_path: Path) -> None:
    clock = Clock()
    paths, book = folder(tmp_path), TaskBook(clock)
    clock.cost = 1.0
    first = book.of("key", paths, SPEC)
    tasks.append(paths.tasks, [entry(1)])
    clock.cost = 0.0
    assert book.of("key", paths, SPEC) is first
    clock.now += 20
    assert list(book.of("key", paths, SPEC).entries) == [1]


def test_the_values_of_a_sweep_belong_to_its_tasks(tmp_path: Path) -> None:
    paths = folder(tmp_path)
    Path(paths.dir, "sweep.csv").write_text("task,slice,b\n0,0,x\n1,1,y\n")
    found = TaskBook().of("key", paths, SPEC)
    assert [found.values_text(task) for task in range(3)] == ["slice=0, b=x", "slice=1, b=y", ""]


def test_only_a_few_arrays_are_kept(tmp_path: Path) -> None:
    book = TaskBook()
    first = folder(tmp_path, "first")
    seen = book.of("first", first, SPEC)
    for number in range(KEPT):
        book.of(f"key{number}", folder(tmp_path, f"job{number}"), SPEC)
    assert book.of("first", first, SPEC) is not seen
