from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from producers.vision.detector import detections_of
from producers.vision.letterbox import GREY, Letterbox
from producers.vision.yolo import Layout, decode

sides = st.integers(1, 5000)
shares = st.floats(0, 1)


@given(width=sides, height=sides, box=st.tuples(shares, shares, shares, shares))
def test_a_box_of_the_frame_comes_back_from_the_input(width: int, height: int, box: tuple[float, ...]) -> None:
    """Placed in the input as the picture is, decoded, mapped: the same box, for frames of any shape."""
    letterbox = Letterbox.of(width, height, 640, 384)
    left, top = box[0] * width, box[1] * height
    across, down = box[2] * (width - left), box[3] * (height - top)
    x_scale, y_scale = letterbox.width / width, letterbox.height / height
    centre_x = letterbox.left + (left + across / 2) * x_scale
    centre_y = letterbox.top + (top + down / 2) * y_scale
    output = np.array([[[centre_x], [centre_y], [across * x_scale], [down * y_scale], [0.9]]])
    found = decode(output, Layout.WITHOUT_OBJECTNESS, least=0.5)
    if across * x_scale == 0 or down * y_scale == 0:
        assert len(found.boxes) == 0
        return
    np.testing.assert_allclose(
        letterbox.to_frame(found.boxes), [[left, top, across, down]], atol=1e-6 * max(width, height)
    )


@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_the_frame_lies_in_the_middle_of_the_input_whole_and_even(width: int, height: int) -> None:
    letterbox = Letterbox.of(width, height, 96, 64)
    picture = letterbox.apply(np.zeros((height, width, 3), np.uint8))
    assert picture.shape == (64, 96, 3)
    black = (picture == 0).all(axis=2)
    rows, columns = np.flatnonzero(black.any(axis=1)), np.flatnonzero(black.any(axis=0))
    assert (rows[0], rows[-1] + 1) == (letterbox.top, letterbox.top + letterbox.height)
    assert (columns[0], columns[-1] + 1) == (letterbox.left, letterbox.left + letterbox.width)
    assert (picture[~black] == GREY).all()
    assert letterbox.width == 96 or letterbox.height == 64
    assert abs(letterbox.width * height - letterbox.height * width) <= max(width, height)  # half a pixel of rounding


@given(
    boxes=st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 4), max_size=12),
    width=st.integers(1, 200),
    height=st.integers(1, 200),
)
def test_detections_lie_inside_the_frame_whatever_the_boxes(
    boxes: list[tuple[float, ...]], width: int, height: int
) -> None:
    array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    image = np.zeros((height, width, 3), np.uint8)
    found = detections_of(array, np.full(len(array), 0.5), ["a"] * len(array), image, max_overlap=0.5)
    for seen in found:
        x, y, across, down = seen.box
        assert 0 <= x < 1
        assert 0 <= y < 1
        assert 0 < across <= 1 - x + 1e-12
        assert 0 < down <= 1 - y + 1e-12
