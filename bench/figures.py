"""The arithmetic of the comparison, without broker and clock: rates, medians, ratios within rounds, percentiles."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OURS, BOTH, HAND_LOOP, FLOOR = "ours", "ours_both_models", "hand_tuned", "c_floor"
FRAMEWORK_PEERS = ("quix", "bytewax", "pathway")
"""What "the best peer" is the best of."""

PAUSE_SECONDS = 0.3
"""Who delivers nothing for so long delivers in bursts."""


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

    Some deliver in bursts, long after they did the work. Where there are pauses, both ends are put at the end of one:
    then all the work of the bursts between them lies between them too, and no other. None without any work.
    """
    counted = [sample for sample in samples if sample.records >= first]
    if not counted:
        return None
    begin, end = counted[0], next(sample for sample in counted if sample.records == counted[-1].records)
    pauses = ends_of_pauses(samples, first)
    if len(pauses) > 1 and 2 * (pauses[-1].records - pauses[0].records) >= end.records - begin.records:
        begin, end = pauses[0], pauses[-1]
    if end.cpu <= begin.cpu or end.records <= begin.records:
        return None
    records = end.records - begin.records
    return Rate(records / (end.cpu - begin.cpu), records / (end.at - begin.at))


def ends_of_pauses(samples: Sequence[Sample], first: int) -> list[Sample]:
    """Return, from ``first`` records on, the last sample of each long time in which nothing was delivered."""
    found: list[Sample] = []
    counted = [sample for sample in samples if sample.records >= first]
    if not counted:
        return found
    since = counted[0]
    for sample, following in itertools.pairwise(counted):
        if sample.records > since.records:
            since = sample
        if following.records > sample.records and sample.at - since.at >= PAUSE_SECONDS:
            found.append(sample)
    return found


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
