from __future__ import annotations

import pytest

from producers.vision.detector import Detection
from producers.vision.tracker import LONGEST_GAP_MS, follow, overlap


def seen(x: float, label: str = "person", y: float = 0.1) -> Detection:
    return Detection(label, 0.9, (x, y, 0.2, 0.4))


def test_overlap_is_intersection_over_union() -> None:
    assert overlap((0, 0, 2, 2), (1, 0, 2, 2)) == pytest.approx(2 / 6)
    assert overlap((0, 0, 2, 2), (2, 0, 2, 2)) == 0
    assert overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1


def test_objects_that_move_a_little_keep_their_track_in_any_order() -> None:
    tracks, ids = follow((), [seen(0.1), seen(0.6)], [10, 11], 0)
    assert ids == [10, 11]
    tracks, ids = follow(tracks, [seen(0.65), seen(0.15)], [20, 21], 100)
    assert ids == [11, 10]
    _, ids = follow(tracks, [seen(0.2), seen(0.2, "dog"), seen(0.45)], [30, 31, 32], 200)
    assert ids == [10, 31, 32]  # a dog is no person; 0.65 and 0.45 do not meet


def test_the_nearest_box_takes_the_track_and_another_begins_one() -> None:
    tracks, _ = follow((), [seen(0.1)], [1], 0)
    _, ids = follow(tracks, [seen(0.16), seen(0.11)], [2, 3], 100)
    assert ids == [2, 1]


def test_a_track_outlives_a_gap_and_not_a_long_one() -> None:
    tracks, _ = follow((), [seen(0.1)], [1], 0)
    tracks, _ = follow(tracks, [], [], 1000)
    assert follow(tracks, [seen(0.1)], [2], LONGEST_GAP_MS)[1] == [1]
    assert follow(tracks, [seen(0.1)], [2], LONGEST_GAP_MS + 1)[1] == [2]
    assert follow(tracks, [], [], LONGEST_GAP_MS + 1)[0] == ()
