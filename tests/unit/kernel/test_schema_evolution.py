"""Readings of two schema versions in one topic: a rolling upgrade, or an old recording."""

from __future__ import annotations

import copy
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from fleetwatch import avro, columns, row_status, schema_check, validate
from fleetwatch.errors import RefusedError
from fleetwatch.records import CameraDetection, Quality, Reason, SensorReading, from_millis
from tests.unit.kernel.schema_folder import using_schemas, write_schemas
from tests.unit.kernel.test_avro import READING
from tests.unit.kernel.test_validate import DETECTION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEWEST_DETECTION = avro.load_schema("camera_detection.v1")
NEWEST = avro.load_schema("sensor_reading.v1")
OLD_ID, NEW_ID = 1001, 1002
PLAIN = {
    "device_id": "temp-1",
    "sensor_type": "temperature",
    "site": "north",
    "event_time": 1_795_305_600_123,
    "seq": 1,
    "value": 1.5,
    "unit": "Cel",
    "quality": "BAD",
}


def schema(*fields: dict[str, Any]) -> dict[str, Any]:
    return {**NEWEST, "fields": list(fields)}


def field(name: str, **changes: Any) -> dict[str, Any]:
    found = next(field for field in NEWEST["fields"] if field["name"] == name)
    return {**copy.deepcopy(found), **changes}


QUALITY = {"type": "enum", "name": "Quality", "symbols": ["BAD", "GOOD"]}
OLD = schema(  # another order, a narrower seq, no unit, no site, other symbols, and a field that is gone today
    field("quality", type=QUALITY),
    field("device_id"),
    {"name": "firmware", "type": ["null", "string"]},
    field("event_time"),
    field("seq", type="int"),
    field("value"),
    field("sensor_type"),
)
NEW = schema(
    field("device_id"),
    field("sensor_type"),
    field("site", default="somewhere"),
    field("event_time"),
    field("seq"),
    field("value"),
    field("unit", default=""),
    field("quality"),
)


@pytest.fixture
def two_versions(tmp_path: Path) -> Iterator[None]:
    write_schemas(tmp_path, {"sensor_reading.v1": OLD, "sensor_reading.v2": NEW})
    with using_schemas(tmp_path):
        yield


def write(schema_id: int, written: dict[str, Any], values: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    out.write(avro.MAGIC + schema_id.to_bytes(4, "big"))
    fastavro.schemaless_writer(out, fastavro.parse_schema(copy.deepcopy(written)), values)
    return out.getvalue()


def rows(values: list[bytes]) -> list[SensorReading | Reason]:
    found: list[SensorReading | Reason] = []
    for value in values:
        try:
            found.append(validate.check_reading(b"temp-1", value, PLAIN["event_time"], 0))
        except RefusedError as error:
            found.append(error.reason)
    return found


def column_rows(values: list[bytes]) -> list[SensorReading | Reason]:
    batch = columns.decode_batch(values, [b"temp-1"] * len(values), SensorReading, key_field="device_id")
    encoded = columns.encode_batch(batch, SensorReading).to_list()
    return [
        row_status.reason_of(int(status)) if status else avro.decode(value, SensorReading)
        for status, value in zip(batch.status, encoded, strict=True)
    ]


@pytest.mark.usefixtures("two_versions")
def test_old_and_new_bodies_stand_side_by_side():
    old, new = write(OLD_ID, OLD, {**PLAIN, "firmware": "3.1"}), write(NEW_ID, NEW, PLAIN)
    expected_old = SensorReading(
        device_id="temp-1",
        sensor_type="temperature",
        site="somewhere",
        event_time=from_millis(1_795_305_600_123),
        seq=1,
        value=1.5,
        unit="",
        quality=Quality.BAD,  # by name: the number of BAD is another in each version
    )
    expected_new = SensorReading(**{**PLAIN, "event_time": READING.event_time, "quality": Quality.BAD})
    cut, more, noise = old[:-1], old + b"\x00", old[:5] + b"\x02\x01"
    values = [new, old, cut, new, more, old, noise, new]
    expected = [
        expected_new,
        expected_old,
        Reason.TRUNCATED,
        expected_new,
        Reason.TRAILING_BYTES,
        expected_old,
        Reason.MALFORMED,
        expected_new,
    ]
    assert rows(values) == expected
    assert column_rows(values) == expected


@pytest.mark.usefixtures("two_versions")
def test_what_is_dropped_is_still_checked():
    """A field that nobody reads any more is damaged: the body is refused all the same."""
    good = write(OLD_ID, OLD, {**PLAIN, "firmware": "3.1"})
    at = good.index(b"\x06" + b"3.1")
    damaged = [
        good[: at + 1] + b"\xff\xff\xff" + good[at + 4 :],  # not UTF-8
        good[: at - 1] + b"\x06" + good[at:],  # no such branch
        good[: at - 1] + b"\x82\x00" + good[at:],  # its branch in two bytes
    ]
    assert rows(damaged) == [Reason.MALFORMED] * 3
    assert column_rows(damaged) == [Reason.MALFORMED] * 3


def test_a_symbol_of_a_newer_device_is_malformed(tmp_path: Path):
    more = {**QUALITY, "symbols": ["GOOD", "UNCERTAIN", "BAD", "STALE"]}
    newer = schema(*(field(name, **({"type": more} if name == "quality" else {})) for name in PLAIN))
    write_schemas(tmp_path, {"sensor_reading.v1": newer, "sensor_reading.v2": NEWEST})
    with using_schemas(tmp_path):
        values = [write(OLD_ID, newer, {**PLAIN, "quality": quality}) for quality in ("STALE", "BAD")]
        values.append(values[0] + b"\x00")
        for found in (rows(values), column_rows(values)):
            assert found[0] is Reason.MALFORMED
            assert isinstance(found[1], SensorReading)
            assert found[1].quality is Quality.BAD
            assert found[2] is Reason.TRAILING_BYTES


def test_an_enum_with_a_default_takes_it_for_symbols_that_it_does_not_know(tmp_path: Path):
    more = {**QUALITY, "symbols": ["GOOD", "STALE"]}
    newer = schema(*(field(name, **({"type": more} if name == "quality" else {})) for name in PLAIN))
    tolerant = {**QUALITY, "symbols": ["GOOD", "UNCERTAIN", "BAD"], "default": "UNCERTAIN"}
    reader = schema(*(field(name, **({"type": tolerant} if name == "quality" else {})) for name in PLAIN))
    write_schemas(tmp_path, {"sensor_reading.v1": newer, "sensor_reading.v2": reader})
    with using_schemas(tmp_path):
        value = write(OLD_ID, newer, {**PLAIN, "quality": "STALE"})
        for (found,) in (rows([value]), column_rows([value])):
            assert isinstance(found, SensorReading)
            assert found.quality is Quality.UNCERTAIN


def test_a_field_may_become_nullable(tmp_path: Path):
    fields = NEWEST_DETECTION["fields"]
    old = {**NEWEST_DETECTION, "fields": [*fields[:-1], {"name": "track_id", "type": "long"}]}
    write_schemas(tmp_path, {"camera_detection.v1": old, "camera_detection.v2": NEWEST_DETECTION})
    with using_schemas(tmp_path):
        plain = {**avro._plain(DETECTION), "event_time": DETECTION.event_time, "track_id": 7}
        values = [write(OLD_ID, old, plain), write(NEW_ID, NEWEST_DETECTION, {**plain, "track_id": None})]
        batch = columns.decode_batch(values, [b"cam-1"] * 2, CameraDetection, key_field="camera_id")
        assert not batch.status.any()
        assert batch.is_present("track_id").tolist() == [True, False]
        assert batch.numbers("track_id")[0] == 7
        found = [avro.decode(value, CameraDetection, strict=True) for value in values]
        assert found == [replace(DETECTION, track_id=7), DETECTION]


def test_a_null_where_the_newest_version_takes_none_is_malformed(tmp_path: Path):
    old = schema(*(field(name, **({"type": ["null", "long"]} if name == "seq" else {})) for name in PLAIN))
    write_schemas(tmp_path, {"sensor_reading.v1": old, "sensor_reading.v2": NEWEST})
    with using_schemas(tmp_path):
        values = [write(OLD_ID, old, {**PLAIN, "seq": seq}) for seq in (None, 5)]
        values.append(values[0] + b"\x00")
        for found in (rows(values), column_rows(values)):
            assert found[0] is Reason.MALFORMED
            assert isinstance(found[1], SensorReading)
            assert found[1].seq == 5
            assert found[2] is Reason.TRAILING_BYTES


@pytest.mark.parametrize(
    ("name", "default", "expected"),
    [
        ("event_time", 1_795_305_600_000, from_millis(1_795_305_600_000)),
        ("seq", 5, 5),
        ("value", 7, 7.0),
        ("unit", "", ""),
        ("unit", "grüße 🌡", "grüße 🌡"),
        ("quality", "UNCERTAIN", Quality.UNCERTAIN),
    ],
)
def test_each_kind_of_default(name: str, default: Any, expected: Any, tmp_path: Path):
    old = schema(*(field(other) for other in PLAIN if other != name))
    new = schema(*(field(other, **({"default": default} if other == name else {})) for other in PLAIN))
    write_schemas(tmp_path, {"sensor_reading.v1": old, "sensor_reading.v2": new})
    with using_schemas(tmp_path):
        values = [write(OLD_ID, old, PLAIN), write(NEW_ID, new, PLAIN), write(OLD_ID, old, PLAIN)]
        for found in (rows(values), column_rows(values)):
            assert [getattr(row, name) for row in found][::2] == [expected, expected]
        assert type(getattr(rows(values)[0], name)) is type(expected)


@pytest.mark.parametrize(
    ("old_type", "what"),
    [
        (None, "unit.* no default"),
        ("long", "unit.* changed"),
    ],
)
def test_a_change_that_cannot_be_read_is_an_error_before_any_event_is_lost(
    old_type: str | None, what: str, tmp_path: Path
):
    kept = [field(name) for name in PLAIN if name != "unit"]
    old = schema(*kept, *([field("unit", type=old_type)] if old_type else []))
    write_schemas(tmp_path, {"sensor_reading.v1": old, "sensor_reading.v2": schema(*kept, field("unit"))})
    with using_schemas(tmp_path):
        value = write(OLD_ID, old, {**PLAIN, "unit": 5})
        with pytest.raises(TypeError, match=what):
            columns.decode_batch([value], [b"temp-1"], SensorReading)


def test_schemas_check_tells_that_an_old_version_cannot_be_read(tmp_path: Path):
    old = schema(*(field(name) for name in PLAIN if name != "unit"))
    write_schemas(tmp_path, {"sensor_reading.v1": old, "sensor_reading.v2": NEWEST})
    (tmp_path / "examples").mkdir()
    for version in ("v1", "v2"):
        example = {name: value for name, value in PLAIN.items() if version == "v2" or name != "unit"}
        (tmp_path / "examples" / f"sensor_reading.{version}.json").write_text(json.dumps(example))
    with using_schemas(tmp_path):
        problem, rule = schema_check.problems()
    assert rule == "sensor_reading.v2 cannot read sensor_reading.v1: unit: older data lacks it, and it has no default"
    assert problem.startswith("sensor_reading.v1 cannot be read as sensor_reading.v2: ")
    assert "unit" in problem
