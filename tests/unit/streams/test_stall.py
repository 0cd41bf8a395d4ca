"""The stall guard: it says when the whole process stood still for longer than its membership lasts."""

from __future__ import annotations

import pytest

from fleetwatch.errors import TransientError
from streams.stall import StallGuard


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_process_that_runs_is_not_refused():
    clock = Clock()
    guard = StallGuard(6.0, clock)
    for _ in range(100):
        clock.now += 5.0
        guard.check()
        guard.stamp()


def test_a_gap_since_the_last_stamp_is_a_stall():
    clock = Clock()
    guard = StallGuard(6.0, clock)
    clock.now += 6.5
    with pytest.raises(TransientError, match=r"stood still for 6\.5 s"):
        guard.check()


def test_a_gap_that_a_stamp_has_closed_is_still_a_stall():
    clock = Clock()
    guard = StallGuard(6.0, clock)
    clock.now += 60.0
    guard.stamp()
    guard.stamp()
    with pytest.raises(TransientError, match=r"60\.0 s"):
        guard.check()


def test_the_thread_leaves_stamps_until_the_end():
    with StallGuard(6.0) as guard:
        assert guard._thread.is_alive()
        guard.check()
    assert not guard._thread.is_alive()
