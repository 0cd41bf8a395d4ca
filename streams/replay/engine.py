"""Recordings through the lanes of the worker, without broker or clock: the same recording gives the same outputs.

Time is what the broker's timestamps say. A lane that has nothing for the idle time has its watermark moved as the
worker does it, every five seconds of that time; so it does not matter how fast, or in what batches, one replays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fleetwatch import topics
from fleetwatch.avro_check import LAST_MS
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.record_batch import Records, join
from streams.batch import RawBatch
from streams.lane import Lane
from streams.rules import SilenceRule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fleetwatch.recording.reader import Recording
    from fleetwatch.recording.rows import Rows
    from streams.batch import ActiveModel, Outputs
    from streams.lane import LaneSettings

TICK_MS: Final = 5000
"""How often the clock looks at a lane that is idle (the worker does it with every checkpoint)."""


@dataclass(frozen=True)
class ReplaySettings:
    """How to replay. ``batch_size`` changes nothing but the speed."""

    lane: LaneSettings
    idle_ms: int
    batch_size: int = 20_000

    @property
    def horizon_ms(self) -> int:
        """After so long without any event nothing can happen to a lane any more, until one comes."""
        windows = self.lane.windows
        silences = [int(rule.after_seconds * 1000) for rule in self.lane.rules if isinstance(rule, SilenceRule)]
        longest = max([windows.size_ms + windows.grace_ms + windows.out_of_orderness_ms, *silences])
        return self.idle_ms + self.lane.max_skew_ms + longest + 2 * TICK_MS


class LaneReplay:
    """One lane and the clock of its recording."""

    def __init__(
        self,
        lane: Lane,
        settings: ReplaySettings,
        models: Mapping[str, ActiveModel],
        take: Callable[[Lane, Outputs], None],
    ) -> None:
        self._lane, self._settings, self._models, self._take = lane, settings, models, take
        self._clock_ms = 0
        self._has_begun = False
        self._parts: list[Records] = []
        self._waiting = 0

    def feed(self, rows: Rows) -> None:
        """Take the next records of the partition; they are folded in in batches of the chosen size."""
        self._parts.append(Records(rows.offsets, rows.broker_ms, rows.keys(), rows.values()))
        self._waiting += len(rows)
        size = self._settings.batch_size
        if self._waiting < size:
            return
        whole = join(self._parts)
        full = len(whole) // size * size
        for start in range(0, full, size):
            self._fold(whole[start : start + size])
        rest = whole[full:]
        self._parts, self._waiting = [rest] if len(rest) else [], len(rest)

    def finish(self, until_ms: int) -> None:
        """Fold in what waits, let the clock go on to the end of the recording, and count what is still open."""
        if self._parts:
            self._fold(join(self._parts))
            self._parts, self._waiting = [], 0
        if self._has_begun:
            self._idle(self._clock_ms, min(max(until_ms, self._clock_ms), LAST_MS))
            self._take(self._lane, self._lane.early())

    def _fold(self, records: Records) -> None:
        """Fold a batch in, cut where the partition had been idle before a record."""
        times = np.clip(records.times, 0, LAST_MS)
        before = times[:1] if not self._has_begun else np.array([self._clock_ms])
        clock = np.maximum.accumulate(np.concatenate([before, times]))
        start = 0
        for at in np.flatnonzero(np.diff(clock) >= self._settings.idle_ms).tolist():
            if at > start:
                self._process(records[start:at])
            self._idle(int(clock[at]), int(clock[at + 1]))
            start = at
        self._process(records[start:])
        self._clock_ms, self._has_begun = int(clock[-1]), True

    def _process(self, records: Records) -> None:
        lane = self._lane
        self._take(lane, lane.process(RawBatch(lane.source.topic, lane.partition, records), self._models))

    def _idle(self, from_ms: int, to_ms: int) -> None:
        """Look at the lane at every tick of an idle time, as long as something can happen, and at the last."""
        idle = self._settings.idle_ms
        first = -(-(from_ms + idle) // TICK_MS) * TICK_MS
        last = to_ms // TICK_MS * TICK_MS
        until = min(last, from_ms + self._settings.horizon_ms)
        for now in range(first, until + 1, TICK_MS):
            self._take(self._lane, self._lane.advance(now - idle, now))
        if until < last:
            self._take(self._lane, self._lane.advance(last - idle, last))


def replay(
    recording: Recording,
    settings: ReplaySettings,
    models: Mapping[str, ActiveModel],
    take: Callable[[Lane, Outputs], None],
) -> Iterator[int]:
    """Replay a recording; yield how many events were read, block by block. ``take`` gets what the lanes derive.

    Outputs of one lane come in order; lanes know nothing of each other, so the order between them has no meaning.

    Raises:
        EnvironmentProblemError: the recording has no inputs, or a file of it is damaged.

    """
    present = [topic for topic in topics.INPUTS if topic in recording.topics]
    if not present:
        raise EnvironmentProblemError(f"{recording.folder} has neither of {' and '.join(topics.INPUTS)}")
    until_ms = recording.clock_end_ms() or 0
    for topic in present:
        lanes: dict[int, LaneReplay] = {}
        for rows in recording.rows(topic):
            for partition in np.unique(rows.partitions).tolist():
                if partition not in lanes:
                    lanes[partition] = LaneReplay(Lane(topic, partition, settings.lane), settings, models, take)
                lanes[partition].feed(rows.take(rows.partitions == partition))
            yield len(rows)
        for _, lane in sorted(lanes.items()):
            lane.finish(until_ms)
