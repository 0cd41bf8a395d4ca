"""Duplicates and silence."""

from __future__ import annotations

import itertools
from collections import deque

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.devices import HORIZON, TICK_MS, UNKNOWN_MS, fold_duplicates, fold_silence, silence_timeouts

MODEST = settings(max_examples=80, deadline=None)


class Recent:
    """State of ``fold_duplicates`` for a few devices."""

    def __init__(self, devices: int = 3) -> None:
        self.recent = np.full((devices, HORIZON, 2), np.iinfo(np.int64).min, np.int64)
        self.place = np.zeros(devices, np.int64)

    def fold(self, *events: tuple[int, int, int]) -> list[bool]:
        rows, times, seqs = (np.array([event[k] for event in events], np.int64) for k in range(3))
        return fold_duplicates(rows, times, seqs, self.recent, self.place).tolist()


def test_a_repeat_is_the_same_device_time_and_number() -> None:
    recent = Recent()
    assert recent.fold((0, 5, 1), (0, 5, 1)) == [False, True]
    assert recent.fold((0, 5, 2), (0, 6, 1), (1, 5, 1)) == [False, False, False]
    assert recent.fold((0, 5, 1), (1, 5, 1)) == [True, True]


def test_the_horizon_ends_after_so_many_other_events_of_the_device() -> None:
    inside, outside = Recent(), Recent()
    inside.fold((0, 1, 0), *((0, 2, seq) for seq in range(HORIZON - 1)))
    outside.fold((0, 1, 0), *((0, 2, seq) for seq in range(HORIZON)))
    assert inside.fold((0, 1, 0)) == [True]
    assert outside.fold((0, 1, 0)) == [False]


def test_repeats_and_other_devices_do_not_use_up_the_horizon() -> None:
    recent = Recent()
    recent.fold((0, 1, 0), *([(0, 1, 0)] * 3 * HORIZON), *((1, 2, seq) for seq in range(3 * HORIZON)))
    assert recent.fold((0, 1, 0)) == [True]


@MODEST
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 3), st.integers(0, 30)), max_size=300), st.integers(0, 300)
)
def test_equal_to_a_queue_of_the_last_events(events: list[tuple[int, int, int]], cut: int) -> None:
    recent = Recent()
    queues = [deque[tuple[int, int]](maxlen=HORIZON) for _ in range(3)]
    expected = []
    for row, time, seq in events:
        expected.append((time, seq) in queues[row])
        if not expected[-1]:
            queues[row].append((time, seq))
    assert recent.fold(*events[:cut]) + recent.fold(*events[cut:]) == expected


class Listening:
    """State of ``fold_silence``: two devices, silent after ten seconds, watermark = newest event."""

    def __init__(self, timeouts: tuple[int, ...] = (10_000, 10_000), intervals: float = 0.0) -> None:
        self.timeouts = np.array(timeouts)
        self.last_seen = np.full(len(timeouts), -1, np.int64)
        self.is_silent = np.zeros(len(timeouts), np.bool_)
        self.pauses = np.zeros((len(timeouts), 2))
        self.intervals = intervals
        self.watermark = -(2**62)

    def fold(self, *events: tuple[int, float]) -> list[tuple[int, ...]]:
        rows = np.array([row for row, _ in events], np.int64)
        times = np.array([int(second * 1000) for _, second in events], np.int64)
        watermarks = np.maximum(np.maximum.accumulate(times), self.watermark)
        previous, self.watermark = self.watermark, int(watermarks[-1])
        state = (self.timeouts, self.last_seen, self.is_silent, self.pauses)
        found = fold_silence(rows, times, watermarks, previous, *state, self.intervals)
        return [tuple(row[:3]) for row in found.tolist()]


def test_a_device_falls_silent_while_another_speaks() -> None:
    listening = Listening()
    # 0         1
    # a    a    |         a spoke last at 5: silent at 15
    # b      b      b^    seen at the first whole second of the watermark from there on
    events = [(0, 0.0), (1, 0.2), (0, 5.0), (1, 7.0), (1, 14.0), (1, 14.9), (1, 15.2)]
    assert listening.fold(*events) == [(0, 6, 1)]
    assert listening.is_silent.tolist() == [True, False]


def test_it_speaks_again_with_its_next_event_only() -> None:
    listening = Listening()
    listening.fold((0, 0.0), (1, 20.0))
    assert listening.is_silent.tolist() == [True, False]
    assert listening.fold((1, 20.5), (1, 21.0)) == []
    assert listening.fold((0, 21.5)) == [(0, 0, 0)]


def test_an_event_from_before_the_silence_does_not_end_it() -> None:
    """Out of order: older than what was heard last."""
    listening = Listening()
    listening.fold((0, 5.0), (1, 20.0))
    assert listening.fold((0, 4.0)) == []
    assert listening.is_silent.tolist() == [True, False]


def test_a_lone_device_is_found_silent_by_its_own_return() -> None:
    """Nobody else moved the watermark: both changes come with the same event, in this order."""
    assert Listening().fold((0, 0.0), (0, 30.0)) == [(0, 1, 1), (0, 1, 0)]


def test_no_silence_without_a_rule_or_before_the_first_event() -> None:
    listening = Listening(timeouts=(0, 10_000))
    assert listening.fold((0, 0.0), (0, 100.0), (0, 200.0)) == []
    assert listening.fold((1, 201.0), (0, 230.0)) == [(1, 1, 1)]


def test_a_row_of_minus_one_moves_the_watermark_only() -> None:
    listening = Listening()
    assert listening.fold((0, 0.0), (-1, 12.0)) == [(0, 1, 1)]


def test_silence_is_judged_at_whole_seconds_of_the_watermark() -> None:
    listening = Listening(timeouts=(1_500, 0))
    assert listening.fold((0, 0.0), (1, 1.6), (1, 1.999)) == []
    assert listening.fold((1, 2.0)) == [(0, 0, 1)]
    assert TICK_MS == 1000


def test_a_device_that_speaks_rarely_may_be_silent_for_longer() -> None:
    """Eight of its usual pauses of 30 s are 240 s; the other one, which speaks every second, has the ten seconds."""
    listening = Listening(intervals=8.0)
    spoken = [(0, 30.0 * n) for n in range(8)] + [(1, 200.0 + n) for n in range(11)]
    assert listening.fold(*spoken, (-1, 400.0)) == [(1, 19, 1)]
    assert listening.fold((-1, 449.0)) == []
    assert listening.fold((-1, 450.0)) == [(0, 0, 1)]


def test_an_outage_does_not_make_silence_usual() -> None:
    listening = Listening(intervals=8.0)
    listening.fold(*((0, float(n)) for n in range(60)), (0, 660.0))
    heard, unheard = silence_timeouts(5_000, 8.0, listening.pauses).tolist()
    assert 8_000 <= heard < 16_000
    assert unheard == UNKNOWN_MS


@MODEST
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 25)), min_size=1, max_size=80), st.sets(st.integers(1, 79))
)
def test_cutting_a_batch_changes_nothing(steps: list[tuple[int, int]], cuts: set[int]) -> None:
    seconds = np.cumsum([step for _, step in steps]) / 2.0 + 500
    events = [(row, second) for (row, _), second in zip(steps, seconds.tolist(), strict=True)]
    whole = Listening(intervals=2.0).fold(*events)
    listening, found = Listening(intervals=2.0), []
    marks = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
    for start, stop in itertools.pairwise(marks):
        found += [(row, at + start, kind) for row, at, kind in listening.fold(*events[start:stop])]
    assert found == whole
