"""The interner against a dict."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwatch.columns import join_bytes
from streams.interner import Interner
from tests.unit.streams.lanes import through_the_changelog

MODEST = settings(max_examples=80, deadline=None)

names = st.one_of(st.binary(max_size=3), st.binary(max_size=60), st.sampled_from([b"", b"a", b"press-1"]))


@MODEST
@given(st.lists(st.lists(names, max_size=80), max_size=8), st.integers(0, 8))
def test_equal_to_a_dict_and_a_snapshot_at_any_point_changes_nothing(
    batches: list[list[bytes]], snapshot_at: int
) -> None:
    interner, known = Interner(), dict[bytes, int]()
    for number, batch in enumerate(batches):
        if number == snapshot_at:
            interner = Interner.restore(through_the_changelog(interner.snapshot()))
        buffer, starts, stops = join_bytes(batch)
        expected = [known.setdefault(name, len(known)) for name in batch]
        assert interner.rows(buffer, starts, stops - starts).tolist() == expected
        assert interner.count == len(known)
    assert [interner.name(row) for row in range(interner.count)] == list(known)
