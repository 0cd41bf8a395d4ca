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


def find_device(fleet: Fleet, device: str) -> str:
    """Return the id of a device that is named by its id or by its number, from 0, as replicas are numbered.

    Numbers go through the sensor types and the cameras in turn, so that a few of them have some of each.

    Raises:
        EnvironmentProblemError: the fleet has no such device; the text shows what ids look like.

    """
    groups = [[s.device_id for s in fleet.sensors if s.sensor_type == kind] for kind in SENSOR_TYPES]
    groups.append([camera.camera_id for camera in fleet.cameras])
    known = [group[rank] for rank in range(max(map(len, groups))) for group in groups if rank < len(group)]
    if device in known:
        return device
    if device.isdecimal() and int(device) < len(known):
        return known[int(device)]
    hint = "it has none at all"
    if known:
        hint = f"it has {min(known)} to {max(known)}, or by number 0 to {len(known) - 1}"
    raise EnvironmentProblemError(f"the scenario has no device {device!r}: {hint}; raise --devices or --cameras")
