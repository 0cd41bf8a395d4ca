"""Counting the output topics while they are read: what one run scored, counted, alerted and refused.

Pure. Memory is bounded: repeats are recognised among the last keys only (a restarted worker repeats what it
did since its last checkpoint, never older things), latencies are kept as counts per millisecond.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fleetwatch import topics

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from datetime import datetime

REMEMBERED_KEYS: Final = 50_000
REMEMBERED_ALERTS: Final = 20_000
MAX_LATENCY_MS: Final = 600_000


class RecentKeys:
    """Tells new keys from repeats, among at least the last ``remembered`` distinct ones."""

    def __init__(self, remembered: int = REMEMBERED_KEYS) -> None:
        self._remembered = remembered
        self._young: set[int] = set()
        self._old: set[int] = set()

    def is_new(self, key: Hashable) -> bool:
        """Whether the key was not seen lately; from now on it was."""
        mark = hash(key)
        if mark in self._young or mark in self._old:
            return False
        if len(self._young) >= self._remembered:
            self._young, self._old = set(), self._young
        self._young.add(mark)
        return True


@dataclass
class Latencies:
    """Durations in whole milliseconds."""

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, millis: float) -> None:
        """Count one; what clocks make negative counts as zero."""
        self.counts[min(MAX_LATENCY_MS, max(0, round(millis)))] += 1

    def percentile(self, share: float) -> int | None:
        """Return the smallest duration that at least this share (0..1) does not exceed; None without any."""
        total = self.counts.total()
        reached = 0
        for millis in sorted(self.counts):
            reached += self.counts[millis]
            if reached >= share * total:
                return millis
        return None

    def as_dict(self) -> dict[str, int | None]:
        """Return p50 and p99."""
        return {"p50": self.percentile(0.5), "p99": self.percentile(0.99)}


@dataclass(frozen=True, kw_only=True)
class Firing:
    """What matters of a FIRING alert when it is compared with the truth."""

    device_id: str
    started_at: datetime


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault that the simulator injected."""

    device_id: str
    started_at: datetime
    ended_at: datetime


class Tally:
    """Counts of one run. ``add`` takes decoded messages in any order and with repeats."""

    def __init__(self, run_start: datetime) -> None:
        self._run_start = run_start
        self.scored = 0
        self.windows_final = 0
        self.dead_lettered = 0
        self.alerts_fired = 0
        self.alerts_resolved = 0
        self.undecodable = 0
        self.scored_latency = Latencies()
        self.alert_latency = Latencies()
        self.firings: deque[Firing] = deque(maxlen=REMEMBERED_ALERTS)
        self.faults: deque[Fault] = deque(maxlen=REMEMBERED_ALERTS)
        self.scored_devices: set[str] = set()
        self._seen = {topic: RecentKeys() for topic in TAILED}

    def add(self, topic: str, fields: Mapping[str, Any], broker_time_ms: int) -> None:
        """Count one message of an output topic, given as the fields of its record (enums as text)."""
        _ADD[topic](self, fields, broker_time_ms)

    def _add_scored(self, fields: Mapping[str, Any], broker_time_ms: int) -> None:
        ingest_time = fields["ingest_time"]
        if ingest_time < self._run_start:
            return
        key = (fields["device_id"], fields["event_time"], fields["seq"])
        if self._seen[topics.SCORED].is_new(key):
            self.scored += 1
            self.scored_devices.add(fields["device_id"])
            self.scored_latency.add(broker_time_ms - ingest_time.timestamp() * 1000)

    def _add_count(self, fields: Mapping[str, Any], _broker_time_ms: int) -> None:
        if not fields["is_final"]:
            return
        names = ("scope", "key", "window_start", "window_end", "source_topic", "source_partition")
        if self._seen[topics.COUNTS].is_new(tuple(fields[name] for name in names)):
            self.windows_final += 1

    def _add_alert(self, fields: Mapping[str, Any], broker_time_ms: int) -> None:
        if not self._seen[topics.ALERTS].is_new((fields["alert_id"], fields["state"])):
            return
        if fields["state"] == "RESOLVED":
            self.alerts_resolved += 1
            return
        self.alerts_fired += 1
        self.alert_latency.add(broker_time_ms - fields["ingest_time"].timestamp() * 1000)
        self.firings.append(Firing(device_id=fields["device_id"], started_at=fields["started_at"]))

    def _add_dead_letter(self, fields: Mapping[str, Any], _broker_time_ms: int) -> None:
        if fields["topic"] not in topics.INPUTS or fields["broker_time"] < self._run_start:
            return
        if self._seen[topics.DEAD_LETTERS].is_new((fields["topic"], fields["partition"], fields["offset"])):
            self.dead_lettered += 1

    def _add_truth(self, fields: Mapping[str, Any], _broker_time_ms: int) -> None:
        if fields["kind"] != "LABELLED" and self._seen[topics.TRUTH].is_new(fields["fault_id"]):
            names = ("device_id", "started_at", "ended_at")
            self.faults.append(Fault(**{name: fields[name] for name in names}))


_ADD: Final = {
    topics.SCORED: Tally._add_scored,  # noqa: SLF001  # its own table of cases
    topics.COUNTS: Tally._add_count,  # noqa: SLF001
    topics.ALERTS: Tally._add_alert,  # noqa: SLF001
    topics.DEAD_LETTERS: Tally._add_dead_letter,  # noqa: SLF001
    topics.TRUTH: Tally._add_truth,  # noqa: SLF001
}
TAILED: Final = tuple(_ADD)
"""The topics that are counted."""
