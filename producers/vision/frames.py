"""Recorded frames with their times: a folder of images, or a video file. Read when asked for, not before."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import cv2
import numpy as np

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.logs import get_logger
from producers.vision.quiet import quiet_opencv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from producers.vision.detector import Image

log = get_logger(__name__)

SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
FOLDER_FPS: Final = 2.0
FASTEST_VIDEO: Final = 1000.0
"""Frames a second; a container that claims more does not know."""


MOST_MISSED: Final = 100
"""So many failures to get a frame, one after the other, are the end of a video."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame that may be read, once, before the next one is asked for."""

    name: str
    offset_ms: int
    """From the first frame of the first pass."""
    read: Callable[[], Image | None]
    """None when it cannot be decoded."""


class Frames(Protocol):
    """Frames that can be gone through from the beginning, again and again."""

    def one_pass(self) -> Iterator[Frame]:
        """Yield the frames in order; offsets begin with 0 and never fall.

        Raises:
            EnvironmentProblemError: they cannot be had.

        """

    @property
    def pass_ms(self) -> int:
        """How long the last whole pass took by the frames' own times."""


def open_recorded(path: Path, fps: float | None) -> Frames:
    """Return the frames of a folder of images, one image, or a video file.

    Of a video, ``fps`` frames a second are looked at, all of them if it is None; images come at ``fps`` a second.

    Raises:
        EnvironmentProblemError: there is nothing that can be read.

    """
    quiet_opencv()
    if path.is_dir():
        files = sorted((file for file in path.iterdir() if file.suffix.lower() in SUFFIXES), key=_in_counting_order)
        if not files:
            raise EnvironmentProblemError(f"{path}: no images there ({', '.join(sorted(SUFFIXES))})")
        return ImageFolder(files, fps or FOLDER_FPS)
    if not path.exists():
        raise EnvironmentProblemError(f"{path}: no such file or folder")
    if path.suffix.lower() in SUFFIXES:
        return ImageFolder([path], fps or FOLDER_FPS)
    return VideoFile(path, fps)


def _in_counting_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort frame-2 before frame-10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


class ImageFolder:
    """Images at a steady rate, in the counting order of their names."""

    def __init__(self, files: list[Path], fps: float) -> None:
        self._files = files
        self._fps = fps

    def one_pass(self) -> Iterator[Frame]:
        """See ``Frames``."""
        for number, file in enumerate(self._files):
            yield Frame(file.name, int(number * 1000 / self._fps), lambda file=file: _read_image(file))  # type: ignore[misc]

    @property
    def pass_ms(self) -> int:
        """See ``Frames``."""
        return math.ceil(len(self._files) * 1000 / self._fps)


def _read_image(file: Path) -> Image | None:
    try:
        raw = np.fromfile(file, dtype=np.uint8)
        image = cv2.imdecode(raw, cv2.IMREAD_COLOR) if raw.size else None
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image, dtype=np.uint8)


class VideoFile:
    """A video at its own times. Frames between those that are looked at are passed over without converting them."""

    def __init__(self, path: Path, fps: float | None) -> None:
        self._path = path
        self._fps = fps
        self._pass_ms = 0
        self._open().release()

    def one_pass(self) -> Iterator[Frame]:
        """See ``Frames``. A damaged stretch that something follows is one frame that cannot be read."""
        video = self._open()
        usual_ms = 1000 / video.get(cv2.CAP_PROP_FPS)
        announced = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        first_ms, at_ms, number, missed, wanted = 0.0, 0.0, 0, 0, 0
        try:
            while missed < MOST_MISSED:
                if not video.grab():
                    missed += 1
                    continue
                says_ms = video.get(cv2.CAP_PROP_POS_MSEC)
                if number == 0:
                    first_ms = says_ms
                else:
                    at_ms = says_ms - first_ms if says_ms - first_ms > at_ms else at_ms + usual_ms
                if missed and number:
                    yield Frame(f"before {at_ms:.0f} ms", round(at_ms), lambda: None)
                slot = math.floor(at_ms * (self._fps or 0) / 1000 + 1e-6)
                if self._fps is None or slot >= wanted:
                    yield Frame(f"at {at_ms:.0f} ms", round(at_ms), lambda: _retrieve(video))
                    wanted = slot + 1
                number += 1 + missed
                missed = 0
            if number == 0:
                raise EnvironmentProblemError(
                    f"{self._path}: not one frame can be decoded (damaged, or no codec for it)"
                )
            if number < announced:
                log.warning("video_ended_early", file=str(self._path), frames=number, announced=announced)
            self._pass_ms = max(round(at_ms + usual_ms), round(at_ms) + 1)
        finally:
            video.release()

    @property
    def pass_ms(self) -> int:
        """See ``Frames``."""
        return self._pass_ms

    def _open(self) -> cv2.VideoCapture:
        video = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        if not video.isOpened():
            raise EnvironmentProblemError(
                f"{self._path}: no video that OpenCV can open (damaged, no video, or no codec for it)"
            )
        if not 0 < video.get(cv2.CAP_PROP_FPS) <= FASTEST_VIDEO:
            video.release()
            raise EnvironmentProblemError(
                f"{self._path}: it does not say how many frames a second it has: write it anew with a frame rate"
            )
        return video


def _retrieve(video: cv2.VideoCapture) -> Image | None:
    try:
        is_there, image = video.retrieve()
    except cv2.error:
        return None
    return np.asarray(image, dtype=np.uint8) if is_there else None
