"""What a sink reads before it writes: events in the order they were read, each with its place in Kafka."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Partition: TypeAlias = tuple[str, int]
"""Topic and partition number."""


class Event(NamedTuple):
    """One Kafka event as it was read. ``broker_time_ms`` is the broker's timestamp."""

    topic: str
    partition: int
    offset: int
    broker_time_ms: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When a batch is written: as soon as one of these is reached. The age counts from the start of collecting."""

    rows: int = 5000
    size: int = 8 * 1024 * 1024
    age_seconds: float = 0.2


@dataclass
class Collector:
    """Gathers events until a limit is reached. Knows no clock: the time is handed in."""

    limits: Limits
    deadline: float
    events: list[Event] = field(default_factory=list)
    size: int = 0

    @classmethod
    def started_at(cls, now: float, limits: Limits) -> Collector:
        """Begin a batch at a moment of a monotonic clock, in seconds."""
        return cls(limits, now + limits.age_seconds)

    def extend(self, events: Iterable[Event]) -> None:
        """Take events in the order they were read."""
        taken = list(events)
        self.events += taken
        self.size += sum(len(event.key or b"") + len(event.value or b"") for event in taken)

    @property
    def room(self) -> int:
        """How many events may still come."""
        return max(0, self.limits.rows - len(self.events))

    def is_due(self, now: float) -> bool:
        """Whether the batch should be written now (an empty one: whether to start anew)."""
        return self.room == 0 or self.size >= self.limits.size or now >= self.deadline
