"""Windows by example: each timeline is drawn, one character a second, windows of ten seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streams.windows import COUNT, LATE, MAX, MIN, NEVER, OFFSET, SQUARES, SUM, Entries, Folded, WindowFold, WindowRules

SIZE = 10_000
RULES = WindowRules(size_ms=SIZE, grace_ms=0, out_of_orderness_ms=0)


def fold(windows: WindowFold, *seconds: float, first: int = 0) -> Folded:
    """Fold events of one device in; the value of an event is its time in seconds."""
    count = len(seconds)
    return windows.fold(
        np.array([int(second * 1000) for second in seconds], np.int64),
        np.arange(first, first + count, dtype=np.int64),
        np.array(seconds, np.float64),
        np.zeros((1, count), np.int64),
    )


def counts(entries: Entries) -> list[tuple[int, int, int]]:
    """(window, count, late) of each entry."""
    return [
        (window, int(ints[COUNT]), int(ints[LATE]))
        for window, ints in zip(entries.window.tolist(), entries.ints, strict=True)
    ]


def test_a_window_takes_its_start_and_not_its_end() -> None:
    windows = WindowFold(RULES, scopes=1)
    folded = fold(windows, 0, 9.999, 10)
    # 0         1
    # x        xx      the third event is the first of the second window
    # [--------)[----
    assert counts(folded.final) == [(0, 2, 0)]
    assert counts(windows.early()) == [(1, 1, 0)]


def test_with_a_hop_an_event_is_in_every_window_that_covers_it() -> None:
    windows = WindowFold(replace(RULES, hop_ms=4_000), scopes=1)
    folded = fold(windows, 1, 5, 9, 12)
    #   -8: [-8, 2)  x
    #   -4: [-4, 6)  x   x
    #    0: [0, 10)  x   x   x
    #    4:            [4, 14) x  x
    #    8:                [8, 18) x
    assert counts(folded.final) == [(-2, 1, 0), (-1, 2, 0), (0, 3, 0)]
    assert folded.running.tolist() == [1, 2, 3, 3]
    assert folded.window.tolist() == [-2, -1, 0, 1]
    assert counts(windows.early()) == [(1, 3, 0), (2, 2, 0), (3, 1, 0)]


def test_a_final_count_names_the_row_before_which_it_was_final() -> None:
    folded = fold(WindowFold(RULES, scopes=1), 1, 2, 11, 12, 25)
    # 0         1         2
    #  xx        xx            x
    #            ^ closes 0    ^ closes 1
    assert folded.final.at.tolist() == [2, 4]
    assert folded.closed.tolist() == [[2, 0], [4, 1]]


def test_all_numbers_of_a_window() -> None:
    folded = fold(WindowFold(RULES, scopes=1), 1, 4, 2.5, 10, first=70)
    assert folded.final.ints[0, [COUNT, LATE, OFFSET]].tolist() == [3, 0, 72]
    assert folded.final.floats[0, [SUM, SQUARES, MIN, MAX]].tolist() == [7.5, 23.25, 1.0, 4.0]


def test_out_of_order_events_are_counted_in_their_own_window() -> None:
    windows = WindowFold(replace(RULES, out_of_orderness_ms=3_000), scopes=1)
    folded = fold(windows, 8, 11, 9, 12.999, 13)
    # 0         1
    #         1  2       1, 3 in the first window, 2, 4, 5 in the second
    #          3  4
    #              5     watermark = 10: the first window closes here and no earlier
    assert folded.is_late.tolist() == [False] * 5
    assert folded.running.tolist() == [1, 1, 2, 2, 3]
    assert counts(folded.final) == [(0, 2, 0)]
    assert folded.final.at.tolist() == [4]


def test_an_event_behind_the_watermark_is_late_and_counted_beside_the_newest() -> None:
    windows = WindowFold(RULES, scopes=1)
    folded = fold(windows, 5, 15, 9)
    # 0         1
    #      1         2
    #          3           late: window 0 closed with event 2
    assert folded.is_late.tolist() == [False, False, True]
    assert folded.running.tolist() == [1, 1, 0]
    assert counts(folded.final) == [(0, 1, 0)]
    assert counts(windows.early()) == [(1, 1, 1)]
    assert windows.early().ints.tolist() == []


def test_grace_keeps_a_window_open_for_late_events() -> None:
    windows = WindowFold(replace(RULES, grace_ms=5_000), scopes=1)
    folded = fold(windows, 5, 14.999, 9, 15, 9)
    # 0         1
    #      1        2|
    #          3     |     behind the watermark, inside grace: counted
    #                4     watermark = end + grace: closed
    #          5           late
    assert folded.is_late.tolist() == [False, False, False, False, True]
    assert counts(folded.final) == [(0, 2, 0)]


def test_a_leap_closes_what_was_open_and_names_the_last_skipped_window_only() -> None:
    folded = fold(WindowFold(RULES, scopes=1), 5, 1_000_005)
    assert counts(folded.final) == [(0, 1, 0)]
    assert folded.closed[0].tolist() == [1, 0]
    assert folded.closed[-1].tolist() == [1, 99_999]
    assert len(folded.closed) <= RULES.panes + 1


def test_the_clock_closes_the_windows_of_an_idle_partition() -> None:
    windows = WindowFold(RULES, scopes=1)
    fold(windows, 5)
    entries, closed = windows.advance(9_999)
    assert (len(entries), len(closed)) == (0, 0)
    entries, closed = windows.advance(10_000)
    assert counts(entries) == [(0, 1, 0)]
    assert entries.at.tolist() == [-1]
    assert closed.tolist() == [[-1, 0]]
    assert windows.watermark_ms == 10_000


def test_what_comes_after_the_clock_closed_its_window_is_late() -> None:
    windows = WindowFold(RULES, scopes=1)
    fold(windows, 5)
    windows.advance(30_000)
    # 0         1         2         3
    #      1                        ^ watermark, by the clock
    #       2        3         4      all late, though newer than the newest
    #                                  5
    folded = fold(windows, 6, 15, 25, 33)
    assert folded.is_late.tolist() == [True, True, True, False]
    assert counts(windows.early()) == [(3, 1, 3)]


def test_the_clock_moves_nothing_before_the_first_event_and_never_goes_back() -> None:
    windows = WindowFold(RULES, scopes=1)
    windows.advance(50_000)
    assert windows.watermark_ms == NEVER
    fold(windows, 75)
    windows.advance(60_000)
    assert windows.watermark_ms == 75_000


def test_a_window_of_late_events_only_has_no_values_of_an_earlier_window_in_it() -> None:
    windows = WindowFold(replace(RULES, out_of_orderness_ms=0), scopes=1)
    fold(windows, *range(1, 60, 3))
    windows.advance(100_000)
    fold(windows, 5)
    (entries, _) = windows.advance(500_000)
    assert counts(entries) == [(10, 0, 1)]
    assert entries.floats.tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_early_counts_are_given_once_until_they_change() -> None:
    windows = WindowFold(RULES, scopes=1)
    fold(windows, 1)
    assert counts(windows.early()) == [(0, 1, 0)]
    assert counts(windows.early()) == []
    fold(windows, 2)
    assert counts(windows.early()) == [(0, 2, 0)]


def test_an_empty_batch_changes_nothing() -> None:
    windows = WindowFold(RULES, scopes=1)
    fold(windows, 1)
    folded = fold(windows)
    assert (len(folded.final), len(folded.closed)) == (0, 0)
    assert windows.watermark_ms == 1_000


@pytest.mark.parametrize(
    "other",
    [
        replace(RULES, grace_ms=50_000),  # more windows open at once
        replace(RULES, size_ms=20_000),  # as many, but window numbers mean other times
        replace(RULES, grace_ms=5_000),  # as many, but they close at other times
    ],
)
def test_a_snapshot_of_other_window_rules_is_refused(other: WindowRules) -> None:
    windows = WindowFold(RULES, scopes=1)
    fold(windows, 1)
    with pytest.raises(ValueError, match="windows have other lengths"):
        WindowFold.restore(other, windows.snapshot())
