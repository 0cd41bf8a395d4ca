"""How long to wait before the next try, as a function of the attempt. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

FIRST_SECONDS: Final = 0.5
MOST_SECONDS: Final = 30.0


def backoff_seconds(attempt: int, random: Random) -> float:
    """Return between half and all of 0.5, 1, 2, 4 ... 30 s at random; ``attempt`` counts failures from 1."""
    whole = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt - 1, 30))
    return whole * (0.5 + 0.5 * random.random())
