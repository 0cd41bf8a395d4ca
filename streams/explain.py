"""Why a reading is an anomaly, in words for people: what stands out, how unusual it is, who says so, what is usual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from streams import features
from streams.detectors import adaptive, deviation
from streams.scoring import ADAPTIVE, DEVIATION

if TYPE_CHECKING:
    from streams.scoring import Scores

MOST: Final = 9.0
"""Rarer than 1 in a billion is said no more exactly: nobody has seen so many readings."""
_USUAL: Final = 3.0
"""The usual range is so many deviations to either side."""


def explain(scores: Scores, at: int) -> str:
    """Say why row ``at`` of a batch is an anomaly, such as "level, 1 in 12,000 by adaptive; usually 19.8 to 21.4"."""
    if scores.is_together[at]:
        return f"its channels together, score {scores.together.score[at]:.1f}"
    detector = int(scores.winner[at])
    found = scores.deviations if detector == DEVIATION else scores.unusual
    low, high = (found.centre[at] + side * _USUAL * found.spread[at] for side in (-1.0, 1.0))
    usual = f"usually {readable(low)} to {readable(high)}"
    if scores.is_record[at]:
        return f"beyond everything seen before; {usual}"
    if detector == ADAPTIVE:
        feature = adaptive.NAMES[int(scores.unusual.which[at])]
    elif detector == DEVIATION:
        feature = deviation.NAMES[int(scores.deviations.which[at])]
    else:
        feature = features.NAMES[int(np.abs(scores.x[at] - 0.5).argmax())]
    return f"{feature}, {one_in(float(scores.rarity[at, detector]))} by {scores.names[detector]}; {usual}"


def readable(number: float) -> str:
    """Say a number in four digits, a large one as a whole: 186,160 and not 1.862e+05."""
    is_long = 1e4 <= abs(number) < 1e12
    return f"{number:,.0f}" if is_long else f"{number:.4g}"


def one_in(powers: float) -> str:
    """Say how rare something is whose chance is 10 ** -powers, in two digits."""
    if powers >= MOST:
        return "less than 1 in a billion"
    count = 10.0 ** max(powers, 0.0)
    digits = max(0, int(np.log10(count)) - 1)
    return f"1 in {round(count / 10**digits) * 10**digits:,}"
