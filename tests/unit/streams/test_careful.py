"""Folding a batch in of which some records make the fold raise."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwatch import topics
from fleetwatch.records import Reason
from fleetwatch.validate import stage_of
from streams.careful import process_carefully
from streams.lane import Lane
from tests.unit.streams.lanes import (
    Event,
    by_topic,
    counters,
    event,
    make_lane,
    messages_of,
    pieces,
    raw,
    reading,
    sent,
    some_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streams.batch import Outputs, RawBatch

RULES: tuple[dict[str, Any], ...] = (
    {"name": "hot", "kind": "level", "above": 25, "clear": 20},
    {"name": "busy", "kind": "count", "at_least": 3},
)


@contextlib.contextmanager
def failing_lanes() -> Iterator[None]:
    """Lanes raise for readings of one device, when they have changed already: what they hold then is worth nothing."""
    original = Lane.process

    def process(self: Lane, raw: RawBatch, models: Any) -> Outputs:
        keys = raw.since(self.next_offset).keys.to_list()
        outputs = original(self, raw, models)
        if b"poison" in keys:
            raise ArithmeticError("a number that no kernel can take")
        return outputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lane, "process", process)
        yield


def fold_carefully(batches: Iterable[RawBatch]) -> tuple[Lane, list[Outputs]]:
    lane, every = make_lane(*RULES), []
    with failing_lanes():
        for batch in batches:
            lane, outputs = process_carefully(lane, batch, {})
            every.append(outputs)
    return lane, every


def events_with(poison: set[int], count: int) -> list[Event]:
    """Readings of two devices in turn, one every second; those at the given places are of another one."""
    return [
        event(
            reading(
                1000 * number,
                device="poison" if number in poison else f"press-{number % 2}",
                seq=number,
                value=20.0 + number % 7,
            )
        )
        for number in range(count)
    ]


def fold_without(batch: RawBatch, poison: set[int]) -> tuple[Lane, list[Outputs]]:
    """An uninterrupted fold by a lane that nothing fails in, from which the poison is kept."""
    lane, outputs, done = make_lane(*RULES), [], 0
    for row in sorted(poison):
        outputs.append(lane.process(some_of(batch, done, row), {}))
        detail = "ArithmeticError: a number that no kernel can take"
        outputs.append(lane.refuse(some_of(batch, row, row + 1), Reason.SCORING_FAILED, detail))
        done = row + 1
    outputs.append(lane.process(some_of(batch, done, len(batch)), {}))
    return lane, outputs


def test_the_reading_is_refused_with_its_error_and_its_neighbours_are_scored() -> None:
    batch = raw(events_with({2}, 5))
    lane, (outputs,) = fold_carefully([batch])
    (letter,) = sent(outputs, topics.DEAD_LETTERS)
    assert (letter.reason, letter.stage, letter.offset) == (Reason.SCORING_FAILED, stage_of(Reason.SCORING_FAILED), 2)
    assert letter.detail == "ArithmeticError: a number that no kernel can take"
    assert letter.raw_value == batch.values[2]
    assert [record.seq for record in sent(outputs, topics.SCORED)] == [0, 1, 3, 4]
    assert outputs.counters["dead_lettered"] == 1
    assert lane.next_offset == 5


def test_what_the_state_includes_already_is_passed_over() -> None:
    """A restart gets records again that its snapshot includes; also one that was refused then."""
    batch = raw(events_with({1}, 4))
    _, (_, outputs) = fold_carefully([some_of(batch, 0, 3), batch])
    assert [record.seq for record in sent(outputs, topics.SCORED)] == [3]
    assert sent(outputs, topics.DEAD_LETTERS) == []


@pytest.mark.parametrize("poison", [set(), {0}, {7}, {0, 7}, set(range(8))])
def test_it_equals_a_fold_without_the_poison_at_the_ends(poison: set[int]) -> None:
    batch = raw(events_with(poison, 8))
    lane, got = fold_carefully([batch])
    expected, wanted = fold_without(batch, poison)
    assert by_topic(got) == by_topic(wanted)
    assert messages_of(lane.snapshot()) == messages_of(expected.snapshot())


@st.composite
def _cases(draw: st.DrawFn) -> tuple[int, set[int], list[int]]:
    count = draw(st.integers(1, 20))
    poison = draw(st.sets(st.integers(0, count - 1), max_size=3))
    return count, poison, draw(st.lists(st.integers(1, count), max_size=4))


@settings(max_examples=20)
@given(_cases())
def test_it_equals_a_fold_without_the_poison_wherever_it_lies(case: tuple[int, set[int], list[int]]) -> None:
    """Outputs and state, byte for byte, and wherever the batches are cut."""
    count, poison, cuts = case
    batch = raw(events_with(poison, count))
    lane, got = fold_carefully(pieces(batch, cuts))
    expected, wanted = fold_without(batch, poison)
    assert by_topic(got) == by_topic(wanted)
    assert counters(got) == counters(wanted)
    assert messages_of(lane.snapshot()) == messages_of(expected.snapshot())
