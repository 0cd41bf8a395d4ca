"""Rows to framed Avro bytes. The same bytes as ``fleetwatch.avro.encode``, without making a record first."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import fastavro

from fleetwatch import avro
from producers.batches import KEY_OF, TOPIC_OF

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleetwatch.records import Record
    from producers.batches import Row, Source

    EncodedBatch = tuple[str, list[bytes], list[bytes], list[int]]
    """Topic, keys, framed messages, times they are due (ms)."""


class RowEncoder:
    """Encodes rows of one record type with its newest schema. Not for use by several threads."""

    def __init__(self, record_type: type[Record]) -> None:
        name = avro.latest_version(avro.schema_name(record_type))
        self._schema = fastavro.parse_schema(dict(avro.load_schema(name)))
        self._header = avro.frame_header(record_type)
        self._out = io.BytesIO()

    def __call__(self, row: Row) -> bytes:
        """Return one framed message.

        Raises:
            ValueError, TypeError, KeyError: the row does not fit the schema.

        """
        out = self._out
        out.seek(0)
        out.truncate()
        out.write(self._header)
        fastavro.schemaless_writer(out, self._schema, row)
        return out.getvalue()


def encoded_until(sources: Sequence[Source], end_ms: int) -> Iterator[EncodedBatch]:
    """Yield what the sources make for the time before ``end_ms`` as on the wire, batch by batch, without waiting.

    Batches come in the order of their begins; within a batch events are in order.
    """
    encoders: dict[type[Record], RowEncoder] = {}
    while True:
        waiting = [
            (source.begin_ms, number)
            for number, source in enumerate(sources)
            if source.begin_ms is not None and source.begin_ms < end_ms
        ]
        if not waiting:
            return
        batch = sources[min(waiting)[1]].take()
        kind = batch.record_type
        encode = encoders.setdefault(kind, RowEncoder(kind))
        keys = [row[KEY_OF[kind]].encode() for row in batch.rows]
        yield TOPIC_OF[kind], keys, [encode(row) for row in batch.rows], batch.due_ms
