from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetwatch import avro, topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.records import CameraDetection, GroundTruth, SensorReading, to_millis
from producers.batches import KEY_OF, TOPIC_OF, events_until
from producers.encode import RowEncoder
from producers.simulate.scenario import FaultSeries, Scenario, load_scenario
from producers.simulate.simulation import simulate

START = 1_767_225_600_000


def events(scenario: Scenario, seconds: float, *, seed: int = 1, device_id: str | None = None) -> list:
    sources = simulate(scenario, seed=seed, start_ms=START, device_id=device_id)
    return list(events_until(sources, START + round(seconds * 1000)))


def test_the_same_seed_and_start_give_the_same_events() -> None:
    demo = load_scenario("demo")
    assert events(demo, 35, seed=9) == events(demo, 35, seed=9)
    assert events(demo, 35, seed=9) != events(demo, 35, seed=10)


def test_events_come_in_the_order_of_their_times() -> None:
    due = [at for at, _, _ in events(load_scenario("demo"), 40)]
    assert due == sorted(due)


@given(
    rate_hz=st.floats(0.2, 50),
    devices=st.integers(1, 20),
    seconds=st.integers(1, 12),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_every_sensor_sends_at_the_rate(rate_hz: float, devices: int, seconds: int, seed: int) -> None:
    scenario = Scenario(name="x", sensors={}).changed(devices=devices, rate_hz=rate_hz)
    counts = Counter(row["device_id"] for _, _, row in events(scenario, seconds, seed=seed))
    for count in counts.values():
        assert abs(count - rate_hz * seconds) <= 1
    if rate_hz * seconds >= 1:
        assert len(counts) == devices


def test_a_minute_of_the_demo_has_the_readings_that_its_faults_leave() -> None:
    happened = events(load_scenario("demo"), 60)
    readings = Counter(row["device_id"] for _, kind, row in happened if kind is SensorReading)
    truths = [row for _, kind, row in happened if kind is GroundTruth]
    (dropout,) = (row for row in truths if row["kind"] == "DROPOUT")
    silent = [dropout, *(row for row in truths if row["kind"] == "OUTAGE")]
    for fault in silent:
        assert readings.pop(fault["device_id"]) == 300 - 5 * (fault["ended_at"] - fault["started_at"]) / 1000
    assert len(silent) > 2
    assert len(readings) == 48 - len(silent)
    assert set(readings.values()) == {300}
    assert len(truths) >= 8


def test_the_truth_says_where_the_values_differ_from_a_sound_fleet() -> None:
    """Every difference from the same fleet without faults lies in a recorded fault, and every fault shows."""
    demo = load_scenario("demo")
    sound = demo.model_copy(update={"faults": ()})
    truths = [row for _, kind, row in events(demo, 75) if kind is GroundTruth]
    shown: set[str] = set()

    def readings(scenario: Scenario) -> dict:
        return {
            (row["device_id"], row["event_time"]): row["value"]
            for _, kind, row in events(scenario, 75)
            if kind is SensorReading
        }

    struck, plain = readings(demo), readings(sound)
    for (device, time), value in plain.items():
        if struck.get((device, time)) != value:
            causes = [t for t in truths if t["device_id"] == device and t["started_at"] <= time < t["ended_at"]]
            assert len(causes) == 1, (device, time)
            shown.add(causes[0]["fault_id"])
    expected = {t["fault_id"] for t in truths if t["kind"] != "SURGE" and t["started_at"] < START + 74_000}
    assert shown >= expected


def test_one_device_sends_what_it_sends_in_the_whole_fleet() -> None:
    demo = load_scenario("demo")
    whole = defaultdict(list)
    for due, kind, row in events(demo, 60):
        whole[row[KEY_OF[kind]]].append((due, kind, row))
    for device in (
        "temp-north-01",
        "cam-03",
        next(r["device_id"] for _, k, r in events(demo, 60) if k is GroundTruth),
    ):
        assert events(demo, 60, device_id=device) == whole[device]


def test_a_device_that_the_scenario_does_not_have_is_an_environment_problem() -> None:
    with pytest.raises(EnvironmentProblemError, match="temp-north-99"):
        simulate(load_scenario("demo"), seed=1, start_ms=START, device_id="temp-north-99")


def test_one_device_that_no_fault_ever_strikes_does_not_hang() -> None:
    series = FaultSeries(kind="STUCK", first_seconds=1, every_seconds=20, device_id="power-north-01")
    scenario = Scenario(name="x", sensors={"power": 2}, cameras=1, faults=(series,))
    assert {kind for _, kind, _ in events(scenario, 5, device_id="cam-01")} == {CameraDetection}


def test_the_key_is_the_device_and_the_topic_that_of_the_record() -> None:
    assert {(kind, topic, KEY_OF[kind]) for kind, topic in TOPIC_OF.items()} == {
        (SensorReading, topics.READINGS, "device_id"),
        (CameraDetection, topics.DETECTIONS, "camera_id"),
        (GroundTruth, topics.TRUTH, "device_id"),
    }


def test_every_event_of_a_run_encodes_to_what_the_record_encodes_to() -> None:
    encoders = {kind: RowEncoder(kind) for kind in TOPIC_OF}
    seen = set()
    for due, kind, row in events(load_scenario("demo"), 32):
        value = encoders[kind](row)
        record = avro.decode(value, kind)
        assert avro.encode(record) == value
        assert to_millis(record.started_at if kind is GroundTruth else record.event_time) == due
        seen.add(kind)
    assert seen == set(TOPIC_OF)
