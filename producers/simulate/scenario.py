"""Scenarios: which devices there are, how fast they send, which faults they get. Typed YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.records import FaultKind
from producers import typed_yaml

SHIPPED: Final = Path(__file__).resolve().parent / "scenarios"

SensorType = Literal["temperature", "humidity", "vibration", "power"]
SENSOR_TYPES: Final[tuple[SensorType, ...]] = ("temperature", "humidity", "vibration", "power")
InjectedKind = Literal["SPIKE", "DRIFT", "STUCK", "DROPOUT", "NOISE", "SURGE", "OUTAGE"]
Site = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{0,15}$")]

DEFAULT_SECONDS: Final = {
    FaultKind.DRIFT: 15.0,
    FaultKind.STUCK: 12.0,
    FaultKind.DROPOUT: 30.0,
    FaultKind.NOISE: 5.0,
    FaultKind.SURGE: 15.0,
    FaultKind.OUTAGE: 240.0,
}
"""A drop-out is well over the 20 s after which the rules speak of silence, an outage over what they wait for a camera
that sees little. A spike counts in readings."""

DEFAULT_MAGNITUDE: Final = {
    FaultKind.SPIKE: (8.0, 15.0),
    FaultKind.DRIFT: (10.0, 14.0),
    FaultKind.STUCK: (0.0, 0.0),
    FaultKind.DROPOUT: (0.0, 0.0),
    FaultKind.NOISE: (6.0, 9.0),
    FaultKind.SURGE: (20.0, 25.0),
    FaultKind.OUTAGE: (0.0, 0.0),
}


class FaultSeries(BaseModel):
    """Faults of one kind: the first, and more at a fixed distance, each on a device (or a site) chosen by the seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: InjectedKind
    first_seconds: float = Field(ge=0, description="Start of the first one, after the start of the run.")
    every_seconds: float | None = Field(None, ge=0.1, description="Distance of the starts; unset: only one.")
    count: int | None = Field(None, ge=1, description="How many; unset: endless.")
    magnitude: tuple[float, float] | None = Field(
        None, description="Least and most, in standard deviations; SURGE: factor of the mean rate."
    )
    duration_seconds: float | None = Field(None, gt=0, le=86_400, description="Unset: by kind. SPIKE: 1 to 3 readings.")
    sensor_type: SensorType | None = Field(None, description="Only devices of this type.")
    device_id: str | None = Field(None, description="Only this device.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.magnitude is not None and not 0 < self.magnitude[0] <= self.magnitude[1]:
            raise ValueError("magnitude is [least, most], above 0")
        if self.magnitude is not None and self.kind in ("STUCK", "DROPOUT", "OUTAGE"):
            raise ValueError(f"{self.kind} has no magnitude: leave it out")
        if self.kind == "SPIKE" and self.duration_seconds is not None:
            raise ValueError("a SPIKE lasts 1 to 3 readings: leave out duration_seconds")
        if self.kind == "SURGE" and self.sensor_type is not None:
            raise ValueError("a SURGE is for cameras: leave out sensor_type")
        if self.kind == "OUTAGE" and self.device_id is not None:
            raise ValueError("an OUTAGE strikes a site: leave out device_id, or take a DROPOUT")
        if self.count is not None and self.count > 1 and self.every_seconds is None:
            raise ValueError("a count above 1 needs every_seconds")
        return self

    @property
    def fault_kind(self) -> FaultKind:
        """The kind as the record's enum."""
        return FaultKind(self.kind)

    @property
    def magnitudes(self) -> tuple[float, float]:
        """Least and most."""
        return self.magnitude or DEFAULT_MAGNITUDE[self.fault_kind]


class Scenario(BaseModel):
    """One simulated fleet and what happens to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    sites: tuple[Site, ...] = Field(("north", "south", "east", "west"), min_length=1)
    sensors: dict[SensorType, Annotated[int, Field(ge=0, le=250_000)]]
    rate_hz: float = Field(1.0, gt=0, le=1000, description="Readings of one sensor in a second.")
    cameras: int = Field(0, ge=0, le=10_000)
    detections_per_second: float = Field(2.0, gt=0, le=1000, description="Of one camera, mean over a day.")
    day_seconds: float = Field(86_400.0, ge=10, description="Length of a day of the daily rhythm.")
    faults: tuple[FaultSeries, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.sites)) != len(self.sites):
            raise ValueError("a site is named twice")
        return self

    def changed(
        self, *, devices: int | None = None, cameras: int | None = None, rate_hz: float | None = None
    ) -> Scenario:
        """Return a copy with other sizes; sensors are spread evenly over the types.

        Raises:
            EnvironmentProblemError: a number is out of range.

        """
        changes: dict[str, object] = {}
        if devices is not None:
            whole, rest = divmod(devices, len(SENSOR_TYPES))
            changes["sensors"] = {kind: whole + (i < rest) for i, kind in enumerate(SENSOR_TYPES)}
        if cameras is not None:
            changes["cameras"] = cameras
        if rate_hz is not None:
            changes["rate_hz"] = rate_hz
        return typed_yaml.check(self.model_dump() | changes, Scenario, f"scenario {self.name}")


def shipped_names() -> list[str]:
    """Names of the scenarios that come with fleetwatch."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_scenario(name_or_file: str) -> Scenario:
    """Read a shipped scenario by its name, or a file.

    Raises:
        EnvironmentProblemError: there is no such scenario, or it is wrong; one line says where.

    """
    if name_or_file in shipped_names():
        return typed_yaml.load(SHIPPED / f"{name_or_file}.yaml", Scenario)
    path = Path(name_or_file)
    if not path.exists():
        raise EnvironmentProblemError(
            f"there is no scenario {name_or_file!r}: give a file, or one of {', '.join(shipped_names())}"
        )
    return typed_yaml.load(path, Scenario)
