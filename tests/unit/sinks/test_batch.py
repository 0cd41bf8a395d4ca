"""When a batch is due."""

from __future__ import annotations

import pytest

from fleetwatch import topics
from sinks.batch import Collector, Event, Limits

LIMITS = Limits(rows=3, size=100, age_seconds=0.2)


def _event(offset: int, size: int = 1) -> Event:
    return Event(topics.SCORED, 0, offset, 0, None, b"x" * size)


@pytest.mark.parametrize(
    ("sizes", "now", "is_due"),
    [
        ([], 10.19, False),  # young and empty
        ([], 10.2, True),  # age counts from the start, also without events
        ([1, 1], 10.0, False),
        ([1, 1, 1], 10.0, True),  # rows
        ([100], 10.0, True),  # bytes
        ([99], 10.0, False),
    ],
)
def test_a_batch_is_due_by_rows_bytes_or_age(sizes: list[int], now: float, is_due: bool):
    batch = Collector.started_at(10.0, LIMITS)
    batch.extend(_event(offset, size) for offset, size in enumerate(sizes))
    assert batch.is_due(now) is is_due


def test_room_shrinks_with_each_event():
    batch = Collector.started_at(0, LIMITS)
    batch.extend([_event(0)])
    assert batch.room == 2
