"""Fetched record batches as columns: aiokafka's fetcher with no object a record for hot topics.

aiokafka takes a fetch apart with two classes: one cuts the bytes into record batches, the other turns a partition's
batches into records and knows about offsets, control batches and aborted transactions. Both are replaced here by
subclasses that hand on a whole batch (``fleetwatch.record_batch.Records``) where aiokafka would hand on its records one
by one. All that is decided about batches stays aiokafka's. ``max_poll_records`` counts batches of hot topics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import _MemoryRecordsPy

from fleetwatch.record_batch import CorruptBatchError, Records, join, read_batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OLDEST_WITH_COLUMNS = 2
"""Message format; older ones (before Kafka 0.11) come as records."""


class ColumnBatch:
    """One record batch whose only item is all of its records; the rest is aiokafka's view of it."""

    def __init__(self, raw: memoryview, batch: Any) -> None:
        self._raw = raw
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            records = read_batch(self._raw)
        except CorruptBatchError as error:
            raise CorruptRecordException(str(error)) from error
        if len(records):
            yield Fetched(records)

    def __next__(self) -> Any:
        return next(self._batch)  # a control batch is asked for its marker


class Fetched:
    """Records with the offset of the last one, by which aiokafka moves its position."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.offset = int(records.offsets[-1])


class MemoryRecords(_MemoryRecordsPy):  # type: ignore[misc]  # marked final for its types only
    """Cuts fetched bytes into batches, as columns where that is asked for."""

    in_columns = False

    def next_batch(self, *args: Any) -> Any:
        """Return the next batch, or None."""
        raw = self._next_slice
        batch = super().next_batch(*args)
        if not self.in_columns or raw is None or raw[self.MAGIC_OFFSET] < _OLDEST_WITH_COLUMNS:
            return batch
        return ColumnBatch(raw, batch)


class PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """What was fetched of one partition: items are ``Fetched`` for hot topics."""

    hot_topics: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, tp: Any, records: Any, *args: Any) -> None:
        records.in_columns = tp.topic in self.hot_topics
        super().__init__(tp, records, *args)

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        if not isinstance(record, Fetched):
            return super()._consumer_record(tp, record)
        record.records = record.records.since(self.next_fetch_offset)  # a fetch may begin inside of a batch
        return record


def use_columns(hot_topics: Iterable[str]) -> None:
    """Make every aiokafka consumer of this process give hot topics as columns (``to_columns``)."""
    PartitionRecords.hot_topics = frozenset(hot_topics)
    fetcher.MemoryRecords = MemoryRecords
    fetcher.PartitionRecords = PartitionRecords


def first_offset(fetched: list[Any]) -> int:
    """Return the first offset of what one fetch brought of a partition."""
    first = fetched[0]
    return int(first.records.offsets[0]) if isinstance(first, Fetched) else int(first.offset)


def last_offset(fetched: list[Any]) -> int:
    """Return the last offset of what one fetch brought of a partition."""
    return int(fetched[-1].offset)


def to_columns(fetched: list[Any]) -> Records:
    """Join what one fetch brought of a partition."""
    if isinstance(fetched[0], Fetched):
        return join([part.records for part in fetched])
    return Records.of(
        *([getattr(record, name) for record in fetched] for name in ("offset", "timestamp", "key", "value"))
    )
