"""Events, lanes and poison for the tests of the streams engine."""

from __future__ import annotations

import itertools
import struct
from collections import defaultdict
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetwatch import avro, topics
from fleetwatch.record_batch import Records
from fleetwatch.records import (
    Alert,
    Box,
    CameraDetection,
    DeadLetter,
    Reason,
    Record,
    ScoredReading,
    SensorReading,
    WindowCount,
    from_millis,
)
from streams import state
from streams.batch import ActiveModel, Outputs, RawBatch
from streams.detectors import isolation_forest
from streams.features import COUNT
from streams.lane import Lane, LaneSettings
from streams.rules import Rule, RuleFile
from streams.state import Claim, SnapshotWriter
from streams.windows import WindowRules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

START_MS = 1_700_000_000_000
"""A multiple of ten seconds: windows of the tests begin here."""
WINDOWS = WindowRules(size_ms=10_000, grace_ms=5_000, out_of_orderness_ms=3_000)
TYPES = {
    topics.SCORED: ScoredReading,
    topics.COUNTS: WindowCount,
    topics.ALERTS: Alert,
    topics.DEAD_LETTERS: DeadLetter,
}

Event = tuple[bytes | None, bytes | None, int]
"""Key, value, broker time in milliseconds."""


def reading(at_ms: int = 0, *, device: str = "press-1", seq: int = 0, **changes: Any) -> SensorReading:
    fields: dict[str, Any] = {"sensor_type": "temperature", "site": "north", "value": 20.0, "unit": "Cel"}
    return SensorReading(device_id=device, event_time=from_millis(START_MS + at_ms), seq=seq, **(fields | changes))


def detection(at_ms: int = 0, *, camera: str = "cam-1", seq: int = 0, **changes: Any) -> CameraDetection:
    fields: dict[str, Any] = {
        "site": "gate",
        "label": "person",
        "confidence": 0.5,
        "box": Box(x=0.1, y=0.2, width=0.3, height=0.4),
    }
    return CameraDetection(camera_id=camera, event_time=from_millis(START_MS + at_ms), seq=seq, **(fields | changes))


def event(record: SensorReading | CameraDetection, *, key: bytes | None = None, delay_ms: int = 50) -> Event:
    device = record.device_id if isinstance(record, SensorReading) else record.camera_id
    broker_ms = int(record.event_time.timestamp() * 1000) + delay_ms
    return device.encode() if key is None else key, avro.encode(record), broker_ms


def raw(events: Sequence[Event], *, topic: str = topics.READINGS, first: int = 0) -> RawBatch:
    """A partition's records from offset ``first`` on."""
    records = Records.of(
        range(first, first + len(events)),
        [time for _, _, time in events],
        [key for key, _, _ in events],
        [value for _, value, _ in events],
    )
    return RawBatch(topic, 0, records)


def some_of(batch: RawBatch, start: int, stop: int) -> RawBatch:
    return replace(batch, records=batch.records[start:stop])


def pieces(batch: RawBatch, cuts: Iterable[int]) -> list[RawBatch]:
    """The batch, cut before the given rows."""
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(batch)}), len(batch)]
    return [some_of(batch, start, stop) for start, stop in itertools.pairwise(bounds)]


def make_rules(*rules: dict[str, Any]) -> tuple[Rule, ...]:
    return RuleFile.model_validate({"rules": rules}).rules


def make_settings(rules: tuple[Rule, ...] = (), **changes: Any) -> LaneSettings:
    return replace(LaneSettings(windows=WINDOWS, rules=rules, max_skew_ms=60_000, warm_up=5), **changes)


def make_lane(*rules: dict[str, Any], topic: str = topics.READINGS, **changes: Any) -> Lane:
    return Lane(topic, 0, make_settings(make_rules(*rules), **changes))


@cache
def forest(seed: int = 0) -> ActiveModel:
    """A batch model trained on squashed noise around the middle."""
    sample = np.random.default_rng(seed).normal(0.5, 0.1, (300, COUNT)).clip(0, 1)
    return ActiveModel(f"v{seed}", isolation_forest.flatten(isolation_forest.train(sample, seed)))


def sent(outputs: Outputs | Iterable[Outputs], topic: str) -> list[Any]:
    """The records sent to a topic, decoded."""
    every = [outputs] if isinstance(outputs, Outputs) else outputs
    kind: type[Record] = TYPES[topic]
    return [avro.decode(value, kind) for out in every for to, _, value in out.messages if to == topic]


def by_topic(outputs: Iterable[Outputs]) -> dict[str, list[tuple[bytes | None, bytes]]]:
    """What went to each topic, in order."""
    found = defaultdict(list)
    for out in outputs:
        for topic, key, value in out.messages:
            found[topic].append((key, value))
    return dict(found)


def counters(outputs: Iterable[Outputs]) -> dict[str, int]:
    total: dict[str, int] = defaultdict(int)
    for out in outputs:
        for name, count in out.counters.items():
            total[name] += count
    return dict(total)


def zigzag(number: int) -> bytes:
    """An Avro long."""
    bits = ((number << 1) ^ (number >> 63)) & (2**64 - 1)
    out = b""
    while bits > 127:
        out, bits = out + bytes([bits & 127 | 128]), bits >> 7
    return out + bytes([bits])


def with_event_time(record: SensorReading, millis: int) -> bytes:
    """The framed reading with an event time that no datetime may be able to hold."""
    value = avro.encode(record)
    head = 5 + sum(1 + len(text.encode()) for text in (record.device_id, record.sensor_type, record.site))
    length = len(zigzag(int(record.event_time.timestamp() * 1000)))
    return value[:head] + zigzag(millis) + value[head + length :]


def poison(broker_ms: int = START_MS) -> dict[str, tuple[Event, Reason]]:
    """Every kind of event that is refused, by name, with its reason."""
    good = reading()
    key, value = b"press-1", avro.encode(good)
    year_2200 = 7_258_118_400_000
    cases: dict[str, tuple[bytes | None, bytes | None, Reason]] = {
        "no value": (key, None, Reason.EMPTY_VALUE),
        "empty value": (key, b"", Reason.EMPTY_VALUE),
        "900 KB": (key, value + bytes(900_000), Reason.TOO_LARGE),
        "random bytes": (key, bytes(range(100, 180)), Reason.NOT_FRAMED),
        "a lone zero": (key, b"\x00", Reason.NOT_FRAMED),
        "truncated": (key, value[:-3], Reason.TRUNCATED),
        "only a frame": (key, value[:5], Reason.TRUNCATED),
        "trailing bytes": (key, value + b"abc", Reason.TRAILING_BYTES),
        "unknown schema id": (key, b"\x00" + struct.pack(">I", 7) + value[5:], Reason.UNKNOWN_SCHEMA),
        "wrong schema": (key, avro.encode(detection()), Reason.WRONG_SCHEMA),
        "broken text": (key, value.replace(b"press-1", b"press-\xff"), Reason.MALFORMED),
        "before the calendar": (key, with_event_time(good, -(2**62)), Reason.MALFORMED),
        "after the calendar": (key, with_event_time(good, 2**62), Reason.MALFORMED),
        "no key": (None, value, Reason.EMPTY_KEY),
        "empty key": (b"", value, Reason.EMPTY_KEY),
        "another's key": (b"press-2", value, Reason.KEY_MISMATCH),
        "NaN": (key, avro.encode(replace(good, value=float("nan"))), Reason.NOT_A_NUMBER),
        "infinite": (key, avro.encode(replace(good, value=float("inf"))), Reason.INFINITE),
        "minus infinite": (key, avro.encode(replace(good, value=float("-inf"))), Reason.INFINITE),
        "year 2200": (key, with_event_time(good, year_2200), Reason.TOO_FAR_AHEAD),
    }
    return {name: ((key, value, broker_ms), reason) for name, (key, value, reason) in cases.items()}


def through_the_changelog(snapshot: dict[str, Any]) -> dict[str, Any]:
    """The snapshot as whoever recovers reads it."""
    writer = SnapshotWriter("lane", Claim(1, 1))
    found = state.find("lane", dict([*writer.write(snapshot), writer.manifest(0)])).snapshot
    assert found is not None
    return found


def messages_of(snapshot: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """All that a snapshot consists of, to compare two of them."""
    writer = SnapshotWriter("lane", Claim(1, 1))
    return [*writer.write(snapshot), writer.manifest(0)]
