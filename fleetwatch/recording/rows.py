"""Rows of a recording as columns, and what was in a topic as rows. Shapes: ``columns`` is (11, n), see ``kernels``."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import fastavro
import numpy as np

from fleetwatch import avro, avro_check, avro_layout, columns, row_status
from fleetwatch.byte_column import NONE_LENGTH, ByteColumn
from fleetwatch.errors import RefusedError
from fleetwatch.recording import form as forms
from fleetwatch.recording import kernels
from fleetwatch.recording.container import put_long
from fleetwatch.recording.kernels import ABSENT, NULL, RAW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fleetwatch.recording.form import Form

    IntArray = NDArray[np.int64]

Header = tuple[str, bytes | None]
NO_LIMIT: Final = 2**62


@dataclass(frozen=True)
class Messages:
    """Messages of one topic as a broker gives them, times in milliseconds; ``headers`` None: none has any."""

    partitions: IntArray
    offsets: IntArray
    broker_ms: IntArray
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Sequence[Header] | None] | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Rows:
    """Some rows of a file: ``payload`` is an uncompressed block, into which the columns point."""

    form: Form
    payload: bytes
    columns: IntArray

    def __len__(self) -> int:
        return int(self.columns.shape[1])

    @property
    def partitions(self) -> IntArray:
        """Partition of each row."""
        found: IntArray = self.columns[kernels.PARTITION]
        return found

    @property
    def offsets(self) -> IntArray:
        """Offset of each row."""
        found: IntArray = self.columns[kernels.OFFSET]
        return found

    @property
    def broker_ms(self) -> IntArray:
        """Timestamp of each message."""
        found: IntArray = self.columns[kernels.BROKER_MS]
        return found

    @property
    def event_ms(self) -> IntArray:
        """Event time of each row, ``kernels.ABSENT`` where there is none."""
        found: IntArray = self.columns[kernels.EVENT_MS]
        return found

    def take(self, rows: NDArray[Any] | slice) -> Rows:
        """Return some of the rows (a mask, numbers, or a slice), in that order."""
        return Rows(self.form, self.payload, np.ascontiguousarray(self.columns[:, rows]))

    def keys(self) -> ByteColumn:
        """Return the keys."""
        return gathered(ByteColumn(self._buffer, self.columns[kernels.KEY_START], self.columns[kernels.KEY_LENGTH]))

    def values(self) -> ByteColumn:
        """Return the values as they were in the topic, with their frames."""
        room = int(self.columns[kernels.VALUE_LENGTH].sum()) + avro.FRAME_BYTES * len(self)
        out, ends = np.empty(room, np.uint8), np.empty(len(self), np.int64)
        used = kernels.frame_rows(self._buffer, self.columns, self.form.frames, out, ends)
        starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
        is_null = self.columns[kernels.BRANCH] == NULL
        return ByteColumn(out[:used], starts, np.where(is_null, NONE_LENGTH, ends - starts))

    def headers(self) -> list[list[Header] | None] | None:
        """Return the headers of each row, or None when no row has any."""
        with_some = np.flatnonzero(self.columns[kernels.HEADERS_LENGTH] > 1)
        if len(with_some) == 0:
            return None
        found: list[list[Header] | None] = [None] * len(self)
        for row in with_some.tolist():
            start, length = self.columns[kernels.HEADERS_START : kernels.HEADERS_LENGTH + 1, row].tolist()
            found[row] = _read_headers(self.payload[start : start + length])
        return found

    def shifted(self, delta_ms: int) -> Rows:
        """Return the rows with all their times moved: broker time, event time, and every time in a known record."""
        moved = self.columns.copy()
        moved[kernels.BROKER_MS] += delta_ms
        moved[kernels.EVENT_MS] += np.where(moved[kernels.EVENT_MS] == ABSENT, 0, delta_ms)
        pieces, at = [self.payload], len(self.payload)
        for branch, schema in enumerate(self.form.schemas, RAW + 1):
            mine = np.flatnonzero(moved[kernels.BRANCH] == branch)
            program = _program(schema.name)
            if program is None or len(mine) == 0:
                continue
            starts = moved[kernels.VALUE_START, mine]
            lengths = moved[kernels.VALUE_LENGTH, mine]
            times = int((program[:, 0] == avro_layout.OP_TIME).sum())
            out = np.empty(int(lengths.sum()) + 10 * times * len(mine), np.uint8)
            ends = np.empty(len(mine), np.int64)
            used = kernels.shift_bodies(self._buffer, starts, starts + lengths, program, delta_ms, out, ends)
            begins = np.concatenate([[0], ends[:-1]])
            moved[kernels.VALUE_START, mine], moved[kernels.VALUE_LENGTH, mine] = begins + at, ends - begins
            pieces.append(out[:used].tobytes())
            at += used
        return Rows(self.form, b"".join(pieces), moved)

    @property
    def _buffer(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.payload, np.uint8)  # of bytes: it cannot be written


def gathered(column: ByteColumn) -> ByteColumn:
    """Return the same entries end to end: the buffer holds nothing else."""
    out = np.empty(int(np.maximum(column.lengths, 0).sum()), np.uint8)
    starts = np.empty(len(column), np.int64)
    kernels.gather_rows(column.buffer, column.starts, column.lengths, out, starts)
    return ByteColumn(out, starts, column.lengths)


def read_payload(form: Form, payload: bytes, events: int) -> tuple[Rows, int | None]:
    """Return the rows of a block, and where in it they stop fitting (None: all of it fits)."""
    events = min(events, len(payload))  # a row has at least a byte: a wrong count must not take the memory
    found = np.empty((kernels.WIDTH, events), np.int64)
    whole, after = kernels.decode_rows(np.frombuffer(payload, np.uint8), form.branches, found)
    fits = whole == events and after == len(payload)
    return Rows(form, payload, found[:, :whole]), None if fits else int(after)


def encode_rows(form: Form, messages: Messages) -> tuple[bytes, IntArray]:
    """Return the uncompressed block of messages, and their columns (partition to event time are of use)."""
    count = len(messages)
    found = np.zeros((kernels.WIDTH, count), np.int64)
    found[kernels.PARTITION], found[kernels.OFFSET] = messages.partitions, messages.offsets
    found[kernels.BROKER_MS], found[kernels.EVENT_MS] = messages.broker_ms, ABSENT
    keys, values, headers = as_column(messages.keys), as_column(messages.values), ByteColumn.repeat(b"", count)
    found[kernels.KEY_START], found[kernels.KEY_LENGTH] = keys.starts, keys.lengths
    found[kernels.VALUE_START], found[kernels.VALUE_LENGTH] = values.starts, np.maximum(values.lengths, 0)
    found[kernels.BRANCH] = np.where(values.lengths == NONE_LENGTH, NULL, RAW)
    _find_records(form, values, found)
    if messages.headers is not None:
        headers = ByteColumn.of([_write_headers(some) if some else b"" for some in messages.headers])
        found[kernels.HEADERS_START], found[kernels.HEADERS_LENGTH] = headers.starts, headers.lengths
    sizes = (kernels.KEY_LENGTH, kernels.HEADERS_LENGTH, kernels.VALUE_LENGTH)
    room = sum(int(np.maximum(found[size], 0).sum()) for size in sizes) + kernels.ROW_BYTES * count
    out = np.empty(room, np.uint8)
    used = kernels.encode_rows(found, keys.buffer, headers.buffer, values.buffer, out)
    return out[:used].tobytes(), found


def as_column(values: Sequence[bytes | None]) -> ByteColumn:
    """Return byte strings as a column, as they are if they are one."""
    return values if isinstance(values, ByteColumn) else ByteColumn.of(values)


def _find_records(form: Form, values: ByteColumn, found: IntArray) -> None:
    """Set branch and event time of the values that are Avro of the topic's record, to the byte."""
    record_type = forms.record_of(form.topic)
    if record_type is None or not form.schemas:
        return
    try:
        batch = columns.decode_batch(values, ByteColumn.repeat(b"x", len(values)), record_type, max_bytes=NO_LIMIT)
    except TypeError:  # a record with an array has no columns
        fits = np.array([_fits(value) for value in values.to_list()], np.bool_)
    else:
        fits = batch.status == row_status.OK
        time = _time_field(avro.schema_name(record_type))
        if time is not None:
            found[kernels.EVENT_MS] = np.where(fits, batch.numbers(time), ABSENT)
    rows = np.flatnonzero(fits)
    starts = found[kernels.VALUE_START, rows]
    ids = np.zeros(len(rows), np.int64)
    for byte in range(1, 5):
        ids = (ids << 8) | values.buffer[starts + byte]
    for schema_id in np.unique(ids).tolist():
        branch = form.branch_of(schema_id)
        mine = rows[ids == schema_id]
        if branch is not None:
            found[kernels.BRANCH, mine] = branch
            found[kernels.VALUE_START, mine] += avro.FRAME_BYTES
            found[kernels.VALUE_LENGTH, mine] -= avro.FRAME_BYTES


def _fits(value: bytes | None) -> bool:
    """Say whether a framed value is Avro of the schema that its frame names, to the byte."""
    if not value or value[:1] != avro.MAGIC or len(value) < avro.FRAME_BYTES:
        return False
    name = avro.schema_by_id(int.from_bytes(value[1:5], "big"))
    if name is None:
        return False
    try:
        avro_check.check_body(avro.load_schema(name), value, avro.FRAME_BYTES)
    except RefusedError:
        return False
    return True


def _time_field(name: str) -> str | None:
    """Return the field of a record that says when it happened: its first time."""
    times = [leaf.name for leaf in avro_layout.layout_named(name).leaves if leaf.op == avro_layout.OP_TIME]
    return times[0] if times else None


def _program(name: str) -> IntArray | None:
    """Return the program of a schema version, None where it is not known here or has no columns."""
    if name not in avro.schema_ids():
        return None
    try:
        return avro_layout.reader_program(name)[0]
    except TypeError:
        return None


def _write_headers(headers: Sequence[Header]) -> bytes:
    parts = [put_long(len(headers))]
    for name, value in headers:
        text = name.encode()
        parts += [put_long(len(text)), text]
        parts += [b"\x00"] if value is None else [b"\x02", put_long(len(value)), value]
    return b"".join([*parts, b"\x00"])


def _read_headers(encoded: bytes) -> list[Header]:
    items = fastavro.schemaless_reader(io.BytesIO(encoded), forms.HEADERS, None)
    return [(item["name"], item["value"]) for item in items]
