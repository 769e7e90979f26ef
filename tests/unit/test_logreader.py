"""Reading and searching a log by byte offset."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.spool import joblog, logreader
from qm.spool.logreader import Found, attempts_of, is_log_name, logs_of, read, search
from qm.spool.paths import JobPaths


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "process.log"


def test_a_piece_says_where_it_begins_and_ends(log: Path) -> None:
    log.write_bytes(b"0123456789")
    piece = read(str(log), 2, 3)
    assert (piece.start, piece.end, piece.size, piece.data) == (2, 5, 10, b"234")


def test_a_negative_offset_counts_from_the_end(log: Path) -> None:
    log.write_bytes(b"0123456789")
    assert read(str(log), -4, 100).data == b"6789"
    assert read(str(log), -400, 3).data == b"012"


def test_nothing_new_is_an_empty_piece(log: Path) -> None:
    log.write_bytes(b"0123")
    piece = read(str(log), 4, 100)
    assert (piece.start, piece.end, piece.size, piece.data) == (4, 4, 4, b"")


def test_a_log_shorter_than_the_offset_says_its_size(log: Path) -> None:
    log.write_bytes(b"0123")
    piece = read(str(log), 4000, 100)
    assert (piece.start, piece.end, piece.size) == (4, 4, 4)


def test_a_new_attempt_is_a_new_generation_and_a_move_is_not(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    paths = JobPaths(str(tmp_path / "job"))
    os.close(joblog.open_new(paths.log, 0.0, ()))
    assert read(paths.log, 0, 1).generation == 0
    os.close(joblog.open_new(paths.log, 1.0, ()))
    assert read(paths.log, 0, 1).generation == 1
    os.rename(paths.dir, tmp_path / "moved")
    assert read(str(tmp_path / "moved" / "process.log"), 0, 1).generation == 1


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "folder", "missing"])
def test_what_is_no_regular_file_is_not_opened(log: Path, kind: str) -> None:
    secret = log.parent / "secret"
    secret.write_text("secret")
    {
        "link": lambda: log.symlink_to(secret),
        "dangling": lambda: log.symlink_to(log.parent / "nothing"),
        "fifo": lambda: os.mkfifo(log),
        "folder": log.mkdir,
        "missing": lambda: None,
    }[kind]()
    with pytest.raises(OSError):
        read(str(log), 0, 10)
    with pytest.raises(OSError):
        search(str(log), "s", 0)


def test_a_folder_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "process.log").write_text("secret")
    (tmp_path / "job").symlink_to("elsewhere")
    with pytest.raises(OSError):
        read(str(tmp_path / "job" / "process.log"), 0, 10)


# --- search ------------------------------------------------------------------------------------------------


def test_a_search_ignores_the_case_of_ascii_letters(log: Path) -> None:
    log.write_text("one Error\ntwo ERROR\nÄrger\n")
    assert search(str(log), "error", 0).at == 4
    assert search(str(log), "error", 5).at == 14
    assert search(str(log), "Ärger", 0).at == 20
    assert search(str(log), "error", 20) == Found(None, None, 27)


def test_a_search_backwards_finds_what_begins_before_the_offset(log: Path) -> None:
    log.write_text("aXbXcX")
    assert search(str(log), "x", 6, backwards=True).at == 5
    assert search(str(log), "x", 5, backwards=True).at == 3
    assert search(str(log), "x", 1, backwards=True) == Found(None, None, 6)


def test_a_match_across_two_blocks_is_found_from_both_sides(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logreader, "_BLOCK", 8)
    log.write_text("......needle......")
    assert search(str(log), "needle", 0).at == 6
    assert search(str(log), "needle", 18, backwards=True).at == 6


def test_a_search_does_a_bounded_amount_of_work_and_says_where_to_go_on(log: Path) -> None:
    with open(log, "wb") as file:
        file.truncate(8 << 20)
        file.seek(8 << 20)
        file.write(b"needle")
    first = search(str(log), "needle", 0, work=2 << 20)
    assert (first.at, first.further) == (None, 2 << 20)
    offset, calls = first.further, 1
    while offset is not None:
        found = search(str(log), "needle", offset, work=2 << 20)
        offset, calls = found.further, calls + 1
    assert (found.at, calls) == (8 << 20, 5)
    back = search(str(log), "nowhere", 8 << 20, backwards=True, work=2 << 20)
    assert (back.at, back.further) == (None, 6 << 20)


def test_an_empty_text_is_nowhere(log: Path) -> None:
    log.write_text("text")
    assert search(str(log), "", 0).at is None


@given(
    st.binary(max_size=60).map(lambda data: data.translate(bytes(b"abAB"[n % 4] for n in range(256)))),
    st.text("abAB", min_size=1, max_size=4),
    st.integers(0, 70),
    st.booleans(),
    st.integers(1, 20),
    st.integers(1, 9),
)
def test_a_search_finds_what_a_plain_search_would(
    tmp_path_factory: pytest.TempPathFactory,
    data: bytes,
    text: str,
    offset: int,
    backwards: bool,
    work: int,
    block: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"process.log.{os.getpid()}{threading.get_ident()}"
    path.write_bytes(data)
    plain, wanted = data.lower(), text.encode().lower()
    starts = [at for at in range(len(plain)) if plain.startswith(wanted, at)]
    expected = max((at for at in starts if at < offset), default=None) if backwards else None
    if not backwards:
        expected = min((at for at in starts if at >= offset), default=None)
    was, logreader._BLOCK = logreader._BLOCK, block
    try:
        found = search(str(path), text, offset, backwards, work)
        for _ in range(200):
            if found.further is None:
                break
            found = search(str(path), text, found.further, backwards, work)
    finally:
        logreader._BLOCK = was
    assert found.at == expected


# --- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["process.log", "process.log.1", "process.17.log", "process.17.log.2"])
def test_a_log_has_one_of_these_names(name: str) -> None:
    assert is_log_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "process.logs", "process.log.", "process.log.x", "../process.log", "process.log\n", "process.log.\u0661"],
)
def test_nothing_else_is_a_log(name: str) -> None:
    assert not is_log_name(name)


def test_logs_are_listed_in_order_with_the_time_of_their_start(tmp_path: Path) -> None:
    paths = JobPaths(str(tmp_path))
    for attempt in range(11):
        os.close(joblog.open_new(paths.log, 1000.0 + attempt, ["a note"]))
    (tmp_path / "process.3.log").write_text("task")
    (tmp_path / "process.log.99").symlink_to("/etc/passwd")
    (tmp_path / "process.txt").write_text("no log")
    logs = logs_of(str(tmp_path))
    assert [log.name for log in logs] == ["process.log", *(f"process.log.{n}" for n in range(1, 11)), "process.3.log"]
    assert [log.started for log in logs[:3]] == [1010.0, 1000.0, 1001.0]
    assert logs[-1].started is None


def test_a_missing_folder_has_no_logs(tmp_path: Path) -> None:
    assert logs_of(str(tmp_path / "gone")) == []


def test_a_search_backwards_takes_no_longer_for_a_hostile_log(log: Path) -> None:
    log.write_bytes(b"a" * (16 << 20))
    begun = time.process_time()
    assert search(str(log), "a" * 2 + "b" + "a" * 997, 1 << 40, backwards=True) == Found(None, None, 16 << 20)
    assert time.process_time() - begun < 3  # 12 s with bytes.rfind()


@given(st.binary(max_size=60), st.text("ab", min_size=1, max_size=4), st.integers(0, 70))
def test_a_search_backwards_finds_what_rfind_does(data: bytes, text: str, before: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "process.log"
        log.write_bytes(data)
        last = data.lower().rfind(text.encode(), 0, min(before, len(data)) + len(text) - 1)
        assert search(str(log), text, before, backwards=True).at == (last if last >= 0 else None)


def test_the_logs_of_one_task_are_found_without_those_of_others(tmp_path: Path) -> None:
    for name in (
        "process.7.log",
        "process.7.log.1",
        "process.7.log.2",
        "process.7.log.4",
        "process.70.log",
        "process.log",
    ):
        (tmp_path / name).write_text(name)
    (tmp_path / "process.7.log.3").symlink_to("/etc/passwd")
    names = [log.name for log in attempts_of(str(tmp_path), "process.7.log")]
    assert names == ["process.7.log", "process.7.log.1", "process.7.log.2", "process.7.log.4"]
    assert attempts_of(str(tmp_path), "process.8.log") == []


def test_a_new_attempt_of_a_task_is_a_new_generation(tmp_path: Path) -> None:
    (tmp_path / "process.7.log").write_text("")
    assert read(f"{tmp_path}/process.7.log", 0, 1).generation == 0
    (tmp_path / "process.7.log.1").write_text("")
    assert read(f"{tmp_path}/process.7.log", 0, 1).generation == 1
    assert read(f"{tmp_path}/process.7.log.1", 0, 1).generation == 0
