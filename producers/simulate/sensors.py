"""Sensors: mean, daily rhythm, autocorrelated noise and faults, one round of readings at a time, vectorised.

In round n every sensor measures once, at start + n x period + its own phase. The values depend on the state
before, the seed and the time, on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fleetwatch.records import FaultKind
from producers.simulate.seeds import Stream, generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producers.simulate.faults import Fault
    from producers.simulate.fleet import Sensor
    from producers.simulate.scenario import SensorType

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

UNCERTAIN_SHARE: Final = 0.002
"""So many readings carry quality UNCERTAIN, as real devices now and then doubt themselves."""
DECIMALS: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """How one type of sensor behaves; all in its unit."""

    unit: str
    mean: float
    sigma: float
    """Standard deviation of the noise around the daily rhythm: what magnitudes of faults are counted in."""
    autocorrelation: float
    """Of the noise, from one reading to the next."""
    spread: float
    """Standard deviation of the means of the devices."""
    daily: float
    """Half the distance of the daily highest and lowest mean."""
    peak_hour: float
    low: float
    high: float


SIGNALS: Final[dict[SensorType, Signal]] = {
    "temperature": Signal(
        unit="Cel",
        mean=21.0,
        sigma=0.2,
        autocorrelation=0.7,
        spread=1.5,
        daily=0.6,
        peak_hour=15,
        low=-40,
        high=120,
    ),
    "humidity": Signal(
        unit="%",
        mean=45.0,
        sigma=0.6,
        autocorrelation=0.6,
        spread=4.0,
        daily=1.8,
        peak_hour=5,
        low=0,
        high=100,
    ),
    "vibration": Signal(
        unit="mm/s",
        mean=3.2,
        sigma=0.12,
        autocorrelation=0.3,
        spread=0.25,
        daily=0.2,
        peak_hour=13,
        low=0,
        high=50,
    ),
    "power": Signal(
        unit="W",
        mean=1400.0,
        sigma=25.0,
        autocorrelation=0.5,
        spread=150.0,
        daily=75.0,
        peak_hour=12,
        low=0,
        high=1e4,
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorTraits:
    """What never changes in a run, as arrays with one row a sensor."""

    seed: int
    start_ms: int
    period_ms: float
    day_ms: float
    phase_ms: Integers
    mean: Floats
    sigma: Floats
    autocorrelation: Floats
    daily: Floats
    peak: Floats
    """As a fraction of the day."""
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class SensorState:
    """What a round leaves to the next one."""

    number: int
    noise: Floats
    """In standard deviations."""
    last: Floats
    """Value last sent; NaN before the first."""


@dataclass(frozen=True, slots=True)
class SensorColumns:
    """Readings of one round in the order of their times; ``row`` says which sensor."""

    row: Integers
    event_time_ms: Integers
    seq: int
    value: Floats
    is_uncertain: NDArray[np.bool_]


def make_traits(
    sensors: Sequence[Sensor], *, seed: int, start_ms: int, rate_hz: float, day_seconds: float
) -> SensorTraits:
    """Draw each device's own mean, noise and phase."""
    random = generator(seed, Stream.SENSOR_TRAITS)
    count = len(sensors)

    def each(field: str) -> Floats:
        return np.array([getattr(SIGNALS[sensor.sensor_type], field) for sensor in sensors], dtype=np.float64)

    period_ms = 1000 / rate_hz
    return SensorTraits(
        seed=seed,
        start_ms=start_ms,
        period_ms=period_ms,
        day_ms=day_seconds * 1000,
        phase_ms=(random.random(count) * period_ms).astype(np.int64),
        mean=each("mean") + each("spread") * np.clip(random.standard_normal(count), -2, 2),
        sigma=each("sigma") * random.uniform(0.8, 1.2, count),
        autocorrelation=each("autocorrelation"),
        daily=each("daily") * random.uniform(0.8, 1.2, count),
        peak=each("peak_hour") / 24 + random.uniform(-0.02, 0.02, count),
        low=each("low"),
        high=each("high"),
    )


def first_state(traits: SensorTraits) -> SensorState:
    """Return the state before round 0, with noise that is already settled."""
    count = len(traits.mean)
    noise = generator(traits.seed, Stream.SENSOR_TRAITS, 1).standard_normal(count)
    return SensorState(0, noise, np.full(count, np.nan))


def round_begin_ms(traits: SensorTraits, number: int) -> int:
    """When a round begins; its readings are due within one period from then."""
    return traits.start_ms + int(number * traits.period_ms)


def expected(traits: SensorTraits, event_time_ms: Integers) -> Floats:
    """Return the mean with the daily rhythm, at one time for each sensor."""
    of_day = (event_time_ms % traits.day_ms) / traits.day_ms
    return traits.mean + traits.daily * np.cos(2 * np.pi * (of_day - traits.peak))


def step(traits: SensorTraits, state: SensorState, faults: Sequence[Fault]) -> tuple[SensorState, SensorColumns]:
    """Measure one round; ``faults`` are those that may touch it."""
    random = generator(traits.seed, Stream.SENSOR_ROUNDS, state.number)
    count = len(traits.mean)
    time_ms = round_begin_ms(traits, state.number) + traits.phase_ms
    fresh = np.sqrt(1 - traits.autocorrelation**2) * random.standard_normal(count)
    noise = traits.autocorrelation * state.noise + fresh
    value = expected(traits, time_ms) + traits.sigma * noise
    is_uncertain = random.random(count) < UNCERTAIN_SHARE
    is_sent = np.ones(count, dtype=np.bool_)
    for fault in faults:
        if fault.is_camera:
            continue
        row = fault.row
        at_ms = int(time_ms[row])
        if not fault.start_ms <= at_ms < fault.end_ms:
            continue
        if fault.kind in (FaultKind.DROPOUT, FaultKind.OUTAGE):
            is_sent[row] = False
        elif fault.kind is FaultKind.STUCK:
            value[row] = value[row] if np.isnan(state.last[row]) else state.last[row]
        else:
            value[row] += traits.sigma[row] * _push(fault, at_ms, traits.seed, state.number)
    value = np.clip(value, traits.low, traits.high).round(DECIMALS)
    last = np.where(is_sent, value, state.last)
    order = np.argsort(time_ms, kind="stable")
    order = order[is_sent[order]]
    columns = SensorColumns(order, time_ms[order], state.number, value[order], is_uncertain[order])
    return SensorState(state.number + 1, noise, last), columns


def _push(fault: Fault, at_ms: int, seed: int, number: int) -> float:
    """By how many standard deviations a fault moves a value."""
    if fault.kind is FaultKind.DRIFT:
        return fault.direction * fault.magnitude * (at_ms - fault.start_ms) / (fault.end_ms - fault.start_ms)
    if fault.kind is FaultKind.NOISE:
        random = generator(seed, Stream.NOISE_FAULTS, fault.row, number)
        return fault.magnitude * float(random.standard_normal())
    return fault.direction * fault.magnitude


def as_rows(sensors: Sequence[Sensor], columns: SensorColumns) -> list[dict[str, Any]]:
    """Return the readings as rows of ``SensorReading``."""
    rows = []
    for row, time_ms, value, is_uncertain in zip(
        columns.row.tolist(),
        columns.event_time_ms.tolist(),
        columns.value.tolist(),
        columns.is_uncertain.tolist(),
        strict=True,
    ):
        sensor = sensors[row]
        rows.append(
            {
                "device_id": sensor.device_id,
                "sensor_type": sensor.sensor_type,
                "site": sensor.site,
                "event_time": time_ms,
                "seq": columns.seq,
                "value": value,
                "unit": SIGNALS[sensor.sensor_type].unit,
                "quality": "UNCERTAIN" if is_uncertain else "GOOD",
            }
        )
    return rows
