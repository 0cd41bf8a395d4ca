"""Alert changes for tests of alerting, and doubles of its ports."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from alerting.ports import Delivered, Notice, Outcome, Position, Waiting
from fleetwatch.records import Alert, AlertState, RuleKind, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 3, 9, 14, 5, 0, tzinfo=UTC)
STARTED = datetime(2026, 3, 9, 14, 3, 5, tzinfo=UTC)


def make_alert(alert_id: str = "1f0c9a", **changes: Any) -> Alert:
    """Return a firing level alert; ``after`` (seconds) makes it resolved."""
    after = changes.pop("after", None)
    started = changes.get("started_at", STARTED)
    values: dict[str, Any] = {
        "alert_id": alert_id,
        "rule": "too-hot",
        "kind": RuleKind.LEVEL,
        "fingerprint": "f" + alert_id,
        "device_id": "temp-north-03",
        "site": "north",
        "severity": Severity.WARNING,
        "state": AlertState.FIRING if after is None else AlertState.RESOLVED,
        "started_at": STARTED,
        "ended_at": None if after is None else started + timedelta(seconds=after),
        "value": 93.2,
        "threshold": 80.0,
        "summary": "level above 80 °C",
        "ingest_time": STARTED,
        "source_topic": "fleet.readings",
        "source_partition": 0,
        "source_offset": 7,
    }
    return Alert(**(values | changes))


def waiting(offset: int, alert: Alert | None = None, *, partition: int = 0, **changes: Any) -> Waiting:
    """Return a change at an offset; its alert id is the offset unless an alert is given."""
    return Waiting(
        position=Position(partition=partition, offset=offset),
        alert=alert or make_alert(str(offset), **changes),
    )


class ManualClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds - 1000.0)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


class ScriptedNotifier:
    """Answers with the outcomes given, then Delivered; remembers what it was asked to send and when."""

    channel = "scripted"

    def __init__(
        self,
        outcomes: Sequence[Outcome | Exception] = (),
        *,
        group_above: int | None = None,
        clock: ManualClock | None = None,
        lane: str = "scripted",
    ) -> None:
        self.lane = lane
        self.group_above = group_above
        self.sent: list[tuple[str, ...]] = []
        self.sent_at: list[float] = []
        self._outcomes = deque(outcomes)
        self._clock = clock or ManualClock()

    def compose(self, changes: Sequence[Waiting], now: datetime) -> Notice:  # noqa: ARG002  # the port
        return Notice(changes=tuple(changes), text=" ".join(change.alert.alert_id for change in changes))

    async def send(self, notice: Notice) -> Outcome:
        self.sent.append(tuple(change.alert.alert_id for change in notice.changes))
        self.sent_at.append(self._clock.monotonic())
        outcome = self._outcomes.popleft() if self._outcomes else Delivered(reference=str(len(self.sent)))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
