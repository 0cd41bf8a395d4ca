"""How a device is judged: numbers derived from its sampling interval, or set for its sensor type.

A fleet that reports every second and one that reports every five minutes need different numbers: how long to calibrate,
over how many readings to smooth, and how rare is rare enough. Each follows from the interval unless a file sets it
(``FLEETWATCH_DETECTION_FILE``):

| name | unit | default at an interval of dt seconds |
| --- | --- | --- |
| calibration | readings | 2.6 days of them, 150 to 750 |
| smoothing | readings | 80 minutes of them, 4 to 16 |
| threshold | powers of ten | 2.45 + log10(300 / dt), at least 2.45: as rare a week whatever the rate; fast: 1 more |
| half_life | readings | a week of them, at least 2000: how fast the past fades in the calibration |
| cool_down | calibrations | 0.2; fast: 0, the alert rule's quiet time does its work |
| record_margin | ranges | 0.03; fast: 0.5, since noise alone makes records all day |
| raise_bar | powers of ten | 0.25: by how much each alarm raises the bar for the next one |
| ready_after | readings | calibration; fast: ``FLEETWATCH_WARM_UP_READINGS``, at least 20 |
| sudden | powers of ten | fast: log10(a week / dt) + 1.5, what chance does once in 30 weeks; otherwise never |
| drift | deviations | 0.5: by how much the largest signal must stay further from what is usual (``streams/drift.py``) |
| strictness | powers of ten | 0: added to threshold and sudden, the knob for too many or too few alarms |

Fast is a device that reports more often than once a minute. Slower ones send sums and means over minutes, whose tails
are no normal distribution's: the deviation detector relies on that and has no vote there (with it NAB falls by 27
points).

They are fixed when a device has sent SETTLE readings, and again when its interval is a quarter or fourfold of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, get_args

import numpy as np
import yaml
from numba import njit
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from fleetwatch.errors import EnvironmentProblemError
from streams.arrays import grown
from streams.river_names import PREFIX, check, detector_class, is_river

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

NAMES: Final = (
    "calibration",
    "smoothing",
    "threshold",
    "half_life",
    "cool_down",
    "record_margin",
    "raise_bar",
    "ready_after",
    "sudden",
    "drift",
    "strictness",
)
(
    CALIBRATION,
    SMOOTHING,
    THRESHOLD,
    HALF_LIFE,
    COOL_DOWN,
    RECORD_MARGIN,
    RAISE_BAR,
    READY_AFTER,
    SUDDEN,
    DRIFT,
    STRICTNESS,
) = range(len(NAMES))
WIDTH: Final = len(NAMES)
Detector = Literal["adaptive", "deviation", "half-space-trees", "isolation-forest", "multivariate"]
DETECTORS: Final[tuple[Detector, ...]] = get_args(Detector)
VOTERS: Final[tuple[Detector, ...]] = ("adaptive", "deviation", "multivariate")
"""Whose excess makes alarms; the scores of the others are reported only."""
SETTLE: Final = 20
"""Readings of a device from which its interval is known well enough to derive the numbers."""
FAST_SECONDS: Final = 60.0
"""Devices that report more often than this are judged reading by reading."""
WEEK_SECONDS: Final = 604_800.0
NEVER: Final = 1e300
"""No evidence is that strong."""


@njit(cache=True, nogil=True)
def fast_bars(seconds):
    """Return threshold and sudden of a device that reports so often and is judged reading by reading."""
    return 3.45 + max(0.0, np.log10(300.0 / seconds)), np.log10(WEEK_SECONDS / seconds) + 1.5


@njit(cache=True, nogil=True)
def derive(interval, warm_up, overrides, plan):
    """Write a device's numbers into ``plan`` (WIDTH): from its interval (s), or from ``overrides`` where not NaN."""
    dt = max(interval, 1e-3)
    is_fast = dt < FAST_SECONDS
    plan[CALIBRATION] = min(max(2.6 * 86_400.0 / dt, 150.0), 750.0)
    if not np.isnan(overrides[CALIBRATION]):
        plan[CALIBRATION] = overrides[CALIBRATION]
    plan[SMOOTHING] = min(max(4800.0 / dt, 4.0), 16.0)
    threshold, sudden = fast_bars(dt)
    plan[THRESHOLD] = threshold if is_fast else threshold - 1.0
    plan[HALF_LIFE] = max(2000.0, WEEK_SECONDS / dt)
    plan[COOL_DOWN] = 0.0 if is_fast else 0.2
    plan[RECORD_MARGIN] = 0.5 if is_fast else 0.03
    plan[RAISE_BAR] = 0.25
    plan[READY_AFTER] = max(SETTLE, warm_up) if is_fast else plan[CALIBRATION]
    plan[SUDDEN] = sudden if is_fast else NEVER
    plan[DRIFT] = 0.5
    plan[STRICTNESS] = 0.0
    for k in range(WIDTH):
        if not np.isnan(overrides[k]):
            plan[k] = overrides[k]
    plan[THRESHOLD] += plan[STRICTNESS]
    plan[SUDDEN] += plan[STRICTNESS]


@njit(cache=True, nogil=True)
def _fold(rows, kinds, intervals, warm_up, overrides, seen, planned, plans, out):
    for i in range(rows.shape[0]):
        row = rows[i]
        n, interval = seen[row], intervals[i]
        is_off = interval > 4.0 * planned[row] or interval < 0.25 * planned[row]
        if n == SETTLE or (n > SETTLE and is_off):
            planned[row] = interval
            derive(interval, warm_up, overrides[kinds[i]], plans[row])
        elif n > SETTLE and np.isnan(plans[row, 0]):  # restored: the settings may be others now
            derive(planned[row], warm_up, overrides[kinds[i]], plans[row])
        out[i] = plans[row]
        seen[row] = n + 1


class PlanFold:
    """How many readings of each device were seen, the interval that it was planned with, and the plan."""

    def __init__(self) -> None:
        self.seen = np.zeros(0, np.int64)
        self.planned = np.zeros(0, np.float64)
        self._plans = np.zeros((0, WIDTH), np.float64)

    def fold(
        self,
        rows: NDArray[np.int64],
        kinds: NDArray[np.int64],
        intervals: NDArray[np.float64],
        warm_up: int,
        overrides: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return the plan of each reading, shape (n, WIDTH); NaN while its device has no plan.

        ``kinds`` are sensor type numbers, the rows of ``overrides``; ``intervals`` in seconds.
        """
        devices = int(rows.max(initial=-1)) + 1
        self.seen, self.planned = grown(self.seen, devices), grown(self.planned, devices)
        self._plans = grown(self._plans, len(self.seen), np.nan)
        out = np.empty((len(rows), WIDTH), np.float64)
        _fold(rows, kinds, intervals, float(warm_up), overrides, self.seen, self.planned, self._plans, out)
        return out

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs."""
        return {"seen": self.seen, "planned": self.planned}

    @classmethod
    def restore(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return a fold that goes on where the snapshot was taken; plans are made anew from the settings."""
        fold = cls()
        fold.seen, fold.planned = state["seen"].copy(), state["planned"].copy()
        return fold


class Tuning(BaseModel):
    """Numbers of one sensor type; what is not given is derived."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    calibration: Annotated[float | None, Field(ge=20, le=100_000)] = None
    smoothing: Annotated[float | None, Field(ge=1, le=1000)] = None
    threshold: Annotated[float | None, Field(gt=0, le=100)] = None
    half_life: Annotated[float | None, Field(ge=100, le=1e9)] = None
    cool_down: Annotated[float | None, Field(ge=0, le=100)] = None
    record_margin: Annotated[float | None, Field(ge=0, le=1e9)] = None
    raise_bar: Annotated[float | None, Field(ge=0, le=100)] = None
    ready_after: Annotated[float | None, Field(ge=2, le=100_000)] = None
    sudden: Annotated[float | None, Field(gt=0, le=1000)] = None
    drift: Annotated[float | None, Field(gt=0, le=100)] = None
    strictness: Annotated[float | None, Field(ge=-10, le=100)] = None

    def overrides(self) -> list[float]:
        """Return the numbers in the order of NAMES, NaN where one is derived."""
        return [np.nan if (value := getattr(self, name)) is None else float(value) for name in NAMES]


def check_detector(name: str) -> str:
    """Return the name of a detector that may vote.

    Raises:
        ValueError: there is none of that name; the text says which there are.

    """
    if is_river(name):
        detector_class(name)
    elif name not in DETECTORS:
        raise ValueError(f"there is no detector {name}; there are {', '.join(DETECTORS)}, and River's as {PREFIX}NAME")
    return name


def _checked(name: str) -> str:
    try:
        return check_detector(name)
    except ValueError as error:
        raise _refused(error) from None


def _refused(reason: object) -> PydanticCustomError:
    return PydanticCustomError("detector", "{reason}", {"reason": str(reason)})


class Tunings(BaseModel):
    """Which detectors vote, and settings of all sensor types: ``default`` for those that are not named.

    ``river`` has constructor parameters of River's detectors among them, by their names without ``river:``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    detectors: Annotated[tuple[Annotated[str, AfterValidator(_checked)], ...], Field(min_length=1)] = VOTERS
    default: Tuning = Tuning()
    sensor_types: dict[str, Tuning] = {}
    river: Annotated[
        dict[str, dict[str, JsonValue]], Field(validate_default=True, exclude_if=lambda given: not given)
    ] = {}

    @field_validator("river")
    @classmethod
    def _fits(cls, given: dict[str, dict[str, JsonValue]], found: ValidationInfo) -> dict[str, dict[str, JsonValue]]:
        named = [name.removeprefix(PREFIX) for name in found.data.get("detectors", ()) if is_river(name)]
        for name in given:
            if name not in named:
                raise _refused(f"{name} does not vote: name {PREFIX}{name} among the detectors")
        for name in named:
            try:
                check(name, given.get(name, {}))
            except ValueError as error:
                raise _refused(error) from None
        return given

    def river_detectors(self) -> dict[str, dict[str, JsonValue]]:
        """Return River's detectors that vote, with their parameters."""
        return {name: self.river.get(name.removeprefix(PREFIX), {}) for name in self.detectors if is_river(name)}

    def table(self, kinds: Sequence[str]) -> NDArray[np.float64]:
        """Return overrides by sensor type number, shape (kinds, WIDTH)."""
        rows: list[Any] = [self.sensor_types.get(kind, self.default).overrides() for kind in kinds]
        return np.array(rows, np.float64).reshape(len(rows), WIDTH)


def load_tunings(path: Path | None) -> Tunings:
    """Read a detection file; without one everything is derived.

    Raises:
        EnvironmentProblemError: the file is missing or wrong; the text names the place.

    """
    if path is None:
        return Tunings()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise EnvironmentProblemError(f"cannot read the detection settings {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise EnvironmentProblemError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    try:
        return Tunings.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise EnvironmentProblemError(f"{path}: {place}: {first['msg']}") from None
