"""The columnar codec by example; tests/properties/test_columns.py compares it with the row codec."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fleetwatch import avro, avro_kernels, avro_layout, columns, row_status
from fleetwatch.records import (
    CameraDetection,
    ModelVersion,
    Reason,
    Record,
    ScoredReading,
    SensorReading,
    WindowCount,
    from_millis,
)
from tests.unit.kernel.schema_folder import using_schemas, write_schemas
from tests.unit.kernel.test_avro import BY_TYPE, LENIENCIES, READING, REASONS, VALUE

if TYPE_CHECKING:
    from pathlib import Path

KEY = b"temp-1"


class Probe(Record):
    """Names the schema probe.v1 of a test."""


def reasons(batch: columns.Batch) -> list[Reason | None]:
    return [row_status.reason_of(status) if status else None for status in batch.status.tolist()]


def test_an_empty_batch_is_a_batch():
    batch = columns.decode_batch([], [], SensorReading, key_field="device_id")
    assert len(batch) == 0
    assert columns.encode_batch(batch, SensorReading).to_list() == []


def test_values_and_keys_must_be_as_many():
    with pytest.raises(ValueError, match="2 values, but 1 keys"):
        columns.decode_batch([VALUE, VALUE], [KEY], SensorReading)


def test_columns_by_name():
    other = avro.encode(replace(READING, device_id="grüße", seq=-5, value=-0.0))
    batch = columns.decode_batch([VALUE, other], [KEY, KEY], SensorReading)
    assert batch.text("device_id", 0) == "temp-1"
    assert batch.text("device_id", 1) == "grüße"
    assert batch.numbers("seq").tolist() == [1, -5]
    assert batch.numbers("event_time").tolist() == [1_795_305_600_123] * 2
    assert batch.doubles("value").tolist() == [1.5, 0.0]
    assert np.signbit(batch.doubles("value")).tolist() == [False, True]
    with pytest.raises(KeyError):
        batch.numbers("nothing")


def test_each_reason_and_their_order_of_precedence():
    large = avro.encode(replace(READING, unit="x" * avro.MAX_EVENT_BYTES))
    cases = [
        (VALUE, KEY, None),
        (None, None, Reason.EMPTY_VALUE),
        (b"", KEY, Reason.EMPTY_VALUE),
        (large, None, Reason.TOO_LARGE),
        (b"noise", None, Reason.EMPTY_KEY),
        (b"noise", b"", Reason.EMPTY_KEY),
        (b"noise", KEY, Reason.NOT_FRAMED),
        (b"\x00\x00\x00\x03", KEY, Reason.NOT_FRAMED),
        (b"\x00\x00\x00\x00\x00" + VALUE[5:], KEY, Reason.UNKNOWN_SCHEMA),
        (avro.frame_header(WindowCount) + VALUE[5:], KEY, Reason.WRONG_SCHEMA),
        (VALUE[:-3], b"another", Reason.TRUNCATED),
        (VALUE + b"\x00", b"another", Reason.TRAILING_BYTES),
        (VALUE[:-1] + b"\x06", b"another", Reason.MALFORMED),
        (VALUE, b"another", Reason.KEY_MISMATCH),
        (VALUE, b"temp-", Reason.KEY_MISMATCH),
        (VALUE, b"temp-11", Reason.KEY_MISMATCH),
        (VALUE, KEY, None),
    ]
    batch = columns.decode_batch(
        [value for value, _, _ in cases], [key for _, key, _ in cases], SensorReading, key_field="device_id"
    )
    assert reasons(batch) == [reason for _, _, reason in cases]


def test_the_reasons_are_those_of_the_row_codec():
    values = [value for value, _ in REASONS]
    assert reasons(columns.decode_batch(values, [KEY] * len(values), SensorReading)) == [
        reason for _, reason in REASONS
    ]


def test_what_fastavro_reads_but_nobody_may_write_is_refused():
    batch = columns.decode_batch(LENIENCIES, [KEY] * len(LENIENCIES), SensorReading)
    assert reasons(batch) == [Reason.MALFORMED] * len(LENIENCIES)


@pytest.mark.parametrize(("kind", "body", "expected"), BY_TYPE)
def test_each_type_by_itself(kind: Any, body: bytes, expected: Reason | None, tmp_path: Path):
    write_schemas(tmp_path, {"probe.v1": {"type": "record", "name": "Probe", "fields": [{"name": "f", "type": kind}]}})
    with using_schemas(tmp_path):
        assert reasons(columns.decode_batch([avro.frame_header(Probe) + body], [KEY], Probe)) == [expected]


def test_a_size_is_too_large_only_above_the_limit():
    rest = len(avro.encode(replace(READING, unit="x" * 60_000))) - 60_000
    at_limit = avro.encode(replace(READING, unit="x" * (avro.MAX_EVENT_BYTES - rest)))
    assert len(at_limit) == avro.MAX_EVENT_BYTES
    above = avro.encode(replace(READING, unit="x" * (avro.MAX_EVENT_BYTES - rest + 1)))
    assert reasons(columns.decode_batch([at_limit, above], [KEY, KEY], SensorReading)) == [None, Reason.TOO_LARGE]


def test_a_row_that_is_refused_stays_refused_for_its_first_reason():
    batch = columns.decode_batch([VALUE, VALUE[:-1]], [KEY, KEY], SensorReading)
    batch.refuse(np.array([True, True]), Reason.NOT_A_NUMBER)
    batch.refuse(np.array([0, 1]), Reason.INFINITE)
    assert reasons(batch) == [Reason.NOT_A_NUMBER, Reason.TRUNCATED]


def test_every_status_names_its_reason():
    for reason, status in row_status.STATUS.items():
        assert row_status.reason_of(status) is reason
    others = set(Reason) - set(row_status.STATUS)
    assert {reason.value for reason in others} == {"STORE_REFUSED", "NOTIFY_REFUSED"}  # behind the streams


def test_a_new_batch_is_filled_and_encoded_as_rows_are():
    detection = {"camera_id": "cam", "site": "n", "label": "person"}
    buffer = np.frombuffer("".join(detection.values()).encode(), np.uint8)
    batch = columns.new_batch(CameraDetection, 2, buffer)
    start = 0
    for name, text in detection.items():
        starts, lengths = batch.strings(name)
        starts[:], lengths[:] = start, len(text)
        start += len(text)
    batch.numbers("event_time")[:] = [0, 1]
    batch.numbers("seq")[:] = [-(2**63), 2**63 - 1]
    batch.doubles("confidence")[:] = [0.5, np.inf]
    batch.doubles("box.width")[:] = 0.25
    batch.numbers("track_id")[1] = 7
    batch.ints[batch.layout.present["track_id"], 1] = 1
    first, second = (
        avro.decode(value, CameraDetection) for value in columns.encode_batch(batch, CameraDetection).to_list()
    )
    assert (first.camera_id, first.site, first.label, first.track_id) == ("cam", "n", "person", None)
    assert (second.camera_id, second.site, second.label, second.track_id) == ("cam", "n", "person", 7)
    assert (first.event_time, second.event_time) == (from_millis(0), from_millis(1))
    assert (first.seq, second.seq) == (-(2**63), 2**63 - 1)
    assert (first.confidence, second.confidence, first.box.width) == (0.5, np.inf, 0.25)


def test_rows_as_long_as_they_can_be_fit_into_the_output():
    """Every number takes its ten bytes, every nullable field is present."""
    batch = columns.new_batch(ScoredReading, 50, np.zeros(0, np.uint8))
    batch.numbers("seq")[:] = -(2**63)
    batch.numbers("source_offset")[:] = -(2**63)
    batch.numbers("event_time")[:] = -62_135_596_800_000
    for row in batch.layout.present.values():
        batch.ints[row] = 1
    values = columns.encode_batch(batch, ScoredReading).to_list()
    assert avro.decode(values[-1], ScoredReading).source_offset == -(2**63)


@pytest.mark.parametrize(
    "kind",
    [
        ["null", "long", "string"],
        ["long", "string"],
        {"type": "array", "items": "long"},
        {"type": "map", "values": "long"},
        {"type": "fixed", "name": "F", "size": 4},
        ["null", {"type": "record", "name": "R", "fields": []}],
        {"type": "long", "logicalType": "timestamp-micros"},
        {"type": "string", "logicalType": "uuid"},
        "null",
    ],
)
def test_a_schema_without_columns_is_refused_when_it_is_loaded(kind: Any, tmp_path: Path):
    write_schemas(tmp_path, {"probe.v1": {"type": "record", "name": "Probe", "fields": [{"name": "f", "type": kind}]}})
    with using_schemas(tmp_path), pytest.raises(TypeError, match=r"f: .* no columns"):
        avro_layout.layout_of(Probe)


@pytest.mark.parametrize("field", [{"name": "f", "type": "long", "aliases": ["old"]}])
def test_an_alias_is_refused_when_it_is_loaded(field: dict[str, Any], tmp_path: Path):
    write_schemas(tmp_path, {"probe.v1": {"type": "record", "name": "Probe", "fields": [field]}})
    with using_schemas(tmp_path), pytest.raises(TypeError, match="alias"):
        avro_layout.layout_of(Probe)


def test_a_record_with_an_array_has_no_columns():
    with pytest.raises(TypeError, match="metrics"):
        avro_layout.layout_of(ModelVersion)


def test_every_older_version_of_a_flat_record_can_be_read():
    """A version that the newest schema cannot read would stop the streams at the first such event."""
    for name in avro.schema_ids():
        if not name.startswith("model_version."):
            program, _ = avro_layout.reader_program(name)
            assert len(program) > 0


def test_text_is_what_python_says_is_utf_8_but_for_u_0000():
    """All sequences of up to four bytes at the edges of the ranges that UTF-8 is made of."""
    edges = (0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF)
    leads = (*edges, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF)
    for length in range(5):
        for sequence in itertools.product(*[leads, edges, edges, edges][:length]):
            text = bytes(sequence)
            found = avro_kernels._is_text(np.frombuffer(text + b"\x80\x80\x80", np.uint8), 0, length)
            assert found == _is_text(text), text


def _is_text(text: bytes) -> bool:
    try:
        return "\x00" not in text.decode()
    except UnicodeDecodeError:
        return False
