"""The figures at the end of a run, and whether they are good. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

DELIVERING: Final = {
    "produced": "the producers delivered nothing",
    "scored": "no reading was scored",
    "replayed_devices_scored": "no device of the recorded signal was scored",
    "stored": "the database has no row of this run",
    "windows_final": "no window was closed",
    "alerts_fired": "no alert fired",
    "devices": "the database knows no device of this run",
    "cache_devices": "the cache holds no device of this run",
    "notified": "nobody was told of an alert",
}
"""What must be above zero for a run to count as good, and what it means when it is not."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was counted, each figure on its own side."""

    seconds: float
    produced: int
    scored: int
    replayed_devices_scored: int
    stored: int
    dead_lettered: int
    in_flight: int
    windows_final: int
    alerts_fired: int
    alerts_resolved: int
    faults_injected: int
    faults_alerted: int
    devices: int
    cache_devices: int
    notified: int
    latency_ms: dict[str, dict[str, int | None]]
    troubles: tuple[str, ...] = field(default=())
    """Lines about what went wrong while running or counting."""

    @property
    def unaccounted(self) -> int:
        """Events that were delivered to the broker and are nowhere: must be 0."""
        return self.produced - self.stored - self.dead_lettered - self.in_flight

    def shortfalls(self) -> list[str]:
        """Return a line for everything that fell short; none when the run is good."""
        lines = [text for name, text in DELIVERING.items() if getattr(self, name) <= 0]
        if self.faults_injected and not self.faults_alerted:
            lines.append(f"none of {self.faults_injected} injected faults was alerted")
        if self.in_flight:
            lines.append(f"{self.in_flight} events were still under way when waiting ended")
        if self.unaccounted:
            lines.append(
                f"{self.unaccounted} events unaccounted for: produced {self.produced}, stored {self.stored}, "
                f"dead-lettered {self.dead_lettered}, in flight {self.in_flight}"
            )
        return [*lines, *self.troubles]

    def as_dict(self) -> dict[str, Any]:
        """Return the object that is printed as the last line."""
        return {
            "ok": not self.shortfalls(),
            "seconds": round(self.seconds, 1),
            "produced": self.produced,
            "scored": self.scored,
            "stored": self.stored,
            "dead_lettered": self.dead_lettered,
            "in_flight": self.in_flight,
            "unaccounted": self.unaccounted,
            "windows_final": self.windows_final,
            "alerts_fired": self.alerts_fired,
            "alerts_resolved": self.alerts_resolved,
            "faults_injected": self.faults_injected,
            "faults_alerted": self.faults_alerted,
            "devices": self.devices,
            "cache_devices": self.cache_devices,
            "notified": self.notified,
            "replayed_devices_scored": self.replayed_devices_scored,
            "latency_ms": self.latency_ms,
        }
