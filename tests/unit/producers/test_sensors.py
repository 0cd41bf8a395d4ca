from __future__ import annotations

import numpy as np
import pytest

from fleetwatch.records import FaultKind
from producers.simulate import sensors
from producers.simulate.faults import Fault
from producers.simulate.fleet import Fleet, make_fleet
from producers.simulate.scenario import Scenario

START = 1_767_225_600_000
SCENARIO = Scenario(name="x", sensors={"temperature": 3, "humidity": 3, "vibration": 3, "power": 3}, rate_hz=5)
FLEET = make_fleet(SCENARIO)


def traits_of(fleet: Fleet = FLEET, *, seed: int = 1, day_seconds: float = 86_400) -> sensors.SensorTraits:
    return sensors.make_traits(fleet.sensors, seed=seed, start_ms=START, rate_hz=5, day_seconds=day_seconds)


def run(
    rounds: int, faults: list[Fault] | None = None, *, seed: int = 1, day_seconds: float = 86_400
) -> tuple[np.ndarray, np.ndarray]:
    """Values and times, one row a round and one column a sensor; NaN where nothing was sent."""
    traits = traits_of(seed=seed, day_seconds=day_seconds)
    state = sensors.first_state(traits)
    values = np.full((rounds, 12), np.nan)
    times = np.zeros((rounds, 12), dtype=np.int64)
    for number in range(rounds):
        state, columns = sensors.step(traits, state, faults or [])
        values[number, columns.row] = columns.value
        times[number, columns.row] = columns.event_time_ms
    return values, times


def fault(kind: FaultKind, *, row: int = 0, magnitude: float = 0.0, start_s: float = 4, end_s: float = 8) -> Fault:
    return Fault(
        fault_id="f",
        is_camera=kind is FaultKind.SURGE,
        kind=kind,
        device_id=FLEET.sensors[row].device_id,
        row=row,
        start_ms=START + round(start_s * 1000),
        end_ms=START + round(end_s * 1000),
        magnitude=magnitude,
        direction=1,
    )


def test_the_same_seed_gives_the_same_readings_and_another_seed_others() -> None:
    np.testing.assert_array_equal(run(50, seed=3)[0], run(50, seed=3)[0])
    assert not np.array_equal(run(50, seed=3)[0], run(50, seed=4)[0])


def test_a_round_can_be_made_again_from_the_state_before_it() -> None:
    traits = traits_of()
    state = sensors.first_state(traits)
    for _ in range(7):
        state, _columns = sensors.step(traits, state, [])
    first = sensors.step(traits, state, [])[1]
    second = sensors.step(traits, state, [])[1]
    np.testing.assert_array_equal(first.value, second.value)


def test_every_sensor_measures_once_a_period_at_its_own_phase_in_ascending_order() -> None:
    traits = traits_of()
    state = sensors.first_state(traits)
    for number in range(20):
        state, columns = sensors.step(traits, state, [])
        begin = START + number * 200
        assert np.all(np.diff(columns.event_time_ms) >= 0)
        assert np.all((columns.event_time_ms >= begin) & (columns.event_time_ms < begin + 200))
        assert sorted(columns.row.tolist()) == list(range(12))
        assert columns.seq == number


def test_each_type_has_its_own_level_and_unit_and_each_device_its_own_offset() -> None:
    values, _ = run(500)
    means = values.mean(axis=0)
    for row, sensor in enumerate(FLEET.sensors):
        signal = sensors.SIGNALS[sensor.sensor_type]
        assert abs(means[row] - signal.mean) < 3 * signal.spread + signal.daily
    assert len(set(np.round(means, 3))) == 12
    assert len({signal.unit for signal in sensors.SIGNALS.values()}) == 4


def test_the_noise_has_the_standard_deviation_that_magnitudes_are_counted_in() -> None:
    traits = traits_of()
    values, times = run(4000)
    expected = np.array([sensors.expected(traits, row) for row in times])
    np.testing.assert_allclose((values - expected).std(axis=0), traits.sigma, rtol=0.15)


def test_noise_is_autocorrelated() -> None:
    traits = traits_of()
    values, times = run(4000)
    noise = values - np.array([sensors.expected(traits, row) for row in times])
    for column in range(12):
        found = np.corrcoef(noise[:-1, column], noise[1:, column])[0, 1]
        assert found == pytest.approx(traits.autocorrelation[column], abs=0.08)


def test_a_compressed_day_shows_the_rhythm() -> None:
    values, times = run(5 * 120, day_seconds=120)
    traits = traits_of(day_seconds=120)
    of_day = (times % 120_000) / 120_000
    for column in range(12):
        at_peak = np.abs((of_day[:, column] - traits.peak[column] + 0.5) % 1 - 0.5) < 0.1
        at_low = np.abs((of_day[:, column] - traits.peak[column]) % 1 - 0.5) < 0.1
        swing = values[at_peak, column].mean() - values[at_low, column].mean()
        assert swing == pytest.approx(2 * traits.daily[column], rel=0.35)


def test_a_spike_lifts_exactly_its_readings_by_its_magnitude() -> None:
    plain, times = run(60)
    spiked, _ = run(60, [fault(FaultKind.SPIKE, magnitude=10, start_s=4, end_s=4.4)])
    lifted = np.flatnonzero(plain[:, 0] != spiked[:, 0])
    assert len(lifted) == 2
    assert all(START + 4000 <= times[i, 0] < START + 4400 for i in lifted)
    np.testing.assert_allclose((spiked - plain)[lifted, 0], 10 * traits_of().sigma[0], atol=1e-3)
    np.testing.assert_array_equal(plain[:, 1:], spiked[:, 1:])


def test_a_drift_grows_to_its_magnitude_and_ends() -> None:
    plain, times = run(60)
    drifting, _ = run(60, [fault(FaultKind.DRIFT, magnitude=12)])
    pushed = (drifting - plain)[:, 0] / traits_of().sigma[0]
    inside = (times[:, 0] >= START + 4000) & (times[:, 0] < START + 8000)
    assert np.all(np.diff(pushed[inside]) > 0)
    assert 11 < pushed[inside][-1] <= 12
    assert np.all(pushed[~inside] == 0)


def test_a_stuck_sensor_repeats_its_last_value() -> None:
    stuck, times = run(60, [fault(FaultKind.STUCK)])
    inside = np.flatnonzero((times[:, 0] >= START + 4000) & (times[:, 0] < START + 8000))
    assert len(inside) == 20
    assert set(stuck[inside, 0]) == {stuck[inside[0] - 1, 0]}
    assert stuck[inside[-1] + 1, 0] != stuck[inside[-1], 0]


@pytest.mark.parametrize("kind", [FaultKind.DROPOUT, FaultKind.OUTAGE])
def test_a_drop_out_sends_nothing_and_the_others_go_on(kind: FaultKind) -> None:
    values, _ = run(60, [fault(kind)])
    assert np.isnan(values[:, 0]).sum() == 20
    assert not np.isnan(values[:, 1:]).any()


def test_a_noise_burst_widens_the_noise() -> None:
    plain, times = run(200)
    noisy, _ = run(200, [fault(FaultKind.NOISE, magnitude=8, end_s=24)])
    inside = (times[:, 0] >= START + 4000) & (times[:, 0] < START + 24_000)
    difference = (noisy - plain)[:, 0] / traits_of().sigma[0]
    assert 6 < difference[inside].std() < 10
    assert np.all(difference[~inside] == 0)


def test_a_surge_leaves_sensors_alone() -> None:
    plain, _ = run(30)
    # the same row number, but of a camera
    with_surge, _ = run(30, [fault(FaultKind.SURGE, magnitude=20)])
    np.testing.assert_array_equal(plain, with_surge)


def test_values_stay_within_what_the_unit_allows() -> None:
    values, _ = run(60, [fault(FaultKind.SPIKE, row=3, magnitude=10_000)])
    assert np.nanmax(values[:, 3]) == 100  # percent
