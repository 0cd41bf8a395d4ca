"""A scenario as sources of batches: readings, detections, and the truth about the faults in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fleetwatch.records import CameraDetection, GroundTruth, SensorReading
from producers.batches import Batch, Row, Source
from producers.simulate import cameras, sensors
from producers.simulate.faults import ActiveFaults, Fault, plan
from producers.simulate.fleet import Fleet, find_device, make_fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producers.simulate.scenario import Scenario


class SensorSource:
    """Readings of all sensors, one round a batch."""

    def __init__(self, fleet: Fleet, traits: sensors.SensorTraits, faults: Iterator[Fault], only: str | None) -> None:
        self._sensors = fleet.sensors
        self._traits = traits
        self._faults = ActiveFaults(faults)
        self._state = sensors.first_state(traits)
        self._only = next((row for row, s in enumerate(fleet.sensors) if s.device_id == only), None)
        self._is_silent = not fleet.sensors or (only is not None and self._only is None)

    @property
    def begin_ms(self) -> int | None:
        """See ``Source``."""
        return None if self._is_silent else sensors.round_begin_ms(self._traits, self._state.number)

    def take(self) -> Batch:
        """See ``Source``."""
        traits = self._traits
        begin_ms = sensors.round_begin_ms(traits, self._state.number)
        faults = self._faults.between(begin_ms, begin_ms + int(traits.period_ms) + 1)
        self._state, columns = sensors.step(traits, self._state, faults)
        if self._only is not None:
            chosen = np.flatnonzero(columns.row == self._only)
            columns = sensors.SensorColumns(
                columns.row[chosen],
                columns.event_time_ms[chosen],
                columns.seq,
                columns.value[chosen],
                columns.is_uncertain[chosen],
            )
        return Batch(SensorReading, columns.event_time_ms.tolist(), sensors.as_rows(self._sensors, columns))


class CameraSource:
    """Detections of all cameras, one frame a batch."""

    def __init__(self, fleet: Fleet, traits: cameras.CameraTraits, faults: Iterator[Fault], only: str | None) -> None:
        self._cameras = fleet.cameras
        self._traits = traits
        self._faults = ActiveFaults(faults)
        self._state = cameras.first_state(traits)
        self._only = only
        ids = {camera.camera_id for camera in fleet.cameras}
        self._is_silent = not ids or (only is not None and only not in ids)

    @property
    def begin_ms(self) -> int | None:
        """See ``Source``."""
        return None if self._is_silent else cameras.frame_begin_ms(self._traits, self._state.number)

    def take(self) -> Batch:
        """See ``Source``."""
        begin_ms = cameras.frame_begin_ms(self._traits, self._state.number)
        faults = self._faults.between(begin_ms, begin_ms + cameras.FRAME_MS)
        self._state, columns = cameras.step(self._traits, self._state, faults)
        rows = cameras.as_rows(self._cameras, columns)
        if self._only is not None:
            rows = [row for row in rows if row["camera_id"] == self._only]
        return Batch(CameraDetection, [row["event_time"] for row in rows], rows)


class TruthSource:
    """The faults themselves, each due at its start."""

    def __init__(self, faults: Iterator[Fault], only: str | None) -> None:
        self._faults = faults
        self._only = only
        self._next = next(faults, None)

    @property
    def begin_ms(self) -> int | None:
        """See ``Source``."""
        return None if self._next is None else self._next.start_ms

    def take(self) -> Batch:
        """See ``Source``. One fault a batch, none if it is another device's: a plan may have no end."""
        fault = self._next
        assert fault is not None
        self._next = next(self._faults, None)
        if self._only not in (None, fault.device_id):
            return Batch(GroundTruth, [], [])
        return Batch(GroundTruth, [fault.start_ms], [truth_row(fault)])


def truth_row(fault: Fault) -> Row:
    """Return a fault as a row of ``GroundTruth``."""
    return {
        "fault_id": fault.fault_id,
        "device_id": fault.device_id,
        "kind": fault.kind.value,
        "started_at": fault.start_ms,
        "ended_at": fault.end_ms,
        "magnitude": fault.magnitude,
    }


def device_of(scenario: Scenario, device: str) -> str:
    """Return the id of a scenario's device, given by id or by number.

    Raises:
        EnvironmentProblemError: it has no such device.

    """
    return find_device(make_fleet(scenario), device)


def simulate(scenario: Scenario, *, seed: int, start_ms: int, device_id: str | None = None) -> list[Source]:
    """Return the sources of a scenario: the same arguments give the same events.

    With ``device_id`` (an id or a number) only this device's events come out, the same ones as in the whole fleet.

    Raises:
        EnvironmentProblemError: the scenario has no such device.

    """
    fleet = make_fleet(scenario)
    if device_id is not None:
        device_id = find_device(fleet, device_id)

    def planned() -> Iterator[Fault]:
        return plan(scenario, fleet, seed=seed, start_ms=start_ms)

    sensor_traits = sensors.make_traits(
        fleet.sensors,
        seed=seed,
        start_ms=start_ms,
        rate_hz=scenario.rate_hz,
        day_seconds=scenario.day_seconds,
    )
    camera_traits = cameras.make_traits(
        fleet.cameras,
        seed=seed,
        start_ms=start_ms,
        mean_rate=scenario.detections_per_second,
        day_seconds=scenario.day_seconds,
    )
    return [
        SensorSource(fleet, sensor_traits, planned(), device_id),
        CameraSource(fleet, camera_traits, planned(), device_id),
        TruthSource(planned(), device_id),
    ]
