"""A camera that is there now: a thread reads it as fast as it comes, and keeps the newest frame only."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import cv2
import numpy as np

from fleetwatch.logs import get_logger
from fleetwatch.records import CameraDetection
from producers.batches import Batch
from producers.vision.quiet import quiet_opencv

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from producers.vision.detector import Image
    from producers.vision.sight import Count, Sight

log = get_logger(__name__)

SCHEMES: Final = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp")
LIVE_FPS: Final = 5.0
LOOK_AGAIN_MS: Final = 20
"""After so long without a new frame."""
FIRST_PAUSE: Final = 1.0
"""Seconds between two attempts to open a camera that does not answer; each pause is twice as long as the one before."""
LONGEST_PAUSE: Final = 30.0
GIVE_UP_MS: Final = 10_000
"""Opening or reading that takes longer than this has failed (where the backend can be told)."""


def is_live(source: str) -> bool:
    """Return whether a source is a camera's address or device number, not a file."""
    scheme, colon, _ = source.partition("://")
    return (bool(colon) and scheme.lower() in SCHEMES) or source.isdecimal()


def shown(source: str) -> str:
    """Return an address without the user and the password in it."""
    scheme, colon, rest = source.partition("://")
    return f"{scheme}{colon}{rest.rpartition('@')[2]}" if colon else source


def open_camera(source: str) -> cv2.VideoCapture:
    """Open a camera; the answer may not be opened."""
    quiet_opencv()
    if source.isdecimal():
        return cv2.VideoCapture(int(source))
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, GIVE_UP_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, GIVE_UP_MS]
    return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame and when it came, in milliseconds since 1970."""

    image: Image
    at_ms: int


class NewestFrame:
    """Reads a camera in a thread. A frame that nobody took is replaced by the next one and counted as dropped."""

    def __init__(
        self,
        source: str,
        *,
        count: Count,
        tell: Callable[[str], None],
        clock_ms: Callable[[], int],
        open_it: Callable[[str], cv2.VideoCapture] = open_camera,
    ) -> None:
        self._source = source
        self._count = count
        self._tell = tell
        self._clock_ms = clock_ms
        self._open_it = open_it
        self._lock = threading.Lock()
        self._newest: Taken | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(GIVE_UP_MS / 1000)

    def take(self) -> Taken | None:
        """Return the newest frame that was not taken yet."""
        with self._lock:
            taken, self._newest = self._newest, None
        return taken

    def _read(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            came = self._read_until_it_ends()
            if self._stopping.is_set():
                return
            pause = FIRST_PAUSE if came else min(pause * 2, LONGEST_PAUSE)
            self._count("camera_lost", 1)
            self._tell(f"the camera {shown(self._source)} gives no frames: it is tried again")
            log.warning("camera_lost", camera=shown(self._source), again_in_seconds=pause)
            self._stopping.wait(pause)

    def _read_until_it_ends(self) -> bool:
        """Keep the newest frame until the camera gives none; return whether it gave any."""
        came = False
        video = self._open_it(self._source)
        try:
            while video.isOpened() and not self._stopping.is_set():
                is_there, image = video.read()
                if not is_there:
                    break
                if not came:
                    came = True
                    self._tell("")
                taken = Taken(np.asarray(image, dtype=np.uint8), self._clock_ms())
                with self._lock:
                    replaced, self._newest = self._newest, taken
                if replaced is not None:
                    self._count("frames_dropped", 1)
        except cv2.error as error:
            log.warning("camera_failed", camera=shown(self._source), error=error.err)
        finally:
            video.release()
        return came


class LiveCamera:
    """A ``Source`` of what a camera shows now, at most ``fps`` frames a second. A frame's time is when it came."""

    def __init__(
        self, newest: NewestFrame, sight: Sight, *, start_ms: int, fps: float, clock_ms: Callable[[], int]
    ) -> None:
        self._newest = newest
        self._sight = sight
        self._gap_ms = round(1000 / fps)
        self._clock_ms = clock_ms
        self._begin_ms = start_ms
        self._last_ms = -1

    @property
    def begin_ms(self) -> int:
        """See ``Source``."""
        return self._begin_ms

    def take(self) -> Batch:
        """See ``Source``."""
        taken = self._newest.take()
        if taken is None:
            self._begin_ms = self._clock_ms() + LOOK_AGAIN_MS
            return Batch(CameraDetection, [], [])
        self._begin_ms = max(self._begin_ms + self._gap_ms, self._clock_ms())
        at_ms = self._last_ms = max(taken.at_ms, self._last_ms + 1)
        rows = self._sight.see(taken.image, at_ms)
        return Batch(CameraDetection, [at_ms] * len(rows), rows)


def clock_ms() -> int:
    """Return milliseconds since 1970."""
    return int(time.time() * 1000)
