"""What a detector of objects in frames is, and how boxes that show the same object are told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Image = NDArray[np.uint8]
"""Height x width x 3, blue, green, red, as OpenCV reads it."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Detection:
    """One object in one frame. The box is left, top, width, height in fractions of the frame, inside of it."""

    label: str
    confidence: float
    """0..1, higher is surer; not a probability, and not comparable between detectors."""
    box: tuple[float, float, float, float]


class FrameDetector(Protocol):
    """Finds objects in one frame, without memory of the frames before: what connects frames is the tracker's.

    Called by one thread, once a frame, in the order of the frames. The same image gives the same detections.
    """

    def detect(self, image: Image) -> list[Detection]:
        """Return what is seen, surest first; images of any size from one pixel up, never changed.

        Raises:
            EnvironmentProblemError: the detector cannot work on any frame.

        """


def detections_of(
    boxes: Floats, confidence: Floats, labels: Sequence[str], image: Image, *, max_overlap: float
) -> list[Detection]:
    """Return detections of candidates: one box an object, cut at the frame's edges, in fractions of the frame.

    ``boxes`` has rows of left, top, width, height in pixels of the frame. Of two boxes with the same label that
    overlap by more than ``max_overlap`` (intersection over union) the less sure one goes (greedy non-maximum
    suppression). Boxes that lie outside of the frame, and what is not finite, go too.
    """
    height, width = image.shape[:2]
    left, top = np.clip(boxes[:, 0], 0, width), np.clip(boxes[:, 1], 0, height)
    right = np.clip(boxes[:, 0] + boxes[:, 2], 0, width)
    bottom = np.clip(boxes[:, 1] + boxes[:, 3], 0, height)
    inside = np.stack([left, top, right - left, bottom - top], axis=1)
    usable = np.isfinite(boxes).all(axis=1) & (inside[:, 2] > 0) & (inside[:, 3] > 0)
    chosen = np.flatnonzero(usable).tolist()
    if not chosen:
        return []
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    kinds = [numbers[labels[i]] for i in chosen]
    kept = cv2.dnn.NMSBoxesBatched(inside[chosen].tolist(), confidence[chosen].tolist(), kinds, 0.0, max_overlap)
    fractions = inside / [width, height, width, height]
    return [
        Detection(labels[i], float(confidence[i]), tuple(fractions[i].tolist()))
        for i in (chosen[int(k)] for k in np.asarray(kept).reshape(-1))
    ]
