"""Rows of the tables."""

from __future__ import annotations

from dataclasses import fields

import pytest

from fleetwatch.records import Alert, AlertAction, DeadLetter, Record, ScoredReading, WindowCount
from sinks import sql
from sinks.rows import TABLE_OF, rows_by_table
from tests.unit.sinks.samples import NOW, NOW_MS, action, alert, detection, items, letter, scored, window

PLAIN = {
    ScoredReading: scored(),
    WindowCount: window(),
    Alert: alert(),
    AlertAction: action(),
    DeadLetter: letter(),
}


@pytest.mark.parametrize("record_type", PLAIN)
def test_columns_are_the_fields_and_values_stand_under_their_names(record_type: type[Record]):
    record, table = PLAIN[record_type], TABLE_OF[record_type]
    assert set(table.types) == {field.name for field in fields(record_type)}  # type: ignore[arg-type]
    [(_, [row])] = rows_by_table(items(record))
    for name, value in zip(table.types, row, strict=True):
        original = getattr(record, name)
        assert value == getattr(original, "value", original), name


def test_a_detection_carries_its_place_and_the_brokers_time():
    [(table, [row])] = rows_by_table(items(detection(track_id=4), first_offset=11, partition=3))
    values = dict(zip(table.types, row, strict=True))
    assert values["source_partition"] == 3
    assert values["source_offset"] == 11
    assert values["ingest_time"] == NOW
    assert (values["box_x"], values["box_y"], values["box_width"], values["box_height"]) == (
        0.1,
        0.2,
        0.3,
        0.4,
    )
    assert values["track_id"] == 4
    assert NOW_MS


def test_a_nul_in_a_dead_letters_text_is_replaced():
    """PostgreSQL cannot store it, and a letter must never be refused."""
    [(table, [row])] = rows_by_table(items(letter(detail="the key is \x00")))
    assert dict(zip(table.types, row, strict=True))["detail"] == "the key is \ufffd"


def test_rows_are_sorted_by_table_and_empty_items_left_out():
    empty = items(scored())[0].without_record()
    found = rows_by_table([empty, *items(alert(), scored(), scored(seq=2))])
    assert [(table.name, len(rows)) for table, rows in found] == [("readings", 2), ("alerts", 1)]


def test_every_upsert_exists():
    assert {name for table in TABLE_OF.values() for name in table.upserts} == set(sql.load("upserts"))
