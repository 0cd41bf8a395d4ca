"""The columnar codec says of every row what the row codec says, and writes the same bytes."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwatch import avro, avro_check, avro_layout, columns, row_status, topics, validate
from fleetwatch.errors import RefusedError
from fleetwatch.record_batch import Records
from fleetwatch.records import CameraDetection, DeadLetter, Reason, Record, ScoredReading, SensorReading
from streams.batch import RawBatch
from streams.lane import Lane, LaneSettings
from streams.windows import WindowRules
from tests.properties.strategies import (
    BROKER_MS,
    FLAT_TYPES,
    MAX_SKEW_MS,
    Event,
    damaged,
    events,
    evolved,
    flat_fields,
    records_of,
    schema_of,
    values_of,
)
from tests.unit.kernel.columns_reading import fastavro_row, row_of
from tests.unit.kernel.schema_folder import using_schemas, write_schemas

if TYPE_CHECKING:
    from collections.abc import Callable

_CHECKS: dict[type[Record], tuple[str, str, Callable[..., Record]]] = {
    SensorReading: (topics.READINGS, "device_id", validate.check_reading),
    CameraDetection: (topics.DETECTIONS, "camera_id", validate.check_detection),
}


@pytest.mark.parametrize("kind", FLAT_TYPES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_batches_of_each_record_are_read_as_fastavro_reads_them_and_written_back(
    kind: type[Record], data: st.DataObject
):
    values = [avro.encode(record) for record in data.draw(st.lists(records_of(kind, floats=st.floats()), max_size=6))]
    batch = columns.decode_batch(values, [b"key"] * len(values), kind)
    assert not batch.status.any()
    schema = avro._parsed(avro.latest_version(avro.schema_name(kind)))
    for row, value in enumerate(values):
        assert row_of(batch, row) == fastavro_row(value[avro.FRAME_BYTES :], schema, schema)
    assert columns.encode_batch(batch, kind).to_list() == values


@pytest.mark.parametrize("kind", _CHECKS)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_rows_are_refused_for_the_reason_of_the_row_codec_and_touch_no_neighbour(
    kind: type[Record], data: st.DataObject
):
    _, key_field, check = _CHECKS[kind]
    batch_of_events = data.draw(st.lists(events(kind), min_size=1, max_size=8))
    batch = columns.decode_batch(
        [event.value for event in batch_of_events],
        [event.key for event in batch_of_events],
        kind,
        key_field=key_field,
    )
    schema = avro._parsed(avro.latest_version(avro.schema_name(kind)))
    for row, event in enumerate(batch_of_events):
        reason = _refusal(check, event)
        if reason in (Reason.NOT_A_NUMBER, Reason.INFINITE, Reason.TOO_FAR_AHEAD):
            reason = None  # what the numbers mean is the streams' question
        status = int(batch.status[row])
        assert (row_status.reason_of(status) if status else None) is reason
        if reason is None:
            assert event.value is not None
            assert row_of(batch, row) == fastavro_row(event.value[avro.FRAME_BYTES :], schema, schema)


@pytest.mark.parametrize("kind", _CHECKS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_streams_refuse_exactly_what_the_row_check_refuses(kind: type[Record], data: st.DataObject):
    topic, _, check = _CHECKS[kind]
    batch_of_events = data.draw(st.lists(events(kind), min_size=1, max_size=8))
    count = len(batch_of_events)
    records = Records.of(
        range(count),
        [BROKER_MS] * count,
        [event.key for event in batch_of_events],
        [event.value for event in batch_of_events],
    )
    raw = RawBatch(topic, 0, records)
    rules = WindowRules(size_ms=10_000, grace_ms=5_000, out_of_orderness_ms=2_000)
    out = Lane(topic, 0, LaneSettings(windows=rules, rules=(), max_skew_ms=MAX_SKEW_MS, warm_up=40)).process(raw, {})
    letters = [avro.decode(value, DeadLetter) for name, _, value in out.messages if name == topics.DEAD_LETTERS]
    expected = {row: _refusal(check, event) for row, event in enumerate(batch_of_events)}
    assert {letter.offset: letter.reason for letter in letters} == {row: r for row, r in expected.items() if r}
    if kind is SensorReading:
        scored = [avro.decode(value, ScoredReading) for name, _, value in out.messages if name == topics.SCORED]
        # the same reading twice counts once
        identities = {
            (r.device_id, r.event_time, r.seq)
            for row, event in enumerate(batch_of_events)
            if expected[row] is None
            for r in [avro.decode(event.value, SensorReading)]
        }
        assert {(record.device_id, record.event_time, record.seq) for record in scored} == identities


def _refusal(check: Callable[..., Record], event: Event) -> Reason | None:
    try:
        check(event.key, event.value, BROKER_MS, MAX_SKEW_MS)
    except RefusedError as error:
        return error.reason
    return None


# --- any flat schema


class Probe(Record):
    """Names the schemas probe.v1 and probe.v2 below."""


@given(data=st.data(), fields=flat_fields())
@settings(max_examples=150, deadline=None)
def test_any_flat_schema_is_read_as_fastavro_reads_it(data: st.DataObject, fields: Any):
    schema = schema_of(fields)
    with tempfile.TemporaryDirectory() as folder, using_schemas(Path(folder)):
        write_schemas(Path(folder), {"probe.v1": schema})
        parsed = avro._parsed("probe.v1")
        values = [_encode(1001, parsed, v) for v in data.draw(st.lists(values_of(fields), min_size=1, max_size=3))]
        mixed = [value for good in values for value in (good, data.draw(damaged(good)))]
        batch = columns.decode_batch(mixed, [b"key"] * len(mixed), Probe)
        for row, value in enumerate(mixed):
            reason = _reason(value, parsed, parsed)
            assert _status(batch, row) is reason
            if reason is None:
                assert row_of(batch, row) == fastavro_row(value[avro.FRAME_BYTES :], parsed, parsed)
        if not any(leaf.op == avro_layout.OP_FLOAT for leaf in batch.layout.leaves):
            again = columns.encode_batch(columns.decode_batch(values, [b"key"] * len(values), Probe), Probe)
            assert again.to_list() == values


@given(data=st.data(), fields=flat_fields())
@settings(max_examples=250, deadline=None)
def test_two_versions_in_one_batch_are_resolved_as_fastavro_resolves_them(data: st.DataObject, fields: Any):
    old, new = schema_of(fields), data.draw(evolved(fields))
    with tempfile.TemporaryDirectory() as folder, using_schemas(Path(folder)):
        write_schemas(Path(folder), {"probe.v1": old, "probe.v2": new})
        parsed = {1001: avro._parsed("probe.v1"), 1002: avro._parsed("probe.v2")}
        values = [_encode(1001, parsed[1001], data.draw(values_of(fields))) for _ in range(2)]
        values.append(_default_body(new, parsed[1002]))
        mixed = [value for good in values for value in (good, data.draw(damaged(good)), good)]
        batch = columns.decode_batch(mixed, [b"key"] * len(mixed), Probe)
        for row, value in enumerate(mixed):
            writer = parsed.get(int.from_bytes((value or b"")[1:5], "big"))
            reason = _reason(value, writer, parsed[1002])
            assert _status(batch, row) is reason
            if reason is None:
                assert row_of(batch, row) == fastavro_row(value[avro.FRAME_BYTES :], writer, parsed[1002])


def _encode(schema_id: int, schema: Any, record: Any) -> bytes:
    out = io.BytesIO()
    out.write(avro.MAGIC + schema_id.to_bytes(4, "big"))
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def _default_body(new: dict[str, Any], parsed: Any) -> bytes:
    """Return a body of the newest version: zeros, empty strings, first symbols, nulls or what comes first."""
    simple = {"long": 0, "int": 0, "double": 0.0, "float": 0.0, "boolean": False, "string": "", "bytes": b""}

    def zero(kind: Any) -> Any:
        if isinstance(kind, list):
            return None
        if isinstance(kind, str):
            return simple[kind]
        if kind["type"] == "record":
            return {field["name"]: zero(field["type"]) for field in kind["fields"]}
        return kind["symbols"][0] if kind["type"] == "enum" else simple[kind["type"]]

    return _encode(1002, parsed, zero(new))


def _status(batch: columns.Batch, row: int) -> Reason | None:
    status = int(batch.status[row])
    return row_status.reason_of(status) if status else None


def _reason(value: bytes | None, writer: Any, reader: Any) -> Reason | None:
    """Return why the row codec refuses a body of these schemas (it knows no class for them)."""
    if not value:
        return Reason.EMPTY_VALUE
    if len(value) < avro.FRAME_BYTES or value[:1] != avro.MAGIC:
        return Reason.NOT_FRAMED
    if int.from_bytes(value[1 : avro.FRAME_BYTES], "big") not in avro.schema_ids().values():
        return Reason.UNKNOWN_SCHEMA
    try:
        avro_check.check_body(writer, value, avro.FRAME_BYTES)
    except RefusedError as error:
        return error.reason
    try:
        fastavro_row(value[avro.FRAME_BYTES :], writer, reader)
    except Exception:  # noqa: BLE001  # whatever the resolution meets
        return Reason.MALFORMED
    return None
