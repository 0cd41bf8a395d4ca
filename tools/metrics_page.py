"""Prints docs/metrics.md from the source: every metric that is made anywhere in it; a test compares the two.

A metric is a call of a class of prometheus_client with a literal name, explanation and labels.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("fleetwatch", "producers", "streams", "sinks", "alerting", "dashboard")
TYPES = {
    "Counter": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
    "Summary": "summary",
    "CounterMetricFamily": "counter",
    "GaugeMetricFamily": "gauge",
}
SERVED_BY = {
    "fleetwatch": "every process",
    "producers": "simulators",
    "producers/gateway": "gateway",
    "streams": "worker",
    "sinks": "sink-timescale, sink-redis",
    "alerting": "alert",
    "dashboard": "dashboard",
}
"""Folder, or one within it -> the processes that serve its metrics."""

KINDS = {
    "worker": {
        "readings": "readings taken, refused and repeated ones not included",
        "detections": "detections taken, the same way",
        "scored": "readings with a verdict",
        "anomalies": "readings found anomalous",
        "alerts_fired": "alerts that began",
        "alerts_resolved": "alerts that ended",
        "dead_lettered": "refused events, in `fleet.dead-letters`",
        "duplicates": "events that had come before",
        "late": "events after their window and its grace",
        "windows_early": "counts of windows that are still open",
        "windows_final": "counts of closed windows",
        "models_trained": "first batch models trained",
        "models_changed": "changes of the batch model that should be in force",
        "models_missing": "looks for an announced batch model that could not be had",
        "open_windows": "windows that are open now",
        "devices": "devices in the state now",
        "devices_forgotten": "devices that left the state, silent for too long",
    },
    "simulate, replay-dataset": {
        "produced": "readings and detections that Kafka has",
        "readings": "of these, readings",
        "detections": "of these, detections",
        "truth": "injected faults, in `fleet.truth`",
        "failed": "events that Kafka did not take",
        "skipped": "events left out since the machine could not keep up",
    },
    "gateway": {
        "produced": "readings and detections that Kafka has acknowledged",
        "readings": "of these, readings",
        "detections": "of these, detections",
        "failed": "events that Kafka did not acknowledge in time",
        "refused": "events that cannot be used as they are",
        "busy": "requests turned away with 503, of which nothing was taken",
        "denied": "requests turned away for their token or their host name",
    },
    "sink-timescale, sink-redis": {
        "rows_written": "rows that the store took, repeated ones included",
        "batches": "writes",
        "retries": "writes tried again",
        "refused_input": "detections that no check let pass",
        "refused_decode": "events that could not be read",
        "refused_store": "rows that the store refused",
        "events_lost": "events that the broker deleted before they were stored",
        "tidied_devices": "silent devices that left",
        "tidied_chunks": "old chunks that went",
        "tidied_rows": "old rows that went",
    },
    "alert": {
        "alerts": "alert changes that were told",
        "duplicates": "alert changes that had been told",
        "muted": "alert changes that were not told because somebody wanted quiet",
        "actions": "acknowledgements and mutes that hold, those of before the start too",
        "commands": "commands of people in Telegram",
        "presses": "buttons pressed in Telegram",
        "strangers": "commands and presses of people who are not on the list",
        "bot_failures": "commands and presses that failed",
        "summaries": "status summaries told in Telegram",
        "summaries_failed": "status summaries that could not be gathered",
        "notified": "changes that at least one channel has",
        "notified_console": "changes told on the console",
        "notified_telegram": "changes told in Telegram",
        "refused": "changes that a channel refused for good",
        "retries": "sends tried again",
        "dead_lettered": "records that could not be read, in `fleet.dead-letters`",
    },
    "dashboard": {
        "dead_letters": "dead letters seen",
        "skipped": "records left out to keep up",
        "unusable": "records that could not be read",
    },
    "record, replay": {
        "recorded": "events in the recording",
        "missing_offsets": "offsets that the broker no longer had",
        "replayed": "events written into topics",
    },
}
"""Process -> what `fleetwatch_events` counts there. A test compares it with what processes serve."""

HEAD = """# Metrics

Every long-running process serves `/metrics` for Prometheus on `FLEETWATCH_HTTP_PORT`. Made from the source by
`tools/metrics_page.py`. Rules for alerts are in `deploy/prometheus/alerts.yml`, dashboards in `deploy/grafana/`.

Beside these there are the usual `process_*` metrics (`process_resident_memory_bytes`, `process_cpu_seconds_total`,
`process_start_time_seconds`, `process_open_fds`, ...), and a histogram `x` has `x_bucket`, `x_sum` and `x_count`.

| metric | type | labels | served by | what it is |
| --- | --- | --- | --- | --- |
"""
KINDS_HEAD = """
## Kinds of `fleetwatch_events`

They count up since the start of the process, so `rate()` works, but for those that end with *now*. A kind is there
from its first event on.

| service | kind | what it counts |
| --- | --- | --- |
"""


@dataclass(frozen=True, order=True)
class Metric:
    """One metric as the source makes it."""

    served_by: str
    name: str
    type: str
    labels: tuple[str, ...]
    text: str


def metrics() -> list[Metric]:
    """Return every metric of the source, those of every process first.

    Raises:
        ValueError: a metric has no literal name; the text says where.

    """
    found = {metric for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") for metric in _metrics_of(path)}
    return sorted(found, key=lambda metric: (metric.served_by != "every process", metric))


def _metrics_of(path: Path) -> Iterator[Metric]:
    text = path.read_text(encoding="utf-8")
    if "prometheus_client" not in text:
        return
    tree = ast.parse(text)
    imported = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prometheus_client")
        for alias in node.names
    }
    relative = path.relative_to(ROOT)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        kind = TYPES.get(imported.get(node.func.id, ""))
        if kind is None:
            continue
        try:
            name, explained = (ast.literal_eval(argument) for argument in node.args[:2])
            given = [node.args[2]] if len(node.args) > 2 else []
            given += [keyword.value for keyword in node.keywords if keyword.arg in ("labels", "labelnames")]
            labels = tuple(ast.literal_eval(given[0])) if given else ()
        except ValueError:
            raise ValueError(
                f"{relative}:{node.lineno}: name, explanation and labels of a metric are literals"
            ) from None
        name = name if kind != "counter" or name.endswith("_total") else f"{name}_total"
        served_by = SERVED_BY.get("/".join(relative.parts[:2])) or SERVED_BY[relative.parts[0]]
        yield Metric(served_by, name, kind, labels, explained)


def page() -> str:
    """Return the whole page."""
    rows = [
        f"| `{m.name}` | {m.type} | {', '.join(f'`{label}`' for label in m.labels)} | {m.served_by} | {m.text} |\n"
        for m in metrics()
    ]
    kinds = [f"| {who} | `{kind}` | {text} |\n" for who, some in KINDS.items() for kind, text in some.items()]
    return HEAD + "".join(rows) + KINDS_HEAD + "".join(kinds)


if __name__ == "__main__":
    print(page(), end="")
