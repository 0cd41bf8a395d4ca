"""From events to columns and records."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetwatch import avro, topics, validate
from fleetwatch.columns import Batch
from fleetwatch.errors import RefusedError
from fleetwatch.records import Box, Reason
from sinks.batch import Event
from sinks.decoding import IN_COLUMNS, IN_ROWS, decode_all, is_dead_lettered_elsewhere
from tests.unit.sinks.samples import NOW_MS, action, alert, broken, detection, event, letter, scored, window

if TYPE_CHECKING:
    from sinks.decoding import Refusal

SKEW_MS = 300_000
TOPICS = {**IN_COLUMNS, **IN_ROWS}


def _refusals(*events: Event) -> list[Refusal]:
    whole, refusals = decode_all(events, SKEW_MS)
    assert len(whole) == len(events)
    assert len(whole.stored_positions()) + len(refusals) == len(events)
    return refusals


@pytest.mark.parametrize("record", [alert(), action(), letter(), letter(detail="a \x00 in it")])
def test_what_is_rare_comes_back_as_it_was(record: Any):
    whole, _ = decode_all([event(record)], SKEW_MS)
    assert whole.of_records(type(record)) == [record]


@pytest.mark.parametrize("record", [scored(), detection(), window()])
def test_what_comes_in_masses_comes_back_in_columns(record: Any):
    whole, _ = decode_all([event(record)], SKEW_MS)
    rows = whole.of_columns(type(record))
    assert rows is not None
    assert isinstance(rows.batch, Batch)
    key = "key" if hasattr(record, "key") else "camera_id" if hasattr(record, "camera_id") else "device_id"
    assert rows.batch.text(key, int(rows.rows[0])) == getattr(record, key)


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("value", [b"not avro", b"", None, b"\x00\x00\x00\x00\x63"])
def test_bytes_that_are_no_record_are_refused_and_leave_their_neighbours(topic: str, value: bytes | None):
    good = [event(record, 1) for record in (scored(), detection(), window(), alert(), action(), letter())]
    refusals = _refusals(good[0], broken(topic, 0, value), *good[1:])
    assert [refusal.event.topic for refusal in refusals] == [topic]
    assert refusals[0].detail


def test_every_topic_of_the_two_groups_can_be_decoded():
    assert set(TOPICS) == {*topics.READ_BY[topics.GROUP_TIMESCALE], *topics.READ_BY[topics.GROUP_REDIS]}


def test_a_derived_event_needs_no_key_and_may_be_large():
    assert _refusals(event(scored(unit="x" * 100_000))._replace(key=None)) == []


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.5, math.nan, math.inf, -math.inf])


@given(
    values=st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=5),
    shift_ms=st.sampled_from([0, SKEW_MS, SKEW_MS + 1, 10**9]),
    key=st.sampled_from([b"cam-1", b"other", b"", None]),
    cut=st.integers(0, 3),
)
def test_detections_are_refused_as_single_ones_are(
    values: list[tuple[float, float, float]], shift_ms: int, key: bytes | None, cut: int
):
    events = []
    for number, (confidence, x, height) in enumerate(values):
        record = detection(confidence=confidence, box=Box(x=x, y=0.2, width=0.3, height=height))
        raw = avro.encode(record)
        sent_ms = NOW_MS + 1000 - shift_ms
        events.append(Event(topics.DETECTIONS, 0, number, sent_ms, key, raw[: len(raw) - cut]))
    expected: list[tuple[int, Reason, str]] = []
    for one in events:
        try:
            validate.check_detection(one.key, one.value, one.broker_time_ms, SKEW_MS)
        except RefusedError as error:
            expected.append((one.offset, error.reason, error.detail))
    assert [(refusal.event.offset, refusal.reason, refusal.detail) for refusal in _refusals(*events)] == expected


def test_only_device_input_and_dead_letters_need_no_dead_letter():
    assert {topic for topic in TOPICS if is_dead_lettered_elsewhere(topic)} == {
        topics.DETECTIONS,
        topics.DEAD_LETTERS,
    }
