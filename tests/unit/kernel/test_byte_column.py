"""A column of byte strings behaves as the list it was made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetwatch.byte_column import ByteColumn

entries = st.lists(st.none() | st.binary(max_size=12), max_size=12)


@given(entries, st.slices(12))
def test_it_is_a_sequence_like_the_list(values: list[bytes | None], part: slice) -> None:
    column = ByteColumn.of(values)
    assert len(column) == len(values)
    assert column.to_list() == list(column) == values
    assert column[part].to_list() == values[part]
    assert [column[at] for at in range(-len(values), len(values))] == values + values
    with pytest.raises(IndexError):
        column[len(values)]


@given(entries.filter(bool), st.data())
def test_rows_are_taken_in_any_order_and_more_than_once(values: list[bytes | None], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(values) - 1)))
    taken = ByteColumn.of(values).take(np.array(rows, np.int64))
    assert taken.to_list() == [values[row] for row in rows]


def test_nothing_and_none_differ() -> None:
    column = ByteColumn.of([b"", None])
    assert column.to_list() == [b"", None]
    assert (column[0], column[1]) == (b"", None)
    assert column.lengths.tolist() == [0, -1]


@pytest.mark.parametrize(("value", "count"), [(b"topic", 3), (b"", 2), (b"topic", 0)])
def test_one_value_many_times_is_there_once(value: bytes, count: int) -> None:
    column = ByteColumn.repeat(value, count)
    assert column.to_list() == [value] * count
    assert len(column.buffer) == len(value)


def test_parts_share_the_buffer_and_nobody_can_write_to_it() -> None:
    buffer = np.frombuffer(bytearray(b"abcd"), np.uint8)
    column = ByteColumn(buffer, np.array([2, 0]), np.array([2, 3]))
    assert column.to_list() == [b"cd", b"abc"]
    assert np.shares_memory(column[1:].buffer, buffer)
    assert np.shares_memory(column.take(np.array([1])).buffer, buffer)
    with pytest.raises(ValueError, match="read-only"):
        column.buffer[0] = 1
    assert buffer.flags.writeable, "the one it was made of is left as it was"
