from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto

from fleetwatch.errors import EnvironmentProblemError
from producers.vision.onnx_weights import OnnxDetector, read_labels
from tests.unit.producers.vision.yolo_models import write_constant, write_mean_colours

if TYPE_CHECKING:
    from pathlib import Path

    from producers.vision.detector import Detection

LABELS = ("person", "car")
FRAME = np.zeros((50, 200, 3), np.uint8)
"""In an input of 96 x 64 it lies 96 x 24 pixels large, 20 from the top: one input pixel is 2.0833 of the frame's."""
PIXEL = 200 / 96


def v8(*columns: tuple[float, ...]) -> np.ndarray:
    """Centre x, centre y, width, height, one score a class."""
    return np.array(columns, np.float32).T[np.newaxis]


def v5(*rows: tuple[float, ...]) -> np.ndarray:
    """Centre x, centre y, width, height, objectness, one score a class."""
    return np.array(rows, np.float32)[np.newaxis]


def detector(path: Path, labels: tuple[str, ...] | None = LABELS, **changes: float) -> OnnxDetector:
    return OnnxDetector(path, labels, **({"confidence": 0.5, "max_overlap": 0.45} | changes))


def in_pixels(seen: Detection, frame: np.ndarray = FRAME) -> list[float]:
    height, width = frame.shape[:2]
    return (np.array(seen.box) * [width, height, width, height]).tolist()


V8 = v8(
    (24, 32, 12, 12, 0.9, 0.1),  # a person
    (25, 32, 12, 12, 0.8, 0.1),  # the same one
    (25, 32, 12, 12, 0.1, 0.7),  # a car at the same place
    (60, 32, 12, 12, 0.4, 0.3),  # too unsure
    (90, 40, 24, 24, 0.6, 0.1),  # partly outside, to the right and below
    (50, 8, 10, 10, 0.99, 0.1),  # in the grey above the frame
)
V5 = v5(
    (24, 32, 12, 12, 0.95, 0.9 / 0.95, 0.1),
    (25, 32, 12, 12, 0.8, 1.0, 0.1),
    (25, 32, 12, 12, 0.7, 0.1, 1.0),
    (60, 32, 12, 12, 0.4, 1.0, 0.9),
    (90, 40, 24, 24, 0.75, 0.8, 0.1),
    (50, 8, 10, 10, 0.99, 1.0, 0.1),
)


@pytest.mark.parametrize("output", [V8, V5], ids=["v8", "v5"])
def test_known_output_becomes_known_boxes_in_the_frame(tmp_path: Path, output: np.ndarray) -> None:
    """Letterbox, decoding and suppression together, to the pixel."""
    found = detector(write_constant(tmp_path / "tiny.onnx", output)).detect(FRAME)
    assert [(seen.label, round(seen.confidence, 5)) for seen in found] == [
        ("person", 0.9),
        ("car", 0.7),
        ("person", 0.6),
    ]
    person, car, cut = (in_pixels(seen) for seen in found)
    assert person == pytest.approx([18 * PIXEL, 6 * PIXEL, 12 * PIXEL, 12 * PIXEL])
    assert car == pytest.approx([19 * PIXEL, 6 * PIXEL, 12 * PIXEL, 12 * PIXEL])
    assert cut == pytest.approx([78 * PIXEL, 8 * PIXEL, 18 * PIXEL, 16 * PIXEL])  # the frame ends at 96 and 44


def test_a_lower_threshold_and_more_overlap_show_more(tmp_path: Path) -> None:
    path = write_constant(tmp_path / "tiny.onnx", V8)
    assert len(detector(path, confidence=0.35).detect(FRAME)) == 4
    assert len(detector(path, max_overlap=0.95).detect(FRAME)) == 4


def test_the_model_sees_red_green_blue_between_0_and_1_with_grey_around(tmp_path: Path) -> None:
    path = write_mean_colours(tmp_path / "colours.onnx", width=32, height=16)
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[:] = (0, 51, 255)  # blue, green, red: half of the input is this, half is grey
    found = OnnxDetector(path, ("red", "green", "blue"), confidence=0.01, max_overlap=0.5).detect(frame)
    assert [seen.label for seen in found] == ["red"]
    assert found[0].confidence == pytest.approx((1 + 114 / 255) / 2)


def test_names_and_size_that_the_model_carries_are_used(tmp_path: Path) -> None:
    path = write_constant(
        tmp_path / "open.onnx",
        V8,
        input_shape=("batch", 3, "height", "width"),
        metadata={"names": "{0: 'walker', 1: 'wagon'}", "imgsz": "[64, 96]"},
    )
    found = detector(path, None).detect(FRAME)
    assert [seen.label for seen in found] == ["walker", "wagon", "walker"]
    assert in_pixels(found[0]) == pytest.approx([18 * PIXEL, 6 * PIXEL, 12 * PIXEL, 12 * PIXEL])
    assert detector(path).detect(FRAME)[1].label == "car"  # a list given by hand goes first


def test_half_precision(tmp_path: Path) -> None:
    path = write_constant(tmp_path / "half.onnx", V8, element=TensorProto.FLOAT16)
    assert [seen.label for seen in detector(path).detect(FRAME)] == ["person", "car", "person"]


def test_what_is_not_finite_is_not_seen(tmp_path: Path) -> None:
    output = v8(
        (24, 32, 12, 12, np.nan, 0.1), (np.inf, 32, 12, 12, 0.9, 0.1), (24, 32, 12, 0, 0.9, 0.1), (24, 32, 8, 8, 0.9, 0)
    )
    assert len(detector(write_constant(tmp_path / "tiny.onnx", output)).detect(FRAME)) == 1


WRONG = {
    "two labels do not fit": (
        {"output": np.zeros((1, 10, 9), np.float32)},
        r"with 2 labels .* \(1, n, 7\) or \(1, 6, n\)",
    ),
    "flat": ({"output": np.zeros((1, 10), np.float32)}, "its output has the shape"),
    "suppresses by itself": ({"output": np.zeros((1, 300, 6), np.float32)}, "export it without"),
    "grey frames": ({"output": V8, "input_shape": (1, 1, 64, 96)}, "its input is"),
    "many frames at a time": ({"output": V8, "input_shape": (4, 3, 64, 96)}, "its input is"),
    "whole numbers": ({"output": V8, "element": TensorProto.DOUBLE}, "its input is"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_model_that_does_not_fit_is_one_line_at_the_start(tmp_path: Path, name: str) -> None:
    model, expected = WRONG[name]
    with pytest.raises(EnvironmentProblemError, match=expected) as caught:
        detector(write_constant(tmp_path / "wrong.onnx", **model))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_models_are_one_line(tmp_path: Path) -> None:
    whole = write_constant(tmp_path / "whole.onnx", V8).read_bytes()
    (tmp_path / "text.onnx").write_text("weights")
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    for name in ("none.onnx", "text.onnx", "cut.onnx", "."):
        with pytest.raises(EnvironmentProblemError) as caught:
            detector(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(EnvironmentProblemError, match="give --labels FILE"):
        detector(tmp_path / "whole.onnx", None)


def test_labels_are_read_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("person\n traffic light \n\n")
    assert read_labels(file) == ("person", "traffic light")
    for text, expected in (("person\n\ncar", "line 2"), ("", "no names"), ("a\x00b", "line 1")):
        file.write_text(text)
        with pytest.raises(EnvironmentProblemError, match=expected):
            read_labels(file)
    file.write_bytes(b"\xff")
    with pytest.raises(EnvironmentProblemError, match="no UTF-8"):
        read_labels(file)
