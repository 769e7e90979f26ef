"""Which items go together into a chunk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.judgement.chunks import chunk_size, count, ranges, size_for


@given(st.integers(0, 5000), st.integers(1, 6000))
def test_chunks_follow_one_another_and_miss_no_item(items: int, size: int) -> None:
    chunks = list(ranges(items, size))
    assert [index for chunk in chunks for index in chunk] == list(range(items))
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(chunks)


@given(st.integers(0, 10**6), st.integers(1, 64))
def test_the_automatic_size_is_that_of_multiprocessing(items: int, workers: int) -> None:
    size, extra = divmod(items, 4 * workers)
    assert chunk_size(items, workers) == max(1, size + bool(extra))


@given(st.integers(1, 5000), st.integers(1, 6000))
def test_num_chunks_is_the_most_there_are(items: int, chunks: int) -> None:
    assert 1 <= len(list(ranges(items, size_for(items, chunks)))) <= chunks


def test_an_argument_that_counts_is_an_int_of_at_least_one() -> None:
    assert count("num_chunks", 7) == 7
    with pytest.raises(ValueError, match="num_chunks is 0; it must be at least 1"):
        count("num_chunks", 0)
    for wrong in (1.5, "3", None):
        with pytest.raises(TypeError, match=f"chunksize is {wrong!r}; it must be an int"):
            count("chunksize", wrong)
