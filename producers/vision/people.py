"""OpenCV's people detector: histograms of oriented gradients (Dalal and Triggs, 2005) and a linear classifier.

It needs no weights of its own and finds upright, whole people of at least some 100 pixels in height.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from producers.vision.detector import Detection, Image, detections_of

PERSON: Final = "person"
WINDOW: Final = (64, 128)
"""Width and height in pixels of what the classifier looks at; smaller images make OpenCV write past its memory."""
STRIDE: Final = (8, 8)
PADDING: Final = (16, 16)
SCALE_STEP: Final = 1.05
LONGEST_SIDE: Final = 960
"""Larger frames are made smaller first: the time grows with the area, and people there are large enough."""
MARGIN_X: Final = 16 / 64
MARGIN_Y: Final = 16 / 128
"""The classifier was trained on people with 16 pixels around them in its window."""


class PeopleDetector:
    """A ``FrameDetector`` of people who stand or walk.

    The confidence is 1 - exp(-d), where d is the distance from the classifier's border: 0.5 at 0.7, 0.86 at 2.
    """

    def __init__(self, *, confidence: float, max_overlap: float) -> None:
        self._least = confidence
        self._max_overlap = max_overlap
        self._hog = cv2.HOGDescriptor()
        # the stub says that this is a method of an instance
        self._hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())  # type: ignore[attr-defined]

    def detect(self, image: Image) -> list[Detection]:
        """See ``FrameDetector``."""
        looked_at, scale = _fitted(image)
        found, distances = self._hog.detectMultiScale(looked_at, winStride=STRIDE, padding=PADDING, scale=SCALE_STEP)
        windows = np.asarray(found, dtype=np.float64).reshape(-1, 4) / scale
        confidence = -np.expm1(-np.maximum(np.asarray(distances, dtype=np.float64).reshape(-1), 0.0))
        sure = confidence >= self._least
        windows, confidence = windows[sure], confidence[sure]
        boxes = np.empty_like(windows)
        boxes[:, 0] = windows[:, 0] + MARGIN_X * windows[:, 2]
        boxes[:, 1] = windows[:, 1] + MARGIN_Y * windows[:, 3]
        boxes[:, 2] = windows[:, 2] * (1 - 2 * MARGIN_X)
        boxes[:, 3] = windows[:, 3] * (1 - 2 * MARGIN_Y)
        return detections_of(boxes, confidence, [PERSON] * len(boxes), image, max_overlap=self._max_overlap)


def _fitted(image: Image) -> tuple[Image, float]:
    """Return the image in a size that the detector can work on, and the factor on its pixels.

    What is added to small images is on the right and below: coordinates stay.
    """
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        height, width = image.shape[:2]
    below, right = max(0, WINDOW[1] - height), max(0, WINDOW[0] - width)
    if below or right:
        image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE), dtype=np.uint8)
    return image, scale
