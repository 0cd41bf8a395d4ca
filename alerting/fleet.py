"""How the fleet is at one moment, as the bot tells it: plain values, gathered by ``alerting.fleet_reads``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from fleetwatch.records import Alert, Severity


@dataclass(frozen=True, kw_only=True, slots=True)
class Lag:
    """Events that wait to be read by each part."""

    streams: int
    database: int
    cache: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetStatus:
    """Devices that are not pruned, those with an open silence alert, open alerts by severity; lag if it is known."""

    at: datetime
    devices: int
    silent: int
    open_alerts: Mapping[Severity, int] = field(default_factory=dict)
    lag: Lag | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """One detection event of a camera."""

    time: datetime
    seq: int
    label: str
    confidence: float


def gravest_first(alerts: list[Alert]) -> list[Alert]:
    """Return the alerts by severity, of one severity the newest first."""
    order = {"CRITICAL": 0, "WARNING": 1, "INFO": 2}
    return sorted(alerts, key=lambda alert: (order[alert.severity.value], -alert.started_at.timestamp()))
