"""A notice that says it is a test, sent once through every channel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from alerting.ports import Delivered, Position, Waiting
from fleetwatch.records import Alert, AlertState, RuleKind, Severity

if TYPE_CHECKING:
    from alerting.channels import Channels


async def send_test(channels: Channels) -> list[tuple[str, str, bool]]:
    """Return for each destination its name, what became of the notice, and whether that is good."""
    now = datetime.now(UTC)
    alert = Alert(
        alert_id=f"test-{now:%H%M%S}",
        rule="test",
        kind=RuleKind.LEVEL,
        fingerprint="test",
        device_id="test-device",
        site="here",
        severity=Severity.INFO,
        state=AlertState.FIRING,
        started_at=now,
        ended_at=None,
        value=1.0,
        threshold=1.0,
        summary="this is a test of the alert channels, nothing happened",
        ingest_time=now,
        source_topic="",
        source_partition=0,
        source_offset=0,
    )
    change = Waiting(position=Position(partition=0, offset=0), alert=alert)
    results = []
    try:
        if channels.telegram is not None:
            await channels.telegram.check()
        for notifier in channels.notifiers:
            outcome = await notifier.send(notifier.compose([change], now))
            if isinstance(outcome, Delivered):
                results.append((notifier.lane, "delivered", True))
            else:
                said = f"{outcome.reason.value.lower().replace('_', ' ')}: {outcome.detail}"
                results.append((notifier.lane, said, False))
    finally:
        await channels.close()
    return results
