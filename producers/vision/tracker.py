"""The same object in several frames: a new box belongs to the track whose last box it overlaps most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producers.vision.detector import Detection

LEAST_OVERLAP: Final = 0.3
LONGEST_GAP_MS: Final = 2000
"""An object that nothing saw for longer is a new one when it comes back."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Track:
    """An object as it was last seen."""

    track_id: int
    label: str
    box: Box
    seen_ms: int


def overlap(one: Box, other: Box) -> float:
    """Return intersection over union of two boxes (left, top, width, height), 0..1."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def follow(
    tracks: Sequence[Track], detections: Sequence[Detection], new_ids: Sequence[int], at_ms: int
) -> tuple[tuple[Track, ...], list[int]]:
    """Fold one frame in: return the tracks after it, and the track of each detection.

    A track goes on with one box at most, of the same label; pairs are made by falling overlap. A detection without
    a track begins one, under its number in ``new_ids``.
    """
    alive = [track for track in tracks if at_ms - track.seen_ms <= LONGEST_GAP_MS]
    pairs = sorted(
        (
            (-share, d, t)
            for d, seen in enumerate(detections)
            for t, track in enumerate(alive)
            if track.label == seen.label and (share := overlap(track.box, seen.box)) >= LEAST_OVERLAP
        ),
    )
    track_of: dict[int, int] = {}
    taken: set[int] = set()
    for _, d, t in pairs:
        if d not in track_of and t not in taken:
            track_of[d] = t
            taken.add(t)
    ids = [alive[track_of[d]].track_id if d in track_of else new_ids[d] for d in range(len(detections))]
    seen_now = [Track(ids[d], seen.label, seen.box, at_ms) for d, seen in enumerate(detections)]
    return (*(track for t, track in enumerate(alive) if t not in taken), *seen_now), ids
