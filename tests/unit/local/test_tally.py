from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleetwatch import avro, topics
from fleetwatch.errors import RefusedError
from fleetwatch.local.tail import fields_of
from fleetwatch.local.tally import Latencies, RecentKeys, Tally
from fleetwatch.records import (
    Alert,
    AlertState,
    DeadLetter,
    DetectorState,
    FaultKind,
    GroundTruth,
    Quality,
    Reason,
    Record,
    RuleKind,
    Scope,
    ScoredReading,
    Severity,
    Stage,
    Verdict,
    WindowCount,
    to_millis,
)

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def scored(seq: int, *, ingest: float = 1.0) -> ScoredReading:
    return ScoredReading(
        device_id="pump-1",
        sensor_type="pressure",
        site="north",
        event_time=at(0.5),
        seq=seq,
        value=1.0,
        unit="bar",
        quality=Quality.GOOD,
        online_score=None,
        batch_score=None,
        score=None,
        verdict=Verdict.UNKNOWN,
        state=DetectorState.WARMING_UP,
        online_model="a",
        batch_model="b",
        is_late=False,
        ingest_time=at(ingest),
        source_partition=0,
        source_offset=seq,
    )


def window(*, is_final: bool, start: float = 0.0) -> WindowCount:
    return WindowCount(
        scope=Scope.DEVICE,
        key="pump-1",
        window_start=at(start),
        window_end=at(start + 10),
        source_topic=topics.READINGS,
        source_partition=0,
        count=3,
        sum=1.0,
        sum_of_squares=1.0,
        min=0.0,
        max=1.0,
        late_count=0,
        included_offset=2,
        is_final=is_final,
    )


def alert(alert_id: str, state: AlertState = AlertState.FIRING) -> Alert:
    return Alert(
        alert_id=alert_id,
        rule="hot",
        kind=RuleKind.LEVEL,
        fingerprint="f",
        device_id="pump-1",
        site="north",
        severity=Severity.WARNING,
        state=state,
        started_at=at(2),
        ended_at=at(3) if state is AlertState.RESOLVED else None,
        value=1.0,
        threshold=0.5,
        summary="hot",
        ingest_time=at(2),
        source_topic=topics.READINGS,
        source_partition=0,
        source_offset=7,
    )


def letter(
    offset: int, *, topic: str = topics.READINGS, stage: Stage = Stage.DECODE, broker: float = 1.0
) -> DeadLetter:
    return DeadLetter.of(
        topic=topic,
        partition=1,
        offset=offset,
        broker_time=at(broker),
        key=b"k",
        value=b"v",
        stage=stage,
        reason=Reason.NOT_FRAMED,
        detail="",
    )


def truth(fault_id: str, kind: FaultKind = FaultKind.SPIKE) -> GroundTruth:
    return GroundTruth(
        fault_id=fault_id, device_id="pump-1", kind=kind, started_at=at(2), ended_at=at(3), magnitude=1.0
    )


def tally_of(*messages: tuple[str, Record, float]) -> Tally:
    """Count records as they come from the broker: encoded, with a broker time in seconds from the start."""
    tally = Tally(START)
    for topic, record, broker in messages:
        tally.add(topic, fields_of(avro.encode(record)), to_millis(at(broker)))
    return tally


def test_a_score_that_is_sent_again_after_a_restart_counts_once() -> None:
    tally = tally_of(*[(topics.SCORED, scored(seq), 1.25) for seq in (1, 2, 1, 2, 3)])
    assert tally.scored == 3
    assert tally.scored_latency.as_dict() == {"p50": 250, "p99": 250}


def test_what_an_earlier_run_left_in_the_log_does_not_count() -> None:
    tally = tally_of((topics.SCORED, scored(1, ingest=-5), 1.0), (topics.DEAD_LETTERS, letter(1, broker=-5), 1.0))
    assert (tally.scored, tally.dead_lettered) == (0, 0)


def test_only_final_windows_count_each_once() -> None:
    tally = tally_of(
        (topics.COUNTS, window(is_final=False), 1.0),
        (topics.COUNTS, window(is_final=True), 1.0),
        (topics.COUNTS, window(is_final=True), 2.0),
        (topics.COUNTS, window(is_final=True, start=10.0), 3.0),
    )
    assert tally.windows_final == 2


def test_firing_and_resolved_are_counted_apart_and_only_firing_has_a_latency() -> None:
    tally = tally_of(
        (topics.ALERTS, alert("a"), 2.1),
        (topics.ALERTS, alert("a"), 9.0),
        (topics.ALERTS, alert("b"), 2.3),
        (topics.ALERTS, alert("a", AlertState.RESOLVED), 9.0),
    )
    assert (tally.alerts_fired, tally.alerts_resolved, len(tally.firings)) == (2, 1, 2)
    assert tally.alert_latency.as_dict() == {"p50": 100, "p99": 300}


def test_a_dead_letter_counts_once_per_input_event_whoever_refused_it() -> None:
    tally = tally_of(
        (topics.DEAD_LETTERS, letter(1), 1.0),
        (topics.DEAD_LETTERS, letter(1, stage=Stage.STORE), 1.0),
        (topics.DEAD_LETTERS, letter(2), 1.0),
        (topics.DEAD_LETTERS, letter(3, topic=topics.SCORED, stage=Stage.STORE), 1.0),
    )
    assert tally.dead_lettered == 2


def test_labelled_anomalies_of_a_replayed_series_are_no_injected_faults() -> None:
    tally = tally_of(
        (topics.TRUTH, truth("1"), 1.0),
        (topics.TRUTH, truth("1"), 1.0),
        (topics.TRUTH, truth("2", FaultKind.LABELLED), 1.0),
    )
    assert len(tally.faults) == 1


@pytest.mark.parametrize("value", [None, b"", b"\x00", b"\x00\x00\x00\xff\xff", b"\x00\x00\x00\x00\x01\x02"])
def test_what_cannot_be_read_is_refused(value: bytes | None) -> None:
    with pytest.raises(RefusedError):
        fields_of(value)


def test_recent_keys_are_told_apart_from_repeats_with_bounded_memory() -> None:
    keys = RecentKeys(remembered=100)
    assert all(keys.is_new(n) for n in range(1000))
    assert not any(keys.is_new(n) for n in range(900, 1000))  # the last hundred are known
    assert keys.is_new(0)  # long ago: forgotten
    assert len(keys._young) + len(keys._old) <= 200


def percentile_case(values: list[int], share: float) -> Any:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    return latencies.percentile(share)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, None),
        ([7], 0.99, 7),
        ([1, 2, 3, 4], 0.5, 2),  # as SQL's percentile_disc
        (list(range(1, 101)), 0.99, 99),
        ([-5, -5], 0.5, 0),  # two clocks
    ],
)
def test_percentiles(values: list[int], share: float, expected: int | None) -> None:
    assert percentile_case(values, share) == expected
