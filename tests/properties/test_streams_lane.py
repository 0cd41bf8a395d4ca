"""The whole fold of a partition: batch cuts, restarts, duplicates and the order of arrival, with poison inside.

"The same" means: the same messages to each topic in the same order, byte for byte.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetwatch import topics
from fleetwatch.record_batch import Records
from fleetwatch.records import Verdict
from streams.detectors.half_space_trees import WINDOW
from streams.lane import Lane, LaneSettings
from tests.unit.streams.lanes import (
    START_MS,
    Event,
    by_topic,
    counters,
    detection,
    event,
    forest,
    make_rules,
    make_settings,
    messages_of,
    pieces,
    poison,
    raw,
    reading,
    sent,
    some_of,
    through_the_changelog,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streams.batch import Outputs, RawBatch

MODEST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RULES = make_rules(
    {"name": "hot", "kind": "level", "above": 30, "clear": 25, "match": {"site": ["north"]}},
    {"name": "cold", "kind": "level", "below": 10, "clear": 12, "match": {"sensor_type": ["temperature"]}},
    {"name": "unusual", "kind": "anomaly", "quiet_seconds": 3},
    {"name": "busy", "kind": "count", "at_least": 4},
    {"name": "crowd", "kind": "count", "at_least": 2, "match": {"sensor_type": ["camera"]}},
    {"name": "silent", "kind": "silence", "after_seconds": 8},
)
SETTINGS = make_settings(RULES)
FORGETFUL = replace(SETTINGS, device_ttl_ms=30_000)
MODELS = {"temperature": forest()}
POISON = [bad for bad, _ in poison().values() if len(bad[1] or b"") < 1000]
DEVICES = [("a", "temperature"), ("b", "temperature"), ("c", "vibration"), ("dé", "pressure")]


def lane_of(topic: str, the_settings: LaneSettings = SETTINGS) -> Lane:
    return Lane(topic, 0, the_settings)


@st.composite
def event_lists(draw: st.DrawFn, topic: str = topics.READINGS) -> list[Event]:
    """Events out of order, some late, some far ahead, some repeated, with poison and devices that move."""
    count = draw(st.integers(1, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    step = draw(st.sampled_from([150, 900, 4000]))
    lateness = draw(st.sampled_from([0, 3_000, 30_000]))
    poisonous, repeating, moving = draw(st.tuples(*[st.sampled_from([0.0, 0.15])] * 3))
    now, events = 0, list[Event]()
    for seq in range(count):
        now += int(random.integers(0, step)) + (200_000 if random.random() < 0.02 else 0)
        at = now - int(random.integers(0, lateness + 1))
        chance = random.random()
        if chance < poisonous:
            key, value, _ = POISON[int(random.integers(len(POISON)))]
            events.append((key, value, START_MS + now))
        elif chance < poisonous + repeating and events:
            events.append(events[int(random.integers(len(events)))])
        else:
            place = int(random.integers(len(DEVICES)))
            site = "south" if random.random() < moving else "north"
            value = float(random.choice([5.0, 20.0, 28.0, 40.0, 1e308])) + float(random.normal())
            if topic == topics.READINGS:
                device, kind = DEVICES[place]
                one = reading(at, device=device, seq=seq % 5, sensor_type=kind, value=value, site=site)
                events.append(event(one, delay_ms=now - at))
            else:
                label = ["person", "car", "truck"][seq % 3]
                two = detection(at, camera=f"cam-{place}", seq=seq % 5, label=label, site=site, confidence=value)
                events.append(event(two, delay_ms=now - at))
    return events


def run(lane: Lane, batches: Iterable[RawBatch], clock: Sequence[tuple[int, int]] = ()) -> list[Outputs]:
    """Fold batches in; ``clock`` holds (next offset, watermark) at which the partition was idle."""
    outputs = []
    due = dict(clock)
    for batch in batches:
        outputs.append(lane.process(batch, MODELS))
        if lane.next_offset in due:
            watermark = START_MS + due[lane.next_offset]
            outputs.append(lane.advance(watermark, watermark + 5_000))
    return outputs


either = st.sampled_from([SETTINGS, FORGETFUL])
topic_events = st.sampled_from([topics.READINGS, topics.DETECTIONS]).flatmap(
    lambda topic: st.tuples(st.just(topic), event_lists(topic))
)
cut_sets = st.one_of(st.just(set(range(60))), st.sets(st.integers(1, 59), max_size=6))
clocks = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 300_000)), max_size=3, unique_by=lambda due: due[0])


@MODEST
@given(topic_events, cut_sets, clocks, either)
def test_cutting_a_batch_anywhere_gives_the_same_messages(
    drawn: tuple[str, list[Event]], cuts: set[int], clock: list[tuple[int, int]], the_settings: LaneSettings
) -> None:
    """Cut into two or into single records; the clock may close windows in between."""
    topic, events = drawn
    batch = raw(events, topic=topic)
    idle_at = {at for at, _ in clock}
    whole = run(lane_of(topic, the_settings), pieces(batch, idle_at), clock)
    cut = run(lane_of(topic, the_settings), pieces(batch, cuts | idle_at), clock)
    assert by_topic(cut) == by_topic(whole)
    assert counters(cut) == counters(whole)


@MODEST
@given(topic_events, st.integers(0, 60), clocks, either)
def test_a_restart_at_any_offset_gives_the_same_messages(
    drawn: tuple[str, list[Event]], at: int, clock: list[tuple[int, int]], the_settings: LaneSettings
) -> None:
    """Snapshot, bytes, restore; then the broker gives some records again that the snapshot includes."""
    topic, events = drawn
    batch, at = raw(events, topic=topic), min(at, len(events))
    idle_at = {due for due, _ in clock}
    straight = lane_of(topic, the_settings)
    expected = run(straight, pieces(batch, idle_at | {at}), clock)
    first = lane_of(topic, the_settings)
    before = run(first, pieces(some_of(batch, 0, at), idle_at), clock) if at else []
    stored = through_the_changelog(first.snapshot())
    run(first, pieces(some_of(batch, at, len(batch)), idle_at))  # the old owner goes on for a while
    second = Lane.restore(topic, 0, the_settings, stored)
    assert second.next_offset == at
    again = max(0, at - 3)
    rest = [part for part in pieces(batch, idle_at | {again, at}) if part.offsets[-1] >= at]
    after = run(
        second, [some_of(batch, again, at), *rest] if again < at else rest, [due for due in clock if due[0] > at]
    )
    assert by_topic(before + after) == by_topic(expected)
    assert by_topic([second.early()]) == by_topic([straight.early()])
    assert messages_of(second.snapshot()) == messages_of(straight.snapshot())


@MODEST
@given(topic_events, st.sets(st.integers(0, 59), max_size=10))
def test_duplicates_change_nothing_but_the_counter(drawn: tuple[str, list[Event]], repeated: set[int]) -> None:
    """Offsets aside: a repeat takes one, so the positions that outputs name are compared through the records."""
    topic, events = drawn
    batch = raw(events, topic=topic)
    good = {int(offset) for offset in batch.offsets} - {
        letter.offset for letter in sent(lane_of(topic).process(batch, MODELS), topics.DEAD_LETTERS)
    }
    doubled = [k for k in range(len(events)) for _ in range(2 if k in repeated & good else 1)]
    plain_out = lane_of(topic).process(batch, MODELS)
    rows = np.array(doubled, np.int64)  # both copies under the first one's offset, so that the outputs are comparable
    records = batch.records
    more = replace(
        batch, records=Records(rows, records.times[rows], records.keys.take(rows), records.values.take(rows))
    )
    doubled_out = lane_of(topic).process(more, MODELS)
    assert by_topic([doubled_out]) == by_topic([plain_out])
    extra = len(doubled) - len(events)
    plain_out.count("duplicates", extra)
    assert doubled_out.counters == plain_out.counters


@MODEST
@given(topic_events, st.integers(0, 60), st.integers(0, 60))
def test_records_below_the_next_offset_are_skipped(drawn: tuple[str, list[Event]], done: int, back: int) -> None:
    topic, events = drawn
    batch, done = raw(events, topic=topic), min(done, len(events))
    whole, lane = lane_of(topic), lane_of(topic)
    expected = by_topic(run(whole, pieces(batch, {done})))
    outputs = run(lane, [some_of(batch, 0, done), some_of(batch, max(0, done - back), len(batch))])
    assert by_topic(outputs) == expected
    assert lane.next_offset == len(events)


@MODEST
@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 90_000), min_size=1, max_size=60), st.data())
def test_arrival_order_within_the_out_of_orderness_does_not_change_the_windows(
    random: object, times: list[int], data: st.DataObject
) -> None:
    """Final counts: count, min and max are equal, sums within rounding; nothing is late."""
    times.sort()
    slack = SETTINGS.windows.out_of_orderness_ms
    delays = data.draw(st.lists(st.integers(0, slack), min_size=len(times), max_size=len(times)))
    devices = data.draw(st.lists(st.sampled_from(DEVICES), min_size=len(times), max_size=len(times)))
    events = [
        event(reading(at, device=device, sensor_type=kind, seq=k, value=k * 0.1), delay_ms=delays[k])
        for k, (at, (device, kind)) in enumerate(zip(times, devices, strict=True))
    ]
    arrival = sorted(range(len(events)), key=lambda k: times[k] + delays[k])
    found = []
    for order in (range(len(events)), arrival):
        lane = lane_of(topics.READINGS)
        outputs = run(lane, [raw([events[k] for k in order])])
        outputs.append(lane.advance(START_MS + 10**7, 0))
        assert "late" not in counters(outputs)
        counts = [count for count in sent(outputs, topics.COUNTS) if count.is_final]
        found.append({(count.scope, count.key, count.window_start): count for count in counts})
        assert len(found[-1]) == len(counts)
    straight, shuffled = found
    assert straight.keys() == shuffled.keys()
    for identity, count in straight.items():
        other = shuffled[identity]
        assert (count.count, count.min, count.max, count.late_count) == (other.count, other.min, other.max, 0)
        assert np.allclose([count.sum, count.sum_of_squares], [other.sum, other.sum_of_squares], rtol=1e-9)


times_of_any_kind = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-62_135_596_800_000, 253_402_300_799_999, 0, -1, START_MS]),
)


event_times = st.one_of(
    st.integers(-62_135_596_800_000, 253_402_300_799_999),
    st.integers(-62_135_596_800_000, -62_135_596_770_000),
    st.integers(253_402_300_770_000, 253_402_300_799_999),
)


@MODEST
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.binary(max_size=12), st.just(b"a")),
            st.one_of(st.none(), st.binary(max_size=40), event_times),
            times_of_any_kind,
        ),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([7, 10_000]),
)
def test_no_record_whatever_raises_and_each_has_one_outcome(
    records: list[tuple[bytes | None, bytes | int | None, int]], size_ms: int
) -> None:
    """Any bytes, any event time in the calendar, any broker time, also those that a producer made up."""
    windows = type(SETTINGS.windows)(size_ms=size_ms, grace_ms=0, out_of_orderness_ms=0)
    rules = make_rules(
        {"name": "one", "kind": "count", "at_least": 1}, {"name": "s", "kind": "silence", "after_seconds": 9}
    )
    lane = lane_of(topics.READINGS, make_settings((*RULES, *rules), windows=windows))
    events = [
        (key, event(reading(value - START_MS, device="a"))[1] if isinstance(value, int) else value, time)
        for key, value, time in records
    ]
    out = lane.process(raw(events), MODELS)
    later = lane.advance(253_402_300_799_999, 253_402_300_799_999)
    total = counters([out])
    outcomes = [total.get(name, 0) for name in ("readings", "dead_lettered", "duplicates")]
    assert sum(outcomes) == len(records)
    assert len(sent(out, topics.DEAD_LETTERS)) == outcomes[1]
    assert len(sent(out, topics.SCORED)) == outcomes[0]
    sent([out, later], topics.ALERTS)


LONG = 1500


@cache
def long_stream() -> RawBatch:
    """Six devices of two types, long enough for the trees to be warm and to pivot, with spikes, poison, repeats."""
    random = np.random.default_rng(17)
    events = list[Event]()
    for seq in range(LONG):
        place = int(random.integers(6))
        value = float(random.normal(20, 2)) * (6 if random.random() < 0.01 else 1)
        kind = "temperature" if place < 4 else "vibration"
        one = reading(
            100 * seq - int(random.integers(0, 2000)), device=f"d{place}", seq=seq, value=value, sensor_type=kind
        )
        events.append(event(one))
        if random.random() < 0.02:
            key, bad, _ = POISON[int(random.integers(len(POISON)))]
            events.append((key, bad, START_MS + 100 * seq))
        if random.random() < 0.02:
            events.append(events[-1])
    return raw(events)


@cache
def long_outputs() -> tuple[dict[str, list[tuple[bytes | None, bytes]]], dict[str, int]]:
    outputs = run(lane_of(topics.READINGS), [long_stream()])
    return by_topic(outputs), counters(outputs)


def test_the_long_stream_has_everything_in_it() -> None:
    """Otherwise the tests below would show little."""
    outputs = run(lane_of(topics.READINGS), [long_stream()])
    scored = sent(outputs, topics.SCORED)
    both = [record for record in scored if record.online_score is not None and record.batch_score is not None]
    assert len(both) > WINDOW
    assert sum(record.verdict is Verdict.ANOMALY for record in scored) >= 3
    assert {alert.rule for alert in sent(outputs, topics.ALERTS)} >= {"hot", "unusual", "busy"}
    assert {alert.state.value for alert in sent(outputs, topics.ALERTS)} == {"FIRING", "RESOLVED"}
    assert counters(outputs).keys() >= {"dead_lettered", "duplicates", "windows_final"}


@settings(max_examples=12, deadline=None)
@given(st.sets(st.integers(1, LONG), max_size=40), st.integers(0, LONG))
def test_long_streams_do_not_depend_on_cuts_and_restarts_either(cuts: set[int], restart_at: int) -> None:
    """Scores of warm trees and of the batch model, verdicts and alerts, bit for bit."""
    lane, outputs = lane_of(topics.READINGS), []
    for part in pieces(long_stream(), cuts | {restart_at}):
        if part.offsets[0] == restart_at:
            lane = Lane.restore(topics.READINGS, 0, SETTINGS, through_the_changelog(lane.snapshot()))
        outputs += run(lane, [part])
    assert (by_topic(outputs), counters(outputs)) == long_outputs()


def test_one_record_at_a_time_gives_the_same_as_one_batch() -> None:
    batch = long_stream()
    outputs = run(lane_of(topics.READINGS), pieces(batch, range(len(batch))))
    assert (by_topic(outputs), counters(outputs)) == long_outputs()


def test_training_samples_do_not_depend_on_cuts() -> None:
    batch = long_stream()
    samples = []
    for cuts in ([], range(0, len(batch), 7)):
        outputs = run(lane_of(topics.READINGS), pieces(batch, cuts))
        samples.append(np.concatenate([out.training["vibration"] for out in outputs if "vibration" in out.training]))
    assert np.array_equal(*samples)
