"""What a YOLO model's output means: rows of numbers to candidates. No model here, only arrays.

Two layouts are in use. YOLOv5 and v7 give ``(1, n, 5 + classes)``: centre x, centre y, width, height, objectness, one
number a class; the confidence is objectness times the class. YOLOv8, v9 and v11 give ``(1, 4 + classes, n)``, without
objectness. Lengths are pixels of the input in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from producers.vision.detector import Floats

END_TO_END: Final = (300, 6)
"""Rows and columns of an export that suppresses doubles by itself: its rows mean something else."""
MOST_CANDIDATES: Final = 3000
"""The surest of a frame; suppression compares each with each."""


class Layout(Enum):
    """How an output is laid out."""

    WITH_OBJECTNESS = "v5"
    WITHOUT_OBJECTNESS = "v8"


def layout_of(shape: Sequence[int], classes: int) -> Layout:
    """Return the layout of an output of this shape for a model with so many classes.

    Raises:
        ValueError: it is no such output; the text says what does not fit.

    """
    if len(shape) != 3 or shape[0] != 1:
        raise ValueError(f"its output has the shape {tuple(shape)}, a YOLO detector's is (1, boxes, numbers)")
    if tuple(shape[1:]) == END_TO_END:
        raise ValueError("it suppresses double boxes by itself (300 x 6): export it without (nms=False)")
    if shape[2] == 5 + classes:
        return Layout.WITH_OBJECTNESS
    if shape[1] == 4 + classes:
        return Layout.WITHOUT_OBJECTNESS
    fitting = f"(1, n, {5 + classes}) or (1, {4 + classes}, n)"
    raise ValueError(f"its output has the shape {tuple(shape)}, with {classes} labels it must be {fitting}")


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes before suppression: left, top, width, height in pixels of the input; class by number."""

    boxes: Floats
    confidence: Floats
    classes: NDArray[np.int64]


def decode(output: NDArray[np.floating], layout: Layout, *, least: float) -> Candidates:
    """Return the candidates of at least this confidence, surest first, at most ``MOST_CANDIDATES``.

    A row that is not finite, or has no area, is no candidate.
    """
    rows = np.asarray(output[0], dtype=np.float64)
    if layout is Layout.WITHOUT_OBJECTNESS:
        rows = rows.T
        scores = rows[:, 4:]
    else:
        scores = rows[:, 5:] * rows[:, 4:5]
    finite = np.isfinite(rows).all(axis=1) & (rows[:, 2] > 0) & (rows[:, 3] > 0)
    rows, scores = rows[finite], scores[finite]
    classes = scores.argmax(axis=1).astype(np.int64)
    confidence = np.minimum(scores[np.arange(len(rows)), classes], 1.0)
    sure = np.flatnonzero(confidence >= least)
    order = sure[np.argsort(-confidence[sure], kind="stable")][:MOST_CANDIDATES]
    boxes = rows[order, :4].copy()
    boxes[:, :2] -= boxes[:, 2:] / 2
    return Candidates(boxes, confidence[order], classes[order])
