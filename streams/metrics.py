"""What /metrics says of a worker, beside the counters of its status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry


class WorkerMetrics:
    """How far the worker is behind, and what its checkpoints take."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge(
            "fleetwatch_worker_lag",
            "Events in Kafka that are not scored yet, of the partitions that this worker holds.",
            ["topic", "partition"],
            registry=registry,
        )
        self.checkpoint_seconds = Histogram(
            "fleetwatch_worker_checkpoint_seconds",
            "Time of a checkpoint, until Kafka has its outputs and its state.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self._shown: set[tuple[str, int]] = set()

    def show_lag(self, positions: Mapping[tuple[str, int], int], end_of: Callable[[str, int], int | None]) -> None:
        """Show the lag of each held partition whose end is known; a partition that went to another worker goes."""
        ends = {lane: end for lane in positions if (end := end_of(*lane)) is not None}
        for topic, partition in self._shown - ends.keys():
            self.lag.remove(topic, str(partition))
        for (topic, partition), end in ends.items():
            self.lag.labels(topic, str(partition)).set(max(0, end - positions[(topic, partition)]))
        self._shown = set(ends)
