"""Readings that flow into Kafka, what one uninterrupted fold makes of them, and what workers made of them.

The fold over the input topic is the oracle: whatever was killed, the same scores, alerts and final windows must stand
in the output topics, and what stands there twice must be the same bytes.
"""

from __future__ import annotations

import contextlib
import random
import time
import zlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pytest
from confluent_kafka import Producer

from fleetwatch import avro, kafka, topics
from fleetwatch.errors import RefusedError
from fleetwatch.record_batch import Records
from fleetwatch.records import (
    Alert,
    DeadLetter,
    Reason,
    Record,
    ScoredReading,
    SensorReading,
    WindowCount,
    from_millis,
)
from fleetwatch.settings import load_settings
from streams.batch import RawBatch
from streams.lane import Lane
from streams.worker import lane_settings
from tests.faults.workers import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleetwatch.settings import Settings
    from streams.batch import Message

R = TypeVar("R", bound=Record)
Identity = tuple[Any, ...]

BUSY = 12
QUIET = 3
QUIET_SECONDS = 5.0
"""Quiet devices have a partition of their own and speak so seldom that the clock closes their windows."""
FAR_MS = 3_600_000


def send(settings: Settings, topic: str, events: list[tuple[bytes | None, bytes | None]]) -> None:
    producer = Producer(kafka.producer_config(settings))
    for key, value in events:
        producer.produce(topic, value, key)
        producer.poll(0)
    assert producer.flush(30) == 0


def reading(device: str, number: int, value: float, now_ms: int, *, kind: str = "bench") -> tuple[bytes, bytes]:
    record = SensorReading(
        device_id=device,
        sensor_type=kind,
        site=f"site of {kind}",
        event_time=from_millis(now_ms),
        seq=number,
        value=value,
        unit="1",
    )
    return device.encode(), avro.encode(record)


class Feed:
    """Readings of busy and quiet devices, a round at a time; now and then one comes twice or a little late.

    Sensor type and site are its own: what other tests left in the topics has no part in its scores and windows.
    """

    def __init__(self, settings: Settings, mark: str, *, busy: int = BUSY) -> None:
        self.mark = mark
        partitions = settings.partitions
        names = (f"{mark}-{number}" for number in range(100 * busy))
        self._busy = _some(names, busy, lambda place: place != partitions - 1, partitions)
        names = (f"{mark}-quiet-{number}" for number in range(1000))
        self._quiet = _some(names, QUIET, lambda place: place == partitions - 1, partitions)
        self._producer = Producer(kafka.producer_config(settings))
        self._rng = random.Random(7)
        self._round = 0
        self._quiet_at = 0.0
        self.total = 0

    def send(self) -> None:
        """Send a round and wait until the broker has it."""
        now = int(time.time() * 1000)
        speaking = list(self._busy)
        if time.monotonic() > self._quiet_at + QUIET_SECONDS:
            self._quiet_at = time.monotonic()
            speaking += self._quiet
        for device in speaking:
            at = now - self._rng.randrange(500)
            self.say(device, self._rng.gauss(0, 1), at, times=2 if self._rng.random() < 0.05 else 1)
        assert self._producer.flush(90) == 0
        self._round += 1

    def say(self, device: str, value: float, at_ms: int, *, times: int = 1) -> None:
        """Produce one reading, so many times; the next round waits until the broker has it."""
        key, encoded = reading(device, self._round, value, at_ms, kind=self.mark)
        for _ in range(times):
            self._producer.produce(topics.READINGS, encoded, key)
        self.total += 1

    def send_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        def step() -> bool:
            self.send()
            return condition()

        wait_for(step, seconds, what)

    def send_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.send_until(lambda: time.monotonic() > end, seconds + 90, "time passes")


def _some(names: Iterable[str], count: int, fits: Callable[[int], bool], partitions: int) -> list[str]:
    found = [name for name in names if fits(zlib.crc32(name.encode()) % partitions)]
    assert len(found) >= count
    return found[:count]


# --- What stands in the topics


def read_all(settings: Settings, topic: str) -> list[Any]:
    found: list[Any] = []
    kafka.read_to_end(settings, topic, found.append, timeout=120)
    return found


def read_records(settings: Settings, topic: str, record_type: type[R]) -> list[tuple[R, bytes]]:
    """All records of a topic with their bytes; what other tests left there that is none is passed over."""
    found: list[tuple[R, bytes]] = []
    for message in read_all(settings, topic):
        with contextlib.suppress(RefusedError):
            found.append((avro.decode(message.value(), record_type), message.value()))
    return found


def _identify(topic: str, value: bytes, mark: str) -> Identity | None:
    """Return the identity of an output that counts: of a marked device, its site or type, and final."""
    if topic == topics.SCORED:
        scored = avro.decode(value, ScoredReading)
        mine = scored.device_id.startswith(mark)
        return (topic, scored.device_id, scored.event_time, scored.seq) if mine else None
    if topic == topics.ALERTS:
        alert = avro.decode(value, Alert)
        # what silence says depends on whether a record or the clock has noticed it: its identity and times do not
        seen = (alert.started_at, alert.ended_at) if "-quiet-" in alert.device_id else ()
        return (topic, alert.alert_id, alert.state, *seen) if alert.device_id.startswith(mark) else None
    if topic == topics.COUNTS:
        count = avro.decode(value, WindowCount)
        place = (count.window_start, count.source_topic, count.source_partition)
        return (topic, count.scope, count.key, *place) if mark in count.key and count.is_final else None
    if topic == topics.DEAD_LETTERS:
        letter = avro.decode(value, DeadLetter)
        mine = (letter.raw_key or b"").startswith(mark.encode())
        return (topic, letter.topic, letter.partition, letter.offset, letter.reason) if mine else None
    return None


def published(settings: Settings, mark: str) -> dict[Identity, set[bytes]]:
    """Return the distinct bytes under each identity in the output topics."""
    found: dict[Identity, set[bytes]] = defaultdict(set)
    for topic in (topics.SCORED, topics.ALERTS, topics.COUNTS, topics.DEAD_LETTERS):
        for message in read_all(settings, topic):
            with contextlib.suppress(RefusedError):
                if (identity := _identify(topic, message.value(), mark)) is not None:
                    found[identity].add(message.value())
    return dict(found)


def expected(settings: Settings, mark: str, environment: dict[str, str], poison: str = "") -> dict[Identity, bytes]:
    """Return what one uninterrupted fold over the readings gives; readings of ``poison`` devices are refused."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        rules = lane_settings(load_settings())
    by_partition: dict[int, list[Any]] = defaultdict(list)
    for message in read_all(settings, topics.READINGS):
        by_partition[message.partition()].append(message)
    found: dict[Identity, bytes] = {}
    for partition, messages in by_partition.items():
        for topic, _, value in _fold(Lane(topics.READINGS, partition, rules), messages, poison):
            if (identity := _identify(topic, value, mark)) is not None:
                assert identity not in found
                found[identity] = value
    return found


def _fold(lane: Lane, messages: list[Any], poison: str) -> Iterable[Message]:
    records = Records.of(
        [m.offset() for m in messages],
        [m.timestamp()[1] for m in messages],
        [m.key() for m in messages],
        [m.value() for m in messages],
    )
    raw = RawBatch(lane.source.topic, lane.partition, records)
    bad = [row for row, m in enumerate(messages) if poison and (m.key() or b"").startswith(poison.encode())]
    done = 0
    for row in bad:
        yield from lane.process(raw[done:row], {}).messages
        yield from lane.refuse(raw[row : row + 1], Reason.SCORING_FAILED, "ArithmeticError: poison").messages
        done = row + 1
    yield from lane.process(raw[done:], {}).messages
    last_ms = int(records.times[-1])
    yield from lane.advance(last_ms + FAR_MS, last_ms + FAR_MS).messages


@dataclass(frozen=True)
class Differences:
    """How the output topics differ from one uninterrupted fold; ``examples`` are for whoever looks for the cause."""

    total: int
    lost: list[Identity]
    different: list[Identity]

    @classmethod
    def between(cls, got: dict[Identity, set[bytes]], wanted: dict[Identity, bytes]) -> Self:
        """Compare; of silence the identity is compared, and that it was said in one way only."""
        different = [
            identity
            for identity, values in got.items()
            if len(values) > 1
            or identity not in wanted
            or (values != {wanted[identity]} and not (identity[0] == topics.ALERTS and len(identity) > 3))
        ]
        return cls(len(wanted), sorted(wanted.keys() - got.keys(), key=str), sorted(different, key=str))

    def __str__(self) -> str:
        return (
            f"of {self.total} outputs {len(self.lost)} are lost and {len(self.different)} differ: "
            f"{self.lost[:5]} {self.different[:5]}"
        )


def differences(settings: Settings, feed: Feed, environment: dict[str, str], poison: str = "") -> Differences:
    """Hold what workers wrote against the uninterrupted fold, which must have scored all that was fed."""
    wanted = expected(settings, feed.mark, environment, poison)
    by_topic = {topic: sum(identity[0] == topic for identity in wanted) for topic in topics.OUTPUTS}
    assert by_topic[topics.SCORED] + by_topic[topics.DEAD_LETTERS] == feed.total
    assert by_topic[topics.ALERTS]
    assert by_topic[topics.COUNTS]
    return Differences.between(published(settings, feed.mark), wanted)


def assert_exact(settings: Settings, feed: Feed, environment: dict[str, str], poison: str = "") -> None:
    """Every reading was scored, counted and judged as by one uninterrupted fold; repeats are equal."""
    found = differences(settings, feed, environment, poison)
    assert not found.lost, str(found)
    assert not found.different, str(found)
