"""Rows of the tables, and the bytes of a binary COPY."""

from __future__ import annotations

import io
import struct
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from fleetwatch.records import Alert, AlertAction, DeadLetter, Record, ScoredReading, WindowCount
from sinks import sql
from sinks.copying import PIECE_ROWS
from sinks.devices import device_rows
from sinks.rows import ALERT_ACTIONS, ALERTS, DEAD_LETTERS, DETECTIONS, READINGS, TABLES, WINDOW_COUNTS
from tests.properties import strategies
from tests.unit.sinks.samples import NOW, NOW_MS, action, alert, detection, letter, scored, stretch, window

if TYPE_CHECKING:
    from sinks.rows import ColumnTable

IN_ROWS = {Alert: (alert(), ALERTS), AlertAction: (action(), ALERT_ACTIONS), DeadLetter: (letter(), DEAD_LETTERS)}


def _read(table: ColumnTable, stream: bytes) -> list[dict[str, Any]]:
    """Read a binary COPY stream as PostgreSQL's documentation describes it."""
    source = io.BytesIO(stream)
    assert source.read(19) == b"PGCOPY\n\xff\r\n\x00" + bytes(8)
    readers = {
        "text": bytes.decode,
        "timestamptz": lambda raw: (
            datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=struct.unpack(">q", raw)[0])
        ),
        "bigint": lambda raw: struct.unpack(">q", raw)[0],
        "integer": lambda raw: struct.unpack(">i", raw)[0],
        "float8": lambda raw: struct.unpack(">d", raw)[0],
        "boolean": lambda raw: struct.unpack(">?", raw)[0],
    }
    rows = []
    while (count := struct.unpack(">h", source.read(2))[0]) != -1:
        assert count == len(table.types)
        row = {}
        for name, sql_type in table.types.items():
            (length,) = struct.unpack(">i", source.read(4))
            row[name] = None if length == -1 else readers[sql_type](source.read(length))
        rows.append(row)
    assert source.read() == b""
    return rows


def _plain(record: Record) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in fields(record)}  # type: ignore[arg-type]
    return {name: getattr(value, "value", value) for name, value in values.items()}


@pytest.mark.parametrize("record_type", IN_ROWS)
def test_columns_are_the_fields_and_values_stand_under_their_names(record_type: type[Record]):
    record, table = IN_ROWS[record_type]
    [row] = table.rows_of(stretch(record))
    assert dict(zip(table.types, row, strict=True)) == _plain(record)


@pytest.mark.parametrize(
    ("record", "table"),
    [
        (scored(), READINGS),
        (scored("\xfc\U0001f600", value=-0.1, score=None, online_score=None, is_late=True), READINGS),
        (window(), WINDOW_COUNTS),
        (window(is_final=True, included_offset=2**62), WINDOW_COUNTS),
    ],
)
def test_a_copied_row_is_the_record(record: Record, table: ColumnTable):
    stream = table.copy_of(stretch(window("other"), record))
    assert stream is not None
    assert _read(table, b"".join(stream))[-1] == _plain(record)


@given(record=strategies.records_of(ScoredReading) | strategies.records_of(WindowCount))
def test_whatever_a_record_holds_is_copied(record: Record):
    table = READINGS if isinstance(record, ScoredReading) else WINDOW_COUNTS
    stream = table.copy_of(stretch(record))
    assert stream is not None
    [row] = _read(table, b"".join(stream))
    assert repr(row) == repr({name: _plain(record)[name] for name in table.types})


def test_a_detection_carries_its_place_and_the_brokers_time():
    stream = DETECTIONS.copy_of(stretch(scored(), detection(), detection(track_id=4), first_offset=10, partition=3))
    assert stream is not None
    first, second = _read(DETECTIONS, b"".join(stream))
    assert first["track_id"] is None
    assert second["track_id"] == 4
    assert (second["source_partition"], second["source_offset"], second["ingest_time"]) == (3, 12, NOW)
    assert [second[f"box_{side}"] for side in ("x", "y", "width", "height")] == [0.1, 0.2, 0.3, 0.4]


def test_a_nul_in_a_dead_letters_text_is_replaced():
    """PostgreSQL cannot store it, and a letter must never be refused."""
    [row] = DEAD_LETTERS.rows_of(stretch(letter(detail="the key is \x00")))
    assert dict(zip(DEAD_LETTERS.types, row, strict=True))["detail"] == "the key is \ufffd"


def test_a_long_stretch_is_copied_in_pieces():
    count = PIECE_ROWS + 5
    stream = WINDOW_COUNTS.copy_of(stretch(*(window(included_offset=n) for n in range(count))))
    assert stream is not None
    pieces = list(stream)
    assert len(pieces) == 4, "header, two pieces, trailer"
    assert [row["included_offset"] for row in _read(WINDOW_COUNTS, b"".join(pieces))] == list(range(count))


def test_without_rows_there_is_nothing_to_copy():
    assert READINGS.copy_of(stretch(scored()).emptied()) is None
    assert READINGS.copy_of(stretch(alert())) is None


def test_a_device_is_what_its_newest_event_says():
    found = device_rows(
        stretch(
            scored(seq=5, site="new"),
            scored(seq=7, site="newest", sensor_type="pressure", ingest_time=NOW),
            scored(seq=2, site="old", ingest_time=NOW + timedelta(hours=1)),
            detection(seq=4),
            scored("press-2"),
        )
    )
    by_name = {row.device_id: row for row in found}
    assert sorted(by_name) == ["cam-1", "press-1", "press-2"]
    assert by_name["press-1"] == (
        "press-1", "sensor", "pressure", "newest",
        NOW_MS + 2000, NOW_MS + 7000, NOW_MS + 3_600_000,
    )  # fmt: skip
    assert by_name["cam-1"][1:4] == ("camera", None, "gate")
    assert by_name["cam-1"].heard_at == NOW_MS


def test_every_upsert_exists():
    assert {*(table.name for table in TABLES), "devices", "window_counts_and_rollups"} == set(sql.load("upserts"))
