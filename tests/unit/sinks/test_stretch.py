"""A stretch of events: what is in it, cutting it, and where reading goes on after it."""

from __future__ import annotations

import pytest

from fleetwatch import topics
from fleetwatch.records import Alert, CameraDetection, ScoredReading, WindowCount
from sinks.decoding import decode_all
from tests.unit.sinks.samples import alert, broken, event, scored, stretch, window


def _mixed():
    return stretch(scored(seq=0), alert(), scored(seq=2), window(), scored(seq=4))


def test_columns_and_records_stand_at_their_places():
    mixed = _mixed()
    readings = mixed.of_columns(ScoredReading)
    assert readings is not None
    assert readings.positions.tolist() == [0, 2, 4]
    assert readings.batch.numbers("seq")[readings.rows].tolist() == [0, 2, 4]
    assert mixed.of_records(Alert) == [alert()]
    assert mixed.of_columns(CameraDetection) is None
    assert mixed.rows_by_topic() == {topics.SCORED: 3, topics.ALERTS: 1, topics.COUNTS: 1}


def test_halves_have_each_event_once():
    first, second = _mixed().halves()
    assert (len(first), len(second)) == (2, 3)
    assert first.stored_positions() + second.stored_positions() == [0, 1, 2, 3, 4]
    assert first.of_columns(WindowCount) is None
    assert second.of_records(Alert) == []


def test_an_emptied_stretch_keeps_its_places():
    first, second = _mixed().halves()
    assert first.emptied().stored_positions() == []
    assert first.emptied().next_offsets() == first.next_offsets()
    assert second.stored_positions() == [2, 3, 4]


def test_next_offset_is_one_past_the_last_of_each_partition():
    events = [event(scored(), 7), event(scored(), 8), event(scored(), 3, partition=1), broken(topics.ALERTS, 5)]
    whole, refusals = decode_all(events, 10**12)
    assert whole.next_offsets() == {(topics.SCORED, 0): 9, (topics.SCORED, 1): 4, (topics.ALERTS, 0): 6}
    assert [refusal.event.offset for refusal in refusals] == [5]


@pytest.mark.parametrize("cuts", [0, 1, 2, 3])
def test_cut_again_and_again_nothing_is_lost(cuts: int):
    parts = [_mixed()]
    for _ in range(cuts):
        parts = [half for part in parts for half in (part.halves() if len(part) > 1 else (part,))]
    assert [position for part in parts for position in part.stored_positions()] == [0, 1, 2, 3, 4]
