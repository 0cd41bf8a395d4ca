"""Kafka's record batches (message format v2) in columns: read and written in one compiled pass each.

Clients make an object of every record; here a batch of the wire becomes arrays at once, and arrays become a batch.
Format: https://kafka.apache.org/documentation/#recordbatch. Headers of records are passed over, and never written.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import cramjam
import numpy as np
from aiokafka import codec
from aiokafka.record.util import calc_crc32c

from fleetwatch import record_batch_kernels as kernels
from fleetwatch.byte_column import ByteColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

# base offset, length, leader epoch, magic, crc | attributes, last offset delta, first and last timestamp,
# producer id, epoch and sequence, count
_HEADER: Final = struct.Struct(">qiibI")
_CHECKED: Final = struct.Struct(">hiqqqhii")
HEADER_BYTES: Final = _HEADER.size + _CHECKED.size
_LENGTH_AT: Final = 12
"""Where the bytes begin that the length counts."""
_MAGIC: Final = 2
_CODEC_MASK, _LOG_APPEND_TIME = 0x07, 0x08
_LZ4: Final = 3
_LZ4_LEVEL: Final = 1
"""The fast compressor: 5 times faster than level 3 for 4 % more bytes on scored readings."""
_DECODERS: Final[dict[int, Callable[[bytes], bytes]]] = {
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}
_DECODE_ERRORS: Final = (OSError, EOFError, ValueError, struct.error, zlib.error, cramjam.DecompressionError)
"""What the decoders raise for bytes that are none of theirs."""
_RECORD_BYTES: Final = 40
"""What a record takes at most beside its key and value."""


class CorruptBatchError(ValueError):
    """The bytes are no record batch of format v2."""


@dataclass(frozen=True, eq=False)
class Records:
    """Consecutive records of one partition: offsets, broker or producer times (ms), keys and values."""

    offsets: IntArray
    times: IntArray
    keys: ByteColumn
    values: ByteColumn

    @classmethod
    def of(
        cls,
        offsets: Sequence[int] | IntArray,
        times: Sequence[int] | IntArray,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
    ) -> Self:
        """Return columns of records that are there one by one."""
        return cls(
            np.asarray(offsets, np.int64), np.asarray(times, np.int64), ByteColumn.of(keys), ByteColumn.of(values)
        )

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, rows: slice) -> Records:
        return Records(self.offsets[rows], self.times[rows], self.keys[rows], self.values[rows])

    def since(self, offset: int) -> Records:
        """Return the part from an offset on."""
        first = int(np.searchsorted(self.offsets, offset))
        return self if first == 0 else self[first:]


def join(parts: list[Records]) -> Records:
    """Return parts one after another."""
    if len(parts) == 1:
        return parts[0]
    offsets, times = (np.concatenate([getattr(part, name) for part in parts]) for name in ("offsets", "times"))
    return Records(offsets, times, _join([part.keys for part in parts]), _join([part.values for part in parts]))


def _join(parts: list[ByteColumn]) -> ByteColumn:
    sizes = np.array([0, *(len(part.buffer) for part in parts)]).cumsum()
    return ByteColumn(
        np.concatenate([part.buffer for part in parts]),
        np.concatenate([part.starts + size for part, size in zip(parts, sizes[:-1], strict=True)]),
        np.concatenate([part.lengths for part in parts]),
    )


def read_batch(raw: bytes | memoryview) -> Records:
    """Return the records of one batch as it came from the broker.

    Raises:
        CorruptBatchError: it is no batch of format v2, or its records do not fit it. The checksum is not looked at.

    """
    if len(raw) < HEADER_BYTES or raw[16] != _MAGIC:
        raise CorruptBatchError("no record batch of format v2")
    base_offset, length, *_ = _HEADER.unpack_from(raw)
    if length != len(raw) - _LENGTH_AT:
        raise CorruptBatchError(f"{len(raw)} bytes where its header says {length + _LENGTH_AT}")
    attributes, last_delta, first_ms, last_ms, _, _, _, count = _CHECKED.unpack_from(raw, _HEADER.size)
    body: bytes | memoryview = raw[HEADER_BYTES:]
    if kind := attributes & _CODEC_MASK:
        if kind not in _DECODERS:
            raise CorruptBatchError(f"compression {kind} is not known")
        try:
            body = _DECODERS[kind](bytes(body))
        except _DECODE_ERRORS as error:
            raise CorruptBatchError(f"it cannot be decompressed: {error}") from error
    buffer = np.frombuffer(body, np.uint8)
    if not 0 <= count <= len(buffer):
        raise CorruptBatchError(f"{count} records in {len(buffer)} bytes")
    columns = np.empty((6, count), np.int64)
    if not kernels.read_records(buffer, base_offset, last_delta, first_ms, columns):
        raise CorruptBatchError("its records do not fit it")
    offsets, times, key_starts, key_lengths, value_starts, value_lengths = columns
    if attributes & _LOG_APPEND_TIME:
        times[:] = last_ms
    return Records(
        offsets, times, ByteColumn(buffer, key_starts, key_lengths), ByteColumn(buffer, value_starts, value_lengths)
    )


@dataclass
class WrittenBatch:
    """A batch to send, with the interface of aiokafka's ``BatchBuilder`` as far as a producer uses it."""

    records: int
    time_ms: int
    body: bytes
    is_compressed: bool
    _producer: tuple[int, int, int] = (-1, -1, -1)
    _built: bytes | None = None

    def record_count(self) -> int:
        """Return how many records are in it."""
        return self.records

    def size(self) -> int:
        """Return how many bytes it takes on the wire."""
        return HEADER_BYTES + len(self.body) if self._built is None else len(self._built)

    def closed(self) -> bool:
        """Say that nothing can be appended."""
        return True

    def close(self) -> None:
        """Do nothing: it is closed."""

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        """Return the bytes for the wire; made once, so that a retry sends the same."""
        if self._built is None:
            attributes = _LZ4 if self.is_compressed else 0
            checked = (
                _CHECKED.pack(attributes, self.records - 1, self.time_ms, self.time_ms, *self._producer, self.records)
                + self.body
            )
            length = _HEADER.size - _LENGTH_AT + len(checked)
            self._built = _HEADER.pack(0, length, 0, _MAGIC, calc_crc32c(checked)) + checked
            self.body = b""
        return self._built


def write_batches(keys: ByteColumn, values: ByteColumn, time_ms: int, *, max_bytes: int) -> Iterator[WrittenBatch]:
    """Yield batches of at most ``max_bytes`` before compression (a larger record is a batch of its own)."""
    sizes = np.maximum(keys.lengths, 0) + np.maximum(values.lengths, 0) + _RECORD_BYTES
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        done = int(ends[first - 1]) if first else 0
        last = max(int(np.searchsorted(ends, done + max_bytes, side="right")), first + 1)
        yield _written(keys[first:last], values[first:last], int(ends[last - 1]) - done, time_ms)
        first = last


def _written(keys: ByteColumn, values: ByteColumn, room: int, time_ms: int) -> WrittenBatch:
    out = np.empty(room, np.uint8)
    used = kernels.write_records(
        keys.buffer, keys.starts, keys.lengths, values.buffer, values.starts, values.lengths, out
    )
    body = out[:used].tobytes()
    compressor = cramjam.lz4.Compressor(level=_LZ4_LEVEL, content_checksum=False, block_linked=False)
    compressor.compress(body)
    packed = bytes(compressor.finish())
    is_smaller = len(packed) < used
    return WrittenBatch(len(keys), time_ms, packed if is_smaller else body, is_smaller)
