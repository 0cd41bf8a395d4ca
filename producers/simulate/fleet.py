"""The devices of a scenario: ids such as ``temp-north-03`` and ``cam-01``, short, printable, unique."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fleetwatch.errors import EnvironmentProblemError
from producers.simulate.scenario import SENSOR_TYPES, Scenario, SensorType

PREFIX: Final[dict[SensorType, str]] = {
    "temperature": "temp",
    "humidity": "hum",
    "vibration": "vib",
    "power": "power",
}


@dataclass(frozen=True, slots=True)
class Sensor:
    """One sensor; its place in the fleet's tuple is its row in every array."""

    device_id: str
    sensor_type: SensorType
    site: str


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera; not every camera's detector tracks objects."""

    camera_id: str
    site: str
    tracks: bool


@dataclass(frozen=True, slots=True)
class Fleet:
    """All devices of one scenario."""

    sensors: tuple[Sensor, ...]
    cameras: tuple[Camera, ...]


def make_fleet(scenario: Scenario) -> Fleet:
    """Lay devices out over the sites in turn, numbered within type and site."""
    sites = scenario.sites
    sensors = tuple(
        Sensor(
            device_id=f"{PREFIX[kind]}-{sites[i % len(sites)]}-{i // len(sites) + 1:02d}",
            sensor_type=kind,
            site=sites[i % len(sites)],
        )
        for kind in SENSOR_TYPES
        for i in range(scenario.sensors.get(kind, 0))
    )
    cameras = tuple(
        Camera(camera_id=f"cam-{i + 1:02d}", site=sites[i % len(sites)], tracks=i % 4 != 3)
        for i in range(scenario.cameras)
    )
    return Fleet(sensors, cameras)


def require_device(fleet: Fleet, device_id: str) -> None:
    """Check that the fleet has this device.

    Raises:
        EnvironmentProblemError: it has not; the text shows what ids look like.

    """
    known = {s.device_id for s in fleet.sensors} | {c.camera_id for c in fleet.cameras}
    if device_id not in known:
        hint = f"it has {min(known)} to {max(known)}" if known else "it has none at all"
        raise EnvironmentProblemError(f"the scenario has no device {device_id!r}: {hint}; raise --devices or --cameras")
