"""A frame of any shape in the shape that a model wants: scaled evenly, centred, grey around it, and boxes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from producers.vision.detector import Floats, Image

GREY: Final = (114, 114, 114)
"""What YOLO models saw around their frames in training."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a frame lies in a model's input; all lengths are pixels."""

    frame_width: int
    frame_height: int
    input_width: int
    input_height: int
    width: int
    height: int
    left: int
    top: int

    @classmethod
    def of(cls, frame_width: int, frame_height: int, input_width: int, input_height: int) -> Letterbox:
        """Fit a frame into an input: as large as it can be with its own proportions, at least one pixel."""
        scale = min(input_width / frame_width, input_height / frame_height)
        width = min(max(1, round(frame_width * scale)), input_width)
        height = min(max(1, round(frame_height * scale)), input_height)
        left, top = (input_width - width) // 2, (input_height - height) // 2
        return cls(frame_width, frame_height, input_width, input_height, width, height, left, top)

    def apply(self, image: Image) -> Image:
        """Return the input's picture of a frame."""
        inside = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        right = self.input_width - self.width - self.left
        below = self.input_height - self.height - self.top
        framed = cv2.copyMakeBorder(inside, self.top, below, self.left, right, cv2.BORDER_CONSTANT, value=GREY)
        return np.asarray(framed, dtype=np.uint8)

    def to_frame(self, boxes: Floats) -> Floats:
        """Return boxes (left, top, width, height in pixels of the input) in pixels of the frame."""
        across, down = self.frame_width / self.width, self.frame_height / self.height
        return np.asarray((boxes - [self.left, self.top, 0, 0]) * [across, down, across, down], dtype=np.float64)
