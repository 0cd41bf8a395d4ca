"""The live board: what a fold of events gives, whatever their order, and that it stays bounded."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import live
from dashboard.live import Arrival, Board, fold, prune
from fleetwatch.records import DetectorState, Scope, Verdict, to_millis
from tests.unit.dashboard.factories import NOW, NOW_MS, alert, detection, reading, resolved, window

READINGS = st.builds(
    lambda device, second, seq, strange: reading(
        f"pump-{device}",
        at=NOW + timedelta(seconds=second),
        seq=seq,
        value=float(second * 10 + seq),
        verdict=Verdict.ANOMALY if strange else Verdict.NORMAL,
        state=DetectorState.READY if second % 2 else DetectorState.WARMING_UP,
    ),
    st.integers(0, 2),
    st.integers(0, 400),
    st.integers(0, 1),
    st.booleans(),
)
DETECTIONS = st.builds(
    lambda camera, second, seq: detection(f"cam-{camera}", at=NOW + timedelta(seconds=second), seq=seq),
    st.integers(0, 2),
    st.integers(0, 60),
    st.integers(0, 30),
)
ALERTS = st.builds(
    lambda number, is_end: resolved(f"a{number}") if is_end else alert(f"a{number}"), st.integers(0, 5), st.booleans()
)
WINDOWS = st.builds(
    lambda slot, offset, is_final: window(
        start=NOW + timedelta(seconds=10 * slot), count=offset, included_offset=offset, is_final=is_final
    ),
    st.integers(0, 4),
    st.integers(0, 50),
    st.just(False),
)


def unique(records):
    """Keep one event of each identity: two with the same identity are the same event."""
    by_identity = {
        (type(r), getattr(r, "device_id", ""), r.event_time, r.seq, getattr(r, "camera_id", "")): r for r in records
    }
    return list(by_identity.values())


EVENTS = st.builds(
    lambda readings, detections, alerts, windows: [*unique(readings), *unique(detections), *alerts, *windows],
    st.lists(READINGS, max_size=60),
    st.lists(DETECTIONS, max_size=40),
    st.lists(ALERTS, max_size=12),
    st.lists(WINDOWS, max_size=12),
)


def folded(events, board=None):
    return fold(board or Board(), [Arrival(event, NOW_MS) for event in events])


def without_rates(board):
    return (board.devices, board.cameras, board.open_alerts, board.resolved, board.label_windows)


@given(EVENTS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_and_repetition_change_nothing_but_rates(events, random):
    shuffled = [*events, *random.sample(events, k=len(events) // 2)]
    random.shuffle(shuffled)
    assert without_rates(folded(shuffled)) == without_rates(folded(events))


@given(EVENTS, st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_a_batch_may_be_cut_anywhere(events, size):
    pieces = [events[start : start + size] for start in range(0, len(events), size)]
    assert reduce(lambda board, piece: folded(piece, board), pieces, Board()) == folded(events)


def test_the_newest_reading_by_event_time_names_the_device():
    late = reading(at=NOW - timedelta(seconds=5), value=1.0, site="old")
    board = folded([reading(value=2.0, site="new"), late])
    device = board.devices["pump-1"]
    assert (device.last.value, device.site) == (2.0, "new")
    assert [point.value for point in device.points] == [1.0, 2.0]


def test_two_readings_of_one_time_are_ordered_by_sequence():
    board = folded([reading(seq=8, value=8.0), reading(seq=7, value=7.0)])
    assert board.devices["pump-1"].last.value == 8.0


def test_a_device_keeps_its_newest_points_only():
    many = [reading(at=NOW + timedelta(seconds=n), seq=n, value=float(n)) for n in range(live.MAX_POINTS + 50)]
    points = folded(many).devices["pump-1"].points
    assert [point.seq for point in points] == list(range(50, live.MAX_POINTS + 50))


def test_the_newest_anomaly_is_remembered_after_normal_readings():
    strange = reading(verdict=Verdict.ANOMALY)
    later = reading(at=NOW + timedelta(seconds=9), seq=1)
    assert folded([strange, later]).devices["pump-1"].anomaly_ms == to_millis(strange.ingest_time)


def test_a_resolved_alert_is_closed_for_good():
    assert folded([resolved("a1"), alert("a1"), alert("a2")]).open_alerts.keys() == {"a2"}


def test_a_final_count_is_never_replaced_by_an_early_one():
    final = window(count=9, included_offset=3, is_final=True)
    board = folded([final, window(count=2, included_offset=7)])
    assert [count.count for count in board.label_windows.values()] == [9]


def test_only_windows_of_labels_are_kept():
    assert not folded([window("pump-1", scope=Scope.DEVICE)]).label_windows


@pytest.mark.parametrize("ttl_s", [60, 3600])
def test_silent_devices_and_cameras_leave_after_their_time(ttl_s):
    events = [reading(), detection(camera_id="cam-1")]
    board = fold(Board(), [Arrival(event, NOW_MS) for event in events])
    before = prune(board, now_ms=NOW_MS + ttl_s * 1000 - 1000, device_ttl_ms=ttl_s * 1000)
    after = prune(board, now_ms=NOW_MS + ttl_s * 1000 + 1000, device_ttl_ms=ttl_s * 1000)
    assert (len(before.devices), len(before.cameras)) == (1, 1)
    assert (len(after.devices), len(after.cameras)) == (0, 0)


def test_memory_is_bounded_with_many_devices(monkeypatch):
    monkeypatch.setattr(live, "MAX_DEVICES", 30)
    monkeypatch.setattr(live, "MAX_POINTS_IN_ALL", 900)
    events = [
        reading(f"pump-{device}", at=NOW + timedelta(seconds=number + device / 100), seq=number)
        for device in range(50)
        for number in range(60)
    ]
    board = prune(folded(events), now_ms=NOW_MS, device_ttl_ms=3_600_000)
    assert set(board.devices) == {f"pump-{device}" for device in range(20, 50)}, "the most recently heard stay"
    assert sum(len(device.points) for device in board.devices.values()) == 900
    assert board.devices["pump-49"].last.seq == 59


def test_alerts_and_windows_are_bounded_and_the_gravest_stay(monkeypatch):
    from fleetwatch.records import Severity

    monkeypatch.setattr(live, "MAX_OPEN_ALERTS", 3)
    monkeypatch.setattr(live, "MAX_RESOLVED", 2)
    events = [alert(f"a{n}", severity=Severity.CRITICAL if n == 4 else Severity.INFO) for n in range(9)]
    events += [resolved(f"r{n}", at=NOW + timedelta(minutes=n)) for n in range(5)]
    events += [window(start=NOW), window(start=NOW + timedelta(hours=1))]
    board = prune(folded(events), now_ms=NOW_MS, device_ttl_ms=1000)
    assert len(board.open_alerts) == 3
    assert "a4" in board.open_alerts
    assert set(board.resolved) == {"r3", "r4"}
    assert [count.window_start for count in board.label_windows.values()] == [NOW + timedelta(hours=1)]


def test_rates_count_whole_seconds_and_forget():
    board = fold(Board(), [Arrival(reading(seq=n), NOW_MS - 1000 * (n % 10 + 1)) for n in range(50)])
    assert live.per_second(board.readings_per_second, now_ms=NOW_MS) == 5.0
    assert live.per_second(board.readings_per_second, now_ms=NOW_MS + 60_000) == 0.0
    later = fold(board, [Arrival(reading(seq=99), NOW_MS + 3_600_000)])
    assert len(later.readings_per_second) == 1


def test_detections_per_minute_is_exact_while_the_memory_reaches_and_a_rate_beyond():
    few = [detection(at=NOW - timedelta(seconds=n), seq=n) for n in range(90)]
    camera = folded(few).cameras["cam-1"]
    assert live.detections_per_minute(camera, now_ms=NOW_MS) == 60
    crowd = [detection(at=NOW - timedelta(milliseconds=20 * n), seq=n) for n in range(2_000)]
    camera = folded(crowd).cameras["cam-1"]
    assert len(camera.sightings) == live.MAX_SIGHTINGS
    assert live.detections_per_minute(camera, now_ms=NOW_MS) == pytest.approx(3_000, rel=0.01)


def test_dead_letters_never_go_back():
    board = live.count_dead_letters(Board(), 7, {5: 7})
    assert live.count_dead_letters(board, 0, {}).dead_letters == 7
