"""What /metrics says of alerting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class AlertingMetrics:
    """Counters by channel, and how long people wait for a notice."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.decisions = Counter(
            "fleetwatch_alert_changes_total",
            "Alert changes read, by what was decided.",
            ["decision"],
            registry=registry,
        )
        self.notices = Counter(
            "fleetwatch_notices_total",
            "Alert changes told or refused, by channel and outcome.",
            ["channel", "outcome"],
            registry=registry,
        )
        self.retries = Counter(
            "fleetwatch_notice_retries_total",
            "Sends that failed and are tried again, by channel and reason.",
            ["channel", "reason"],
            registry=registry,
        )
        self.waiting = Gauge(
            "fleetwatch_notices_waiting",
            "Alert changes that some channel has not settled, or that stand behind one.",
            registry=registry,
        )
        self.delay = Histogram(
            "fleetwatch_notice_delay_seconds",
            "From the broker's timestamp of the event that caused a change until a channel had it.",
            ["channel"],
            buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800),
            registry=registry,
        )
        self.bot = Counter(
            "fleetwatch_bot_events_total",
            "What people did in Telegram: commands, presses of buttons, strangers refused, failures.",
            ["kind"],
            registry=registry,
        )
        self.outbox = Gauge(
            "fleetwatch_outbox_available",
            "1 while the record of notices in the database can be written; not set without Telegram.",
            registry=registry,
        )
