"""Records, times, and what a dead letter keeps."""

from __future__ import annotations

import hashlib
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime

import pytest

from fleetwatch import avro, records
from fleetwatch.records import DeadLetter, Reason, Stage, from_millis, to_millis
from tests.unit.kernel.test_avro import READING


def letter(key: bytes | None, value: bytes | None, detail: str = "why") -> DeadLetter:
    return DeadLetter.of(
        topic="fleet.readings",
        partition=3,
        offset=7,
        broker_time=from_millis(0),
        key=key,
        value=value,
        stage=Stage.DECODE,
        reason=Reason.MALFORMED,
        detail=detail,
    )


def test_a_dead_letter_keeps_64_kb_and_the_length_and_hash_of_the_whole():
    value = bytes(range(256)) * 4000
    found = letter(b"k" * 100_000, value, "x" * 1000)
    assert found.raw_key == b"k" * records.MAX_RAW_BYTES
    assert found.raw_value == value[: records.MAX_RAW_BYTES]
    assert records.MAX_RAW_BYTES == 64 * 1024
    assert found.value_length == 1_024_000
    assert found.value_sha256 == hashlib.sha256(value).hexdigest()
    assert found.detail == "x" * 500
    assert avro.decode(avro.encode(found), DeadLetter) == found


@pytest.mark.parametrize("size", [0, 1, records.MAX_RAW_BYTES])
def test_a_dead_letter_keeps_what_fits_whole(size: int):
    found = letter(b"key", b"\xff" * size)
    assert found.raw_value == b"\xff" * size
    assert found.value_length == size


def test_nothing_and_an_empty_value_stay_apart_in_a_dead_letter():
    nothing, empty = letter(None, None), letter(b"", b"")
    assert (nothing.raw_key, nothing.raw_value) == (None, None)
    assert (empty.raw_key, empty.raw_value) == (b"", b"")
    assert nothing.value_length == empty.value_length == 0
    assert nothing.value_sha256 == empty.value_sha256 == hashlib.sha256(b"").hexdigest()
    for found in (nothing, empty):
        assert avro.decode(avro.encode(found), DeadLetter) == found


@pytest.mark.parametrize("millis", [0, 1, -1, 1_795_305_600_123, -62_135_596_800_000, 253_402_300_799_999])
def test_milliseconds_and_times_are_the_same_in_both_directions(millis: int):
    assert to_millis(from_millis(millis)) == millis
    assert from_millis(millis).tzinfo is UTC


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match=r"SensorReading\.event_time has no time zone"):
        replace(READING, event_time=datetime(2026, 1, 1))  # noqa: DTZ001  # that is the point


def test_records_do_not_change():
    with pytest.raises(FrozenInstanceError):
        READING.value = 2.0
