"""What is known of models: a fold over the records of ``fleet.models`` and ``fleet.model-comparisons``.

In force for a sensor type is its ACTIVE version that changed last. So one message is enough to change it, and it does
not matter in what order messages of different versions are read: they have different keys, and partitions. Two records
of one version are told apart by ``changed_at`` too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from fleetwatch.records import ModelStatus, ModelVersion

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from fleetwatch.records import ModelComparison

FALLBACK: Final = "fallback"
"""The sensor type of the model for types that have none of their own."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A shadow model beside the one in force, over all partitions."""

    version: str
    against: str
    readings: int = 0
    alarms: int = 0
    alarms_against: int = 0
    strange_both: int = 0
    strange_either: int = 0
    difference_sum: float = 0.0

    @property
    def agreement(self) -> float:
        """Of the readings that are strange to either, the share that is to both; 1 when there is none."""
        return self.strange_both / self.strange_either if self.strange_either else 1.0

    @property
    def alarm_rate(self) -> float:
        """Share of readings above the shadow's alarm level."""
        return self.alarms / self.readings if self.readings else 0.0

    @property
    def alarm_rate_against(self) -> float:
        """Share of readings above the alarm level of the one in force."""
        return self.alarms_against / self.readings if self.readings else 0.0

    @property
    def difference(self) -> float:
        """Mean absolute difference of the two calibrated scores (0 to 1)."""
        return self.difference_sum / self.readings if self.readings else 0.0


class Catalogue:
    """All versions of all sensor types, and how shadows compare. Not safe to change from several threads."""

    def __init__(self, records: Iterable[ModelVersion] = ()) -> None:
        self._versions: dict[str, dict[str, ModelVersion]] = {}
        self._comparisons: dict[tuple[str, str, int], ModelComparison] = {}
        for record in records:
            self.put(record)

    def put(self, record: ModelVersion) -> bool:
        """Take a version's record, unless a later one is known; say whether anything changed."""
        mine = self._versions.setdefault(record.sensor_type, {})
        known = mine.get(record.version)
        if known is not None and (known == record or _changed_at(known) > _changed_at(record)):
            return False
        mine[record.version] = record
        return True

    def compare(self, record: ModelComparison) -> None:
        """Take how a shadow compares on one partition; the last one counts."""
        self._comparisons[(record.sensor_type, record.version, record.partition)] = record

    @property
    def sensor_types(self) -> list[str]:
        """The sensor types that have any version."""
        return sorted(self._versions)

    def versions(self, sensor_type: str) -> list[ModelVersion]:
        """Return the versions of a type, the newest first; one that was in force and no longer is shows as RETIRED."""
        active = self.active(sensor_type)
        shown = [
            record
            if record.status is not ModelStatus.ACTIVE or record is active
            else replace(record, status=ModelStatus.RETIRED)
            for record in self._of(sensor_type)
        ]
        return sorted(shown, key=lambda record: (record.trained_at, record.version), reverse=True)

    def find(self, sensor_type: str, version: str) -> ModelVersion | None:
        """Return one version as it was announced last."""
        return self._versions.get(sensor_type, {}).get(version)

    def active(self, sensor_type: str) -> ModelVersion | None:
        """Return the version in force."""
        mine = (record for record in self._of(sensor_type) if record.status is ModelStatus.ACTIVE)
        return max(mine, key=lambda record: (_changed_at(record), record.version), default=None)

    def shadow(self, sensor_type: str) -> ModelVersion | None:
        """Return the newest shadow: it scores beside the version in force."""
        mine = (record for record in self._of(sensor_type) if record.status is ModelStatus.SHADOW)
        return max(mine, key=lambda record: (record.trained_at, record.version), default=None)

    def comparison(self, sensor_type: str, version: str, partition: int) -> ModelComparison | None:
        """Return how a shadow compares on one partition."""
        return self._comparisons.get((sensor_type, version, partition))

    def compared(self, sensor_type: str, version: str) -> Compared | None:
        """Return how a version compared as a shadow over all partitions, with the last version it stood beside."""
        mine = [
            record for (kind, name, _), record in self._comparisons.items() if (kind, name) == (sensor_type, version)
        ]
        if not mine:
            return None
        against = max(mine, key=lambda record: record.until).against
        parts = [record for record in mine if record.against == against]
        return Compared(
            version=version,
            against=against,
            readings=sum(part.readings for part in parts),
            alarms=sum(part.alarms for part in parts),
            alarms_against=sum(part.alarms_against for part in parts),
            strange_both=sum(part.strange_both for part in parts),
            strange_either=sum(part.strange_either for part in parts),
            difference_sum=sum(part.difference_sum for part in parts),
        )

    # --- changes

    def next_change(self, sensor_type: str, now: datetime) -> datetime:
        """Return the time of a change made now: later than all before it, whatever the clocks say."""
        before = (_changed_at(record) for record in self._of(sensor_type))
        return max([now, *(time + timedelta(milliseconds=1) for time in before)])

    def activation(self, record: ModelVersion, now: datetime) -> list[ModelVersion]:
        """Return the records that put a version in force: it, then the one that it replaces."""
        before, at = self.active(record.sensor_type), self.next_change(record.sensor_type, now)
        previous = record.previous
        if before is not None and before.version != record.version:
            previous = before.version
        changes = [replace(record, status=ModelStatus.ACTIVE, changed_at=at, previous=previous)]
        if before is not None and before.version != record.version:
            changes.append(replace(before, status=ModelStatus.RETIRED, changed_at=at))
        return changes

    def rollback(self, sensor_type: str, now: datetime) -> list[ModelVersion]:
        """Return the records that put the version before in force again; none when there is none to go back to."""
        active = self.active(sensor_type)
        before = self.find(sensor_type, active.previous) if active is not None and active.previous else None
        if active is None or before is None:
            return []
        at = self.next_change(sensor_type, now)
        return [
            replace(before, status=ModelStatus.ACTIVE, changed_at=at),
            replace(active, status=ModelStatus.RETIRED, changed_at=at),
        ]

    def _of(self, sensor_type: str) -> Iterable[ModelVersion]:
        return self._versions.get(sensor_type, {}).values()


def _changed_at(record: ModelVersion) -> datetime:
    """Return when a status began; records of the first schema version do not say it."""
    return max(record.changed_at, record.trained_at)
