"""Concept drift: what is one and what is none, and that a drifted channel begins anew in every fold."""

from __future__ import annotations

import numpy as np
import pytest

from fleetwatch import topics
from fleetwatch.records import Alert, AlertState, DetectorState, RuleKind, Verdict, from_millis
from streams import features, tuning
from streams.alarms import AlarmFold
from streams.detectors.adaptive import AdaptiveFold, Unusual
from streams.detectors.deviation import DeviationFold
from streams.detectors.multivariate import MultivariateFold
from streams.lane import Lane
from streams.tuning import Tuning, Tunings
from tests.unit.streams.lanes import (
    START_MS,
    event,
    make_lane,
    pieces,
    raw,
    reading,
    sent,
    through_the_changelog,
)

CALIBRATION = 160
CALM = 8 * CALIBRATION
"""Readings before something happens."""


def plan(seconds: float = 1.0, **changes: float) -> np.ndarray:
    overrides, found = np.full(tuning.WIDTH, np.nan), np.zeros(tuning.WIDTH)
    for name, value in ({"calibration": CALIBRATION} | changes).items():
        overrides[tuning.NAMES.index(name)] = value
    tuning.derive(seconds, 30.0, overrides, found)
    return found


def fold(values: np.ndarray, fresh: AdaptiveFold | None = None, *, first: int = 0, **changes: float) -> Unusual:
    count = len(values)
    times = np.arange(first, first + count) * 1000
    nothing = np.zeros(count, np.bool_)
    plans = np.tile(plan(**changes), (count, 1))
    return (fresh or AdaptiveFold()).fold(np.zeros(count, np.int64), times, values, nothing, plans)


def drifts(values: np.ndarray, **changes: float) -> list[int]:
    return np.flatnonzero(fold(values, **changes).restarts).tolist()


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(20, 1, count)


def shifted(seed: int = 0) -> np.ndarray:
    values = noise(CALM + 4 * CALIBRATION, seed)
    values[CALM:] += 8
    return values


@pytest.mark.parametrize("seed", range(5))
def test_a_new_level_is_a_drift_once_after_a_calibration(seed: int) -> None:
    (at,) = drifts(shifted(seed))
    assert CALM + CALIBRATION < at < CALM + 1.6 * CALIBRATION


def test_more_noise_for_good_is_a_drift() -> None:
    values = shifted()
    values[CALM:] = 20 + 4 * (values[CALM:] - 28)
    assert len(drifts(values)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_what_stays_as_it_is_does_not_drift(seed: int) -> None:
    assert drifts(noise(60 * CALIBRATION, seed)) == []


def test_a_steady_trend_is_no_drift() -> None:
    values = noise(30 * CALIBRATION)
    assert drifts(values + np.arange(len(values)) * 0.01) == []


@pytest.mark.parametrize("length", [1, 20, CALIBRATION // 2])
def test_a_fault_that_ends_is_no_drift(length: int) -> None:
    values = shifted()
    values[CALM + length :] -= 8
    assert drifts(values) == []


@pytest.mark.parametrize("stuck_at", [20.0, 40.0])
def test_a_dead_sensor_is_no_drift(stuck_at: float) -> None:
    values = shifted()
    values[CALM:] = stuck_at
    assert drifts(values) == []


def test_it_can_be_set_and_turned_off() -> None:
    assert drifts(shifted(), drift=100.0) == []
    assert len(drifts(shifted(), drift=0.2)) == 1


def test_where_the_batch_is_cut_changes_nothing() -> None:
    values = shifted()
    whole = fold(values)
    (at,) = np.flatnonzero(whole.restarts)
    for cut in (at - 1, at, at + 1, at + 2, CALM + 17):
        fresh = AdaptiveFold()
        first = fold(values[:cut], fresh)
        rest = fold(values[cut:], AdaptiveFold.restore(fresh.snapshot()), first=cut)
        for name in ("score", "restarts"):
            assert np.array_equal(
                np.concatenate([getattr(first, name), getattr(rest, name)]), getattr(whole, name), equal_nan=True
            )


def test_who_is_not_ready_does_not_drift() -> None:
    assert drifts(shifted(), ready_after=float(len(shifted()))) == []


def restarting(count: int, at: int) -> np.ndarray:
    restarts = np.zeros(count, np.bool_)
    restarts[at] = True
    return restarts


def test_after_a_drift_the_adaptive_detector_is_as_new() -> None:
    values = shifted()
    whole = fold(values)
    (at,) = np.flatnonzero(whole.restarts)
    new = fold(values[at + 1 :], first=int(at) + 1)
    assert np.array_equal(whole.score[at + 1 :], new.score)
    assert np.array_equal(whole.spread[at + 1 :], new.spread)


def test_after_a_drift_the_other_folds_are_as_new() -> None:
    values, at = shifted(), CALM + 300
    count, later = len(values), len(values) - at - 1
    rows, gaps, restarts = np.zeros(count, np.int64), np.zeros(count, np.bool_), restarting(count, at)
    plans, excess = np.tile(plan(), (count, 1)), np.where(np.arange(count) % 50 == 0, 1.0, -1.0)
    whole = DeviationFold().fold(rows, values, gaps, restarts)
    new = DeviationFold().fold(rows[:later], values[at + 1 :], gaps[:later])
    assert np.array_equal(whole.evidence[at + 1 :], new.evidence, equal_nan=True)
    whole_x, seen = features.fold_features(rows, values, np.zeros(1, np.int64), np.zeros((1, features.WIDTH)), restarts)
    new_x, new_seen = features.fold_features(
        rows[:later], values[at + 1 :], np.zeros(1, np.int64), np.zeros((1, features.WIDTH))
    )
    assert np.array_equal(whole_x[at + 1 :], new_x)
    assert np.array_equal(seen[at + 1 :], new_seen)
    alarms = AlarmFold().fold(rows, values, excess, plans, restarts)
    new_alarms = AlarmFold().fold(rows[:later], values[at + 1 :], excess[at + 1 :], plans[:later])
    for name in ("raised", "is_record", "is_alarm", "is_ready"):
        assert np.array_equal(getattr(alarms, name)[at + 1 :], getattr(new_alarms, name), equal_nan=True)
    assert np.flatnonzero(alarms.is_back).tolist() == [at + 1 + np.flatnonzero(new_alarms.is_ready)[0]]


def test_a_machine_whose_channel_has_drifted_is_not_abnormal_until_that_has_calibrated() -> None:
    """Two channels; the first moves away for good, and is told to begin anew 100 rows later."""
    count, moved, begun = 800, 500, 600
    random = np.random.default_rng(5)
    values = random.normal(0, 1, (count, 2))
    values[moved:, 0] += 12
    rows, times = np.tile([0, 1], count), np.repeat(np.arange(count) * 1000, 2)
    restarts = np.zeros(2 * count, np.bool_)
    plans = np.tile(plan(), (2 * count, 1))
    columns = (np.zeros(2 * count, np.int64), rows, times, values.reshape(-1), plans)
    plain = MultivariateFold().fold(*columns, restarts).is_abnormal[1::2]
    restarts[2 * begun] = True
    anew = MultivariateFold().fold(*columns, restarts).is_abnormal[1::2]
    assert plain[moved + 10 : begun].any()
    assert np.array_equal(anew[:begun], plain[:begun])
    assert not anew[begun:].any()


CHANGED = {"name": "changed", "kind": "drift", "severity": "info"}
UNUSUAL = {"name": "unusual", "kind": "anomaly", "quiet_seconds": 2}
TUNED = Tunings(default=Tuning(calibration=CALIBRATION))


def lane_of(*rules: dict[str, object], tunings: Tunings = TUNED) -> Lane:
    return make_lane(*rules, tunings=tunings)


def readings(values: np.ndarray, *, seconds: int = 1, first: int = 0, sensor_type: str = "temperature") -> list:
    """Readings of one device; ``first`` is the seq of the first one."""
    return [
        event(reading(n * seconds * 1000, seq=first + n, value=float(value), sensor_type=sensor_type))
        for n, value in enumerate(values)
    ]


def told(alerts: list[Alert], rule: str = "changed") -> list[tuple[str, AlertState, float]]:
    """Device, state and second of each alert of a rule."""
    start = from_millis(START_MS)
    return [
        (alert.device_id, alert.state, ((alert.ended_at or alert.started_at) - start).total_seconds())
        for alert in alerts
        if alert.rule == rule
    ]


def test_a_device_that_drifted_says_so_once_and_is_judged_again() -> None:
    (at,) = drifts(shifted())
    out = lane_of(CHANGED).process(raw(readings(shifted())), {})
    alerts = sent(out, topics.ALERTS)
    back = at + 1 + 20  # ready after as many readings as a new device
    assert told(alerts) == [("press-1", AlertState.FIRING, at), ("press-1", AlertState.RESOLVED, back)]
    assert alerts[0].kind is RuleKind.DRIFT
    assert "has changed for good" in alerts[0].summary
    assert alerts[1].summary == "press-1 has learned anew what is usual after 21 s"
    scored = sent(out, topics.SCORED)
    assert {reading.state for reading in scored[at + 1 : back]} == {DetectorState.WARMING_UP}
    assert {reading.verdict for reading in scored[at + 1 : back]} == {Verdict.UNKNOWN}


def test_a_device_with_two_drifted_channels_is_told_of_once() -> None:
    others = readings(shifted(2), first=100_000, sensor_type="pressure")
    events = [event for pair in zip(readings(shifted(1)), others, strict=True) for event in pair]
    alerts = sent(lane_of(CHANGED).process(raw(events), {}), topics.ALERTS)
    assert [state for _, state, _ in told(alerts)] == [AlertState.FIRING, AlertState.RESOLVED]
    firing, resolved = (second for _, _, second in told(alerts))
    assert firing == min(drifts(shifted(1))[0], drifts(shifted(2))[0])
    assert resolved > max(drifts(shifted(1))[0], drifts(shifted(2))[0])


def test_a_fault_at_the_new_level_is_found() -> None:
    """A device that reports every five minutes; not beginning anew, its range would hold the old level and the new."""
    values = shifted()
    fault = len(values) - 40
    values[fault : fault + 20] -= 4
    alerts = {}
    for drift in (None, 100.0):
        tunings = Tunings(detectors=("adaptive",), default=Tuning(calibration=CALIBRATION, drift=drift))
        out = lane_of(UNUSUAL, tunings=tunings).process(raw(readings(values, seconds=300)), {})
        seconds = [second for _, _, second in told(sent(out, topics.ALERTS), "unusual")]
        alerts[drift] = [second for second in seconds if second >= fault * 300]
    assert alerts[None]
    assert not alerts[100.0]


@pytest.mark.parametrize("offset", [0, 1, 7, 21])
def test_alerts_of_a_drift_are_the_same_wherever_the_batch_is_cut(offset: int) -> None:
    (at,) = drifts(shifted())
    batch = raw(readings(shifted()))
    whole = sent(lane_of(CHANGED, UNUSUAL).process(batch, {}), topics.ALERTS)
    lane, parts = lane_of(CHANGED, UNUSUAL), []
    for part in pieces(batch, [at + offset]):
        parts += sent(lane.process(part, {}), topics.ALERTS)
        lane = Lane.restore(topics.READINGS, 0, lane.settings, through_the_changelog(lane.snapshot()))
    assert parts == whole
    assert len(told(whole)) == 2
