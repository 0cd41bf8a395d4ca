"""What a device costs: the worker's memory and its cost per event with a small and with a large fleet."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from bench import figures, lineup
from bench.measure import BenchError, broker, make_topics, work_off
from bench.rounds import READINGS, new_fleet, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.feed import Fleet, Reading

SIZES = (1_000, 100_000)
GROWTH_EVENTS = 10_000_000
READY_AT_ONCE = {"FLEETWATCH_WARM_UP_READINGS": "1"}
"""A device of the large fleet reports some ten times only: its readings are to be scored all the same."""


def measure(kind: str, per_second: float, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure the worker with both fleets in turn; every device has reported before the window begins.

    Raises:
        BenchError: the worker did not do its work.

    """
    worker = lineup.ours(**READY_AT_ONCE)
    fleets = {size: new_fleet(size, per_second) for size in SIZES}
    found: list[dict[int, tuple[float, int]]] = []
    for number in range(rounds):
        one: dict[int, tuple[float, int]] = {}
        for size in SIZES if number % 2 == 0 else SIZES[::-1]:
            readings = fleets[size].readings(0, READINGS)
            with broker(kind) as settings:
                make_topics(settings, worker)
                outcome = work_off(settings, worker, readings, seconds=seconds)
            rate = figures.rate(outcome.samples, max(worker.warm, *SIZES))
            if rate is None:
                raise BenchError(f"{size} devices: nothing was measured")
            one[size] = (rate.per_cpu_second, outcome.rss_bytes[-1])
            say(
                f"{size:>7,} devices  {rate.per_cpu_second:>11,.0f} events per CPU-second"
                f" {outcome.rss_bytes[-1] >> 20:>6} MB"
            )
        found.append(one)
    return summary(found)


class _Endless:
    """Readings of a fleet that are made when they are asked for: ten million would not fit here."""

    def __init__(self, fleet: Fleet, count: int) -> None:
        self._fleet, self._count = fleet, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> list[Reading]:
        first, until, _ = part.indices(self._count)
        return self._fleet.readings(first, until - first)


def growth(kind: str, devices: int, per_second: float, *, events: int = GROWTH_EVENTS) -> dict[str, Any]:
    """Return the worker's resident memory while a constant fleet sends ``events`` readings, training as by default.

    Raises:
        BenchError: the worker did not do its work.

    """
    worker = lineup.ours(FLEETWATCH_TRAINING_FIRST="true")
    readings = _Endless(new_fleet(devices, per_second, events), events)
    with broker(kind) as settings:
        make_topics(settings, worker)
        outcome = work_off(settings, worker, readings, seconds=math.inf)
    found = [
        {"events": records, "rss_mb": round(rss / 2**20)}
        for (records, _, _), rss in zip(outcome.samples, outcome.rss_bytes, strict=True)
    ]
    steps = [next(one for one in found if one["events"] >= share * found[-1]["events"] / 10) for share in range(1, 11)]
    return {"events": found[-1]["events"], "rss_mb": [one["rss_mb"] for one in steps]}


def summary(rounds: Sequence[Mapping[int, tuple[float, int]]]) -> dict[str, Any]:
    """Return the figures of rounds of (events per CPU-second, resident bytes) by number of devices."""
    small, large = SIZES
    return {
        "rss_mb": {str(size): round(statistics.median(one[size][1] for one in rounds) / 2**20) for size in SIZES},
        "per_cpu_second": {str(size): round(statistics.median(one[size][0] for one in rounds)) for size in SIZES},
        "bytes_per_device": round(
            statistics.median((one[large][1] - one[small][1]) / (large - small) for one in rounds)
        ),
        "cost_ratio": round(statistics.median(one[small][0] / one[large][0] for one in rounds), 3),
    }
