"""One bad row never sinks its batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.isolation import write_isolating
from sinks.store import StoreRefusedError
from tests.unit.sinks.samples import scored, stretch

if TYPE_CHECKING:
    from sinks.stretch import Stretch


class _PickyStore:
    """Refuses a stretch that holds one of the bad offsets with its record."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.written: list[int] = []
        self.attempts = 0
        self.reached: list[int] = []

    def write(self, part: Stretch) -> None:
        self.attempts += 1
        with_record = [part.events[position].offset for position in part.stored_positions()]
        if self.bad & set(with_record):
            raise StoreRefusedError("22021 bad text")
        self.written += with_record
        self.reached += [event.offset for event in part.events[part.start : part.stop]]


@settings(deadline=None)
@given(size=st.integers(1, 70), bad=st.sets(st.integers(0, 69)))
def test_exactly_the_bad_rows_are_refused_and_the_order_is_kept(size: int, bad: set[int]):
    store, refused = _PickyStore(bad), []
    write_isolating(
        stretch(*(scored(seq=n) for n in range(size))),
        store.write,
        lambda event, _: refused.append(event.offset),
    )
    assert refused == sorted(bad & set(range(size)))
    assert store.written == [n for n in range(size) if n not in bad]
    assert store.reached == list(range(size)), "offsets move on without gap, in order"


def test_one_bad_row_costs_few_writes():
    store = _PickyStore({1234})
    write_isolating(stretch(*[scored()] * 5000), store.write, lambda *_: None)
    assert store.attempts <= 2 * math.ceil(math.log2(5000)) + 2


def test_a_bad_row_is_refused_before_its_place_is_written():
    """A crash in between must read it again."""
    store, seen_at = _PickyStore({0}), []
    write_isolating(stretch(scored()), store.write, lambda *_: seen_at.append(list(store.reached)))
    assert seen_at == [[]]
    assert store.reached == [0]


def test_a_refusal_that_no_row_explains_is_not_swallowed():
    def write(_part: Stretch) -> None:
        raise StoreRefusedError("whatever")

    with pytest.raises(StoreRefusedError):
        write_isolating(stretch(scored()).emptied(), write, lambda *_: None)
