"""Bodies to events: what is refused, with index, field and what is expected; what is filled in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleetwatch import avro
from fleetwatch.records import Box, CameraDetection, Quality, SensorReading, from_millis
from producers.gateway.intake import MAX_ERRORS, BadBodyError, Event, FieldError, Intake, Item, Refusal
from producers.gateway.models import MAX_TEXT, Detection, Reading, expected
from producers.gateway.sequence import Sequence

NOW_MS = 1_795_305_600_000
SKEW_MS = 300_000
READING = {"device_id": "b-1", "sensor_type": "temperature", "site": "cellar", "value": 58, "unit": "Cel"}
BOX = {"x": 0.4, "y": 0.3, "width": 0.1, "height": 0.2}
DETECTION = {"camera_id": "c-1", "site": "gate", "label": "person", "confidence": 0.9, "box": BOX}
NUMBER = "a finite number"
TIME = expected(Reading, ("event_time",))
SEQ = expected(Reading, ("seq",))


def read(content: object, model: type = Reading, *, max_items: int = 10, now_us: int = NOW_MS * 1000) -> list[Item]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Intake(model, Sequence(), max_items=max_items, max_skew_ms=SKEW_MS).read(body, now_us)


def test_a_reading_becomes_its_record_under_the_key_of_its_device() -> None:
    (event,) = read({**READING, "event_time": NOW_MS, "seq": 7, "quality": "UNCERTAIN"})
    assert isinstance(event, Event)
    assert (event.key, event.device, event.event_ms, event.seq) == (b"b-1", "b-1", NOW_MS, 7)
    assert avro.decode(event.value, SensorReading, strict=True) == SensorReading(
        device_id="b-1",
        sensor_type="temperature",
        site="cellar",
        event_time=from_millis(NOW_MS),
        seq=7,
        value=58.0,
        unit="Cel",
        quality=Quality.UNCERTAIN,
    )


def test_a_detection_becomes_its_record() -> None:
    (event,) = read({**DETECTION, "event_time": NOW_MS, "seq": 7, "track_id": 5}, Detection)
    assert isinstance(event, Event)
    assert avro.decode(event.value, CameraDetection, strict=True) == CameraDetection(
        camera_id="c-1",
        site="gate",
        event_time=from_millis(NOW_MS),
        seq=7,
        label="person",
        confidence=0.9,
        box=Box(x=0.4, y=0.3, width=0.1, height=0.2),
        track_id=5,
    )


def test_time_and_number_that_are_left_out_are_the_arrival_and_rising_numbers() -> None:
    first, second, third = read([READING, {**READING, "seq": 4, "event_time": None}, {**READING, "seq": None}])
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert isinstance(third, Event)
    assert first.event_ms == second.event_ms == third.event_ms == NOW_MS
    assert (first.seq, second.seq, third.seq) == (NOW_MS * 1000, 4, NOW_MS * 1000 + 1)


def test_numbers_rise_when_the_clock_stands_or_goes_back_and_after_a_restart() -> None:
    sequence = Sequence()
    numbers = [sequence.next(now) for now in (1000, 1000, 500, 1001, 2000)]
    assert numbers == [1000, 1001, 1002, 1003, 2000]
    assert Sequence().next(2001) > numbers[-1]  # a new process, later


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("2026-11-22T00:00:00Z", NOW_MS),
        ("2026-11-22T02:00:00.0019+02:00", NOW_MS + 1),  # milliseconds are kept
        ("20261122T000000Z", NOW_MS),
        (NOW_MS, NOW_MS),
        (-1, -1),
    ],
)
def test_times_are_iso_8601_with_zone_or_milliseconds(text: object, millis: int) -> None:
    (event,) = read({**READING, "event_time": text})
    assert isinstance(event, Event)
    assert event.event_ms == millis


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"device_id": ""}, "device_id", "text of 1 to 200 characters"),  # the key of Kafka
        ({"device_id": 7}, "device_id", "text of 1 to 200 characters"),
        ({"device_id": None}, "device_id", "text of 1 to 200 characters"),
        ({"device_id": "a\x00"}, "device_id", "without U+0000"),  # the database cannot store it
        ({"site": "x" * (MAX_TEXT + 1)}, "site", "at most 200 characters"),
        ({"value": float("nan")}, "value", NUMBER),
        ({"value": float("inf")}, "value", NUMBER),
        ({"value": 10**400}, "value", NUMBER),  # no double holds it
        ({"value": "58"}, "value", NUMBER),  # nothing is converted
        ({"value": True}, "value", NUMBER),
        ({"value": None}, "value", NUMBER),
        ({"quality": "good"}, "quality", "GOOD, UNCERTAIN or BAD"),
        ({"seq": 2**63}, "seq", SEQ),
        ({"seq": 1.0}, "seq", SEQ),
        ({"seq": True}, "seq", SEQ),
        ({"event_time": "2026-11-22T00:00:00"}, "event_time", TIME),  # whose midnight?
        ({"event_time": "yesterday"}, "event_time", TIME),
        ({"event_time": "0001-01-01T00:00:00+01:00"}, "event_time", TIME),  # the year 0 in UTC
        ({"event_time": 253_402_300_800_000}, "event_time", TIME),  # the year 10000
        ({"event_time": 1.5}, "event_time", TIME),
        ({"event_time": NOW_MS + SKEW_MS + 1}, "event_time", "at most 300 s ahead of the gateway's clock"),
        ({"valu": 1}, "valu", "no such field: there are device_id, sensor_type, site, value, unit, event_time"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_expected(change: dict[str, Any], field: str, text: str) -> None:
    good, refusal = read([READING, {**READING, **change}])
    assert isinstance(good, Event)
    assert isinstance(refusal, Refusal)
    (error,) = refusal.errors
    assert error.field == field
    assert text in error.expected


@pytest.mark.parametrize("field", READING)
def test_every_field_of_a_reading_is_needed(field: str) -> None:
    (refusal,) = read({name: value for name, value in READING.items() if name != field})
    assert isinstance(refusal, Refusal)
    assert [error.field for error in refusal.errors] == [field]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"confidence": float("-inf")}, "confidence"),
        ({"box": None}, "box"),
        ({"box": {**BOX, "x": float("nan")}}, "box.x"),
        ({"box": {**BOX, "depth": 1}}, "box.depth"),
        ({"box": {"x": 1, "y": 1, "width": 1}}, "box.height"),
        ({"track_id": "5"}, "track_id"),
        ({"camera_id": ""}, "camera_id"),
    ],
)
def test_detections_are_checked_into_their_box(change: dict[str, Any], field: str) -> None:
    (refusal,) = read({**DETECTION, **change}, Detection)
    assert isinstance(refusal, Refusal)
    assert [error.field for error in refusal.errors] == [field]


@pytest.mark.parametrize("item", [3, "text", None, [], True])
def test_an_item_that_is_no_object_is_refused_as_a_whole(item: object) -> None:
    refusal, good = read([item, READING])
    assert refusal == Refusal((FieldError("", expected(Reading, ())),))
    assert isinstance(good, Event)


def test_the_errors_of_one_item_are_told_up_to_a_limit() -> None:
    (refusal,) = read({f"{number}" * 300: 1 for number in range(20)})
    assert isinstance(refusal, Refusal)
    assert len(refusal.errors) == MAX_ERRORS
    assert max(len(error.field) for error in refusal.errors) <= 100


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'"\\ud800"', 400),  # half a character
        (b"[" * 10_000, 400),
        (b"[]", 422),
        (b"3", 422),
        (b"null", 422),
        (b"[" + b"{}," * 10 + b"{}]", 413),
    ],
)
def test_a_body_that_is_no_list_of_events_is_refused_as_a_whole(body: bytes, status: int) -> None:
    with pytest.raises(BadBodyError) as bad:
        read(body)
    assert bad.value.status == status
