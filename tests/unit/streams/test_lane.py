"""A lane by example: what it refuses, drops, scores and counts."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from fleetwatch import avro, row_status, topics
from fleetwatch.records import (
    MAX_RAW_BYTES,
    Box,
    DetectorState,
    Reason,
    Scope,
    Stage,
    Verdict,
    from_millis,
    to_millis,
)
from fleetwatch.validate import stage_of
from streams import features
from streams.detectors.half_space_trees import NAME as ONLINE_MODEL
from streams.detectors.half_space_trees import WINDOW
from streams.lane import Lane
from streams.scoring import Scorer
from streams.tuning import SETTLE, Tunings
from tests.unit.streams.lanes import (
    START_MS,
    counters,
    detection,
    event,
    forest,
    make_lane,
    make_settings,
    poison,
    raw,
    reading,
    sent,
)

POISON = poison()


# --- dead letters


@pytest.mark.parametrize(("bad", "reason"), POISON.values(), ids=POISON)
def test_poison_is_dead_lettered_and_its_neighbours_are_scored(bad, reason: Reason) -> None:
    good = [event(reading(1000 * n, seq=n, value=n + 0.5)) for n in range(4)]
    batch = raw([*good[:2], bad, *good[2:]], first=70)
    out = make_lane().process(batch, {})
    (letter,) = sent(out, topics.DEAD_LETTERS)
    assert (letter.reason, letter.stage) == (reason, stage_of(reason))
    assert (letter.topic, letter.partition, letter.offset) == (topics.READINGS, 0, 72)
    assert (letter.raw_key, letter.broker_time) == (bad[0], from_millis(bad[2]))
    whole = bad[1] or b""
    assert (letter.value_length, letter.value_sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert letter.raw_value == (None if bad[1] is None else whole[:MAX_RAW_BYTES])
    assert letter.detail
    scored = sent(out, topics.SCORED)
    assert [(record.source_offset, record.seq, record.value) for record in scored] == [
        (70, 0, 0.5),
        (71, 1, 1.5),
        (73, 2, 2.5),
        (74, 3, 3.5),
    ]
    assert out.counters["dead_lettered"] == 1


def test_every_reason_an_input_can_have_is_tried() -> None:
    assert {reason for _, reason in POISON.values()} == row_status.STATUS.keys() - {Reason.SCORING_FAILED}


def test_all_poison_at_once_leaves_nothing_unaccounted() -> None:
    events = []
    for number, (bad, _) in enumerate(POISON.values()):
        events += [event(reading(100 * number, seq=number)), bad]
    out = make_lane().process(raw(events), {})
    letters = sent(out, topics.DEAD_LETTERS)
    assert [letter.offset for letter in letters] == list(range(1, len(events), 2))
    assert [letter.reason for letter in letters] == [reason for _, reason in POISON.values()]
    assert [record.source_offset for record in sent(out, topics.SCORED)] == list(range(0, len(events), 2))
    assert out.counters["readings"] + out.counters["dead_lettered"] == len(events)


def test_a_large_event_keeps_64_kb() -> None:
    bad, _ = POISON["900 KB"]
    assert bad[1] is not None
    out = make_lane().process(raw([bad]), {})
    (letter,) = sent(out, topics.DEAD_LETTERS)
    assert letter.raw_value == bad[1][: 64 * 1024]
    assert letter.value_length == len(bad[1]) > 900_000
    assert letter.stage is Stage.DECODE
    assert all(len(value) < 70_000 for _, _, value in out.messages)


def test_a_large_key_does_not_make_a_message_that_kafka_refuses() -> None:
    """Key and value of the dead letter together stay well below the broker's limit of 1 MB."""
    key = b"k" * 900_000
    out = make_lane().process(raw([(key, avro.encode(reading()) + bytes(100_000), START_MS)]), {})
    ((_, message_key, value),) = out.messages
    assert message_key == key[:MAX_RAW_BYTES]
    assert len(message_key) + len(value) < 250_000


@pytest.mark.parametrize("number", ["confidence", "x", "y", "width", "height"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [(float("nan"), Reason.NOT_A_NUMBER), (float("inf"), Reason.INFINITE), (float("-inf"), Reason.INFINITE)],
)
def test_every_number_of_a_detection_must_be_finite(number: str, value: float, reason: Reason) -> None:
    bad = detection(1000, seq=1)
    if number == "confidence":
        bad = replace(bad, confidence=value)
    else:
        bad = replace(bad, box=Box(**{"x": 0.1, "y": 0.1, "width": 0.1, "height": 0.1} | {number: value}))
    events = [event(detection(seq=0)), event(bad), event(detection(2000, seq=2))]
    out = make_lane(topic=topics.DETECTIONS).process(raw(events, topic=topics.DETECTIONS), {})
    (letter,) = sent(out, topics.DEAD_LETTERS)
    assert (letter.reason, letter.offset, letter.topic) == (reason, 1, topics.DETECTIONS)
    assert out.counters["detections"] == 2


def test_the_clock_of_a_device_may_be_ahead_by_max_skew() -> None:
    allowed = event(reading(60_000), delay_ms=-60_000)
    refused = event(reading(60_001, seq=1), delay_ms=-60_001)
    out = make_lane().process(raw([allowed, refused]), {})
    assert [record.seq for record in sent(out, topics.SCORED)] == [0]
    assert [letter.reason for letter in sent(out, topics.DEAD_LETTERS)] == [Reason.TOO_FAR_AHEAD]


def test_poison_alone_is_no_event() -> None:
    """The offset moves on, the watermark does not, no device appears."""
    lane = make_lane()
    lane.process(raw([bad for bad, _ in POISON.values()]), {})
    assert lane.next_offset == len(POISON)
    assert lane.names.devices.count == 0
    assert lane.windows.open_entries == 0


# --- offsets and duplicates


def test_records_that_the_state_includes_are_skipped() -> None:
    events = [event(reading(1000 * n, seq=n)) for n in range(10)]
    lane = make_lane()
    first = lane.process(raw(events[:6]), {})
    again = lane.process(raw(events[:6]), {})
    assert (len(first.messages), again.messages, again.counters) == (6, [], {})
    overlapping = lane.process(raw(events[3:], first=3), {})
    assert [record.source_offset for record in sent(overlapping, topics.SCORED)] == [6, 7, 8, 9]
    assert lane.next_offset == 10


def test_offsets_may_have_holes() -> None:
    events = [event(reading(1000 * n, seq=n)) for n in range(4)]
    batch = raw(events)
    batch = replace(batch, records=replace(batch.records, offsets=np.array([5, 9, 10, 40])))
    lane = make_lane()
    lane.next_offset = 7
    assert [record.source_offset for record in sent(lane.process(batch, {}), topics.SCORED)] == [9, 10, 40]
    assert lane.next_offset == 41


def test_an_empty_batch_gives_nothing() -> None:
    lane = make_lane()
    assert lane.process(raw([]), {}).messages == []
    assert lane.next_offset == 0


def test_duplicates_are_counted_and_change_nothing_else() -> None:
    events = [event(reading(1000 * n, seq=n, value=float(n))) for n in range(30)]
    twice = [again for one in events for again in (one, one)]
    plain, doubled = make_lane(), make_lane()
    expected = sent(plain.process(raw(events), {}), topics.SCORED)
    out = doubled.process(raw(twice), {})
    found = sent(out, topics.SCORED)
    assert [replace(record, source_offset=0) for record in found] == [
        replace(record, source_offset=0) for record in expected
    ]
    assert out.counters["duplicates"] == 30
    assert out.counters["readings"] == 30


def test_a_batch_of_duplicates_only_gives_no_messages() -> None:
    lane = make_lane()
    lane.process(raw([event(reading())]), {})
    out = lane.process(raw([event(reading())] * 3, first=1), {})
    assert (out.messages, out.counters) == ([], {"duplicates": 3})
    assert lane.next_offset == 4


# --- scores


def test_a_scored_reading_carries_the_reading_and_where_it_came_from() -> None:
    one = reading(1234, device="pumpe-ü", seq=-5, value=-1.5e-300, unit="°C", site="Süd", sensor_type="温度")
    out = make_lane().process(raw([event(one, delay_ms=7)], first=99), {})
    (scored,) = sent(out, topics.SCORED)
    for name in ("device_id", "sensor_type", "site", "event_time", "seq", "value", "unit", "quality"):
        assert getattr(scored, name) == getattr(one, name)
    assert (scored.ingest_time, scored.source_partition, scored.source_offset) == (
        from_millis(START_MS + 1241),
        0,
        99,
    )
    assert (scored.online_score, scored.batch_score, scored.score) == (None, None, None)
    assert (scored.verdict, scored.state) == (Verdict.UNKNOWN, DetectorState.WARMING_UP)
    assert (scored.online_model, scored.batch_model, scored.is_late) == (ONLINE_MODEL, "", False)
    assert out.messages[0][1] == "pumpe-ü".encode()


def noise(count: int, device: str = "press-1", sensor_type: str = "temperature", **changes) -> list:
    values = np.random.default_rng(len(device) + count).normal(20, 1, count)
    return [
        event(reading(100 * n, device=device, seq=n, value=float(value), sensor_type=sensor_type, **changes))
        for n, value in enumerate(values)
    ]


def test_a_device_is_ready_after_its_own_warm_up() -> None:
    """No sooner than its interval is known, and whether or not there are models of its type."""
    for warm_up, ready_from in ((5, SETTLE), (25, 25)):
        scored = sent(make_lane(warm_up=warm_up).process(raw(noise(40)), {"temperature": forest()}), topics.SCORED)
        states = [record.state for record in scored]
        assert states == [DetectorState.WARMING_UP] * ready_from + [DetectorState.READY] * (40 - ready_from)
        assert {record.batch_model for record in scored} == {"v0"}
        for record in scored[:ready_from]:
            assert (record.online_score, record.batch_score, record.score) == (None, None, None)
            assert record.verdict is Verdict.UNKNOWN
        for record in scored[ready_from:]:
            assert record.online_score is None  # the trees of the sensor type are cold still
            assert record.batch_score is not None
            assert record.score is not None
            assert 0 <= record.batch_score <= 1
            assert 0 <= record.score <= 1
            assert record.verdict is Verdict.NORMAL


def test_without_a_batch_model_the_trees_score_once_they_are_warm() -> None:
    scored = sent(make_lane().process(raw(noise(WINDOW + 10)), {"other": forest()}), topics.SCORED)
    assert {record.batch_model for record in scored} == {""}
    assert all(record.online_score is None for record in scored[:WINDOW])
    assert all(record.online_score is not None and record.batch_score is None for record in scored[WINDOW:])
    assert all(record.state is DetectorState.READY for record in scored[SETTLE:])


def test_scores_are_the_scorers() -> None:
    """Nothing is lost or mixed up between the scorer's columns and the records."""
    events = noise(WINDOW + 60, "a") + noise(40, "b", "vibration")
    order = np.random.default_rng(1).permutation(len(events))
    events = [events[k] for k in order]
    models = {"temperature": forest(1), "vibration": forest(2)}
    scored = sent(make_lane().process(raw(events), models), topics.SCORED)
    kinds, devices = (
        list(dict.fromkeys(r.sensor_type for r in scored)),
        list(dict.fromkeys(r.device_id for r in scored)),
    )
    expected = Scorer(make_settings().warm_up).fold(
        np.array([devices.index(record.device_id) for record in scored]),
        np.array([devices.index(record.device_id) for record in scored]),
        np.array([kinds.index(record.sensor_type) for record in scored]),
        np.array([to_millis(record.event_time) for record in scored]),
        np.array([record.value for record in scored]),
        [models[kind] for kind in kinds],
        Tunings().table(kinds),
    )
    for name, column in (("online_score", expected.online), ("batch_score", expected.batch), ("score", expected.score)):
        found = np.array([np.nan if getattr(r, name) is None else getattr(r, name) for r in scored])
        assert np.array_equal(found, np.where(expected.is_ready, column, np.nan), equal_nan=True)
    assert [record.batch_model for record in scored] == [models[record.sensor_type].version for record in scored]


def test_a_spike_is_an_anomaly_and_the_noise_around_it_is_not() -> None:
    events = noise(400)
    events[350] = event(reading(35_000, seq=350, value=60.0))
    scored = sent(make_lane().process(raw(events), {"temperature": forest()}), topics.SCORED)
    anomalies = [record.seq for record in scored if record.verdict is Verdict.ANOMALY]
    assert 350 in anomalies
    assert len(anomalies) <= 3


def test_extreme_values_are_scored_like_any_other() -> None:
    values = [1e308, -1e308, 5e-324, 0.0, -0.0] * 8
    events = [event(reading(n, seq=n, value=value)) for n, value in enumerate(values)]
    scored = sent(make_lane().process(raw(events), {"temperature": forest()}), topics.SCORED)
    assert [record.value for record in scored] == values
    assert all(record.score is None or 0 <= record.score <= 1 for record in scored)


def test_only_settled_readings_of_types_without_a_model_are_offered_for_training() -> None:
    out = make_lane(warm_up=5).process(
        raw(noise(12, "a", "temperature") + noise(9, "b", "vibration")), {"vibration": forest()}
    )
    assert out.training.keys() == {"temperature"}
    assert out.training["temperature"].shape == (12 - 5, features.COUNT)


# --- counts


def test_final_counts_of_all_scopes() -> None:
    """Windows [0, 10) of two devices at one site; closed when the watermark reaches 15."""
    events = [
        event(reading(0, device="a", seq=0, value=1.0)),
        event(reading(9_999, device="b", seq=0, value=4.0, sensor_type="vibration")),
        event(reading(5_000, device="a", seq=1, value=-2.0), delay_ms=9_000),
        event(reading(10_000, device="a", seq=2, value=9.0)),
        event(reading(17_999, device="a", seq=3, value=9.0)),
        event(reading(18_000, device="a", seq=4, value=9.0)),  # watermark 15,000 = end + grace
    ]
    lane = make_lane()
    assert not sent(lane.process(raw(events[:5]), {}), topics.COUNTS)
    counts = sent(lane.process(raw(events[5:], first=5), {}), topics.COUNTS)
    found = {
        (count.scope, count.key): (count.count, count.sum, count.min, count.max, count.included_offset)
        for count in counts
    }
    assert found == {
        (Scope.DEVICE, "a"): (2, -1.0, -2.0, 1.0, 2),
        (Scope.DEVICE, "b"): (1, 4.0, 4.0, 4.0, 1),
        (Scope.SITE, "north"): (3, 3.0, -2.0, 4.0, 2),
        (Scope.SENSOR_TYPE, "temperature"): (2, -1.0, -2.0, 1.0, 2),
        (Scope.SENSOR_TYPE, "vibration"): (1, 4.0, 4.0, 4.0, 1),
    }
    for count in counts:
        assert (count.window_start, count.window_end) == (from_millis(START_MS), from_millis(START_MS + 10_000))
        assert (count.source_topic, count.source_partition, count.is_final) == (topics.READINGS, 0, True)
    assert [record.sum_of_squares for record in counts if record.key == "a"] == [5.0]


def test_detections_are_counted_by_label_too() -> None:
    labels = ["person", "car", "person", "person"]
    events = [event(detection(1000 * n, seq=n, label=label, confidence=0.5)) for n, label in enumerate(labels)]
    events.append(event(detection(2500, camera="cam-2", label="car", confidence=0.25)))
    lane = make_lane(topic=topics.DETECTIONS)
    lane.process(raw(events, topic=topics.DETECTIONS), {})
    counts = {(count.scope, count.key): (count.count, count.sum) for count in sent(lane.early(), topics.COUNTS)}
    assert counts == {
        (Scope.DEVICE, "cam-1"): (4, 2.0),
        (Scope.DEVICE, "cam-2"): (1, 0.25),
        (Scope.SITE, "gate"): (5, 2.25),
        (Scope.LABEL, "person"): (3, 1.5),
        (Scope.LABEL, "car"): (2, 0.75),
        (Scope.DEVICE_LABEL, "cam-1|person"): (3, 1.5),
        (Scope.DEVICE_LABEL, "cam-1|car"): (1, 0.5),
        (Scope.DEVICE_LABEL, "cam-2|car"): (1, 0.25),
    }
    assert not sent(lane.early(), topics.COUNTS)


def test_the_key_of_a_count_is_its_message_key_and_early_ones_are_not_final() -> None:
    lane = make_lane()
    lane.process(raw([event(reading())]), {})
    out = lane.early()
    assert [key for _, key, _ in out.messages] == [count.key.encode() for count in sent(out, topics.COUNTS)]
    assert not any(count.is_final for count in sent(out, topics.COUNTS))
    assert out.counters == {"windows_early": 3}


def test_a_late_reading_is_scored_and_marked_and_counted_as_late() -> None:
    events = [event(reading(0)), event(reading(50_000, seq=1)), event(reading(1_000, seq=2), delay_ms=60_000)]
    lane = make_lane()
    out = lane.process(raw(events), {})
    assert [record.is_late for record in sent(out, topics.SCORED)] == [False, False, True]
    assert out.counters["late"] == 1
    devices = [count for count in sent(lane.early(), topics.COUNTS) if count.scope is Scope.DEVICE]
    assert [(count.window_start, count.count, count.late_count) for count in devices] == [
        (from_millis(START_MS + 50_000), 1, 1)
    ]


# --- the clock


def test_the_clock_closes_windows_of_an_idle_partition() -> None:
    lane = make_lane()
    lane.process(raw([event(reading(3_000))]), {})
    assert not lane.advance(START_MS + 14_999, 0).messages
    counts = sent(lane.advance(START_MS + 15_000, 0), topics.COUNTS)
    assert [(count.scope, count.count, count.is_final) for count in counts] == [
        (Scope.DEVICE, 1, True),
        (Scope.SITE, 1, True),
        (Scope.SENSOR_TYPE, 1, True),
    ]
    assert not lane.advance(START_MS + 15_000, 0).messages


def test_the_clock_does_nothing_to_a_partition_that_never_had_an_event() -> None:
    lane = make_lane({"name": "silent", "kind": "silence", "after_seconds": 1})
    assert not lane.advance(START_MS, START_MS).messages
    assert not lane.early().messages
    out = lane.process(raw([event(reading(-3_600_000))]), {})
    assert [record.is_late for record in sent(out, topics.SCORED)] == [False]


# --- state


def test_a_snapshot_of_other_windows_is_refused() -> None:
    lane = make_lane()
    lane.process(raw([event(reading())]), {})
    other = make_settings(windows=replace(make_settings().windows, size_ms=20_000))
    with pytest.raises(ValueError, match="windows"):
        Lane.restore(topics.READINGS, 0, other, lane.snapshot())


def test_a_new_lane_has_a_snapshot_too() -> None:
    lane = Lane.restore(topics.READINGS, 0, make_settings(), make_lane().snapshot())
    assert counters([lane.process(raw([event(reading())]), {})]) == {"readings": 1, "scored": 1}
