"""Readers of single values: what they understand, and what they call right when they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.vocabulary import values

READERS: tuple[Callable[[str], Any], ...] = (
    values.whole, values.positive, values.natural, values.factor, values.boolean, values.seconds,
    values.slurm_seconds, values.memory, values.array, values.names, values.statuses, values.after, values.begin,
    values.mail_types, values.address, values.line, values.path, values.one_of("local", "slurm"),
)  # fmt: skip

ODD_NUMBERS = (
    "", " ", "twelve", "nan", "inf", "-inf", "1e999", "1e3", str(10**30), "0x10", "1_000", "٣", "²", "½", "1,5",
)  # fmt: skip


def wrong(read: Callable[[str], Any], text: str) -> str:
    """What a reader says would be right."""
    with pytest.raises(ValueError) as caught:
        read(text)
    return str(caught.value)


# --- numbers -----------------------------------------------------------------------------------------------


def test_whole_numbers_may_have_a_sign() -> None:
    assert [values.whole(text) for text in ("12", "-3", "+4", "007")] == [12, -3, 4, 7]


@pytest.mark.parametrize("text", [*ODD_NUMBERS, "1.5", "--1", "1 2"])
@pytest.mark.parametrize("read", [values.whole, values.positive, values.natural])
def test_what_is_no_whole_number_is_refused(read: Callable[[str], int], text: str) -> None:
    assert wrong(read, text).startswith("a whole number")


def test_bounds_are_told() -> None:
    assert wrong(values.positive, "0") == "a whole number of 1 or more"
    assert wrong(values.natural, "-1") == "a whole number of 0 or more"
    assert wrong(lambda text: values.whole(text, 0, 255), "256") == "a whole number from 0 to 255"
    assert [values.positive("1"), values.natural("0"), values.whole("255", 0, 255)] == [1, 0, 255]


@pytest.mark.parametrize("text", ["0", "0.5", "-1", "1.", *ODD_NUMBERS])
def test_a_factor_is_a_decimal_number_of_1_or_more(text: str) -> None:
    assert values.factor("1.5") == 1.5
    assert "1 or more" in wrong(values.factor, text)


def test_yes_and_no_have_many_names() -> None:
    assert all(values.boolean(word) is True for word in ("yes", "TRUE", "On", "1"))
    assert all(values.boolean(word) is False for word in ("no", "False", "OFF", "0"))
    assert wrong(values.boolean, "maybe") == "yes or no"


# --- durations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90", 90), ("0", 0), ("1.5", 1.5), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400), ("1h30m", 5400),
        ("1H30M", 5400), ("10:00", 600), ("01:30:00", 5400), ("100:00:00", 360000), ("2-00:00:00", 172800),
        ("2-12", 216000), ("1-01:01", 90060),
    ],
)  # fmt: skip
def test_a_duration_is_read_as_seconds(text: str, meant: float) -> None:
    assert values.seconds(text) == meant


@pytest.mark.parametrize(
    "text", [*ODD_NUMBERS, "-1", "soon", "1:60", "01:60:00", "1:2:3:4", ":30", "1:", "5y", "h", "1-"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    assert "duration" in wrong(values.seconds, text)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("0", 0), ("30:00", 30), ("01:30:00", 90), ("1-0", 1440), ("1-2:30", 1590), ("2-00:00:00", 2880)],
)
def test_slurm_counts_a_bare_number_as_minutes(text: str, minutes: int) -> None:
    assert values.slurm_seconds(text) == minutes * 60


@pytest.mark.parametrize("text", [*ODD_NUMBERS, "1h", "1:2:3:4", "-5"])
def test_what_is_no_duration_of_slurm_is_refused(text: str) -> None:
    assert "D-H:M:S" in wrong(values.slurm_seconds, text)


# --- memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1024", 1024), ("1B", 1), ("4k", 4096), ("512M", 512 << 20), ("2G", 2 << 30), ("2GB", 2 << 30),
        ("2 GiB", 2 << 30), ("1.5g", 3 << 29), ("1T", 1 << 40),
    ],
)  # fmt: skip
def test_memory_is_read_as_bytes_in_powers_of_1024(text: str, meant: int) -> None:
    assert values.memory(text) == meant


@pytest.mark.parametrize(
    "text",
    [*ODD_NUMBERS, "0", "0G", "-1G", "G", "1X", "5\u212a", "0.0000001", "999999999999999P"],
)
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    assert "memory" in wrong(values.memory, text)


# --- lists -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0-99", "1-9:2", "1,5,7", "0-99%4", "7", "1-3,8-9:1%2", "0-999999"])
def test_an_array_is_checked_and_kept_as_text(text: str) -> None:
    assert values.array(text) == text
    assert values.array(text.replace(",", " , ")) == text


@pytest.mark.parametrize(
    "text",
    [*(odd for odd in ODD_NUMBERS if odd != "1,5"), "9-1", "1-9:0", "0-9%0", "0-9%", "%4", "1,,2", "-1", "1-2-3",
     "0-1000000", "0-999999,1", "0-999999999"],
)  # fmt: skip
def test_what_is_no_array_is_refused(text: str) -> None:
    assert "task" in wrong(values.array, text)


def test_names_are_separated_by_commas() -> None:
    assert values.names("a, b c ,d") == ("a", "b c", "d")
    assert wrong(values.names, "a,,b") == "names separated by commas"


def test_exit_statuses_are_numbers_from_0_to_255() -> None:
    assert values.statuses("0, 75,255") == (0, 75, 255)
    assert values.statuses("") == ()
    for text in ("256", "-1", "1,", "a", "1 2", "٣"):
        assert "0 to 255" in wrong(values.statuses, text)


def test_what_comes_first_is_named_with_how_it_must_end() -> None:
    assert values.after("a, afterany:b c,afterok:d") == ("a", "afterany:b c", "d")


@pytest.mark.parametrize("text", ["", "a,", "afternotok:a", "afterok:", "a/b", "afterok:../x"])
def test_what_cannot_be_waited_for_is_refused(text: str) -> None:
    assert "afterany:" in wrong(values.after, text)


def test_mail_types_are_a_list() -> None:
    assert values.mail_types("End, FAIL") == ("end", "fail")
    assert "fail" in wrong(values.mail_types, "sometimes")
    assert "fail" in wrong(values.mail_types, "")


# --- moments and texts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "now", "22:00", "7:05", "22:00:30", "+90", "+2h", "2026-01-31", "2026-01-31T22:00", "2026-01-31 22:00:00",
        "2028-02-29",
    ],
)  # fmt: skip
def test_a_moment_is_checked_and_kept_as_text(text: str) -> None:
    assert values.begin(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *ODD_NUMBERS, "24:00", "12:60", "+", "+soon", "2026-13-01", "2026-02-31", "2026-02-29", "2026-04-31",
        "2026-01-31T", "tomorrow",
    ],
)  # fmt: skip
def test_what_is_no_moment_is_refused(text: str) -> None:
    assert "22:00" in wrong(values.begin, text)


def test_one_of_some_words_is_taken_in_any_case() -> None:
    read = values.one_of("local", "slurm")
    assert read("Slurm") == "slurm"
    assert wrong(read, "moon") == "local or slurm"


def test_a_mail_address_may_be_missing_or_several() -> None:
    assert values.address("me@example.org, you@example.org") == "me@example.org, you@example.org"
    assert values.address("") == ""


@pytest.mark.parametrize("text", ["me", "me@example.org\nBcc: you@example.org", "me@example.org,", "a\r@b"])
def test_what_cannot_be_a_mail_address_is_refused(text: str) -> None:
    assert "mail address" in wrong(values.address, text)


def test_a_path_is_one_line_and_not_empty() -> None:
    assert values.path("a b/ü") == "a b/ü"
    for text in ("", "a\nb", "a\0b"):
        assert "path" in wrong(values.path, text)


@pytest.mark.parametrize("read", READERS)
@given(text=st.text() | st.text(alphabet="0123456789.:-+,%KMGTsmhd KB"))
def test_any_text_is_read_or_refused_with_a_reason(read: Callable[[str], Any], text: str) -> None:
    try:
        read(text)
    except ValueError as err:
        assert str(err)
        assert "substring" not in str(err)
