"""Injected faults against fired alerts: which of the truth did the pipeline tell? Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from fleetwatch.local.tally import Fault, Firing

EARLY: Final = timedelta(seconds=1)
"""An alert may bear a time this much before its fault's (rounding, and a window's start)."""
LEAST_LATE: Final = timedelta(seconds=10)


def tolerance_after(*, window_seconds: float, grace_seconds: float) -> timedelta:
    """Return how long after a fault's end an alert still counts: some come only when their window closes."""
    return max(LEAST_LATE, timedelta(seconds=window_seconds + grace_seconds))


def injected_before(faults: Iterable[Fault], moment: datetime) -> list[Fault]:
    """Return the faults that had begun: the simulator may announce one that it was stopped before."""
    return [fault for fault in faults if fault.started_at < moment]


def count_alerted(faults: Iterable[Fault], firings: Iterable[Firing], *, late: timedelta) -> int:
    """Return how many faults have an alert of their device between their start and their end, with tolerance.

    One alert may tell of several faults that overlap; several alerts of one fault count once.
    """
    times: defaultdict[str, list[datetime]] = defaultdict(list)
    for firing in firings:
        times[firing.device_id].append(firing.started_at)
    for of_device in times.values():
        of_device.sort()
    return sum(_has_one_in(times[f.device_id], f.started_at - EARLY, f.ended_at + late) for f in faults)


def _has_one_in(times: list[datetime], first: datetime, last: datetime) -> bool:
    place = bisect_left(times, first)
    return place < len(times) and times[place] <= last
