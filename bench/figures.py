"""The arithmetic of the comparison: rates, medians over rounds, ratios within rounds, percentiles. No broker, no clock."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OURS, BOTH, HAND_LOOP, FLOOR = "ours", "ours_both_models", "hand_tuned", "c_floor"
FRAMEWORK_PEERS = ("quix", "bytewax", "pathway")
"""What "the best peer" is the best of."""


class Sample(NamedTuple):
    """Records delivered, CPU-seconds used and seconds passed since a contestant's start."""

    records: int
    cpu: float
    at: float


class Rate(NamedTuple):
    """Records per CPU-second and per second."""

    per_cpu_second: float
    per_second: float


def rate(samples: Sequence[Sample], first: int) -> Rate | None:
    """Return the rates from the first sample with ``first`` records to where records last grew.

    Some deliver in large steps, and the time of an unfinished step must not count. None without any work.
    """
    begin = next((sample for sample in samples if sample.records >= first), None)
    end = next((sample for sample in samples if sample.records >= samples[-1].records), None)
    if begin is None or end is None or end.cpu <= begin.cpu or end.records <= begin.records:
        return None
    records = end.records - begin.records
    return Rate(records / (end.cpu - begin.cpu), records / (end.at - begin.at))


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each contestant over the rounds that have it."""
    names = dict.fromkeys(name for one in rounds for name in one)
    return {name: statistics.median(one[name] for one in rounds if name in one) for name in names}


def ratio_of(rounds: Sequence[Mapping[str, float]], peers: Iterable[str], subject: str = OURS) -> float | None:
    """Return the median over rounds of the subject to the best of the peers *in the same round*.

    None unless some round has the subject and every peer: the best of those that are left is not the best.
    """
    wanted = list(peers)
    found = [
        one[subject] / max(one[name] for name in wanted)
        for one in rounds
        if one.get(subject) and all(one.get(name) for name in wanted)
    ]
    return statistics.median(found) if found else None


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of all are not above (nearest rank)."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
