"""Which devices need attention, and how much: pure decisions over the live board."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from dashboard.live import severity_rank
from fleetwatch.records import DetectorState, Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from dashboard.live import Board, DeviceLive

ANOMALY_SHOWN_MS: Final = 60_000
"""A card stays marked for so long after an anomaly: a single strange reading should be seen by a person."""
LEAST_SILENCE_MS: Final = 15_000
SILENT_AFTER_INTERVALS: Final = 5


class Status(Enum):
    """State of a device as a person sees it, the most urgent first."""

    CRITICAL = "CRITICAL"
    ANOMALY = "ANOMALY"
    WARNING = "WARNING"
    STALE = "STALE"
    WARMING_UP = "WARMING_UP"
    NORMAL = "NORMAL"


RANK: Final = {status: rank for rank, status in enumerate(Status)} | {Status.NORMAL: 4}
"""Smaller is more urgent; a device that is still learning needs no more attention than a normal one."""


@dataclass(frozen=True, slots=True)
class Card:
    """A device with what is said about it."""

    device: DeviceLive
    status: Status
    alerts: int


def assess(board: Board, *, now_ms: int) -> list[Card]:
    """Return a card for every device, the neediest first; of the same need those with an open alert, then by name."""
    worst: dict[str, Severity] = {}
    count: dict[str, int] = {}
    for alert in board.open_alerts.values():
        known = worst.get(alert.device_id, Severity.INFO)
        worst[alert.device_id] = max(known, alert.severity, key=severity_rank)
        count[alert.device_id] = count.get(alert.device_id, 0) + 1
    cards = [
        Card(
            device,
            status_of(device, worst.get(device.device_id), now_ms=now_ms),
            count.get(device.device_id, 0),
        )
        for device in board.devices.values()
    ]
    return sorted(cards, key=lambda card: (RANK[card.status], card.alerts == 0, natural(card.device.device_id)))


def status_of(device: DeviceLive, worst: Severity | None, *, now_ms: int) -> Status:
    """Decide a device's status; ``worst`` is its gravest open alert."""
    if worst is Severity.CRITICAL:
        return Status.CRITICAL
    if device.anomaly_ms is not None and now_ms - device.anomaly_ms < ANOMALY_SHOWN_MS:
        return Status.ANOMALY
    if worst is Severity.WARNING:
        return Status.WARNING
    if now_ms - max(device.heard_ms, device.came_ms) > silent_after_ms(device):  # streams that are behind: no silence
        return Status.STALE
    if device.state is DetectorState.WARMING_UP:
        return Status.WARMING_UP
    return Status.NORMAL


def standstill_ms(board: Board, *, now_ms: int) -> int | None:
    """Return how long nothing has come of any device, where that is long: then it is not a matter of one device."""
    newest = max((max(device.heard_ms, device.came_ms) for device in board.devices.values()), default=None)
    return None if newest is None or now_ms - newest <= LEAST_SILENCE_MS else now_ms - newest


def silent_after_ms(device: DeviceLive) -> int:
    """Return how long a device may be quiet: five of its usual intervals, 15 s at least."""
    points = device.points
    if len(points) < 2:
        return 4 * LEAST_SILENCE_MS
    interval = (points[-1].event_ms - points[0].event_ms) / (len(points) - 1)
    return max(LEAST_SILENCE_MS, int(SILENT_AFTER_INTERVALS * interval))


def choose(
    cards: Iterable[Card],
    *,
    sites: Collection[str] = (),
    sensor_types: Collection[str] = (),
    search: str = "",
) -> list[Card]:
    """Keep the cards that match; an empty filter lets all through. The search is for a part of the id."""
    needle = search.strip().casefold()
    return [
        card
        for card in cards
        if (not sites or card.device.site in sites)
        and (not sensor_types or card.device.sensor_type in sensor_types)
        and needle in card.device.device_id.casefold()
    ]


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts pump-2 before pump-10."""
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part)
