"""Which fault strikes which device when. A plan is a pure function of scenario, fleet, seed and start."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetwatch.records import FaultKind
from producers.simulate.scenario import DEFAULT_SECONDS
from producers.simulate.seeds import Stream, generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from producers.simulate.fleet import Fleet
    from producers.simulate.scenario import FaultSeries, Scenario

REST_MS: Final = 10_000
"""A device stays sound for at least so long between two faults."""
SPIKE_READINGS: Final = (1, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One planned fault: start inclusive, end exclusive, milliseconds since 1970 in event time."""

    fault_id: str
    kind: FaultKind
    device_id: str
    row: int
    is_camera: bool
    """Whether the row is a camera's or a sensor's."""
    start_ms: int
    end_ms: int
    magnitude: float
    direction: int
    """+1 or -1: which way a value is pushed."""


def plan(scenario: Scenario, fleet: Fleet, *, seed: int, start_ms: int) -> Iterator[Fault]:
    """Yield the faults in the order of their starts, for as long as they are asked for.

    No device has two faults at a time: a fault strikes a sound device, or is left out if there is none. An outage
    strikes all sound devices of a site at once: one fault each.
    """
    named = {series.device_id for series in scenario.faults}
    pools = {number: _pool(series, fleet, named) for number, series in enumerate(scenario.faults)}
    waiting = [(series.first_seconds, number, 0) for number, series in enumerate(scenario.faults) if pools[number]]
    heapq.heapify(waiting)
    free_at: dict[str, int] = {}
    while waiting:
        at_seconds, number, turn = heapq.heappop(waiting)
        series = scenario.faults[number]
        if series.every_seconds is not None and (series.count is None or turn + 1 < series.count):
            following = series.first_seconds + (turn + 1) * series.every_seconds
            heapq.heappush(waiting, (following, number, turn + 1))
        begin_ms = start_ms + round(at_seconds * 1000)
        sound = [target for target in pools[number] if free_at.get(target.device_id, 0) <= begin_ms]
        if not sound:
            continue
        random = generator(seed, Stream.FAULTS, number, turn)
        chosen = sound[int(random.integers(len(sound)))]
        is_outage = series.fault_kind is FaultKind.OUTAGE
        struck = [target for target in sound if target.site == chosen.site] if is_outage else [chosen]
        end_ms = begin_ms + _length_ms(series, scenario, random)
        magnitude = round(float(random.uniform(*series.magnitudes)), 2)
        direction = 1 if random.random() < 0.5 else -1
        for place, target in enumerate(struck):
            free_at[target.device_id] = end_ms + REST_MS
            yield Fault(
                fault_id=f"{seed}-{start_ms}-{number}-{turn}{f'-{place}' if is_outage else ''}",
                kind=series.fault_kind,
                device_id=target.device_id,
                row=target.row,
                is_camera=target.is_camera,
                start_ms=begin_ms,
                end_ms=end_ms,
                magnitude=magnitude,
                direction=direction,
            )


class _Target(NamedTuple):
    """A device that a series may strike."""

    row: int
    device_id: str
    site: str
    is_camera: bool


def _pool(series: FaultSeries, fleet: Fleet, named: set[str | None]) -> list[_Target]:
    """Return what a series may strike; a device that a series names is for it alone."""
    cameras = [_Target(row, camera.camera_id, camera.site, True) for row, camera in enumerate(fleet.cameras)]
    sensors = [
        _Target(row, sensor.device_id, sensor.site, False)
        for row, sensor in enumerate(fleet.sensors)
        if series.sensor_type in (None, sensor.sensor_type)
    ]
    if series.fault_kind is FaultKind.SURGE:
        devices = cameras
    elif series.fault_kind is FaultKind.OUTAGE and series.sensor_type is None:
        devices = sensors + cameras
    else:
        devices = sensors
    if series.device_id is not None:
        return [device for device in devices if device.device_id == series.device_id]
    return [device for device in devices if device.device_id not in named]


def _length_ms(series: FaultSeries, scenario: Scenario, random: np.random.Generator) -> int:
    if series.fault_kind is FaultKind.SPIKE:
        readings = int(random.integers(SPIKE_READINGS[0], SPIKE_READINGS[1] + 1))
        return round(readings * 1000 / scenario.rate_hz)
    return round((series.duration_seconds or DEFAULT_SECONDS[series.fault_kind]) * 1000)


class ActiveFaults:
    """Walks along a plan: which faults touch an interval. Intervals are asked for in ascending order."""

    def __init__(self, planned: Iterator[Fault]) -> None:
        self._planned = planned
        self._next = next(planned, None)
        self._open: list[Fault] = []

    def between(self, from_ms: int, to_ms: int) -> list[Fault]:
        """Return the faults with a part in ``from_ms`` (inclusive) to ``to_ms`` (exclusive)."""
        while self._next is not None and self._next.start_ms < to_ms:
            self._open.append(self._next)
            self._next = next(self._planned, None)
        self._open = [fault for fault in self._open if fault.end_ms > from_ms]
        return self._open
