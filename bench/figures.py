"""The arithmetic of the comparison: medians over rounds, ratios within rounds, percentiles. No broker, no clock."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OURS, BOTH = "ours", "ours_both_models"
FRAMEWORK_PEERS = ("quix", "bytewax")
"""What "the best peer" is the best of."""


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Median of each contestant over the rounds that have it."""
    names = dict.fromkeys(name for one in rounds for name in one)
    return {name: statistics.median(one[name] for one in rounds if name in one) for name in names}


def ratio_of(rounds: Sequence[Mapping[str, float]], peers: Iterable[str]) -> float | None:
    """Median over rounds of ours to the best of the peers *in the same round*; None without both."""
    wanted = list(peers)
    found = [
        one[OURS] / max(one[name] for name in wanted if name in one)
        for one in rounds
        if one.get(OURS) and any(one.get(name) for name in wanted)
    ]
    return statistics.median(found) if found else None


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least ``share`` of all are not above (nearest rank)."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def rate(samples: Sequence[tuple[int, float]], first: int, last: int) -> float | None:
    """Records per CPU-second from the first sample with ``first`` records to the first with ``last``.

    Samples are (records delivered, CPU-seconds). One that does not get to ``last`` counts up to where its records last
    grew: some deliver in large steps, and the CPU time of an unfinished step must not count. None without any work.
    """
    reached = min(last, samples[-1][0]) if samples else last
    begin = next(((records, cpu) for records, cpu in samples if records >= first), None)
    end = next(((records, cpu) for records, cpu in samples if records >= reached), None)
    if begin is None or end is None or end[1] <= begin[1] or end[0] <= begin[0]:
        return None
    return (end[0] - begin[0]) / (end[1] - begin[1])
