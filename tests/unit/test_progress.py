"""What counts as progress in a job's log, and what must never be taken for it."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.judgement.progress import (
    LONGEST_TEXT,
    Progress,
    array_progress,
    earlier_part,
    read_progress,
    read_progress_file,
    remaining,
)
from qm.vocabulary.record import Tasks

LOG = b"Job started by QM at: 2026-01-31T12:00:00\n"


def fraction_of(line: str) -> float | None:
    progress = read_progress(LOG + line.encode() + b"\n")
    return None if progress is None else progress.fraction


@pytest.mark.parametrize(
    ("line", "fraction"),
    [
        ("processing 3 / 10", 0.3),
        ("Processing col 8154   5 / 32", 5 / 32),
        ("processing\t3\t/\t10", 0.3),
        ("0/10", 0.0),
        ("10/10", 1.0),
        ("[12/345] Building object.o", 12 / 345),
        ("Step 3/10 : RUN make", 0.3),
        ("Downloaded 3/10 files", 0.3),
        ("Train Epoch: 1 [640/6000 (1%)]\tLoss: 2.3", 640 / 6000),
        ("3 / 10 of the columns", 0.3),
    ],
)
def test_whole_numbers_with_a_slash_are_progress(line: str, fraction: float) -> None:
    assert fraction_of(line) == pytest.approx(fraction)


@pytest.mark.parametrize(
    ("line", "fraction"),
    [
        ("45%", 0.45),
        ("copying 45.5 %", 0.455),
        ("copie 45,5\u202f%", 0.455),
        ("[ 45%] Building CXX object", 0.45),
        ("  1,238,099  45%  146.38kB/s    0:00:08  (xfr#5, to-chk=169/396)", 0.45),
        ("10%....20%....30%", 0.3),
        ("100%", 1.0),
    ],
)
def test_a_percentage_is_progress(line: str, fraction: float) -> None:
    assert fraction_of(line) == pytest.approx(fraction)


@pytest.mark.parametrize(
    "line",
    [
        "written on 31/12/2026",
        "written on 01/02/2026",
        "written on 1 / 2 / 2026",
        "reading /1/2",
        "reading data/3/4",
        "reading 3/4.txt",
        "3/4 of the work is easy",
        "network 10.0.0.0/16",
        "open 24/7",
        "5 / 0",
        "0.5 / 10",
        "3 / 4.5",
        "to-chk=3/9",
        "gain -45%",
        "101%",
        ".5%",
        "about .5%",
        "1.2.3%",
        "date +45%d",
        "45it [00:12, 3.5it/s]",
        "Job finished at: 2026-01-31T12:00:30 with code 0",
    ],
)
def test_what_only_looks_like_progress_is_left_alone(line: str) -> None:
    assert fraction_of(line) is None


def test_a_tqdm_bar_redrawn_with_carriage_returns_is_read_at_its_newest_state() -> None:
    bar = "\r 44%|####   | 44/100 [00:11<00:15, 3.5it/s]\r 45%|####   | 45/100 [00:12<00:15, 3.5it/s]"
    assert read_progress(LOG + bar.encode()) == Progress(0.45, "45%|####   | 45/100 [00:12<00:15, 3.5it/s]")


def test_a_tqdm_bar_with_units_is_read_by_its_percentage_and_not_by_its_description() -> None:
    assert fraction_of("Epoch 3/10:  45%|####   | 4.5k/10.0k [00:12<00:15, 3.5kB/s]") == pytest.approx(0.45)


def test_the_outer_of_two_loops_in_one_line_counts() -> None:
    assert fraction_of("epoch 3/10 batch 45/99, accuracy 93%") == pytest.approx(0.3)


def test_the_newest_line_wins_and_its_text_is_shown() -> None:
    log = LOG + b"processing 3 / 10\nprocessing 4 / 10\nsome words about it\n"
    assert read_progress(log) == Progress(0.4, "processing 4 / 10")


def test_progress_of_an_earlier_run_in_the_same_log_is_not_read() -> None:
    log = LOG + b"processing 9 / 10\nJob finished at: 2026-01-31T12:00:30 with code 75\n" + LOG + b"hello\n"
    assert read_progress(log) is None


def test_a_bar_without_a_line_end_before_the_line_of_qm_is_read() -> None:
    log = LOG + b"\r 10/10Job finished at: 2026-01-31T12:00:30 with code 0\n"
    assert read_progress(log) == Progress(1.0, "10/10")


def test_colours_and_window_titles_are_taken_out() -> None:
    log = LOG + b"\x1b]0;title\x07\x1b[1;32m processing \x1b[0m 3\x1b[K / 10\x1b[0m\n"
    assert read_progress(log) == Progress(0.3, "processing  3 / 10")


def test_a_total_that_is_still_being_written_does_not_count() -> None:
    assert read_progress(LOG + b"processing 11 / 100\nprocessing 12 / 1") == Progress(0.11, "processing 11 / 100")
    assert read_progress(LOG + b"processing 1 / 100\nprocessing 2 / 10") == Progress(0.01, "processing 1 / 100")
    assert read_progress(LOG + b"processing 9 / 10\rprocessing 10 / 10") == Progress(1.0, "processing 10 / 10")


def test_a_number_cut_at_the_head_of_the_tail_does_not_count() -> None:
    filler = b"\n" + b"words and words\n" * 100
    assert read_progress(b"5 / 20" + filler) is None
    assert read_progress(b"processing 5 / 20" + filler) == Progress(0.25, "processing 5 / 20")


def test_a_tail_may_begin_inside_a_character() -> None:
    assert read_progress("é 45%\n".encode()[1:]) == Progress(0.45, "45%")


def test_a_long_line_is_shown_where_its_progress_stands() -> None:
    progress = read_progress(LOG + b"." * 5000 + b" 45%" + b"-" * 5000)
    assert progress is not None
    assert progress.text.endswith(". 45%")
    assert len(progress.text) == LONGEST_TEXT


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"0.45 reading spectra\n", Progress(0.45, "reading spectra")),
        (b"0.1 a\n0.45 b\n", Progress(0.45, "b")),
        (b"45% b\n", Progress(0.45, "b")),
        (b"45 % b\n", Progress(0.45, "b")),
        (b"0,5\r\n", Progress(0.5, "")),
        (b"1e-05 begun\n", Progress(1e-05, "begun")),
        (b"1.0000000000000002\n", Progress(1.0, "")),
        (b"0.45 a\n1", Progress(0.45, "a")),
        (b"0.45 a\nnot a number\n", Progress(0.45, "a")),
        (b"0.45", Progress(0.45, "")),
        (b"45 without a sign\n", None),
        (b"-0.5\n", None),
        (b"nan\n", None),
        (b".\n", None),
        (b"", None),
    ],
)
def test_the_last_complete_line_of_the_progress_file_wins(data: bytes, expected: Progress | None) -> None:
    assert read_progress_file(data) == expected


def test_the_time_left_follows_from_the_time_spent() -> None:
    assert remaining(0.25, 10) == pytest.approx(30)
    assert remaining(1.0, 10) == 0


@pytest.mark.parametrize(
    ("fraction", "elapsed"),
    [(0, 10), (-1, 10), (1.1, 10), (math.nan, 1), (0.5, math.nan), (0.5, -1), (1e-308, 9e9)],
)
def test_no_time_left_is_told_where_nothing_can_be_known(fraction: float, elapsed: float) -> None:
    assert remaining(fraction, elapsed) is None


NUMBERS = [b"3 / 10", b"45%", b" 45%|", b"|", b"1", b"/", b".", b" ", b"e-9", b"0.45 x\n"]
CONTROLS = [b"\r", b"\n", b"\b", b"\x1b[3", b"m", b"\x1b]", b"\x07", b"\xc3", "é\u202e".encode()]
PIECES = st.sampled_from([*NUMBERS, *CONTROLS, b"Job started by QM at:", b"Job finished at:"])


def check(progress: Progress | None) -> None:
    if progress is not None:
        assert 0 <= progress.fraction <= 1
        assert len(progress.text) <= LONGEST_TEXT
        assert progress.text.isprintable()


@given(st.one_of(st.binary(max_size=3000), st.lists(PIECES, max_size=300).map(b"".join)))
def test_any_bytes_give_a_sound_answer_and_no_error(data: bytes) -> None:
    check(read_progress(data))
    check(read_progress_file(data))


@given(st.floats(), st.floats())
def test_any_numbers_give_a_sound_time_left(fraction: float, elapsed: float) -> None:
    seconds = remaining(fraction, elapsed)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


@pytest.mark.parametrize(
    "piece",
    [
        b"1",
        b"1/",
        b"1 ",
        b" 1 / 1",
        b" ",
        b"\x1b[",
        b"\x1b[0",
        b"\x1b]",
        b"0;",
        b"\r",
        b"1%",
        b" 9%|",
        b"e-",
        b"1.1,",
        b"/ ",
    ],
)
def test_hostile_input_takes_linear_time(piece: bytes) -> None:
    data = (piece * 100_000)[:100_000]
    begun = time.process_time()
    for head in (b"", b"\x1b[", b"\x1b]", b"0.4 "):
        check(read_progress(head + data))
        check(read_progress_file(head + data))
    assert time.process_time() - begun < 10  # linear: 0.2 s at most; quadratic: an hour


def test_an_array_is_as_far_as_its_tasks_have_ended() -> None:
    assert array_progress(Tasks(100, 61, 2, 4)) == Progress(0.63, "61 / 100, 2 failed")
    assert array_progress(Tasks(100, 61, 0, 4)) == Progress(0.61, "61 / 100")
    assert array_progress(Tasks(0)) is None
    assert array_progress(Tasks(2, 5, 5)) == Progress(1.0, "5 / 2, 5 failed"), "a record may say anything"


def test_the_pace_of_a_retried_array_is_that_of_the_tasks_run_since() -> None:
    tasks = Tasks(100, 95, 0, 1, earlier=90)
    progress = array_progress(tasks)
    assert progress is not None
    assert remaining(progress.fraction, 50.0, earlier_part(tasks)) == pytest.approx(50.0)
    assert remaining(0.9, 50.0, earlier_part(tasks)) is None, "nothing was done since"
    assert earlier_part(None) == 0.0 and earlier_part(Tasks(0, earlier=5)) == 0.0
