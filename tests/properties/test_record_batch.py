"""Kafka record batches as columns: the same as aiokafka's own classes read and write, and no byte can break them."""

from __future__ import annotations

import random
import struct
from typing import Any, NamedTuple

import pytest
from aiokafka.record.default_records import (
    DefaultRecordBatch,
    DefaultRecordBatchBuilder,
    _DefaultRecordBatchPy,
)
from hypothesis import given
from hypothesis import strategies as st

from fleetwatch.byte_column import ByteColumn
from fleetwatch.record_batch import (
    HEADER_BYTES,
    CorruptBatchError,
    Records,
    WrittenBatch,
    join,
    read_batch,
    write_batches,
)

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
READERS = [DefaultRecordBatch, _DefaultRecordBatchPy]
"""aiokafka's compiled reader, and its plain one."""
NOW_MS = 1_795_305_600_000


class Row(NamedTuple):
    """One record as aiokafka takes it."""

    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


maybe_bytes = st.none() | st.binary(max_size=200)
rows = st.lists(
    st.builds(
        Row,
        st.integers(0, 2**42),
        maybe_bytes,
        maybe_bytes,
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2),
    ),
    min_size=1,
    max_size=20,
)
codecs = st.sampled_from(sorted(CODECS.values()))


def built(rows: list[Row], codec: int = 0, base_offset: int = 0, append_ms: int | None = None) -> bytearray:
    """A batch made by aiokafka, with what the broker writes into it."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for number, row in enumerate(rows):
        builder.append(number, row.time_ms, row.key, row.value, row.headers)
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base_offset)
    if append_ms is not None:
        raw[22] |= 0x08
        struct.pack_into(">q", raw, 35, append_ms)
    return raw


def as_tuples(records: Records) -> list[tuple[int, int, bytes | None, bytes | None]]:
    return list(
        zip(
            records.offsets.tolist(),
            records.times.tolist(),
            records.keys.to_list(),
            records.values.to_list(),
            strict=True,
        )
    )


def as_aiokafka_reads(raw: bytes, reader: Any) -> list[tuple[int, int, bytes | None, bytes | None]]:
    return [(record.offset, record.timestamp, record.key, record.value) for record in reader(raw)]


# --- reading


@given(rows, codecs, st.integers(0, 2**40), st.none() | st.integers(0, 2**42))
def test_what_aiokafka_writes_is_read_as_it_reads_it(
    rows: list[Row], codec: int, base_offset: int, append_ms: int | None
) -> None:
    raw = bytes(built(rows, codec, base_offset, append_ms))
    got = as_tuples(read_batch(memoryview(raw)))
    assert got == [
        (base_offset + number, row.time_ms if append_ms is None else append_ms, row.key, row.value)
        for number, row in enumerate(rows)
    ]
    for reader in READERS:
        assert got == as_aiokafka_reads(raw, reader)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_large_record_and_many_small_ones(codec: int) -> None:
    large = random.Random(1).randbytes(3_000_000)
    many = [Row(NOW_MS + at, b"%d" % at, b"value %d" % at, []) for at in range(20_000)]
    got = read_batch(built([Row(NOW_MS, b"key", large, []), *many], codec))
    assert got.values[0] == large
    assert got.keys.to_list() == [b"key", *(row.key for row in many)]
    assert got.values[1:].to_list() == [row.value for row in many]
    assert got.offsets.tolist() == list(range(20_001))
    assert got.times.tolist() == [NOW_MS, *(row.time_ms for row in many)]


def test_holes_that_compaction_leaves_are_kept() -> None:
    raw = batch_of(record(delta=2) + record(delta=7), count=2, last_delta=9)
    assert read_batch(raw).offsets.tolist() == [102, 107]


def test_a_batch_that_compaction_emptied_has_no_records() -> None:
    assert len(read_batch(batch_of(b"", count=0, last_delta=9))) == 0


# --- bytes that are wrong


def varint(number: int) -> bytes:
    bits = (number << 1) ^ (number >> 63)
    bits &= 2**64 - 1
    out = bytearray()
    while bits > 0x7F:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    return bytes([*out, bits])


def record(
    *,
    size: bytes | None = None,
    time: bytes = varint(0),
    delta: int | bytes = 0,
    key: bytes = varint(1) + b"k",
    value: bytes = varint(1) + b"v",
    headers: bytes = varint(0),
) -> bytes:
    """A record put together from its fields, any of them as bytes that do not fit."""
    body = b"\x00" + time + (varint(delta) if isinstance(delta, int) else delta) + key + value + headers
    return (varint(len(body)) if size is None else size) + body


def batch_of(body: bytes, *, count: int, last_delta: int = 9, attributes: int = 0) -> bytes:
    checked = struct.pack(">hiqqqhii", attributes, last_delta, NOW_MS, NOW_MS, -1, -1, -1, count) + body
    return struct.pack(">qiibI", 100, 9 + len(checked), 0, 2, 0) + checked


HUGE, LEAST = varint(2**63 - 1), varint(-(2**63))
ENDLESS = b"\xff" * 11

WRONG_RECORDS = {
    "size is zero": record(size=varint(0)),
    "size is negative": record(size=varint(-3)),
    "size is the least number": record(size=LEAST),
    "size is the largest number": record(size=HUGE),
    "size is one more than there is": record(size=varint(9)),
    "size does not end": ENDLESS,
    "size is cut off": b"\xff",
    "only attributes": varint(1) + b"\x00",
    "no offset": varint(2) + b"\x00" + varint(0),
    "no key": varint(3) + b"\x00" + varint(0) + varint(0),
    "no value": varint(5) + b"\x00" + varint(0) + varint(0) + varint(1) + b"k",
    "time does not end": record(time=ENDLESS),
    "offset does not end": record(delta=ENDLESS),
    "offset before the batch": record(delta=-1),
    "offset beyond the batch": record(delta=10),
    "offset is the largest number": record(delta=HUGE),
    "offset is the least number": record(delta=LEAST),
    "key length below none": record(key=varint(-2)),
    "key length is the least number": record(key=LEAST),
    "key length is the largest number": record(key=HUGE),
    "key runs into the value's length": record(key=varint(4) + b"k"),
    "key length does not end": record(key=ENDLESS),
    "value length below none": record(value=varint(-2)),
    "value length is the least number": record(value=LEAST),
    "value length is the largest number": record(value=HUGE),
    "value runs over the record": record(value=varint(3) + b"v"),
    "value length does not end": record(value=ENDLESS),
}


@pytest.mark.parametrize("wrong", WRONG_RECORDS.values(), ids=WRONG_RECORDS)
@pytest.mark.parametrize("after", [b"", record(delta=9) * 3], ids=["last", "with more behind it"])
def test_a_record_that_does_not_fit_is_refused(wrong: bytes, after: bytes) -> None:
    assert len(read_batch(batch_of(record(), count=1))) == 1
    with pytest.raises(CorruptBatchError, match="do not fit"):
        read_batch(batch_of(wrong + after, count=4 if after else 1))


@pytest.mark.parametrize("deltas", [(3, 3), (3, 2)])
def test_offsets_must_ascend(deltas: tuple[int, int]) -> None:
    with pytest.raises(CorruptBatchError):
        read_batch(batch_of(b"".join(record(delta=delta) for delta in deltas), count=2))


@pytest.mark.parametrize("count", [-1, -(2**31), 0, 1, 3, 2**31 - 1])
def test_a_count_that_does_not_fit_is_refused(count: int) -> None:
    body = record() + record(delta=1)
    assert len(read_batch(batch_of(body, count=2))) == 2
    with pytest.raises(CorruptBatchError):
        read_batch(batch_of(body, count=count))


@pytest.mark.parametrize("raw", [b"", b"\x00" * 16, bytes(built([Row(0, None, None, [])]))[: HEADER_BYTES - 1]])
def test_less_than_a_header_is_refused(raw: bytes) -> None:
    with pytest.raises(CorruptBatchError, match="no record batch"):
        read_batch(raw)


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_an_unknown_compression_is_refused(codec: int) -> None:
    with pytest.raises(CorruptBatchError, match=f"compression {codec}"):
        read_batch(batch_of(record(), count=1, attributes=codec))


@pytest.mark.parametrize("magic", [0, 1, 3])
def test_another_format_is_refused(magic: int) -> None:
    raw = built([Row(0, None, b"v", [])])
    raw[16] = magic
    with pytest.raises(CorruptBatchError, match="v2"):
        read_batch(raw)


def assert_sound(records: Records) -> None:
    """Every key and value lies inside of its buffer."""
    for column in (records.keys, records.values):
        assert (column.lengths >= -1).all()
        assert (column.starts >= 0).all()
        assert (column.starts + column.lengths.clip(0) <= len(column.buffer)).all()


def read_or_refuse(raw: bytes) -> None:
    try:
        records = read_batch(raw)
    except CorruptBatchError:
        return
    assert_sound(records)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_bytes_cut_off_anywhere_are_refused(codec: int) -> None:
    raw = bytes(built([Row(NOW_MS + at, b"key", b"value %d" % at, []) for at in range(5)], codec))
    for end in range(len(raw)):
        with pytest.raises(CorruptBatchError):
            read_batch(raw[:end])
        if end > HEADER_BYTES:  # also where the header agrees with what is left
            shorter = bytearray(raw[:end])
            struct.pack_into(">i", shorter, 8, end - 12)
            with pytest.raises(CorruptBatchError):
                read_batch(shorter)


@given(rows, codecs, st.data())
def test_any_change_of_bytes_is_read_or_refused_and_nothing_else(rows: list[Row], codec: int, data: Any) -> None:
    raw = built(rows, codec)
    for at, byte in data.draw(
        st.lists(st.tuples(st.integers(17, len(raw) - 1), st.integers(0, 255)), min_size=1, max_size=4)
    ):
        raw[at] = byte
    at = data.draw(st.integers(HEADER_BYTES, len(raw)))
    raw[at:at] = data.draw(st.sampled_from([b"", HUGE, LEAST, ENDLESS, varint(-2), varint(2**31)]))
    struct.pack_into(">i", raw, 8, len(raw) - 12)
    read_or_refuse(bytes(raw))


@given(st.binary(max_size=300), st.integers(0, 7), st.integers(-1, 40))
def test_any_bytes_are_read_or_refused_and_nothing_else(body: bytes, attributes: int, count: int) -> None:
    read_or_refuse(batch_of(body, count=count, last_delta=2**31 - 1, attributes=attributes))
    read_or_refuse(body)


# --- writing


def wire(batch: WrittenBatch) -> bytes:
    size = batch.size()
    raw = batch._build()
    assert len(raw) == size == batch.size()
    assert batch._build() is raw
    return raw


messages = st.lists(st.tuples(maybe_bytes, maybe_bytes), min_size=1, max_size=30)


def written(messages: list[tuple[bytes | None, bytes | None]], max_bytes: int = 1 << 20) -> list[WrittenBatch]:
    keys, values = (ByteColumn.of([message[at] for message in messages]) for at in (0, 1))
    return list(write_batches(keys, values, NOW_MS, max_bytes=max_bytes))


@given(messages)
def test_what_is_written_is_read_by_aiokafka_and_by_ourselves(
    messages: list[tuple[bytes | None, bytes | None]],
) -> None:
    (batch,) = written(messages)
    raw = wire(batch)
    expected = [(number, NOW_MS, key, value) for number, (key, value) in enumerate(messages)]
    assert batch.record_count() == len(messages)
    assert as_tuples(read_batch(raw)) == expected
    for reader in READERS:
        assert reader(raw).validate_crc()
        assert as_aiokafka_reads(raw, reader) == expected
        assert reader(raw).next_offset == len(messages)


def test_the_producer_state_is_written_for_the_broker_to_tell_doubles() -> None:
    (batch,) = written([(b"k", b"v"), (b"k", b"w")])
    batch._set_producer_state(77, 3, 1200)
    read = _DefaultRecordBatchPy(wire(batch))
    assert (read.producer_id, read.producer_epoch, read.base_sequence) == (77, 3, 1200)
    assert not read.is_transactional
    assert not read.is_control_batch
    assert read.validate_crc()


def test_it_is_compressed_only_where_that_is_smaller() -> None:
    (repetitive,) = written([(b"device", b"the same again and again")] * 100)
    (short,) = written([(None, b"\x01\x02")])
    assert repetitive.is_compressed
    assert repetitive.size() < 1000
    assert not short.is_compressed
    (noise,) = written([(None, random.Random(2).randbytes(50_000))])
    assert not noise.is_compressed


@given(st.lists(st.tuples(st.none() | st.binary(max_size=3), st.integers(-1, 400)), max_size=40), st.integers(1, 2000))
def test_splitting_keeps_every_record_in_order(sizes: list[tuple[bytes | None, int]], max_bytes: int) -> None:
    noise = random.Random(len(sizes))
    sent = [(key, noise.randbytes(size) if size >= 0 else None) for key, size in sizes]
    batches = written(sent, max_bytes)
    got = []
    for batch in batches:
        assert batch.size() <= max_bytes + HEADER_BYTES or batch.record_count() == 1
        got += [(key, value) for _, _, key, value in as_tuples(read_batch(wire(batch)))]
    assert got == sent


def test_a_record_larger_than_a_batch_is_one_of_its_own() -> None:
    batches = written([(b"a", b"1"), (b"b", b"2" * 5000), (b"c", b"3")], max_bytes=1000)
    assert [batch.record_count() for batch in batches] == [1, 1, 1]


def test_batches_are_filled_before_the_next_one_begins() -> None:
    batches = written([(b"device", b"x" * 50)] * 1000, max_bytes=9600)
    assert [batch.record_count() for batch in batches] == [100] * 10


# --- columns of records


@given(st.lists(messages, min_size=1, max_size=4), st.integers(-1, 130))
def test_parts_are_joined_and_cut_by_offset(parts: list[list[tuple[bytes | None, bytes | None]]], offset: int) -> None:
    pieces, expected = [], []
    for part in parts:
        keys, values = zip(*part, strict=True)
        offsets = [2 * (len(expected) + number) for number in range(len(part))]
        pieces.append(Records.of(offsets, [NOW_MS] * len(part), keys, values))
        expected += zip(offsets, [NOW_MS] * len(part), keys, values, strict=True)
    whole = join(pieces)
    assert as_tuples(whole) == expected
    assert as_tuples(whole.since(offset)) == [row for row in expected if row[0] >= offset]
    assert_sound(whole)
