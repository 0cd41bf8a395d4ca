"""Recorded series as devices that live now: row i of a series is due at start + i / rate. No clock inside."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fleetwatch.records import FaultKind, GroundTruth, SensorReading
from producers.batches import Batch, Row, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from producers.series import Series


class SeriesSource:
    """Readings of one series, some half a second a batch. After the last row it goes on with the first."""

    def __init__(self, series: Series, *, start_ms: int, speed: float) -> None:
        self._series = series
        self._start_ms = start_ms
        self._rate_hz = series.entry.rate_hz * speed
        self._chunk = max(1, int(self._rate_hz / 2))
        self._sent = 0

    @property
    def begin_ms(self) -> int | None:
        """See ``Source``."""
        return due_ms(self._sent, self._start_ms, self._rate_hz)

    def take(self) -> Batch:
        """See ``Source``."""
        numbers = range(self._sent, self._sent + self._chunk)
        self._sent += self._chunk
        due = [due_ms(number, self._start_ms, self._rate_hz) for number in numbers]
        entry, values = self._series.entry, self._series.values
        rows: list[Row] = [
            {
                "device_id": entry.device_id,
                "sensor_type": entry.sensor_type,
                "site": entry.site,
                "event_time": at_ms,
                "seq": number,
                "value": values[(entry.start_row + number) % len(values)],
                "unit": entry.unit,
                "quality": "GOOD",
            }
            for number, at_ms in zip(numbers, due, strict=True)
        ]
        return Batch(SensorReading, due, rows)


class LabelSource:
    """The labelled windows of one series as truth, each due when its first row is."""

    def __init__(self, series: Series, *, start_ms: int, speed: float) -> None:
        self._truths = _truths(series, start_ms, series.entry.rate_hz * speed)
        self._next = next(self._truths, None)

    @property
    def begin_ms(self) -> int | None:
        """See ``Source``."""
        return None if self._next is None else int(self._next["started_at"])

    def take(self) -> Batch:
        """See ``Source``."""
        row = self._next
        assert row is not None
        self._next = next(self._truths, None)
        return Batch(GroundTruth, [row["started_at"]], [row])


def due_ms(number: int, start_ms: int, rate_hz: float) -> int:
    """Return when the row with this number (0 is the first one sent) is due."""
    return start_ms + int(number * 1000 / rate_hz)


def _truths(series: Series, start_ms: int, rate_hz: float) -> Iterator[Row]:
    """Yield the windows again and again, the first time without what lies before the start row."""
    entry = series.entry
    passed = 0
    while series.windows:
        for first, last in sorted(series.windows):
            begin = passed * len(series.values) + first - entry.start_row
            end = begin + last - first
            if end < 0:
                continue
            begin_ms = due_ms(max(begin, 0), start_ms, rate_hz)
            yield {
                "fault_id": f"{entry.device_id}-{begin_ms}",
                "device_id": entry.device_id,
                "kind": FaultKind.LABELLED.value,
                "started_at": begin_ms,
                "ended_at": start_ms + math.ceil((end + 1) * 1000 / rate_hz),
                "magnitude": series.magnitude(first, last),
            }
        passed += 1


def replay(all_series: Sequence[Series], *, start_ms: int, speed: float = 1.0) -> list[Source]:
    """Return the sources of all series: their readings and the truth about them."""
    sources: list[Source] = []
    for series in all_series:
        sources.append(SeriesSource(series, start_ms=start_ms, speed=speed))
        sources.append(LabelSource(series, start_ms=start_ms, speed=speed))
    return sources
