from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from producers.vision.people import PeopleDetector
from producers.vision.tracker import overlap
from tests.fakes.pedestrians import HEIGHT, WIDTH, Pedestrian, draw, walk

if TYPE_CHECKING:
    from producers.vision.detector import Detection


@pytest.fixture(scope="module")
def detector() -> PeopleDetector:
    return PeopleDetector(confidence=0.5, max_overlap=0.45)


def assert_found(found: list[Detection], people: list[Pedestrian]) -> None:
    """Each person once, where they are drawn, and nobody else."""
    assert len(found) == len(people)
    for person in people:
        best = max(found, key=lambda seen: overlap(seen.box, person.box))
        assert overlap(best.box, person.box) > 0.6, (person, best)
        assert best.label == "person"
        assert best.confidence > 0.9


@pytest.mark.parametrize("number", [0, 3, 7])
def test_everybody_in_a_frame_is_found_where_they_stand(detector: PeopleDetector, number: int) -> None:
    image = draw(walk(number))
    before = image.copy()
    found = detector.detect(image)
    assert_found(found, walk(number))
    assert (image == before).all()
    assert detector.detect(image) == found
    assert [seen.confidence for seen in found] == sorted((seen.confidence for seen in found), reverse=True)


def test_nobody_is_found_where_nobody_is(detector: PeopleDetector) -> None:
    assert detector.detect(draw([])) == []


def test_large_frames_are_seen_smaller_and_boxes_stay(detector: PeopleDetector) -> None:
    large = cv2.resize(draw(walk(0)), (WIDTH * 5, HEIGHT * 5))
    assert_found(detector.detect(large), walk(0))


@pytest.mark.parametrize("shape", [(1, 1), (10, 10), (64, 20), (30, 400), (127, 64), (400, 30), (3000, 1)])
def test_frames_smaller_than_the_window_are_looked_at_without_harm(
    detector: PeopleDetector, shape: tuple[int, int]
) -> None:
    """OpenCV alone writes past its memory on 10 x 10 pixels."""
    assert detector.detect(np.full((*shape, 3), 128, np.uint8)) == []


def test_a_person_who_leaves_the_frame_has_a_box_inside_of_it(detector: PeopleDetector) -> None:
    (seen,) = detector.detect(draw([Pedestrian(24, 300, 160)]))
    x, _, width, _ = seen.box
    assert 0 <= x < 24 / WIDTH < x + width
