"""QM_history as the dashboard reads it: once, line by line, whatever the files hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Clock, until
from made_up import make_ended

from qm.spool import history
from qm.vocabulary.record import Record
from qm.vocabulary.states import State
from qm_web.cache import past as past_module
from qm_web.cache.past import Past

NOW = 1_800_000_000.0


class History:
    """A folder of history, and its reader."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root / "QM_history"
        self.directory.mkdir()
        self.clock = Clock()
        self.open: list[Past] = []

    def past(self, path: str = ":memory:") -> Past:
        self.open.append(Past(str(self.directory), path, self.clock))
        return self.open[-1]

    def add(self, name: str = "a", **fields: object) -> Record:
        values = {"state": State.DONE, "owner": "ada", "submitted": NOW, "started": NOW + 5, "finished": NOW + 15}
        record = Record(id=f"id{name.encode(errors='replace').hex()}", name=name, **{**values, **fields})  # type: ignore[arg-type]
        history.append(str(self.directory), record)
        return record

    def file(self) -> Path:
        return next(self.directory.iterdir())

    def jobs(self, past: Past) -> int:
        """How many ends are known, now that it is time to look again."""
        self.clock.time += 10
        past.refresh()
        return past.statistics().total.jobs


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path)
    yield made
    for past in made.open:
        past.close()


def test_use_is_added_up_by_owner_state_and_day(ended: History) -> None:
    ended.add("a", cpu_seconds=30.0, nb_proc=4)
    ended.add("b", owner="kurt", state=State.FAILED, cpu_seconds=50.0)
    ended.add("c", owner="kurt", finished=NOW + 86400 * 3, started=NOW + 86400 * 3 - 100)
    past = ended.past()
    assert ended.jobs(past) == 3
    found = past.statistics()
    assert found.total == (3, 2, 80.0, 4 * 10 + 10 + 100)
    assert [(owner, use.jobs, use.cpu) for owner, use in found.owners] == [("kurt", 2, 50.0), ("ada", 1, 30.0)]
    assert [(state, use.jobs) for state, use in found.states] == [(State.DONE, 2), (State.FAILED, 1)]
    assert [use.jobs for _, use in found.days] == [2, 1]
    assert sum(found.jobs for found in found.waiting) == 3
    assert [(found.low, found.jobs) for found in found.running if found.jobs] == [(10, 2), (60, 1)]
    assert past.statistics(found.days[1][0]).total.jobs == 1


def test_without_any_history_everything_is_nothing(ended: History) -> None:
    past = ended.past()
    assert ended.jobs(past) == 0 and past.complete
    os.rmdir(ended.directory)
    assert ended.jobs(past) == 0
    assert past.statistics().days == [] and past.between(0, 1e12, 10) == ([], 0)


def test_a_job_that_never_began_neither_waited_nor_ran(ended: History) -> None:
    ended.add("a", state=State.INVALID, started=None)
    past = ended.past()
    assert ended.jobs(past) == 1
    assert (past.statistics().waiting, past.statistics().running) == ([], [])


def test_what_is_added_is_read_and_nothing_twice(ended: History) -> None:
    past = ended.past()
    for n in range(1, 4):
        ended.add(f"job{n}")
        assert ended.jobs(past) == n
    assert ended.jobs(past) == 3


def test_a_cache_goes_on_where_the_last_one_ended(ended: History, tmp_path: Path) -> None:
    path = str(tmp_path / "cache")
    ended.add("a")
    first = ended.past(path)
    assert ended.jobs(first) == 1
    first.close()
    ended.add("b")
    again = ended.past(path)
    assert again.statistics().total.jobs == 1
    assert ended.jobs(again) == 2


def test_broken_lines_are_skipped(ended: History) -> None:
    ended.add("a")
    good = json.loads(ended.file().read_bytes())
    lines: list[object] = [
        {**good, "state": "dreaming"},
        {**good, "state": "running"},
        {**good, "finished": None},
        {**good, "finished": 1e300},
        {**good, "submitted": "yesterday"},
        {**good, "nb_proc": -4},
        {**good, "nb_proc": 1 << 40},
        {**good, "owner": 7},
        {**good, "cpu_seconds": -1},
        {**good, "processors": ["x"]},
        {"id": "only"},
        [1, 2],
        None,
        "text",
    ]
    with open(ended.file(), "ab") as file:
        for line in lines:
            file.write(json.dumps(line).encode() + b"\n")
        file.write(b"\xff\xfe half of a line\n\n" + b"[" * 100_000 + b"\n" + b'{"finished": NaN}\n')
    ended.add("b")
    assert ended.jobs(ended.past()) == 2


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(ended: History) -> None:
    ended.add("a")
    line = ended.file().read_bytes()
    past = ended.past()
    with open(ended.file(), "ab", buffering=0) as file:
        file.write(line[:40])
        assert ended.jobs(past) == 1
        file.write(line[40:])
    assert ended.jobs(past) == 2


def test_a_line_without_end_does_not_stop_the_reading(ended: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_module, "PIECE", 1000)
    ended.add("a")
    with open(ended.file(), "ab") as file:
        file.write(b"x" * 5000 + b"\n")
    ended.add("b")
    assert ended.jobs(ended.past()) == 2


@pytest.mark.parametrize("how", ["cut", "replaced", "deleted"])
def test_a_file_that_is_cut_replaced_or_deleted_is_read_anew(ended: History, how: str) -> None:
    for name in "abc":
        ended.add(name)
    past = ended.past()
    assert ended.jobs(past) == 3
    lines = ended.file().read_bytes().splitlines(keepends=True)
    if how == "cut":
        ended.file().write_bytes(lines[0])
    elif how == "replaced":
        (ended.root / "new").write_bytes(lines[1] * 5)
        os.rename(ended.root / "new", ended.file())
    else:
        ended.file().unlink()
    assert ended.jobs(past) == {"cut": 1, "replaced": 5, "deleted": 0}[how]


def test_lines_without_processors_are_read_and_new_ones_have_them(ended: History) -> None:
    ended.add("new", processors=(2, 5))
    line = json.loads(ended.file().read_bytes())
    assert line.pop("processors") == [2, 5]
    with open(ended.file(), "ab") as file:
        file.write(json.dumps({**line, "name": "old"}).encode() + b"\n")
    past = ended.past()
    assert ended.jobs(past) == 2
    found, more = past.between(NOW, NOW + 100, 10)
    assert {end.name: end.processors for end in found} == {"new": (2, 5), "old": ()}
    assert more == 0


def test_the_jobs_of_some_hours_are_those_that_ran_then(ended: History) -> None:
    for start, end in ((0, 10), (5, 25), (20, 30), (40, 50)):
        ended.add(f"{start}", started=NOW + start, finished=NOW + end)
    ended.add("never", started=None)
    past = ended.past()
    ended.jobs(past)
    found, more = past.between(NOW + 15, NOW + 35, 10)
    assert ([end.name for end in found], more) == (["20", "5"], 0)
    found, more = past.between(NOW, NOW + 100, 1)
    assert ([end.name for end in found], more) == (["40"], 3)


def test_undecodable_names_and_markup_come_back_as_they_were(ended: History) -> None:
    name = os.fsdecode(b"\xff<script>'\"%[")
    ended.add(name, owner=name)
    past = ended.past()
    ended.jobs(past)
    (end,), _ = past.between(NOW, NOW + 100, 10)
    assert end.name == end.owner == name == past.statistics().owners[0][0]


def test_a_long_history_is_read_on_behind_the_page(ended: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_module, "PIECE", 4000)
    monkeypatch.setattr(past_module, "AT_ONCE", -1.0)
    make_ended(str(ended.root), 100, now=NOW, days=60)
    past = ended.past()
    past.refresh()
    until(lambda: past.complete, "all to be read")
    assert ended.jobs(past) == 100


def test_a_full_disk_lets_the_reading_go_on_in_memory(ended: History, tmp_path: Path) -> None:
    past = ended.past(str(tmp_path / "cache"))
    assert ended.jobs(past) == 0
    with past._store.reading() as db:
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    make_ended(str(ended.root), 500, now=NOW)
    past.refresh()
    until(lambda: past.complete, "all to be read")
    assert ended.jobs(past) == 500
    assert past._store.path == ":memory:"
