"""What a fetch brought, taken apart as aiokafka does it: a record at a time, or as columns for hot topics."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchPy
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from streams.fetcher import Fetched, MemoryRecords, PartitionRecords, first_offset, to_columns

PLACE = TopicPartition("topic", 3)
PRODUCER = 77
ABORT = struct.pack(">hh", 0, 0)
"""Key of the control record that ends an aborted transaction."""


def batch(first: int, values: list[bytes], *, transactional: bool = False, control: bool = False) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, int(transactional), PRODUCER if transactional else -1, 0, 0, 1 << 20)
    for number, value in enumerate(values):
        builder.append(number, 1000 + first + number, ABORT if control else b"key", value, [])
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, first)
    if control:
        raw[22] |= _DefaultRecordBatchPy.CONTROL_MASK
    return bytes(raw)


def legacy_batch(first: int, values: list[bytes]) -> bytes:
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    for number, value in enumerate(values):
        builder.append(first + number, timestamp=1000 + first + number, key=b"key", value=value)
    return bytes(builder.build())


class Partition:
    """A fetch of one partition."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, raw: bytes, *, hot: bool, start: int = 0, committed_only: bool = False
    ) -> None:
        monkeypatch.setattr(PartitionRecords, "hot_topics", frozenset({PLACE.topic} if hot else ()))
        isolation = READ_COMMITTED if committed_only else READ_UNCOMMITTED
        aborted = [(PRODUCER, 0)]
        self._records = PartitionRecords(PLACE, MemoryRecords(raw), aborted, start, None, None, False, isolation)

    def read(self) -> tuple[list[Any], int]:
        """The items, and the offset of the next fetch."""
        return list(self._records), self._records.next_fetch_offset


MIXED = {
    2: batch(0, [b"a", b"b", b"c"], transactional=True),
    3: batch(3, [b"marker"], transactional=True, control=True),
    5: batch(4, [b"d", b"e"]),
    10: batch(10, [b"f"]),
}
"""By last offset: an aborted transaction with its marker, then two batches; 6 to 9 were compacted away."""


def fetch_from(start: int) -> bytes:
    """The broker answers with whole batches, from the one on that holds the offset."""
    return b"".join(raw for last, raw in MIXED.items() if last >= start)


@pytest.mark.parametrize(
    ("committed_only", "start", "offsets"),
    [
        (False, 0, [0, 1, 2, 4, 5, 10]),
        (True, 0, [4, 5, 10]),
        (False, 2, [2, 4, 5, 10]),
        (False, 5, [5, 10]),
        (True, 10, [10]),
    ],
)
def test_columns_hold_what_aiokafka_gives_one_by_one(
    monkeypatch: pytest.MonkeyPatch, committed_only: bool, start: int, offsets: list[int]
) -> None:
    rows, end = Partition(monkeypatch, fetch_from(start), hot=False, start=start, committed_only=committed_only).read()
    hot, hot_end = Partition(
        monkeypatch, fetch_from(start), hot=True, start=start, committed_only=committed_only
    ).read()
    assert {type(item) for item in hot} == {Fetched}
    assert end == hot_end == 11
    assert first_offset(rows) == first_offset(hot) == offsets[0]
    for records in (to_columns(rows), to_columns(hot)):
        assert records.offsets.tolist() == offsets
        assert records.times.tolist() == [1000 + offset for offset in offsets]
        assert records.values.to_list() == [b"abc.de....f"[offset : offset + 1] for offset in offsets]
        assert set(records.keys.to_list()) == {b"key"}


def test_a_format_from_before_columns_comes_as_records(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = legacy_batch(0, [b"a", b"b"])
    items, end = Partition(monkeypatch, raw, hot=True, start=1).read()
    assert not any(isinstance(item, Fetched) for item in items)
    assert end == 2
    assert to_columns(items).values.to_list() == [b"b"]
    assert first_offset(items) == 1


def test_a_batch_without_records_moves_the_position(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bytearray(batch(0, [b"a", b"b"]))[:61]
    struct.pack_into(">i", raw, 8, 61 - 12)
    struct.pack_into(">i", raw, 57, 0)
    assert Partition(monkeypatch, bytes(raw), hot=True).read() == ([], 2)


def test_a_damaged_batch_is_an_error_and_what_came_before_it_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = bytearray(batch(2, [b"c", b"d"]))
    damaged[61] = 0xFF
    records = Partition(monkeypatch, batch(0, [b"a", b"b"]) + bytes(damaged), hot=True)._records
    assert to_columns([next(records)]).offsets.tolist() == [0, 1]
    assert records.next_fetch_offset == 2
    with pytest.raises(CorruptRecordException, match="do not fit"):
        next(records)
    assert records.next_fetch_offset == 2
