"""Frames with people that are drawn, not photographed: nobody's picture, no licence, and known places.

OpenCV's people detector finds them because they have what it was trained on: head, shoulders and two legs of the
proportions of a standing person, on an even ground. By hand: ``python -m tests.fakes.pedestrians FOLDER``.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from producers.vision.detector import Image

WIDTH, HEIGHT = 480, 320
FRACTION_BITS = 4


@dataclass(frozen=True)
class Pedestrian:
    """Middle, soles, height in pixels; grey of the clothes; half a step, in heights."""

    x: float
    foot: float
    height: float
    shade: int = 50
    step: float = 0.08

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, width, height in fractions of the frame."""
        across = 0.35 * self.height
        return (
            (self.x - across / 2) / WIDTH,
            (self.foot - self.height) / HEIGHT,
            across / WIDTH,
            self.height / HEIGHT,
        )


def draw(people: list[Pedestrian]) -> Image:
    """Return a frame: an evenly lit wall with people before it."""
    rows = np.linspace(215, 150, HEIGHT).astype(np.uint8)
    image = np.repeat(np.repeat(rows[:, np.newaxis, np.newaxis], WIDTH, axis=1), 3, axis=2)
    for person in people:
        _draw_one(image, person)
    return cv2.GaussianBlur(image, (0, 0), 1)


def _draw_one(image: Image, person: Pedestrian) -> None:
    shade = (person.shade,) * 3
    h, step = person.height, person.step

    def at(x: float, y: float) -> tuple[int, int]:
        """A point in heights from the middle of the crown."""
        left, top = person.x + x * h, person.foot - h + y * h
        return round(left * 2**FRACTION_BITS), round(top * 2**FRACTION_BITS)

    def limb(*points: tuple[float, float], thick: float) -> None:
        for begin, end in itertools.pairwise(points):
            cv2.line(image, at(*begin), at(*end), shade, max(1, round(thick * h)), cv2.LINE_AA, FRACTION_BITS)

    size = (round(0.052 * h * 2**FRACTION_BITS), round(0.075 * h * 2**FRACTION_BITS))
    cv2.ellipse(image, at(0, 0.075), size, 0, 0, 360, shade, -1, cv2.LINE_AA, FRACTION_BITS)
    limb((0, 0.12), (0, 0.2), thick=0.06)
    torso = [(-0.13, 0.2), (-0.08, 0.165), (0.08, 0.165), (0.13, 0.2), (0.1, 0.5), (-0.1, 0.5)]
    cv2.fillConvexPoly(image, np.array([at(*point) for point in torso], np.int32), shade, cv2.LINE_AA, FRACTION_BITS)
    for side in (-1, 1):
        limb((0.125 * side, 0.22), (0.15 * side, 0.38), (0.14 * side, 0.5), thick=0.05)
        limb((0.05 * side, 0.5), (0.8 * step * side, 0.74), (step * side, 0.97), thick=0.07)


def walk(number: int) -> list[Pedestrian]:
    """Return who is in frame ``number`` of a walk: one goes to the right, one to the left, and one stands."""
    return [
        Pedestrian(80 + 8 * number, 290, 150, shade=40),
        Pedestrian(400 - 8 * number, 280, 130, shade=70, step=0.06 + 0.04 * (number % 2)),
        Pedestrian(240, 200, 110, shade=20, step=0.06),
    ]


def write_frames(folder: Path, frames: int) -> None:
    """Write the frames of the walk as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(frames):
        cv2.imwrite(str(folder / f"frame-{number}.png"), draw(walk(number)))


if __name__ == "__main__":
    write_frames(Path(sys.argv[1]), 8)
