"""The row codec gives back what it was given, and refuses everything else with a reason."""

from __future__ import annotations

import io
from dataclasses import replace

import fastavro
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwatch import avro, avro_check
from fleetwatch.errors import RefusedError
from fleetwatch.records import (
    AlertAction,
    CameraDetection,
    GroundTruth,
    Metric,
    ModelVersion,
    Reason,
    Record,
    SensorReading,
)
from tests.properties.strategies import RECORD_TYPES, any_record, damaged, records_of, texts

_BODY_REASONS = {Reason.TRUNCATED, Reason.TRAILING_BYTES, Reason.MALFORMED}


@given(record=any_record)
@settings(max_examples=300, deadline=None)
def test_what_is_encoded_is_decoded(record: Record):
    value = avro.encode(record)
    assert avro.decode(value, type(record)) == record
    assert avro.decode(value, type(record), strict=True) == record


@given(data=st.data(), kind=st.sampled_from(RECORD_TYPES))
@settings(max_examples=100, deadline=None)
def test_records_with_nan_keep_their_bytes(kind: type[Record], data: st.DataObject):
    value = avro.encode(data.draw(records_of(kind, floats=st.floats())))
    assert avro.encode(avro.decode(value, kind, strict=True)) == value


@given(value=st.binary(max_size=80) | st.none(), kind=st.sampled_from(RECORD_TYPES), strict=st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_decoded_or_refused(value: bytes | None, kind: type[Record], *, strict: bool):
    _decode(value, kind, strict=strict)


@given(body=st.binary(max_size=80), kind=st.sampled_from(RECORD_TYPES), strict=st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_body_is_decoded_or_refused(body: bytes, kind: type[Record], *, strict: bool):
    result = _decode(avro.frame_header(kind) + body, kind, strict=strict)
    assert isinstance(result, Record) or result in _BODY_REASONS


@given(data=st.data(), record=any_record)
@settings(max_examples=400, deadline=None)
def test_a_damaged_record_is_decoded_or_refused(data: st.DataObject, record: Record):
    value = data.draw(damaged(avro.encode(record)))
    lenient, strict = (_decode(value, type(record), strict=is_strict) for is_strict in (False, True))
    if isinstance(strict, Record):
        assert isinstance(lenient, Record)  # strict refuses more, never less
    elif isinstance(lenient, Reason) and lenient is not Reason.TRAILING_BYTES:
        assert lenient is strict  # a refusal has the same reason; but what fastavro passes over it may not see


@given(record=any_record, data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_record_that_is_cut_off_is_truncated(record: Record, data: st.DataObject):
    value = avro.encode(record)
    end = data.draw(st.integers(avro.FRAME_BYTES, len(value) - 1))
    for strict in (False, True):
        assert _decode(value[:end], type(record), strict=strict) is Reason.TRUNCATED


@given(record=any_record, more=st.binary(min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_bytes_after_the_body_are_noticed(record: Record, more: bytes):
    for strict in (False, True):
        assert _decode(avro.encode(record) + more, type(record), strict=strict) is Reason.TRAILING_BYTES


@given(data=st.data(), kind=st.sampled_from([SensorReading, CameraDetection, AlertAction, GroundTruth]))
@settings(max_examples=300, deadline=None)
def test_the_strict_check_passes_exactly_what_fastavro_would_have_written(data: st.DataObject, kind: type[Record]):
    value = data.draw(damaged(avro.encode(data.draw(records_of(kind))))) or b""
    body = value[avro.FRAME_BYTES :]
    schema = avro._parsed(avro.latest_version(avro.schema_name(kind)))
    try:
        avro_check.check_body(schema, body, 0)
    except RefusedError:
        assert not _is_canonical(body, schema)
    else:
        assert _is_canonical(body, schema)


_metrics = st.lists(st.builds(Metric, name=texts, value=st.floats(allow_nan=False)), min_size=1, max_size=4).map(tuple)


@given(record=records_of(ModelVersion, parameters=_metrics))
@settings(max_examples=50, deadline=None)
def test_an_array_in_a_block_that_names_its_size_is_read(record: ModelVersion):
    before = avro.encode(replace(record, parameters=()))[:-1]
    items = avro.encode(record)[len(before) + 1 : -1]
    value = before + _long(-len(record.parameters)) + _long(len(items)) + items + b"\x00"
    assert avro.decode(value, ModelVersion, strict=True) == record


def _decode(value: bytes | None, kind: type[Record], *, strict: bool) -> Record | Reason:
    try:
        return avro.decode(value, kind, strict=strict)
    except RefusedError as error:
        return error.reason


def _is_canonical(body: bytes, schema: object) -> bool:
    source, out = io.BytesIO(body), io.BytesIO()
    try:
        record = fastavro.schemaless_reader(source, schema)
        fastavro.schemaless_writer(out, schema, record)
    except Exception:  # noqa: BLE001  # fastavro raises whatever the bytes provoke
        return False
    has_nul = any("\x00" in value for value in record.values() if isinstance(value, str))  # the database takes none
    return source.tell() == len(body) and out.getvalue() == body and not has_nul


def _long(number: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    return out.getvalue()
