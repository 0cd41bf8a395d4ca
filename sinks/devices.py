"""What a stretch says of devices: when each was first and last seen, and what it is. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fleetwatch.records import CameraDetection, ScoredReading
from sinks.column_values import ColumnValues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sinks.stretch import Rows, Stretch

    IntArray = NDArray[np.int64]


class Grouped(NamedTuple):
    """Rows by device, and newest first within it: a device's go from one start to the next (the last is the end)."""

    order: IntArray
    starts: IntArray

    @property
    def newest(self) -> IntArray:
        """The newest row of each device."""
        return self.order[self.starts[:-1]]

    @property
    def oldest(self) -> IntArray:
        """The oldest row of each device."""
        return self.order[self.starts[1:] - 1]


def group(names: Sequence[str], time: IntArray, seq: IntArray) -> Grouped:
    """Group rows by device; of two with one identity only the one that stands first is taken."""
    numbers: dict[str, int] = {}
    device = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
    order = np.lexsort((~seq, ~time, device))  # ~ turns the order round, without the overflow of a minus
    is_repeated = np.zeros(len(order), np.bool_)
    is_repeated[1:] = (np.diff(device[order]) == 0) & (np.diff(time[order]) == 0) & (np.diff(seq[order]) == 0)
    order = order[~is_repeated]
    return Grouped(order, starts_of(device[order]))


def starts_of(numbers: IntArray) -> IntArray:
    """Return where each run of one number begins, and the end."""
    return np.flatnonzero(np.concatenate(([1], np.diff(numbers), [1])))


class DeviceRow(NamedTuple):
    """A row of the table ``devices``, as one stretch knows it. Times are in ms; ``heard_at`` is the broker's."""

    device_id: str
    kind: str
    sensor_type: str | None
    site: str
    first_seen: int
    last_seen: int
    heard_at: int


def device_rows(stretch: Stretch) -> list[DeviceRow]:
    """Return one row of each device that the stretch heard; type and site are those of the newest event.

    A sensor and a camera of one id are one device: a box with both sends readings and detections under its name.
    """
    found: list[DeviceRow] = []
    if readings := stretch.of_columns(ScoredReading):
        columns = ColumnValues(readings)
        ingest = readings.batch.numbers("ingest_time")[readings.rows]
        found += _rows(readings, columns, "device_id", "sensor", ingest)
    if detections := stretch.of_columns(CameraDetection):
        columns = ColumnValues(detections)
        broker_ms = [stretch.events[position].broker_time_ms for position in detections.positions.tolist()]
        found += _rows(detections, columns, "camera_id", "camera", np.array(broker_ms, np.int64))
    by_id: dict[str, DeviceRow] = {}
    for row in found:
        known = by_id.get(row.device_id)
        by_id[row.device_id] = row if known is None else _joined(known, row)
    return list(by_id.values())


def _joined(one: DeviceRow, other: DeviceRow) -> DeviceRow:
    newest = other if other.last_seen >= one.last_seen else one
    return newest._replace(first_seen=min(one.first_seen, other.first_seen), heard_at=max(one.heard_at, other.heard_at))


def _rows(rows: Rows, columns: ColumnValues, name: str, kind: str, heard_ms: IntArray) -> list[DeviceRow]:
    time, seq = rows.batch.numbers("event_time")[rows.rows], rows.batch.numbers("seq")[rows.rows]
    names = columns.texts(name, rows.rows)
    grouped = group(names, time, seq)
    newest = rows.rows[grouped.newest]
    types: list[Any] = columns.texts("sensor_type", newest) if kind == "sensor" else [None] * len(newest)
    heard = np.maximum.reduceat(heard_ms[grouped.order], grouped.starts[:-1])
    return [
        DeviceRow(names[head], kind, sensor_type, site, first, last, heard_at)
        for head, sensor_type, site, first, last, heard_at in zip(
            grouped.newest.tolist(),
            types,
            columns.texts("site", newest),
            time[grouped.oldest].tolist(),
            time[grouped.newest].tolist(),
            heard.tolist(),
            strict=True,
        )
    ]
