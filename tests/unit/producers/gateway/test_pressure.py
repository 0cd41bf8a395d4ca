"""When the gateway says "later"."""

from __future__ import annotations

import pytest

from producers.gateway.pressure import Busy, Limits, Load, busy_for_events, busy_for_request, retry_after

LIMITS = Limits(requests=10, body_bytes=1000, events=100)


@pytest.mark.parametrize(
    ("load", "body_bytes", "expected"),
    [
        (Load(), 1000, None),
        (Load(requests=9, body_bytes=900, events=99), 100, None),  # up to each limit
        (Load(requests=10), 0, Busy.REQUESTS),
        (Load(body_bytes=901), 100, Busy.BODIES),
        (Load(events=100), 0, Busy.EVENTS),  # its body would be read in vain
        (Load(is_broker_away=True), 0, Busy.BROKER_AWAY),
        (Load(is_stopping=True), 0, Busy.STOPPING),
        (Load(is_stopping=True, is_broker_away=True, requests=10), 0, Busy.STOPPING),  # what lasts longest is told
    ],
)
def test_a_request_is_let_in_while_there_is_room(load: Load, body_bytes: int, expected: Busy | None) -> None:
    assert busy_for_request(load, LIMITS, body_bytes=body_bytes) is expected


@pytest.mark.parametrize(
    ("load", "events", "expected"),
    [
        (Load(events=40), 60, None),
        (Load(events=40), 61, Busy.EVENTS),
        (Load(), 101, None),  # else it never could
        (Load(events=1), 101, Busy.EVENTS),
        (Load(is_stopping=True, requests=10), 5, None),  # it was let in before
        (Load(is_broker_away=True), 5, Busy.BROKER_AWAY),
    ],
)
def test_events_are_handed_over_while_there_is_room(load: Load, events: int, expected: Busy | None) -> None:
    assert busy_for_events(load, LIMITS, events=events) is expected


@pytest.mark.parametrize("reason", [None, *Busy])
def test_the_wait_is_whole_seconds_and_spread(reason: Busy | None) -> None:
    waits = [retry_after(reason, spread / 100) for spread in range(100)]
    assert min(waits) >= 1
    assert len(set(waits)) > 1
    assert max(waits) <= 10


def test_a_missing_broker_takes_longer_than_a_full_queue() -> None:
    assert retry_after(Busy.BROKER_AWAY, 0.0) > retry_after(Busy.EVENTS, 0.0)
