"""Names to rows, by example; tests/properties/test_streams_interner.py compares with a dict."""

from __future__ import annotations

import numpy as np

from fleetwatch.columns import join_bytes
from streams.interner import Interner


def rows(interner: Interner, *names: bytes) -> list[int]:
    buffer, starts, stops = join_bytes(names)
    return interner.rows(buffer, starts, stops - starts).tolist()


def test_rows_are_given_in_order_of_first_sight() -> None:
    interner = Interner()
    assert rows(interner, b"b", b"a", b"b", b"c", b"a") == [0, 1, 0, 2, 1]
    assert rows(interner, b"c", b"d") == [2, 3]
    assert [interner.name(row) for row in range(4)] == [b"b", b"a", b"c", b"d"]


def test_the_empty_string_is_a_name_and_prefixes_are_others() -> None:
    interner = Interner()
    assert rows(interner, b"", b"a", b"ab", b"", b"b", b"a\x00") == [0, 1, 2, 0, 3, 4]
    assert interner.name(0) == b""


def test_no_names_at_all() -> None:
    interner = Interner()
    assert rows(interner) == []
    assert interner.count == 0
    assert Interner.restore(interner.snapshot()).count == 0


def test_many_names_keep_their_rows_while_tables_grow() -> None:
    interner = Interner()
    names = [b"device-%d" % (number * 7919) for number in range(5000)]
    for start in range(0, len(names), 13):
        assert rows(interner, *names[start : start + 13]) == list(range(start, min(start + 13, len(names))))
    assert rows(interner, *names) == list(range(5000))


def test_a_name_longer_than_the_first_arena() -> None:
    interner = Interner()
    long = bytes(range(256)) * 200
    assert rows(interner, b"short", long, b"short", long) == [0, 1, 0, 1]
    assert interner.name(1) == long


def test_strings_may_lie_anywhere_in_the_buffer() -> None:
    """As string columns do: gaps, overlaps, any order."""
    interner = Interner()
    buffer = np.frombuffer(b"__abab__b", np.uint8)
    found = interner.rows(buffer, np.array([4, 2, 8, 3]), np.array([2, 2, 1, 1]))
    assert found.tolist() == [0, 0, 1, 1]


def test_pairs_are_rows_as_well() -> None:
    interner = Interner()
    left, right = np.array([1, 2, 1, 2, 2**40]), np.array([2, 1, 2, 1, -1])
    assert interner.pair_rows(left, right).tolist() == [0, 1, 0, 1, 2]
    assert [interner.pair(row) for row in range(3)] == [(1, 2), (2, 1), (2**40, -1)]
    assert interner.pair_rows(left[:0], right[:0]).tolist() == []
