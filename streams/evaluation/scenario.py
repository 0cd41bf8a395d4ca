"""Alerts against a simulator's ground truth: what was found, how late, and what was alarmed about without a fault.

A fault is found by an alert of its device that fires from its start until ``GRACE_MS`` after its end, or that is open
already and kept open by an anomaly within it. An alert that fires on a device outside all of that is a false alarm.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetwatch import avro, columns, topics
from fleetwatch.records import Alert, AlertState, FaultKind, GroundTruth, ScoredReading, Verdict, to_millis
from streams.evaluation.engine import Engine
from streams.lane_outputs import symbols

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streams.lane import LaneSettings

GRACE_MS: Final = 10_000
"""A device rests for at least so long after a fault: what is noticed by then is about the fault."""
WEEK_MS: Final = 7 * 86_400_000
_BATCH: Final = 2_000
_ANOMALY: Final = symbols("scored_reading", "verdict")[Verdict.ANOMALY]


@dataclass(frozen=True)
class Found:
    """Faults of one kind: how many there were, and the delays (s) of those that were found."""

    faults: int
    delays: tuple[float, ...]

    @property
    def recall(self) -> float:
        """Share that was found."""
        return len(self.delays) / self.faults


@dataclass(frozen=True)
class Report:
    """What an evaluation found; ``false_alarms`` by rule."""

    kinds: dict[FaultKind, Found]
    true_alarms: int
    false_alarms: dict[str, int]
    device_weeks: float
    examples: list[Alert] = field(default_factory=list)

    @property
    def false_per_device_week(self) -> float:
        """False alarms per device and week of event time."""
        return sum(self.false_alarms.values()) / self.device_weeks

    def as_json(self) -> dict[str, Any]:
        """Return plain values; shares as fractions, delays in seconds."""
        false = sum(self.false_alarms.values())
        alarms = self.true_alarms + false
        faults = sum(kind.faults for kind in self.kinds.values())
        found_in_all = sum(len(kind.delays) for kind in self.kinds.values())
        return {
            "kinds": {
                kind.value.lower(): {
                    "faults": found.faults,
                    "found": len(found.delays),
                    "recall": round(found.recall, 4),
                    "delay_p50": _quantile(found.delays, 0.5),
                    "delay_p90": _quantile(found.delays, 0.9),
                }
                for kind, found in self.kinds.items()
            },
            "recall": round(found_in_all / faults, 4) if faults else None,
            "precision": round(self.true_alarms / alarms, 4) if alarms else None,
            "alarms": alarms,
            "false_alarms": false,
            "false_alarms_by_rule": self.false_alarms,
            "device_weeks": round(self.device_weeks, 3),
            "false_alarms_per_device_week": round(self.false_per_device_week, 3),
        }


def judge(
    truths: Iterable[GroundTruth],
    alerts: Iterable[Alert],
    anomalies: Mapping[str, np.ndarray],
    *,
    until_ms: int,
    device_weeks: float,
) -> Report:
    """Compare alerts (in order) with faults that ended before ``until_ms``; ``anomalies`` are times (ms) by device."""
    fired: dict[str, list[Alert]] = defaultdict(list)
    ended: dict[str, int] = {}
    for alert in alerts:
        if alert.state is AlertState.FIRING:
            fired[alert.device_id].append(alert)
        elif alert.ended_at is not None:
            ended[alert.alert_id] = to_millis(alert.ended_at)
    faults: dict[FaultKind, list[float | None]] = defaultdict(list)
    explained: set[str] = set()
    for truth in truths:
        start, end = to_millis(truth.started_at), to_millis(truth.ended_at)
        mine = fired[truth.device_id]
        times = [to_millis(alert.started_at) for alert in mine]
        during = [(at, alert) for at, alert in zip(times, mine, strict=True) if start <= at < end + GRACE_MS]
        explained |= {alert.alert_id for _, alert in during}
        if end + GRACE_MS > until_ms:
            continue
        delays = [(at - start) / 1000 for at, _ in during]
        strange = anomalies.get(truth.device_id, np.zeros(0, np.int64))
        within = strange[(strange >= start) & (strange < end)]
        if len(within) and any(
            at < start and ended.get(alert.alert_id, until_ms) > within[0]
            for at, alert in zip(times, mine, strict=True)
        ):
            delays.append(float(within[0] - start) / 1000)
        faults[truth.kind].append(min(delays, default=None))
    false = [alert for of_device in fired.values() for alert in of_device if alert.alert_id not in explained]
    by_rule: dict[str, int] = defaultdict(int)
    for alert in false:
        by_rule[alert.rule] += 1
    return Report(
        kinds={
            kind: Found(len(delays), tuple(delay for delay in delays if delay is not None))
            for kind, delays in sorted(faults.items(), key=lambda item: item[0].value)
        },
        true_alarms=len(explained),
        false_alarms=dict(by_rule),
        device_weeks=device_weeks,
        examples=false,
    )


def run(
    batches: Iterable[tuple[str, list[bytes], list[bytes], list[int]]],
    settings: LaneSettings,
    *,
    until_ms: int,
    devices: int,
    training_sample: int,
) -> Report:
    """Stream batches (topic, keys, messages, times in ms) through the engine and judge its alerts by the truth in them.

    ``devices`` is how many there are, speaking or not; the first batch belongs to their first moment.
    """
    engine = Engine(settings, training_sample=training_sample)
    gathered: dict[str, tuple[list[bytes], list[bytes], list[int]]] = defaultdict(lambda: ([], [], []))
    truths: list[GroundTruth] = []
    alerts: list[Alert] = []
    anomalies: dict[str, list[int]] = defaultdict(list)
    started_ms: int | None = None

    def feed(topic: str) -> None:
        out = engine.feed(topic, *gathered.pop(topic))
        alerts.extend(avro.decode(value, Alert) for to, _, value in out.messages if to == topics.ALERTS)
        sent = [(key, value) for to, key, value in out.messages if to == topics.SCORED]
        scored = columns.decode_batch([value for _, value in sent], [key for key, _ in sent], ScoredReading)
        for row in np.flatnonzero(scored.numbers("verdict") == _ANOMALY).tolist():
            anomalies[(sent[row][0] or b"").decode()].append(int(scored.numbers("event_time")[row]))

    for topic, keys, values, times in batches:
        if topic == topics.TRUTH:
            truths += [avro.decode(value, GroundTruth) for value in values]
            continue
        if started_ms is None and times:
            started_ms = times[0]
        waiting = gathered[topic]
        waiting[0].extend(keys)
        waiting[1].extend(values)
        waiting[2].extend(times)
        if len(waiting[0]) >= _BATCH:
            feed(topic)
    for topic in list(gathered):
        feed(topic)
    alerts.extend(
        avro.decode(value, Alert) for to, _, value in engine.advance(until_ms).messages if to == topics.ALERTS
    )
    return judge(
        truths,
        alerts,
        {device: np.array(times) for device, times in anomalies.items()},
        until_ms=until_ms,
        device_weeks=devices * (until_ms - (started_ms or until_ms)) / WEEK_MS,
    )


def _quantile(delays: tuple[float, ...], share: float) -> float | None:
    return round(float(np.quantile(delays, share)), 2) if delays else None
