"""One camera's detections as rows of ``CameraDetection``: numbers, tracks, and what is left out and counted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from producers.vision.tracker import Track, follow

if TYPE_CHECKING:
    from collections.abc import Callable

    from producers.batches import Row
    from producers.vision.detector import Detection, FrameDetector, Image

    Count = Callable[[str, int], None]

MOST_IN_A_FRAME: Final = 1000
"""Detections of one frame; ``seq`` has room for no more."""


class Sight:
    """What one camera sees, frame by frame.

    ``seq`` is event time in milliseconds times 1000 plus the place in the frame, and a track has the ``seq`` of its
    first detection: both count up over restarts without anything being kept, and the same frames at the same times
    give the same events. Counts ``frames``, ``detections_refused`` (not finite, outside of the frame, no label) and
    ``detections_over`` (more than ``MOST_IN_A_FRAME``).
    """

    def __init__(self, detector: FrameDetector, *, camera_id: str, site: str, count: Count) -> None:
        self._detector = detector
        self._camera_id = camera_id
        self._site = site
        self._count = count
        self._tracks: tuple[Track, ...] = ()
        for name in ("frames", "frames_bad", "frames_dropped", "detections_refused", "detections_over"):
            count(name, 0)

    def see(self, image: Image, at_ms: int) -> list[Row]:
        """Return the rows of one frame that was taken at this time; times must rise from frame to frame.

        Raises:
            EnvironmentProblemError: the detector cannot work.

        """
        found = self._detector.detect(image)
        sound = [seen for seen in found if _is_sound(seen)]
        kept = sorted(sound, key=lambda seen: -seen.confidence)[:MOST_IN_A_FRAME]
        self._count("frames", 1)
        self._count("detections_refused", len(found) - len(sound))
        self._count("detections_over", len(sound) - len(kept))
        seqs = [at_ms * MOST_IN_A_FRAME + place for place in range(len(kept))]
        self._tracks, track_ids = follow(self._tracks, kept, seqs, at_ms)
        return [
            {
                "camera_id": self._camera_id,
                "site": self._site,
                "event_time": at_ms,
                "seq": seq,
                "label": seen.label,
                "confidence": round(seen.confidence, 4),
                "box": dict(zip(("x", "y", "width", "height"), seen.box, strict=True)),
                "track_id": track_id,
            }
            for seen, seq, track_id in zip(kept, seqs, track_ids, strict=True)
        ]


def _is_sound(seen: Detection) -> bool:
    x, y, width, height = seen.box
    if not all(math.isfinite(number) for number in (seen.confidence, *seen.box)):
        return False
    has_place = x >= 0 and y >= 0 and width > 0 and height > 0 and x + width <= 1.000001 and y + height <= 1.000001
    return has_place and 0 <= seen.confidence <= 1 and bool(seen.label)
