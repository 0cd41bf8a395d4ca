"""Rules at work in a lane: which alerts a timeline causes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fleetwatch import avro, topics
from fleetwatch.records import Alert, AlertState, RuleKind, Severity, Verdict, from_millis
from streams import devices
from streams.alerts import threshold_of
from streams.lane import Lane
from streams.policy import EVIDENCE_THRESHOLD
from streams.rules import load_rules
from tests.unit.streams.lanes import (
    START_MS,
    detection,
    event,
    forest,
    make_lane,
    make_rules,
    messages_of,
    raw,
    reading,
    sent,
    through_the_changelog,
)

if TYPE_CHECKING:
    from streams.batch import Outputs

FIRING, RESOLVED = AlertState.FIRING, AlertState.RESOLVED
HOT = {"name": "hot", "kind": "level", "severity": "critical", "above": 60, "clear": 50}
CROWD = {"name": "crowd", "kind": "count", "at_least": 5}
SILENT = {"name": "silent", "kind": "silence", "after_seconds": 15}
UNUSUAL = {"name": "unusual", "kind": "anomaly", "quiet_seconds": 2}


class Told:
    """A lane that is fed step by step; keeps its alerts as (device, state, started, ended) in seconds."""

    def __init__(self, *rules: dict, topic: str = topics.READINGS) -> None:
        self.lane = make_lane(*rules, topic=topic)
        self.topic = topic
        self.alerts: list[Alert] = []

    def take(self, out: Outputs) -> list[tuple]:
        new = sent(out, topics.ALERTS)
        self.alerts += new
        return [short(alert) for alert in new]

    def feed(self, *events: tuple) -> list[tuple]:
        return self.take(self.lane.process(raw(events, topic=self.topic, first=self.lane.next_offset), {}))

    def values(self, *values: float, device: str = "press-1", at: float = 0.0) -> list[tuple]:
        """Readings of one device, one a second."""
        return self.feed(
            *(event(reading(int((at + n) * 1000), device=device, seq=n, value=value)) for n, value in enumerate(values))
        )

    def seen(self, *seconds: float, camera: str = "cam-1") -> list[tuple]:
        """Detections of one camera."""
        first = self.lane.next_offset
        return self.feed(
            *(event(detection(int(at * 1000), camera=camera, seq=first + n)) for n, at in enumerate(seconds))
        )

    def clock(self, second: float) -> list[tuple]:
        at = START_MS + int(second * 1000)
        return self.take(self.lane.advance(at, at + 5_000))


def seconds_of(time) -> float | None:
    return None if time is None else (time - from_millis(START_MS)).total_seconds()


def short(alert: Alert) -> tuple:
    return alert.device_id, alert.state, seconds_of(alert.started_at), seconds_of(alert.ended_at)


# --- level


def test_a_level_rule_has_hysteresis() -> None:
    told = Told(HOT)
    # value   40  60  70  55  49  55  61
    #             ^ fires     ^ resolved
    #                     between the two: nothing    ^ fires again
    assert told.values(40, 60, 70, 55, 49, 55, 61) == [
        ("press-1", FIRING, 1.0, None),
        ("press-1", RESOLVED, 1.0, 4.0),
        ("press-1", FIRING, 6.0, None),
    ]


def test_the_alert_says_what_happened() -> None:
    told = Told(HOT)
    told.values(40, 61.25, 49.5)
    fired, resolved = told.alerts
    assert fired.alert_id == resolved.alert_id
    assert fired.fingerprint == resolved.fingerprint
    assert (fired.rule, fired.kind, fired.severity) == ("hot", RuleKind.LEVEL, Severity.CRITICAL)
    assert (fired.site, fired.value, fired.threshold, resolved.value) == ("north", 61.25, 60.0, 49.5)
    assert (fired.ingest_time, fired.source_offset) == (from_millis(START_MS + 1050), 1)
    assert (resolved.ingest_time, resolved.source_offset) == (from_millis(START_MS + 2050), 2)
    assert (fired.source_topic, fired.source_partition) == (topics.READINGS, 0)
    assert fired.summary == "press-1 is above 60: 61.25 Cel"
    assert resolved.summary == "press-1 is back at 49.5 Cel after 1 s"


def test_a_rule_below_is_the_mirror() -> None:
    told = Told({"name": "cold", "kind": "level", "below": 5, "clear": 8})
    assert told.values(9, 5, 7, 8) == [("press-1", FIRING, 1.0, None), ("press-1", RESOLVED, 1.0, 3.0)]
    assert told.alerts[0].summary == "press-1 is below 5: 5 Cel"


def test_a_rule_looks_at_the_devices_it_matches() -> None:
    told = Told(HOT | {"match": {"sensor_type": ["temperature"], "device": "press-*", "site": ["north"]}})
    events = [
        reading(0, device="press-1", value=70),
        reading(0, device="oven-1", value=70),
        reading(0, device="press-2", value=70, sensor_type="vibration"),
        reading(0, device="press-3", value=70, site="south"),
        reading(0, device="press-4", value=70),
    ]
    assert [alert[0] for alert in told.feed(*map(event, events))] == ["press-1", "press-4"]


def test_ids_are_stable_and_tell_device_rule_and_start_apart() -> None:
    def ids(*rules: dict, device: str = "press-1", at: float = 0.0) -> list[str]:
        told = Told(*rules)
        told.values(70, device=device, at=at)
        return [alert.alert_id for alert in told.alerts]

    warm = HOT | {"name": "warm"}
    assert ids(HOT) == ids(HOT)
    assert ids(HOT) == ids(HOT | {"above": 65, "severity": "info"})
    every = [*ids(HOT, warm), *ids(HOT, device="press-2"), *ids(HOT, at=1.0)]
    assert len(set(every)) == len(every) == 4


def test_the_message_key_is_the_device() -> None:
    lane = make_lane(HOT)
    out = lane.process(raw([event(reading(value=70))]), {})
    assert [key for topic, key, _ in out.messages if topic == topics.ALERTS] == [b"press-1"]
    assert out.counters["alerts_fired"] == 1


def test_alerts_of_several_rules_come_in_the_order_of_the_events() -> None:
    warm = HOT | {"name": "warm", "above": 30, "clear": 20}
    told = Told(HOT, warm)
    told.values(40, 70, 10)
    assert [(alert.rule, alert.state) for alert in told.alerts] == [
        ("warm", FIRING),
        ("hot", FIRING),
        ("hot", RESOLVED),
        ("warm", RESOLVED),
    ]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_device_that_moves_keeps_its_rules_and_its_alerts_name_where_it_was(cut: int) -> None:
    """Wherever the batch is cut, and over a restart: rules go by where a device was first seen."""
    in_north = HOT | {"match": {"site": ["north"]}}
    events = [
        event(reading(0, value=70)),
        event(reading(1_000, seq=1, value=40)),
        event(reading(2_000, seq=2, value=70, site="south")),
        event(reading(3_000, seq=3, value=40, site="south")),
    ]
    lane = make_lane(in_north)
    alerts = sent(lane.process(raw(events[:cut]), {}), topics.ALERTS)
    stored = through_the_changelog(lane.snapshot())
    for restored in (lane, Lane.restore(topics.READINGS, 0, lane.settings, stored)):
        more = sent(restored.process(raw(events[cut:], first=cut), {}), topics.ALERTS)
        assert [(alert.state, alert.site) for alert in alerts + more] == [
            (FIRING, "north"),
            (RESOLVED, "north"),
            (FIRING, "south"),
            (RESOLVED, "south"),
        ]


def test_an_old_copy_of_a_reading_does_not_move_its_device_back() -> None:
    told = Told(HOT, CROWD | {"at_least": 2})
    move = [event(reading(0)), event(reading(1_000, seq=1, site="south")), event(reading(0))]
    told.feed(*move)
    told.clock(60)
    assert [(alert.state, alert.site) for alert in told.alerts] == [(FIRING, "south"), (RESOLVED, "south")]


# --- anomaly


def test_an_anomaly_fires_and_is_resolved_by_quiet() -> None:
    values = np.random.default_rng(3).normal(20, 1, 450)
    values[[400, 405]] = [80.0, 90.0]
    events = [event(reading(100 * n, seq=n, value=float(value))) for n, value in enumerate(values)]
    out = make_lane(UNUSUAL).process(raw(events), {"temperature": forest()})
    # What follows from the verdicts, reading by reading.
    expected, started, last = [], None, 0.0
    for scored in sent(out, topics.SCORED):
        now = seconds_of(scored.event_time)
        if scored.verdict is Verdict.ANOMALY:
            last = now
            if started is None:
                started = now
                expected.append(("press-1", FIRING, started, None))
        elif started is not None and now - last >= 2:
            expected.append(("press-1", RESOLVED, started, now))
            started = None
    alerts = sent(out, topics.ALERTS)
    assert [short(alert) for alert in alerts] == expected
    spike = next(alert for alert in alerts if alert.value == 80.0)
    assert spike.threshold == 1 - 10**-EVIDENCE_THRESHOLD
    assert spike.summary == (
        "press-1 behaves unusually: 80 Cel (beyond everything seen before; usually 16.95 to 23.13)"
    )
    assert alerts[-1].state is RESOLVED


# --- count


def test_a_surge_fires_once_when_the_number_is_reached() -> None:
    told = Told(CROWD, topic=topics.DETECTIONS)
    # 0         1         2
    #  xxxxxxx              the fifth fires, the sixth and seventh say nothing new
    assert told.seen(1, 2, 3, 4) == []
    assert told.seen(5, 6, 7) == [("cam-1", FIRING, 5.0, None)]
    assert (told.alerts[0].value, told.alerts[0].threshold) == (5.0, 5.0)
    assert told.alerts[0].summary == "cam-1 has 5 events within 10 s"


def test_a_later_window_with_fewer_resolves_it() -> None:
    told = Told(CROWD, topic=topics.DETECTIONS)
    # 0         1         2         3
    #  xxxxx       x                       x     watermark = newest - 3, a window closes 5 after its end
    told.seen(1, 2, 3, 4, 5)
    assert told.seen(14, 27.999) == []
    assert told.seen(28) == [("cam-1", RESOLVED, 5.0, 10.0)]
    assert told.alerts[-1].value == 1.0


def test_an_empty_window_resolves_it() -> None:
    told = Told(CROWD, topic=topics.DETECTIONS)
    told.seen(1, 2, 3, 4, 5)
    assert told.seen(29, camera="cam-2") == [("cam-1", RESOLVED, 5.0, 10.0)]
    assert told.alerts[-1].value == 0.0


def test_a_surge_over_two_windows_is_one_alert() -> None:
    told = Told(CROWD, topic=topics.DETECTIONS)
    # 0         1         2         3
    # xxxxx     xxxxx       x                    one alert, resolved by the third window
    assert told.seen(1, 2, 3, 4, 5) == [("cam-1", FIRING, 5.0, None)]
    assert told.seen(11, 12, 13, 14, 15, 23, 24) == []
    assert told.seen(38) == [("cam-1", RESOLVED, 5.0, 20.0)]


def test_two_surges_with_a_quiet_window_between_are_two_alerts() -> None:
    told = Told(CROWD, topic=topics.DETECTIONS)
    told.seen(1, 2, 3, 4, 5, 12, 29)
    assert told.seen(31, 32, 33, 34, 35) == [("cam-1", FIRING, 35.0, None)]
    assert [short(alert) for alert in told.alerts] == [
        ("cam-1", FIRING, 5.0, None),
        ("cam-1", RESOLVED, 5.0, 10.0),
        ("cam-1", FIRING, 35.0, None),
    ]


def test_a_window_that_closes_while_the_next_is_crowded_does_not_resolve() -> None:
    told = Told(CROWD, topic=topics.DETECTIONS)
    # 0         1         2
    #  x        xxxxx                 the first window has fewer, but it is the earlier one
    assert told.seen(1, 11, 12, 13, 14, 15) == [("cam-1", FIRING, 15.0, None)]
    assert told.seen(19, camera="cam-2") == []
    assert told.alerts[-1].state is FIRING


def test_out_of_order_the_earlier_window_may_be_reached_last() -> None:
    told = Told(CROWD, topic=topics.DETECTIONS)
    told.seen(6, 7, 8, 9, 11, 11.1, 11.2, 11.3)
    assert told.seen(11.4) == [("cam-1", FIRING, 11.4, None)]
    assert told.seen(9.5) == []  # window 0 has five as well: the same surge
    assert told.seen(29) == []
    assert told.seen(39) == [("cam-1", RESOLVED, 11.4, 20.0)]


def test_the_clock_resolves_it_on_an_idle_partition() -> None:
    told = Told(CROWD, topic=topics.DETECTIONS)
    told.seen(1, 2, 3, 4, 5)
    assert told.clock(15) == []
    assert told.clock(25) == [("cam-1", RESOLVED, 5.0, 10.0)]
    assert told.alerts[-1].ingest_time == from_millis(START_MS + 30_000)


def test_a_leap_resolves_it() -> None:
    told = Told(CROWD, topic=topics.DETECTIONS)
    told.seen(1, 2, 3, 4, 5)
    (alert,) = told.seen(100_000)
    assert alert[:3] == ("cam-1", RESOLVED, 5.0)


def test_cameras_have_the_sensor_type_camera_and_no_levels() -> None:
    crowd = CROWD | {"match": {"sensor_type": ["camera"]}}
    everything = {"name": "any", "kind": "level", "above": 0, "clear": 0}
    told = Told(
        everything, UNUSUAL, crowd, CROWD | {"name": "t", "match": {"sensor_type": ["person"]}}, topic=topics.DETECTIONS
    )
    told.seen(1, 2, 3, 4, 5)
    assert [alert.rule for alert in told.alerts] == ["crowd"]


def test_duplicates_do_not_make_a_crowd() -> None:
    told = Told(CROWD, topic=topics.DETECTIONS)
    one = event(detection(1_000))
    assert told.feed(*[one] * 20) == []


# --- silence


def test_silence_fires_while_others_speak_and_ends_with_the_next_event() -> None:
    told = Told(SILENT)
    # 0         1         2
    # a                 ^ a is silent from 15 on, seen when the watermark (newest - 3) reaches it
    # b    b     b      b   b
    told.values(1, device="a", at=0)
    assert told.values(1, 1, 1, device="b", at=10) == []
    assert told.values(1, device="b", at=17.9) == []
    assert told.values(1, device="b", at=18) == [("a", FIRING, 15.0, None)]
    assert told.alerts[0].summary == "a has sent nothing for 15 s"
    assert told.values(1, device="b", at=19) == []
    assert told.values(1, device="a", at=20) == [("a", RESOLVED, 15.0, 20.0)]
    assert told.alerts[1].summary == "a speaks again after 5 s"


def test_silence_is_noticed_by_the_clock_too() -> None:
    told = Told(SILENT)
    told.values(1, device="a", at=0)
    assert told.clock(14.999) == []
    assert told.clock(15) == [("a", FIRING, 15.0, None)]
    assert told.clock(40) == []
    assert told.values(1, device="a", at=41) == [("a", RESOLVED, 15.0, 41.0)]


def test_silence_starts_again_with_each_event() -> None:
    told = Told(SILENT)
    told.values(1, device="a", at=0)
    told.values(1, device="a", at=10)
    assert told.clock(24.999) == []
    assert told.clock(25) == [("a", FIRING, 25.0, None)]


def test_the_last_event_within_the_same_batch_counts() -> None:
    told = Told(SILENT)
    a = [event(reading(1000 * at, device="a", seq=at)) for at in (0, 9)]
    b = [event(reading(1000 * at, device="b", seq=at)) for at in (10, 18, 26, 27)]
    assert told.feed(*a, *b) == [("a", FIRING, 24.0, None)]


def test_a_device_whose_clock_is_behind_is_silent_only_when_nothing_comes_from_it() -> None:
    told = Told(SILENT)
    for second in range(60):
        told.values(1, device="b", at=100 + second)
        told.values(1, device="late", at=second)
    assert told.alerts == []
    for second in range(60, 74):
        assert told.values(1, device="b", at=100 + second) == []
    # its last event came when the watermark, 3 s behind the newest, was 156
    assert told.values(1, device="b", at=174) == [("late", FIRING, 171.0, None)]
    told.values(1, device="b", at=176)
    assert told.values(1, device="late", at=76) == [("late", RESOLVED, 171.0, 173.0)]
    assert told.values(1, device="late", at=77) == []


def test_one_clock_that_is_ahead_does_not_make_the_others_silent_again_and_again() -> None:
    told = Told(SILENT)
    for second in range(60):
        told.values(1, device="fast", at=100 + second)
        told.values(1, device="b", at=second)
    assert told.alerts == []


def test_two_silence_rules_judge_apart() -> None:
    told = Told(SILENT, SILENT | {"name": "long", "after_seconds": 30})
    told.values(1, device="a", at=0)
    told.clock(20)
    told.clock(30)
    told.values(1, device="a", at=31)
    assert [(alert.rule, alert.state) for alert in told.alerts] == [
        ("silent", FIRING),
        ("long", FIRING),
        ("silent", RESOLVED),
        ("long", RESOLVED),
    ]


# --- rules that come and go


def test_open_alerts_survive_a_restart_under_changed_rules() -> None:
    """By the rule's name: another limit resolves the same alert; a rule that is gone is forgotten; a new one starts."""
    lane = make_lane(HOT, HOT | {"name": "gone"})
    fired = sent(lane.process(raw([event(reading(value=70))]), {}), topics.ALERTS)
    rules = make_rules(HOT | {"clear": 58}, HOT | {"name": "new", "above": 55, "clear": 50})
    later = Lane.restore(
        topics.READINGS,
        0,
        make_lane().settings.__class__(**(vars(lane.settings) | {"rules": rules})),
        through_the_changelog(lane.snapshot()),
    )
    out = later.process(raw([event(reading(1_000, seq=1, value=57))], first=1), {})
    alerts = {(alert.rule, alert.state): alert for alert in sent(out, topics.ALERTS)}
    assert alerts.keys() == {("hot", RESOLVED), ("new", FIRING)}
    assert alerts["hot", RESOLVED].alert_id == next(a.alert_id for a in fired if a.rule == "hot")


@pytest.mark.parametrize("intervals", [0, 3])
@pytest.mark.parametrize("fleet", [[3], [4, 5], [4, 5, 6, 7], [10, 11, 20]])
def test_silence_is_noticed_after_a_restart_however_the_fleet_grew(fleet: list[int], intervals: int) -> None:
    """How much room there is beside the devices depends on how they came; a restored lane has another one."""
    lane = make_lane(SILENT | {"intervals": intervals}, HOT)
    for first, count in itertools.pairwise([0, *fleet]):
        news = [event(reading(device=f"press-{number}", value=70)) for number in range(first, count)]
        lane.process(raw(news, first=first), {})
    later = lane.copy()
    after = START_MS + 20_000 + devices.UNKNOWN_MS
    silent = [sent(some.advance(after, after + 1000), topics.ALERTS) for some in (lane, later)]
    assert len(silent[0]) == fleet[-1]
    assert silent[0] == silent[1]
    assert messages_of(lane.snapshot()) == messages_of(later.snapshot())


def test_the_shipped_rules_have_a_threshold_each() -> None:
    assert {rule.name: threshold_of(rule) for rule in load_rules()} == {
        "anomaly": 1 - 10**-EVIDENCE_THRESHOLD,
        "overheated": 60.0,
        "crowd": 200.0,
        "surge": 1 - 10**-EVIDENCE_THRESHOLD,
        "lull": 1 - 10**-EVIDENCE_THRESHOLD,
        "drift": 0.0,
        "silent": 20.0,
    }


def test_every_alert_can_be_read_back() -> None:
    told = Told(HOT)
    told.values(70, 1)
    assert [avro.decode(avro.encode(alert), Alert) for alert in told.alerts] == told.alerts
