"""The scoring rules of the Numenta Anomaly Benchmark, version 1.1 (Lavin and Ahmad 2015, doi 10.1109/ICMLA.2015.141).

The first min(15 % of the rows, 750) of a series are not scored. A labelled window earns for its first detection, the
more the earlier; a missed window costs; a detection outside of every window costs, little right after a window and the
whole weight far from one. 0 is what no detection at all gets, 100 what perfect detection gets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Window = tuple[int, int]
    """First and last row, both inclusive."""


@dataclass(frozen=True)
class Profile:
    """What a found window earns, and what a false and a missed one cost."""

    found: float
    false: float
    missed: float


PROFILES: Final = {
    "standard": Profile(1.0, 0.11, 1.0),
    "low_fp": Profile(1.0, 0.22, 1.0),
    "low_fn": Profile(1.0, 0.11, 2.0),
}
_FIRST_ROW: Final = 0.98661
"""What the curve gives at the first row of a window, nearly: the full reward."""


def probation(rows: int) -> int:
    """Return how many rows at the start of a series are for calibration only."""
    return min(int(0.15 * rows), 750)


def _curve(position: float) -> float:
    """1 long before, 0 at, and -1 long after the end of a window."""
    return 2.0 / (1.0 + math.exp(min(5.0 * position, 700.0))) - 1.0


def score_series(detections: Iterable[int], windows: Sequence[Window], rows: int, profile: Profile) -> float:
    """Return the raw score of one series; ``detections`` are rows, ``windows`` are in order."""
    total = 0.0
    found: set[Window] = set()
    for row in sorted(detections):
        if row < probation(rows):
            continue
        inside = next((window for window in windows if window[0] <= row <= window[1]), None)
        if inside is not None:
            if inside not in found:
                found.add(inside)
                left, right = inside
                total += profile.found * _curve(-(right - row + 1) / (right - left + 1)) / _FIRST_ROW
            continue
        before = [window for window in windows if window[1] < row]
        weight = 1.0
        if before:
            left, right = before[-1]
            position = (row - right) / max(right - left, 1)
            if position <= 3.0:
                weight = abs(_curve(position))
        total -= profile.false * weight
    return total - profile.missed * (len(windows) - len(found))


def normalised(raw: float, windows: int, profile: Profile) -> float:
    """Return the final score of a corpus: 0 for no detections, 100 for perfect ones.

    Raises:
        ValueError: there is no labelled window to find.

    """
    if windows == 0:
        raise ValueError("no labelled window: nothing to score")
    nothing = -profile.missed * windows
    return 100.0 * (raw - nothing) / (profile.found * windows - nothing)
