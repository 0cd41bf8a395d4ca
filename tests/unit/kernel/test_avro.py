"""The row codec: its reasons, and what it refuses to write."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import fastavro
import pytest

from fleetwatch import avro, avro_check
from fleetwatch.errors import RefusedError
from fleetwatch.records import (
    Metric,
    ModelStatus,
    ModelVersion,
    Quality,
    Reason,
    ScoredReading,
    SensorReading,
    Verdict,
    from_millis,
)

READING = SensorReading(
    device_id="temp-1",
    sensor_type="temperature",
    site="north",
    event_time=from_millis(1_795_305_600_123),
    seq=1,
    value=1.5,
    unit="Cel",
)
VALUE = avro.encode(READING)
FRAME = VALUE[:5]
LONGEST = b"\xff" * 9


def body(*, quality: bytes = b"\x00", time: int = 0, first: bytes = b"\x02d", seq: bytes = b"\x02") -> bytes:
    """A framed reading written by hand."""
    return FRAME + first + b"\x02t\x02s" + number(time) + seq + struct.pack("<d", 1.0) + b"\x02u" + quality


def number(value: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    return out.getvalue()


def reason(value: bytes | None, *, strict: bool) -> Reason | None:
    try:
        avro.decode(value, SensorReading, strict=strict)
    except RefusedError as error:
        return error.reason
    return None


REASONS: list[tuple[bytes | None, Reason | None]] = [
    (body(), None),
    (None, Reason.EMPTY_VALUE),
    (b"", Reason.EMPTY_VALUE),
    (b"\x00\x00\x00\x03", Reason.NOT_FRAMED),
    (b"\x01" + VALUE[1:], Reason.NOT_FRAMED),
    (b'{"device_id": "temp-1"}', Reason.NOT_FRAMED),
    (b"\x00" + struct.pack(">I", 9999) + VALUE[5:], Reason.UNKNOWN_SCHEMA),
    (avro.frame_header(ScoredReading) + VALUE[5:], Reason.WRONG_SCHEMA),
    (FRAME, Reason.TRUNCATED),
    (VALUE[:-1], Reason.TRUNCATED),
    (FRAME + b"\x80", Reason.TRUNCATED),  # in the middle of a number
    (body(first=b"\x7e"), Reason.TRUNCATED),  # a string longer than all that follows
    (body(first=b"\xfe" + LONGEST[1:] + b"\x01"), Reason.TRUNCATED),  # the longest length there is
    (VALUE + b"\x00", Reason.TRAILING_BYTES),
    (VALUE + VALUE, Reason.TRAILING_BYTES),
    (body(first=b"\x02\xff"), Reason.MALFORMED),  # not UTF-8
    (body(first=b"\x06\xed\xa0\x80"), Reason.MALFORMED),  # half of a surrogate pair
    (body(first=b"\x01"), Reason.MALFORMED),  # length -1
    (body(first=LONGEST + b"\x01"), Reason.MALFORMED),  # length -2**63
    (body(quality=b"\x06"), Reason.MALFORMED),  # the fourth of three symbols
    (body(time=avro_check.LAST_MS), None),
    (body(time=avro_check.LAST_MS + 1), Reason.MALFORMED),
    (body(time=avro_check.FIRST_MS), None),
    (body(time=avro_check.FIRST_MS - 1), Reason.MALFORMED),
    (body(time=2**62), Reason.MALFORMED),
]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("value", "expected"), REASONS)
def test_each_reason_of_the_row_codec(value: bytes | None, expected: Reason | None, *, strict: bool):
    assert reason(value, strict=strict) is expected


LENIENCIES = [
    body(quality=b"\x01"),  # symbol -1: fastavro takes the last
    body(seq=b"\x82\x00"),  # 1 in two bytes
    body(seq=b"\x82" + b"\x80" * 12 + b"\x00"),  # 1 in fourteen
    body(seq=LONGEST + b"\x02"),  # 65 bits
]


@pytest.mark.parametrize("value", LENIENCIES)
def test_what_fastavro_reads_but_nobody_may_write_is_refused_from_devices(value: bytes):
    assert reason(value, strict=False) is None
    assert reason(value, strict=True) is Reason.MALFORMED


def test_the_first_damage_in_reading_order_names_the_reason():
    overlong_and_cut = body(seq=b"\x82\x00")[:-1]
    assert reason(overlong_and_cut, strict=True) is Reason.MALFORMED
    assert reason(overlong_and_cut, strict=False) is Reason.MALFORMED


TIME = {"type": "long", "logicalType": "timestamp-millis"}
BY_TYPE: list[tuple[Any, bytes, Reason | None]] = [
    ("int", b"\xfe\xff\xff\xff\x0f", None),
    ("int", b"\x80\x80\x80\x80\x10", Reason.MALFORMED),
    ("int", b"\xff\xff\xff\xff\x0f", None),
    ("int", b"\x81\x80\x80\x80\x10", Reason.MALFORMED),
    ("boolean", b"\x01", None),
    ("boolean", b"\x02", Reason.MALFORMED),
    ("boolean", b"", Reason.TRUNCATED),
    ("bytes", b"\x02\xff", None),
    ("bytes", b"\x03", Reason.MALFORMED),
    ("double", b"\x00" * 7, Reason.TRUNCATED),
    ("float", b"\x00" * 4, None),
    ("float", b"\x00" * 3, Reason.TRUNCATED),
    ("long", LONGEST + b"\x01", None),
    ("long", LONGEST + b"\x81", Reason.MALFORMED),
    (["null", "long"], b"\x00", None),
    (["null", "long"], b"\x02\x02", None),
    (["null", "long"], b"\x04\x02", Reason.MALFORMED),
    (["null", "long"], b"\x01\x02", Reason.MALFORMED),
    (TIME, number(avro_check.LAST_MS), None),
    (TIME, number(avro_check.LAST_MS + 1), Reason.MALFORMED),
    (TIME, number(avro_check.FIRST_MS), None),
    (TIME, number(avro_check.FIRST_MS - 1), Reason.MALFORMED),
]


@pytest.mark.parametrize(("kind", "value", "expected"), BY_TYPE)
def test_the_strict_check_of_each_type(kind: Any, value: bytes, expected: Reason | None):
    found = None
    try:
        avro_check.check_body(kind, value, 0)
    except RefusedError as error:
        found = error.reason
    assert found is expected


def test_the_strict_check_follows_names_of_earlier_types():
    enum = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
    schema = {"type": "record", "name": "X", "fields": [{"name": "a", "type": enum}, {"name": "b", "type": "E"}]}
    avro_check.check_body(fastavro.parse_schema(schema), b"\x00\x02", 0)
    with pytest.raises(RefusedError, match="MALFORMED"):
        avro_check.check_body(fastavro.parse_schema(schema), b"\x00\x04", 0)


def test_a_type_that_no_record_uses_is_an_error_of_ours_not_of_the_sender():
    with pytest.raises(TypeError, match="fixed"):
        avro_check.check_body({"type": "fixed", "name": "F", "size": 2}, b"ab", 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seq": 2**63},
        {"seq": "1"},
        {"value": None},
        {"value": "warm"},
        {"device_id": 5},
        {"device_id": "\ud800"},
        {"quality": Verdict.NORMAL},
    ],
)
def test_a_field_that_does_not_fit_cannot_be_written(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=r"."):
        avro.encode(replace(READING, **wrong))


def test_times_are_kept_to_the_millisecond_and_come_back_in_utc():
    here = timezone(timedelta(hours=5, minutes=30))
    for time in (
        datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2026, 2, 28, 12, 0, tzinfo=here),
    ):
        read = avro.decode(avro.encode(replace(READING, event_time=time)), SensorReading).event_time
        assert read == time
        assert read.utcoffset() == timedelta(0)
    late = datetime(2026, 2, 28, 12, 0, 0, 1_999, tzinfo=UTC)
    read = avro.decode(avro.encode(replace(READING, event_time=late)), SensorReading).event_time
    assert read == late.replace(microsecond=1000)


def test_a_record_comes_back_with_its_own_classes():
    reading = avro.decode(VALUE, SensorReading)
    assert reading == READING
    assert reading.quality is Quality.GOOD
    assert isinstance(avro.decode(avro.encode(_model()), ModelVersion).metrics, tuple)


def _model() -> ModelVersion:
    return ModelVersion(
        sensor_type="temperature",
        version="1",
        algorithm="isolation forest",
        status=ModelStatus.ACTIVE,
        location="temperature/1",
        trained_at=from_millis(0),
        training_rows=1500,
        metrics=(Metric(name="auc", value=0.9), Metric(name="rows", value=1500.0)),
    )


def test_each_schema_has_an_id_that_names_it():
    for name, schema_id in avro.schema_ids().items():
        assert avro.schema_by_id(schema_id) == name
    assert avro.schema_by_id(0) is None
    assert avro.schema_name(SensorReading) == "sensor_reading"
    assert avro.frame_header(SensorReading) == b"\x00" + struct.pack(">I", avro.schema_ids()["sensor_reading.v1"])
