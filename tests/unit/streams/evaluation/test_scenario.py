"""Which faults count as found, which alarms as false: cases drawn on a line of seconds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from fleetwatch.records import Alert, AlertState, FaultKind, GroundTruth, RuleKind, Severity, from_millis
from streams.evaluation.scenario import Report, judge
from tests.unit.streams.lanes import START_MS


def at(second: float) -> Any:
    return from_millis(START_MS) + timedelta(seconds=second)


def fault(start: float, end: float, device: str = "a") -> GroundTruth:
    return GroundTruth(
        fault_id=f"{device}{start}",
        device_id=device,
        kind=FaultKind.SPIKE,
        started_at=at(start),
        ended_at=at(end),
        magnitude=1.0,
    )


def alert(second: float, device: str = "a", ended: float | None = None) -> Alert:
    return Alert(
        alert_id=f"{device}{second}",
        rule="anomaly",
        kind=RuleKind.ANOMALY,
        fingerprint=device,
        device_id=device,
        site="s",
        severity=Severity.WARNING,
        state=AlertState.FIRING if ended is None else AlertState.RESOLVED,
        started_at=at(second),
        ended_at=None if ended is None else at(ended),
        value=1.0,
        threshold=1.0,
        summary="",
        ingest_time=at(second),
        source_topic="t",
        source_partition=0,
        source_offset=0,
    )


def judged(truths: list[GroundTruth], alerts: list[Alert], anomalies: dict[str, list[float]] | None = None) -> Report:
    times = {
        name: np.array([START_MS + second * 1000 for second in found]) for name, found in (anomalies or {}).items()
    }
    return judge(truths, alerts, times, until_ms=START_MS + 1_000_000, device_weeks=2.0)


def test_an_alert_within_a_fault_finds_it_with_its_delay() -> None:
    report = judged([fault(100, 110)], [alert(103)])
    assert report.kinds[FaultKind.SPIKE].delays == (3.0,)
    assert report.as_json()["recall"] == report.as_json()["precision"] == 1.0


def test_an_alert_up_to_ten_seconds_after_a_fault_is_about_it_and_a_later_one_is_false() -> None:
    assert judged([fault(100, 110)], [alert(119.9)]).kinds[FaultKind.SPIKE].recall == 1.0
    report = judged([fault(100, 110)], [alert(120)])
    assert report.kinds[FaultKind.SPIKE].recall == 0.0
    assert report.false_alarms == {"anomaly": 1}
    assert report.false_per_device_week == 0.5


def test_an_alert_of_another_device_or_before_the_fault_is_false() -> None:
    report = judged([fault(100, 110)], [alert(103, "b"), alert(99)])
    assert (report.kinds[FaultKind.SPIKE].recall, report.false_alarms) == (0.0, {"anomaly": 2})


def test_an_open_alert_finds_a_fault_only_with_an_anomaly_within_it() -> None:
    """The alert about the first fault stays open until 125; the second fault begins at 121."""
    truths, alerts = [fault(100, 110), fault(121, 130)], [alert(101), alert(101, ended=125)]
    assert judged(truths, alerts).kinds[FaultKind.SPIKE].delays == (1.0,)
    assert judged(truths, alerts, {"a": [124]}).kinds[FaultKind.SPIKE].delays == (1.0, 3.0)
    assert judged(truths, alerts, {"a": [127]}).kinds[FaultKind.SPIKE].delays == (1.0,)


def test_a_fault_at_the_very_end_is_not_judged_but_explains_its_alert() -> None:
    report = judged([fault(985, 995)], [alert(990)])
    assert (report.kinds, report.false_alarms, report.true_alarms) == ({}, {}, 1)
