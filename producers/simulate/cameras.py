"""Cameras: labelled detections with boxes and tracks, Poisson counts with a daily rhythm, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from producers.simulate.seeds import Stream, generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producers.simulate.faults import Fault
    from producers.simulate.fleet import Camera

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FRAME_MS: Final = 500
"""Detections of half a second are made together; each has its own time within it."""
PEAK: Final = 14 / 24
RHYTHM: Final = 0.7
"""The rate swings by this share around its mean in a day."""
SLOTS: Final = 4
"""So many objects a camera follows at a time."""
NEW_SHARE: Final = 0.35
"""So many detections are of an object not seen before."""

LABELS: Final = ("person", "car", "truck", "bicycle", "dog", "forklift")
SHARES: Final = np.array([0.45, 0.25, 0.1, 0.1, 0.05, 0.05])
WIDTHS: Final = np.array([0.06, 0.2, 0.3, 0.1, 0.07, 0.16])
HEIGHTS: Final = np.array([0.22, 0.15, 0.26, 0.14, 0.07, 0.22])


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraTraits:
    """What never changes in a run."""

    seed: int
    start_ms: int
    day_ms: float
    mean_rate: float
    """Of the scenario, detections of one camera in a second."""
    busyness: Floats
    """Each camera's share of that rate, around 1."""


@dataclass(frozen=True, slots=True)
class CameraState:
    """What a frame leaves to the next one; the last five with one row a camera and one column a slot."""

    number: int
    seq: Integers
    tracks_made: Integers
    track: Integers
    """0: the slot is empty."""
    label: Integers
    x: Floats
    y: Floats
    scale: Floats


@dataclass(frozen=True, slots=True)
class CameraColumns:
    """Detections of one frame in the order of their times; ``row`` says which camera."""

    row: Integers
    event_time_ms: Integers
    seq: Integers
    label: Integers
    confidence: Floats
    x: Floats
    y: Floats
    width: Floats
    height: Floats
    track: Integers


def make_traits(
    cameras: Sequence[Camera], *, seed: int, start_ms: int, mean_rate: float, day_seconds: float
) -> CameraTraits:
    """Draw how busy each camera's place is."""
    busyness = generator(seed, Stream.CAMERA_TRAITS).uniform(0.7, 1.3, len(cameras))
    return CameraTraits(seed=seed, start_ms=start_ms, day_ms=day_seconds * 1000, mean_rate=mean_rate, busyness=busyness)


def first_state(traits: CameraTraits) -> CameraState:
    """Return the state before the first frame: nothing is seen."""
    count = len(traits.busyness)
    return CameraState(
        0,
        seq=np.zeros(count, dtype=np.int64),
        tracks_made=np.zeros(count, dtype=np.int64),
        track=np.zeros((count, SLOTS), dtype=np.int64),
        label=np.zeros((count, SLOTS), dtype=np.int64),
        x=np.zeros((count, SLOTS)),
        y=np.zeros((count, SLOTS)),
        scale=np.ones((count, SLOTS)),
    )


def rates(traits: CameraTraits, at_ms: int, faults: Sequence[Fault]) -> Floats:
    """Return how many detections a second each camera makes on average.

    A surge is magnitude times the mean rate of the scenario, whatever the time of day: a crowd. In an outage, whose
    magnitude is 0, nothing is detected.
    """
    of_day = (at_ms % traits.day_ms) / traits.day_ms
    rate: Floats = traits.mean_rate * traits.busyness * (1 + RHYTHM * np.cos(2 * np.pi * (of_day - PEAK)))
    for fault in faults:
        if fault.is_camera and fault.start_ms <= at_ms < fault.end_ms:
            rate[fault.row] = traits.mean_rate * fault.magnitude
    return rate


def frame_begin_ms(traits: CameraTraits, number: int) -> int:
    """When a frame begins."""
    return traits.start_ms + number * FRAME_MS


def step(traits: CameraTraits, state: CameraState, faults: Sequence[Fault]) -> tuple[CameraState, CameraColumns]:
    """Detect for one frame; ``faults`` are those that may touch it."""
    random = generator(traits.seed, Stream.CAMERA_FRAMES, state.number)
    begin_ms = frame_begin_ms(traits, state.number)
    counts = random.poisson(rates(traits, begin_ms, faults) * FRAME_MS / 1000)
    total = int(counts.sum())
    row = np.repeat(np.arange(len(counts)), counts)
    offset_ms = random.integers(0, FRAME_MS, total)
    within = np.lexsort((offset_ms, row))  # by camera, then by time: rank is the place in a camera's frame
    offset_ms = offset_ms[within]
    rank = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    seq = state.seq[row] + rank
    seen, after = _follow(state, random, row, rank)
    confidence = np.round(0.4 + 0.59 * random.beta(5, 2, total), 3)
    order = np.argsort(offset_ms, kind="stable")
    label, x, y, scale, track = seen
    columns = CameraColumns(
        row=row[order],
        event_time_ms=begin_ms + offset_ms[order],
        seq=seq[order],
        label=label[order],
        confidence=confidence[order],
        x=np.round(x[order], 4),
        y=np.round(y[order], 4),
        width=np.round((WIDTHS[label] * scale)[order], 4),
        height=np.round((HEIGHTS[label] * scale)[order], 4),
        track=track[order],
    )
    made, slots = after
    return CameraState(state.number + 1, state.seq + counts, made, *slots), columns


_Seen = tuple[Integers, Floats, Floats, Floats, Integers]
_Slots = tuple[Integers, Integers, Floats, Floats, Floats]


def _follow(
    state: CameraState, random: np.random.Generator, row: Integers, rank: Integers
) -> tuple[_Seen, tuple[Integers, _Slots]]:
    """Give each detection to an object that its camera follows, or to a new one; objects move a little.

    Detections of one camera change the same slots one after the other; the first ones of all cameras go
    together, then the second ones, and so on.
    """
    total = len(row)
    slot = random.integers(0, SLOTS, total)
    is_new = random.random(total) < NEW_SHARE
    new_label = random.choice(len(LABELS), total, p=SHARES)
    place = random.random((2, total))
    scale = random.uniform(0.6, 1.3, total)
    move = random.normal(0, 0.01, (2, total))
    made = state.tracks_made.copy()
    tracks, labels = state.track.copy(), state.label.copy()
    xs, ys, scales = state.x.copy(), state.y.copy(), state.scale.copy()
    seen_label = np.empty(total, dtype=np.int64)
    seen_track = np.empty(total, dtype=np.int64)
    seen_x, seen_y, seen_scale = np.empty(total), np.empty(total), np.empty(total)
    for turn in range(int(rank.max(initial=-1)) + 1):
        now = np.flatnonzero(rank == turn)
        at = (row[now], slot[now])
        new = is_new[now] | (tracks[at] == 0)
        made[row[now][new]] += 1
        tracks[at] = np.where(new, made[row[now]], tracks[at])
        labels[at] = np.where(new, new_label[now], labels[at])
        scales[at] = np.where(new, scale[now], scales[at])
        room_x = 1 - WIDTHS[labels[at]] * scales[at]
        room_y = 1 - HEIGHTS[labels[at]] * scales[at]
        xs[at] = np.clip(np.where(new, place[0][now] * room_x, xs[at] + move[0][now]), 0, room_x)
        ys[at] = np.clip(np.where(new, place[1][now] * room_y, ys[at] + move[1][now]), 0, room_y)
        seen_label[now], seen_track[now] = labels[at], tracks[at]
        seen_x[now], seen_y[now], seen_scale[now] = xs[at], ys[at], scales[at]
    return (seen_label, seen_x, seen_y, seen_scale, seen_track), (made, (tracks, labels, xs, ys, scales))


def as_rows(cameras: Sequence[Camera], columns: CameraColumns) -> list[dict[str, Any]]:
    """Return the detections as rows of ``CameraDetection``."""
    return [
        {
            "camera_id": cameras[row].camera_id,
            "site": cameras[row].site,
            "event_time": time_ms,
            "seq": seq,
            "label": LABELS[label],
            "confidence": confidence,
            "box": {"x": x, "y": y, "width": width, "height": height},
            "track_id": track if cameras[row].tracks else None,
        }
        for row, time_ms, seq, label, confidence, x, y, width, height, track in zip(
            *(
                column.tolist()
                for column in (
                    columns.row,
                    columns.event_time_ms,
                    columns.seq,
                    columns.label,
                    columns.confidence,
                    columns.x,
                    columns.y,
                    columns.width,
                    columns.height,
                    columns.track,
                )
            ),
            strict=True,
        )
    ]
