"""What comes into a lane and what leaves it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleetwatch.byte_column import ByteColumn
from fleetwatch.model_catalogue import FALLBACK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from fleetwatch.columns import Batch
    from fleetwatch.record_batch import Records
    from streams.detectors.isolation_forest import FlatForest
    from streams.scoring import Scores
    from streams.surges import Surges
    from streams.windows import Folded


@dataclass(frozen=True)
class RawBatch:
    """Consecutive records of one partition, as the broker gave them; ``times`` are the broker's, milliseconds."""

    topic: str
    partition: int
    records: Records

    def __len__(self) -> int:
        return len(self.records)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Offsets of the records, ascending."""
        return self.records.offsets

    @property
    def times(self) -> NDArray[np.int64]:
        """When the broker got them, milliseconds."""
        return self.records.times

    @property
    def keys(self) -> ByteColumn:
        """Their keys."""
        return self.records.keys

    @property
    def values(self) -> ByteColumn:
        """Their values."""
        return self.records.values

    def __getitem__(self, rows: slice) -> RawBatch:
        return replace(self, records=self.records[rows])

    def since(self, offset: int) -> RawBatch:
        """Return the part from an offset on."""
        return replace(self, records=self.records.since(offset))


@dataclass(frozen=True)
class ActiveModel:
    """A batch model, as it scores.

    ``version`` is what scored readings and snapshots call it (``fallback/...`` for the fallback's); raw scores above
    ``alarm_level`` are rarer than one in 1,000 of its training.
    """

    version: str
    forest: FlatForest
    alarm_level: float = math.inf


def model_for(sensor_type: str, models: Mapping[str, ActiveModel]) -> ActiveModel | None:
    """Return what scores a sensor type: its own model, else the fallback, else none."""
    own = models.get(sensor_type)
    return models.get(FALLBACK) if own is None else own


@dataclass(frozen=True)
class Accepted:
    """The usable events of a batch as columns: ``chosen`` are their rows in ``raw`` and ``batch``.

    ``rows`` are device rows, ``sites`` where they were, ``kinds`` sensor types or labels, ``watermarks`` the watermark
    after each event; ``scores`` are there for readings, ``surges`` (of cameras, of their labels) for detections.
    """

    raw: RawBatch
    batch: Batch
    chosen: NDArray[np.int64]
    rows: NDArray[np.int64]
    sites: NDArray[np.int64]
    kinds: NDArray[np.int64]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    watermark_before: int
    watermarks: NDArray[np.int64]
    folded: Folded
    scores: Scores | None
    surges: tuple[Surges, Surges] | None = None


Message = tuple[str, bytes | None, bytes]
"""Topic, key and value."""


class Block(NamedTuple):
    """Messages for one topic, as columns."""

    topic: str
    keys: ByteColumn
    values: ByteColumn


def blocks_of(messages: Sequence[Message]) -> list[Block]:
    """Return messages as blocks; their order holds within each topic."""
    by_topic: dict[str, list[Message]] = {}
    for message in messages:
        by_topic.setdefault(message[0], []).append(message)
    return [
        Block(topic, ByteColumn.of([key for _, key, _ in some]), ByteColumn.of([value for _, _, value in some]))
        for topic, some in by_topic.items()
    ]


@dataclass
class Outputs:
    """What a lane derived: blocks of messages, features to train on, and counts for the status.

    The order of messages holds within a topic.
    """

    blocks: list[Block] = field(default_factory=list)
    training: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, by: int) -> None:
        """Add to a counter."""
        if by:
            self.counters[name] = self.counters.get(name, 0) + by

    def add(self, topic: str, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        """Append messages of one topic."""
        if len(values):
            self.blocks.append(Block(topic, _column(keys), _column(values)))

    def extend(self, more: Outputs) -> None:
        """Append what came next."""
        self.blocks += more.blocks
        for sensor_type, rows in more.training.items():
            mine = self.training.get(sensor_type)
            self.training[sensor_type] = rows if mine is None else np.concatenate([mine, rows])
        for name, by in more.counters.items():
            self.count(name, by)

    @property
    def messages(self) -> list[Message]:
        """The messages one by one, as (topic, key, value): for looking at them, not for sending many."""
        return [
            (block.topic, key, value)
            for block in self.blocks
            for key, value in zip(block.keys.to_list(), block.values.to_list(), strict=True)
            if value is not None
        ]


def _column(values: Sequence[bytes | None]) -> ByteColumn:
    return values if isinstance(values, ByteColumn) else ByteColumn.of(values)
