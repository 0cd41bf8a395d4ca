"""What a sink tells Prometheus. One object per process, in the service's own registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class SinkMetrics:
    """Counters end in ``_total``, durations in ``_seconds``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows_written = Counter(
            "fleetwatch_sink_rows_written_total",
            "Rows that the store took, repeated ones included.",
            ["topic"],
            registry=registry,
        )
        self.rows_refused = Counter(
            "fleetwatch_sink_rows_refused_total",
            "Events that were not stored: refused by 'input' checks, by 'decode', or by the 'store'.",
            ["by"],
            registry=registry,
        )
        self.retries = Counter(
            "fleetwatch_sink_retries_total",
            "Writes tried again after an error that passes.",
            registry=registry,
        )
        self.batch_rows = Histogram(
            "fleetwatch_sink_batch_rows",
            "Events of a batch.",
            buckets=(1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000),
            registry=registry,
        )
        self.write_seconds = Histogram(
            "fleetwatch_sink_write_seconds",
            "Time to write one batch, retries included.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=registry,
        )
        self.lag = Gauge(
            "fleetwatch_sink_lag",
            "Events in Kafka that are not stored yet.",
            ["topic", "partition"],
            registry=registry,
        )
        self.tidied = Counter(
            "fleetwatch_sink_tidied_total",
            "What housekeeping did: silent 'devices' that left, old 'chunks' and 'rows' that went.",
            ["what"],
            registry=registry,
        )
        self.tidying_failed = Counter(
            "fleetwatch_sink_tidying_failed_total",
            "Housekeeping that failed and is tried again later.",
            registry=registry,
        )
        self.is_paused = Gauge("fleetwatch_sink_paused", "1 while the sink waits for its store.", registry=registry)
