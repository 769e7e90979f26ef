"""The dashboard's cache of all jobs: always what the folders say, whatever happens to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Clock, until
from made_up import make_ended

from qm.spool.paths import SpoolPaths
from qm.spool.view import View
from qm.vocabulary.options import Options
from qm.vocabulary.record import Record, dump
from qm.vocabulary.states import PLACE_OF, Place, State
from qm_web.cache import store
from qm_web.cache.index import SORTS, Index, Query, Row

PAST = (Place.DONE, Place.LOST)
NOW = 1_800_000_000.0


class Spool:
    """A spool without a daemon, its index, and a clock between refreshes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = SpoolPaths(str(root))
        for directory in self.paths.places.values():
            os.makedirs(directory)
        self.clock = Clock()
        self.open: list[Index] = []

    def index(self, path: str = ":memory:") -> Index:
        index = Index(View(str(self.root)), path, self.clock)
        self.open.append(index)
        return index

    def put(self, name: str, state: State = State.DONE, folder: str | None = None, **fields: object) -> Record:
        """A job's folder with its record, in the place that its state has."""
        values = {"id": f"id{os.urandom(5).hex()}", "owner": "ada", "submitted": NOW, **fields}
        record = Record(name=name, state=state, **values)  # type: ignore[arg-type]
        paths = self.paths.job(PLACE_OF[state], folder or name)
        os.makedirs(paths.dot, exist_ok=True)
        temporary = paths.record + ".new"
        with open(temporary, "wb") as file:
            file.write(dump(record))
        os.rename(temporary, paths.record)
        return record

    def move(self, name: str, source: Place, to: Place) -> None:
        os.rename(self.paths.job(source, name).dir, self.paths.job(to, name).dir)

    def refreshed(self, index: Index) -> list[Row]:
        """All jobs after a refresh that was due and has read everything."""

        def complete() -> bool:
            self.clock.time += 10
            index.refresh()
            return index.progress() is None and index._reader is None

        until(complete, "the index to be complete")
        return index.list(Query(per_page=100_000))[0]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool")
    yield made
    for index in made.open:
        index.close()


def names(rows: list[Row]) -> list[str]:
    return [row.name for row in rows]


# --- what is found -------------------------------------------------------------------------------------------


def test_a_job_is_shown_as_its_record_says(spool: Spool) -> None:
    record = spool.put(
        "align",
        State.FAILED,
        reason="exit status 3",
        started=NOW + 1,
        finished=NOW + 5,
        exit_status=3,
        attempt=2,
        nb_proc=4,
        cpu_seconds=12.5,
        peak_memory=1 << 40,
        options=Options(info="reads", size="12", priority=-3),
    )
    (row,) = spool.refreshed(spool.index())
    assert row == Row(
        record.id, record.id, "align", Place.LOST, "align", State.FAILED, "ada", "reads", "12", 4, -3,
        NOW, NOW + 1, NOW + 5, "exit status 3", 2, 3, None, 12.5, 1 << 40,
    )  # fmt: skip


def test_an_empty_spool_and_a_missing_one_have_no_jobs(spool: Spool, tmp_path: Path) -> None:
    assert spool.refreshed(spool.index()) == []
    missing = Index(View(str(tmp_path / "nowhere")), ":memory:")
    missing.refresh()
    assert missing.list(Query()) == ([], 0)
    assert (missing.counts(), missing.owners(), missing.find("x" * 12)) == ({}, [], None)
    missing.close()


def test_jobs_that_come_and_go_are_noticed(spool: Spool) -> None:
    index = spool.index()
    spool.put("a")
    assert names(spool.refreshed(index)) == ["a"]
    before = index.version
    spool.put("b", State.PENDING)
    shutil.rmtree(spool.root / "QM_dJobs" / "a")
    assert names(spool.refreshed(index)) == ["b"]
    assert index.version > before


def test_nothing_new_leaves_the_version_alone(spool: Spool) -> None:
    index = spool.index()
    spool.put("a")
    spool.put("b", State.RUNNING, started=NOW)
    spool.refreshed(index)
    before = index.version
    assert len(spool.refreshed(index)) == 2
    assert index.version == before


def test_a_second_refresh_within_a_quarter_of_a_second_does_nothing(spool: Spool) -> None:
    index = spool.index()
    spool.refreshed(index)
    spool.put("a")
    spool.clock.time += 0.1
    index.refresh()
    assert index.list(Query())[1] == 0
    spool.clock.time += 0.2
    index.refresh()
    assert index.list(Query())[1] == 1


def test_a_job_held_in_place_is_noticed(spool: Spool) -> None:
    index = spool.index()
    record = spool.put("a", State.PENDING)
    spool.refreshed(index)
    spool.put("a", State.HELD, id=record.id)
    assert [row.state for row in spool.refreshed(index)] == [State.HELD]


def test_a_job_run_again_that_came_back_under_its_name_is_noticed(spool: Spool) -> None:
    index = spool.index()
    first = spool.put("a", State.FAILED, attempt=1)
    spool.refreshed(index)
    spool.move("a", Place.LOST, Place.QUEUE)
    spool.move("a", Place.QUEUE, Place.LOST)
    spool.put("a", State.FAILED, attempt=2, id=first.id)
    assert [row.attempt for row in spool.refreshed(index)] == [2]


def test_a_change_among_many_ended_jobs_is_found_in_the_end(spool: Spool) -> None:
    index = spool.index()
    jobs = make_ended(str(spool.root), 300)
    spool.refreshed(index)
    job = jobs[150]
    with open(spool.paths.job(job.place, job.folder).record, "wb") as file:
        file.write(dump(job.record._replace(reason="looked at again")))

    def noticed() -> bool:
        return any(row.reason == "looked at again" for row in spool.refreshed(index))

    until(noticed, "the sweep to come by")


def test_a_folder_without_a_record_is_shown_from_its_log(spool: Spool) -> None:
    for place, name, end in (
        (Place.DONE, "good", "Job finished at: 2026-01-31T12:00:30 with code 0"),
        (Place.DONE, "bad", "Job finished at: 2026-01-31 12:00:30.123456 with code -9"),
        (Place.LOST, "cut", ""),
    ):
        folder = Path(spool.paths.job(place, name).dir)
        folder.mkdir()
        (folder / "process.log").write_text(f"Job started by QM at: 2026-01-31T12:00:00\nhello\n{end}\n")
    found = {row.name: row for row in spool.refreshed(spool.index())}
    assert {name: row.state for name, row in found.items()} == {
        "good": State.DONE,
        "bad": State.FAILED,
        "cut": State.LOST,
    }
    good = found["good"]
    assert good.started is not None and good.finished == good.started + 30
    assert (good.exit_status, found["bad"].exit_status, found["cut"].exit_status) == (0, -9, None)
    assert good.key[0] == "x" and len(good.key) == 17 and good.id == ""


def test_files_links_and_copies_in_progress_are_no_jobs(spool: Spool) -> None:
    spool.put("real")
    done = spool.root / "QM_dJobs"
    (done / "file").write_text("")
    (done / "link").symlink_to(done / "real")
    (done / "copy.part").mkdir()
    assert names(spool.refreshed(spool.index())) == ["real"]


def test_a_job_in_two_folders_under_one_id_is_found_where_it_lives(spool: Spool) -> None:
    index = spool.index()
    old = spool.put("a", State.FAILED, finished=NOW + 1)
    spool.put("a", State.DONE, "a.2", id=old.id, finished=NOW + 9)
    spool.refreshed(index)
    assert (row := index.find(old.id)) and row.folder == "a.2"
    spool.put("a", State.RUNNING, id=old.id, started=NOW + 20)
    spool.refreshed(index)
    assert (row := index.find(old.id)) and row.place is Place.JOBS


def test_a_job_is_found_where_it_has_moved_without_a_refresh(spool: Spool) -> None:
    index = spool.index()
    record = spool.put("a", State.RUNNING, started=NOW)
    spool.refreshed(index)
    spool.move("a", Place.JOBS, Place.DONE)
    spool.put("a", State.DONE, id=record.id, finished=NOW + 1)
    row = index.find(record.id)
    assert row and (row.place, row.state) == (Place.DONE, State.DONE)
    assert names(index.list(Query(places=(Place.JOBS,)))[0]) == []


def test_a_job_that_came_just_now_is_found_by_its_id(spool: Spool) -> None:
    index = spool.index()
    spool.refreshed(index)
    record = spool.put("a", State.PENDING)
    assert (row := index.find(record.id)) and row.name == "a"
    assert index.find("nosuchjob222") is None


def test_the_address_of_an_arriving_folder_leads_to_the_job_it_became(spool: Spool) -> None:
    index = spool.index()
    (spool.root / "QM_qJobs" / "a").mkdir()
    (row,) = spool.refreshed(index)
    assert row.state is State.ARRIVING
    record = spool.put("a", State.PENDING)
    spool.refreshed(index)
    assert (found := index.find(row.key)) and found.id == record.id


# --- lists ---------------------------------------------------------------------------------------------------


def test_the_natural_order_is_running_then_waiting_then_the_newest_ended(spool: Spool) -> None:
    spool.put("r2", State.RUNNING, started=NOW + 2)
    spool.put("r1", State.PAUSED, started=NOW + 1)
    spool.put("w3", State.HELD, submitted=NOW)
    spool.put("w2", State.PENDING, submitted=NOW + 5)
    spool.put("w1", State.PENDING, submitted=NOW + 9, options=Options(priority=1))
    spool.put("e2", State.DONE, finished=NOW + 1)
    spool.put("e1", State.FAILED, finished=NOW + 3)
    (spool.root / "QM_qJobs" / "w4").mkdir()
    assert names(spool.refreshed(spool.index())) == ["r1", "r2", "w1", "w2", "w3", "w4", "e1", "e2"]


def test_five_thousand_jobs_are_paged(spool: Spool) -> None:
    made = make_ended(str(spool.root), 5000, log=False)
    index = spool.index()
    spool.refreshed(index)
    seen: list[str] = []
    for page in range(1, 102):
        rows, total = index.list(Query(places=PAST, page=page))
        assert total == 5000 and len(rows) == (50 if page <= 100 else 0)
        seen += (row.id for row in rows)
    assert seen == [job.record.id for job in reversed(made)]
    assert sum(index.counts().values()) == 5000
    assert index.owners() == sorted({job.record.owner for job in made})


def test_lists_are_filtered_as_asked(spool: Spool) -> None:
    spool.put("align", State.DONE, finished=NOW + 10, owner="ada")
    spool.put("render", State.FAILED, finished=NOW + 20, owner="kurt", reason="exit status 1")
    spool.put("queued", State.PENDING, submitted=NOW + 30, owner="kurt")
    index = spool.index()
    spool.refreshed(index)

    def found(**filters: object) -> list[str]:
        rows, total = index.list(Query(**filters))  # type: ignore[arg-type]
        assert total == len(rows)
        return sorted(names(rows))

    assert found(owner="kurt") == ["queued", "render"]
    assert found(owner="kurt", places=PAST) == ["render"]
    assert found(states=(State.DONE, State.PENDING)) == ["align", "queued"]
    assert found(since=NOW + 20) == ["queued", "render"]
    assert found(until=NOW + 19) == ["align"]
    assert found(text="EXIT STATUS") == ["render"]
    assert found(text="ali", places=(Place.QUEUE, Place.JOBS)) == []
    assert found(places=()) == []
    assert found(text="%") == found(text="_") == []


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("descending", [False, True])
def test_lists_are_sorted_by_every_column_with_what_has_no_value_last(
    spool: Spool, sort: str, descending: bool
) -> None:
    for n in (1, 3, 2):
        spool.put(
            "abc"[n - 1],
            (State.DONE, State.FAILED, State.KILLED)[n - 1],
            owner=f"o{n}",
            nb_proc=n,
            submitted=NOW + n,
            started=NOW + 10 * n,
            finished=NOW + 100 * n,
            cpu_seconds=float(n),
            peak_memory=n,
            options=Options(priority=n),
        )
    spool.put("z", State.SKIPPED, owner="z", nb_proc=9, submitted=NOW + 9, options=Options(priority=9))
    index = spool.index()
    spool.refreshed(index)
    rows, _ = index.list(Query(sort=sort, descending=descending))
    empty = sort in ("started", "finished", "duration", "cpu_seconds", "peak_memory")
    expected = list("abc")[:: -1 if descending else 1]
    expected = [*expected, "z"] if empty or not descending else ["z", *expected]
    assert names(rows) == expected


@pytest.mark.parametrize(
    "name",
    [b"[", b"'; DROP TABLE jobs; --", b'"', b"100%_done", b"\xff\xfe", b"new\nline", "größer ☃".encode(), b"-rf *"],
)
def test_any_name_comes_back_as_it_was(spool: Spool, name: bytes) -> None:
    text = os.fsdecode(name)
    record = spool.put(text, owner="a'b", options=Options(info=f"<b>{text}"))
    index = spool.index()
    (row,) = spool.refreshed(index)
    assert os.fsencode(row.name) == os.fsencode(row.folder) == name
    assert row.info == f"<b>{text}"
    assert index.list(Query(text=text.upper()))[1] == 1
    assert index.list(Query(owner="a'b"))[1] == 1
    assert (found := index.find(record.id)) and found.name == text
    shutil.rmtree(os.path.join(os.fsencode(spool.root), b"QM_dJobs", name))
    assert spool.refreshed(index) == []


def test_a_hostile_record_breaks_nothing(spool: Spool) -> None:
    spool.put("a", reason="\ud800 half", exit_status=1 << 70, peak_memory=1 << 99, attempt=1 << 80, owner="\udcff")
    index = spool.index()
    (row,) = spool.refreshed(index)
    assert row.reason == "\ud800 half" and row.owner == "\udcff" and index.owners() == ["\udcff"]
    assert index.list(Query(page=1 << 70, per_page=1 << 70, text="\ud800", sort="no such")) == ([], 1)
    assert index.find("\udcff") is None and index.find("é'") is None


# --- the cache -----------------------------------------------------------------------------------------------


def test_the_cache_lies_in_the_users_cache_and_is_nobody_elses(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    index = Index(View(str(spool.root)))
    spool.open.append(index)
    spool.put("a")
    assert names(spool.refreshed(index)) == ["a"]
    files = list((tmp_path / "cache" / "qm").iterdir())
    assert files and all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert not list(spool.root.rglob("*.sqlite*"))


def test_a_cache_is_used_again_and_what_changed_meanwhile_is_noticed(spool: Spool, tmp_path: Path) -> None:
    path = str(tmp_path / "cache.sqlite")
    index = spool.index(path)
    record = spool.put("held", State.PENDING)
    spool.put("gone")
    spool.put("stays")
    spool.refreshed(index)
    index.close()
    shutil.rmtree(spool.root / "QM_dJobs" / "gone")
    spool.put("held", State.HELD, id=record.id)
    again = spool.index(path)
    assert again.version > index.version
    assert again.list(Query())[1] == 3
    assert {row.name: row.state for row in spool.refreshed(again)} == {"held": State.HELD, "stays": State.DONE}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"no database at all" * 999),
        lambda path: path.write_bytes(b""),
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: run(path, "PRAGMA user_version = 999"),
        lambda path: run(path, "PRAGMA application_id = 7"),
        lambda path: run(path, "UPDATE about SET spool = x'2f'"),
        lambda path: path.chmod(0o444),
    ],
    ids=["garbage", "empty", "cut", "another format", "a foreign program's", "another spool's", "read-only"],
)
def test_a_cache_that_is_not_ours_or_broken_is_made_again(
    spool: Spool, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    path = tmp_path / "cache.sqlite"
    spool.put("a")
    index = spool.index(str(path))
    spool.refreshed(index)
    index.close()
    damage(path)
    assert names(spool.refreshed(spool.index(str(path)))) == ["a"]


def run(path: Path, text: str) -> None:
    """Change a database as another program would."""
    db = sqlite3.connect(path)
    with db:
        db.execute(text)
    db.close()


def test_a_cache_deleted_while_it_is_used_does_not_matter(spool: Spool, tmp_path: Path) -> None:
    path = tmp_path / "qm" / "cache.sqlite"
    index = spool.index(str(path))
    spool.put("a")
    spool.refreshed(index)
    shutil.rmtree(tmp_path / "qm")
    spool.put("b")
    assert sorted(names(spool.refreshed(index))) == ["a", "b"]
    other = spool.index(str(path))  # takes the name again while the first goes on
    assert sorted(names(spool.refreshed(other))) == ["a", "b"]
    index.close()
    spool.put("c")
    assert len(spool.refreshed(other)) == 3
    other.close()
    assert len(spool.refreshed(spool.index(str(path)))) == 3


def test_two_dashboards_on_one_spool_do_not_hurt_each_other(spool: Spool, tmp_path: Path) -> None:
    path = str(tmp_path / "cache.sqlite")
    one, two = spool.index(path), spool.index(path)
    spool.put("a")
    assert names(spool.refreshed(one)) == names(spool.refreshed(two)) == ["a"]
    shutil.rmtree(spool.root / "QM_dJobs" / "a")
    assert spool.refreshed(two) == spool.refreshed(one) == []


@pytest.mark.parametrize("path", ["/proc/no/such/cache.sqlite", "/dev/null/cache.sqlite"])
def test_where_no_file_can_be_had_the_cache_is_in_memory(spool: Spool, path: str) -> None:
    spool.put("a")
    assert names(spool.refreshed(spool.index(path))) == ["a"]


def test_a_full_disk_lets_the_cache_go_on_in_memory(spool: Spool, tmp_path: Path) -> None:
    index = spool.index(str(tmp_path / "cache.sqlite"))
    spool.put("a")
    spool.refreshed(index)
    with index._table.store.reading() as db:  # SQLite's own word for a full disk comes from this limit, too
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")
    for n in range(150):
        spool.put(f"b{n}", options=Options(info="x" * 900))
    assert len(spool.refreshed(index)) == 151
    assert index._table.store.path == store.MEMORY


def test_a_cache_that_breaks_while_it_is_used_is_read_again(spool: Spool, tmp_path: Path) -> None:
    index = spool.index(str(tmp_path / "cache.sqlite"))
    spool.put("a")
    spool.refreshed(index)
    with index._table.store.reading() as db:
        db.execute("DROP TABLE jobs")
    assert index.list(Query()) == ([], 0)
    assert names(spool.refreshed(index)) == ["a"]


def test_a_place_that_cannot_be_listed_keeps_what_was_known(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    index = spool.index()
    spool.put("a")
    spool.refreshed(index)

    def refuse(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(View, "came_and_went", refuse)
    spool.put("b")
    assert names(spool.refreshed(index)) == ["a"]


def test_many_threads_may_ask_while_jobs_come_and_go(spool: Spool) -> None:
    index = spool.index()
    make_ended(str(spool.root), 400, log=False)
    stop = threading.Event()
    wrong: list[object] = []

    def ask() -> None:
        while not stop.is_set():
            spool.clock.time += 1
            index.refresh()
            rows, total = index.list(Query(text="a", sort="name"))
            if len(rows) != min(50, total):
                wrong.append((len(rows), total))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for n in range(40):
        spool.put(f"job{n}", State.RUNNING, started=NOW)
        if n % 2:
            shutil.rmtree(spool.root / "QM_Jobs" / f"job{n}")
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    # The threads have turned the clock: a look that took long by it is done again only much later.
    until(lambda: len(spool.refreshed(index)) == 420, "the last look")
