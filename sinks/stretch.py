"""What a store is given at once: a stretch of events without gaps, decoded.

What comes in masses (scored readings, detections, window counts) is columns, the rest is records. A stretch can be cut
in two without decoding anything again, and an event in it can lose its record and keep its place.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from fleetwatch.columns import Batch
    from fleetwatch.records import Record
    from sinks.batch import Event, Partition

    IntArray = NDArray[np.int64]

R = TypeVar("R", bound="Record")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a decoded batch that are to be stored, and the events they came from, both in the order of reading."""

    batch: Batch
    rows: IntArray
    positions: IntArray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Events ``start`` to ``stop`` (exclusive) of a batch. Those without record only move the offsets."""

    events: Sequence[Event]
    columns: Mapping[type[Record], Rows]
    records: Mapping[int, Record]
    start: int
    stop: int
    without_record: frozenset[int] = field(default_factory=frozenset)

    def __len__(self) -> int:
        return self.stop - self.start

    def halves(self) -> tuple[Stretch, Stretch]:
        """Cut in two."""
        middle = (self.start + self.stop) // 2
        return replace(self, stop=middle), replace(self, start=middle)

    def emptied(self) -> Stretch:
        """Return the same places in Kafka with nothing to store."""
        return replace(self, without_record=frozenset(range(self.start, self.stop)))

    def of_columns(self, record_type: type[Record]) -> Rows | None:
        """Return the rows of a type that comes in columns; None when there are none."""
        found = self.columns.get(record_type)
        if found is None:
            return None
        first, last = np.searchsorted(found.positions, (self.start, self.stop))
        rows, positions = found.rows[first:last], found.positions[first:last]
        if self.without_record:
            is_kept = ~np.isin(positions, list(self.without_record))
            rows, positions = rows[is_kept], positions[is_kept]
        return Rows(found.batch, rows, positions) if len(rows) else None

    def of_records(self, record_type: type[R]) -> list[R]:
        """Return the records of a type that comes in rows."""
        return [record for _, record in self._records() if isinstance(record, record_type)]

    def rows_by_topic(self) -> dict[str, int]:
        """Return how many records there are to store, by the topic they came from."""
        counts = Counter(self.events[position].topic for position, _ in self._records())
        for record_type in self.columns:  # each comes from one topic
            found = self.of_columns(record_type)
            if found is not None:
                counts[self.events[found.positions[0]].topic] += len(found)
        return dict(counts)

    def stored_positions(self) -> list[int]:
        """Return which events have a record to store, in order."""
        positions = [position for position, _ in self._records()]
        for record_type in self.columns:
            found = self.of_columns(record_type)
            if found is not None:
                positions += found.positions.tolist()
        return sorted(positions)

    def next_offsets(self) -> dict[Partition, int]:
        """Return for each partition where to read on after this stretch: the last offset plus one."""
        return {(event.topic, event.partition): event.offset + 1 for event in self.events[self.start : self.stop]}

    def _records(self) -> Iterator[tuple[int, Record]]:
        for position, record in self.records.items():
            if self.start <= position < self.stop and position not in self.without_record:
                yield position, record
