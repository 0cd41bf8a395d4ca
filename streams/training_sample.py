"""A training sample of a history: the very features that scoring sees, by sensor type, in bounded memory.

Readings come in their order (of each device, at least). Repeats are dropped as in a lane, and a device's first
readings, before its features mean something, only feed its running statistics. Of each sensor type every row is kept,
until there are more than twice the limit: then every other one goes, and from there on every second, fourth, ... comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from fleetwatch.model_catalogue import FALLBACK
from fleetwatch.records import from_millis
from streams import devices, features
from streams.arrays import grown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

LIMIT: Final = 100_000
"""Rows a sensor type that are trained on at most. Each tree takes 256 of them."""
HELD_OUT: Final = 0.2
"""The last part of a sample, by time, that is not trained on: a version is measured on it."""
LEAST: Final = 64
_EMPTY: Final = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Readings:
    """Consecutive readings as columns; ``names`` are the sensor types, ``kinds`` their numbers, times in ms."""

    names: Sequence[str]
    devices: NDArray[np.int64]
    channels: NDArray[np.int64]
    kinds: NDArray[np.int64]
    times: NDArray[np.int64]
    seqs: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Squashed features of one sensor type in the order of time; ``times`` are event times in ms."""

    rows: NDArray[np.float64]
    times: NDArray[np.int64]
    skipped: int = 0
    """How many settled readings were left out to keep to the limit."""

    def split(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what to train on, and what comes after it in time."""
        cut = round(len(self.rows) * (1 - HELD_OUT))
        return self.rows[:cut], self.rows[cut:]

    @property
    def span(self) -> tuple[datetime, datetime]:
        """First and last event time of what is trained on."""
        trained = self.times[: round(len(self.rows) * (1 - HELD_OUT))]
        return from_millis(int(trained[0])), from_millis(int(trained[-1]))


@dataclass
class _Kept:
    step: int = 1
    seen: int = 0
    parts: list[NDArray[np.float64]] = field(default_factory=list)
    times: list[NDArray[np.int64]] = field(default_factory=list)
    count: int = 0

    def add(self, rows: NDArray[np.float64], times: NDArray[np.int64], limit: int) -> None:
        chosen = np.flatnonzero((self.seen + np.arange(len(rows))) % self.step == 0)
        self.seen += len(rows)
        self.parts.append(rows[chosen])
        self.times.append(times[chosen])
        self.count += len(chosen)
        while self.count > 2 * limit:
            self.parts, self.times = [np.concatenate(self.parts)[::2]], [np.concatenate(self.times)[::2]]
            self.count = len(self.parts[0])
            self.step *= 2


class SampleFold:
    """Collects samples; ``wanted`` says which sensor types. Feed every reading all the same."""

    def __init__(self, warm_up: int, wanted: Callable[[str], bool] = lambda _name: True, limit: int = LIMIT) -> None:
        self._warm_up, self._wanted, self._limit = warm_up, wanted, limit
        self._seen = np.zeros(0, np.int64)
        self._stats = np.zeros((0, features.WIDTH), np.float64)
        self._recent = np.zeros((0, devices.HORIZON, 2), np.int64)
        self._place = np.zeros(0, np.int64)
        self._kept: dict[str, _Kept] = {}
        self.readings = self.repeats = 0

    def add(self, some: Readings) -> None:
        """Take the next readings."""
        if len(some.values) == 0:
            return
        known = int(some.devices.max()) + 1
        self._recent, self._place = grown(self._recent, known, _EMPTY), grown(self._place, known)
        repeats = devices.fold_duplicates(some.devices, some.times, some.seqs, self._recent, self._place)
        self.repeats += int(repeats.sum())
        fresh = ~repeats
        channels, kinds, times = some.channels[fresh], some.kinds[fresh], some.times[fresh]
        if len(channels) == 0:
            return
        self.readings += len(channels)
        known = int(channels.max()) + 1
        self._seen, self._stats = grown(self._seen, known), grown(self._stats, known)
        found, before = features.fold_features(channels, some.values[fresh], self._seen, self._stats)
        settled = before >= self._warm_up
        x = features.squash(found)
        for kind in np.unique(kinds[settled]).tolist():
            name = some.names[kind]
            if self._wanted(name):
                mine = settled & (kinds == kind)
                self._kept.setdefault(name, _Kept()).add(x[mine], times[mine], self._limit)

    def samples(self) -> dict[str, Sample]:
        """Return the sample of each sensor type."""
        return {name: self._sample(kept) for name, kept in sorted(self._kept.items())}

    def _sample(self, kept: _Kept) -> Sample:
        rows, times = np.concatenate(kept.parts), np.concatenate(kept.times)
        order = np.argsort(times, kind="stable")
        return _thinned(Sample(rows[order], times[order], kept.seen), self._limit)


def fallback_sample(samples: dict[str, Sample], limit: int = LIMIT) -> Sample:
    """Return a sample over all types, each with as many rows (as far as it has them)."""
    own = [sample for name, sample in samples.items() if name != FALLBACK]
    mine = [_thinned(sample, max(limit // len(own), 1)) for sample in own]
    rows, times = np.concatenate([sample.rows for sample in mine]), np.concatenate([sample.times for sample in mine])
    order = np.argsort(times, kind="stable")
    return Sample(rows[order], times[order])


def _thinned(sample: Sample, limit: int) -> Sample:
    """Return at most so many rows, evenly spread."""
    count = len(sample.rows)
    chosen = np.arange(count) if count <= limit else np.linspace(0, count - 1, limit).astype(np.int64)
    return Sample(sample.rows[chosen], sample.times[chosen], sample.skipped - len(chosen) if sample.skipped else 0)
