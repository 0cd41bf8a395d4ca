"""What comes into a lane and what leaves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fleetwatch.columns import Batch
    from streams.detectors.isolation_forest import FlatForest
    from streams.scoring import Scores
    from streams.windows import Folded


@dataclass(frozen=True)
class RawBatch:
    """Consecutive records of one partition, as the broker gave them; ``times`` are the broker's, milliseconds."""

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    times: NDArray[np.int64]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.values)

    def since(self, offset: int) -> RawBatch:
        """Return the part from an offset on."""
        first = int(np.searchsorted(self.offsets, offset))
        if first == 0:
            return self
        return RawBatch(
            self.topic,
            self.partition,
            self.offsets[first:],
            self.times[first:],
            self.keys[first:],
            self.values[first:],
        )


@dataclass(frozen=True)
class ActiveModel:
    """The batch model in force for a sensor type."""

    version: str
    forest: FlatForest


@dataclass(frozen=True)
class Accepted:
    """The usable events of a batch as columns: ``chosen`` are their rows in ``raw`` and ``batch``.

    ``rows`` are device rows, ``sites`` where they were, ``kinds`` sensor types or labels, ``watermarks`` the watermark
    after each event.
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


@dataclass
class Outputs:
    """What a lane derived: messages per topic as (key, value), features to train on, and counts for the status."""

    messages: list[tuple[str, bytes | None, bytes]] = field(default_factory=list)
    training: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, by: int) -> None:
        """Add to a counter."""
        if by:
            self.counters[name] = self.counters.get(name, 0) + by

    def add(self, topic: str, keys: Sequence[bytes | None], values: Sequence[bytes]) -> None:
        """Append messages of one topic."""
        self.messages.extend(zip((topic,) * len(values), keys, values, strict=True))
