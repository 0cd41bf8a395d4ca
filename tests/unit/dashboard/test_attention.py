"""Which device needs attention, in which order, and what a person searches for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dashboard.attention import ANOMALY_SHOWN_MS, Status, assess, choose, natural, standstill_ms, status_of
from dashboard.live import Arrival, Board, fold
from fleetwatch.records import DetectorState, Severity, Verdict, to_millis
from tests.unit.dashboard.factories import NOW, NOW_MS, alert, reading


def board_of(*events):
    return fold(Board(), [Arrival(event, to_millis(event.ingest_time)) for event in events])


def test_the_order_is_critical_anomaly_warning_silent_then_name():
    board = board_of(
        reading("pump-10"),
        reading("pump-2"),
        reading("learning-3", state=DetectorState.WARMING_UP),
        reading("quiet", at=NOW - timedelta(minutes=10)),
        reading("warm"),
        alert("w", device_id="warm", severity=Severity.WARNING),
        reading("strange", verdict=Verdict.ANOMALY),
        reading("zz-strange-and-told", verdict=Verdict.ANOMALY),
        alert("i", device_id="zz-strange-and-told", severity=Severity.INFO),
        reading("burning"),
        alert("c", device_id="burning", severity=Severity.CRITICAL),
        alert("c2", device_id="burning", severity=Severity.INFO),
    )
    cards = assess(board, now_ms=NOW_MS)
    assert [(card.device.device_id, card.status) for card in cards] == [
        ("burning", Status.CRITICAL),
        ("zz-strange-and-told", Status.ANOMALY),
        ("strange", Status.ANOMALY),
        ("warm", Status.WARNING),
        ("quiet", Status.STALE),
        ("learning-3", Status.WARMING_UP),
        ("pump-2", Status.NORMAL),
        ("pump-10", Status.NORMAL),
    ]
    assert [card.alerts for card in cards[:4]] == [2, 1, 0, 1]


@pytest.mark.parametrize(
    ("worst", "later_ms", "status"),
    [
        (Severity.CRITICAL, 0, Status.CRITICAL),
        (Severity.WARNING, 0, Status.ANOMALY),  # an anomaly just now is more than a warning
        (Severity.WARNING, ANOMALY_SHOWN_MS, Status.WARNING),  # and is forgotten after a minute
        (Severity.INFO, ANOMALY_SHOWN_MS, Status.NORMAL),  # an INFO alert does not colour the card
        (None, 20, Status.ANOMALY),
    ],
)
def test_status_of_a_device_that_had_an_anomaly(worst, later_ms, status):
    device = board_of(reading(verdict=Verdict.ANOMALY)).devices["pump-1"]
    assert status_of(device, worst, now_ms=device.heard_ms + later_ms) is status


@pytest.mark.parametrize(
    ("every_s", "silent_s", "status"),
    [
        (1, 14, Status.NORMAL),  # at least 15 s
        (1, 16, Status.STALE),
        (60, 290, Status.NORMAL),  # a slow device has five of its intervals
        (60, 310, Status.STALE),
    ],
)
def test_a_device_is_silent_by_its_own_rhythm(every_s, silent_s, status):
    events = [reading(at=NOW + timedelta(seconds=n * every_s), seq=n) for n in range(10)]
    device = board_of(*events).devices["pump-1"]
    assert status_of(device, None, now_ms=device.heard_ms + silent_s * 1000) is status


def test_a_standstill_is_that_of_the_whole_fleet():
    board = board_of(reading("quiet", at=NOW - timedelta(minutes=10)), reading("fresh"))
    newest = board.devices["fresh"].came_ms
    assert standstill_ms(board, now_ms=newest + 15_000) is None
    assert standstill_ms(board, now_ms=newest + 20_000) == 20_000
    assert standstill_ms(Board(), now_ms=NOW_MS) is None


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["pump-1", "Fan-2"]),
        ({"sites": ["south"]}, ["Fan-2"]),
        ({"sites": ["south"], "sensor_types": ["temperature"]}, []),
        ({"search": " fan "}, ["Fan-2"]),
        ({"search": "nothing"}, []),
    ],
)
def test_filters(filters, names):
    cards = assess(board_of(reading(), reading("Fan-2", site="south", sensor_type="rpm")), now_ms=NOW_MS)
    assert sorted(card.device.device_id for card in choose(cards, **filters)) == sorted(names)


def test_streams_that_are_behind_do_not_make_devices_silent():
    """The readings are ten minutes old, but they come out of the streams now."""
    event = reading(at=NOW - timedelta(minutes=10))
    device = fold(Board(), [Arrival(event, NOW_MS)]).devices["pump-1"]
    assert status_of(device, None, now_ms=NOW_MS + 1_000) is Status.NORMAL
    assert status_of(device, None, now_ms=NOW_MS + 61_000) is Status.STALE


def test_names_sort_as_people_count():
    assert sorted(["p-10", "p-9", "a", "10", "p"], key=natural) == ["10", "a", "p", "p-9", "p-10"]
