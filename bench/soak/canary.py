"""A device whose readings are known: each must arrive everywhere in time, and each of its anomalies as an alert.

What a canary says is decided by functions without I/O; ``Watch`` is the book of what is still expected; ``Canary``
sends, and asks the topic, the database and the cache.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg
import redis
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.soak.journal import ALERT_WAYS, WAYS, Canary
from fleetwatch import avro, kafka, topics
from fleetwatch.errors import EnvironmentProblemError, RefusedError
from fleetwatch.local.tail import fields_of
from fleetwatch.records import SensorReading, from_millis, to_millis

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwatch.settings import Settings

DEVICE: Final = "canary"
SENSOR_TYPE: Final = "temperature"
RULE: Final = "overheated"
"""The shipped rule that every anomaly of the canary must fire: a level is never learnt away as the usual."""
ANOMALY_VALUE: Final = 90.0
PERIOD: Final = 300
GIVE_UP_FACTOR: Final = 3.0
"""What has not arrived after so many times the bound never will."""


def value_of(seq: int, anomaly_every: int) -> float:
    """Return what the canary reads: a slow wave with noise, the same for the same number; or an anomaly."""
    if is_anomaly(seq, anomaly_every):
        return ANOMALY_VALUE
    noise = random.Random(seq).gauss(0, 0.1)
    return round(20 + math.sin(2 * math.pi * seq / PERIOD) + noise, 4)


def is_anomaly(seq: int, anomaly_every: int) -> bool:
    """Whether the reading of this number is an anomaly: the last of every so many."""
    return seq % anomaly_every == anomaly_every - 1


@dataclass
class Expected:
    """A reading on its way."""

    seq: int
    event_ms: int
    value: float
    is_anomaly: bool
    arrived: dict[str, float] = field(default_factory=dict)
    is_wrong: bool = False
    was_noticed: bool = False

    @property
    def ways(self) -> tuple[str, ...]:
        """Where it must arrive."""
        return WAYS + ALERT_WAYS if self.is_anomaly else WAYS

    def as_record(self) -> Canary:
        """Return what the journal keeps of it."""
        return Canary(
            seq=self.seq,
            at=self.event_ms / 1000,
            is_anomaly=self.is_anomaly,
            arrived={way: self.arrived.get(way) for way in self.ways},
            is_wrong=self.is_wrong,
            was_noticed=self.was_noticed,
        )


class Watch:
    """What is expected, by event time; for several threads."""

    def __init__(self, bound_seconds: float) -> None:
        self._give_up_ms = bound_seconds * GIVE_UP_FACTOR * 1000
        self._open: dict[int, Expected] = {}
        self._lock = threading.Lock()

    def expect(self, reading: Expected) -> None:
        """Begin to wait for a reading."""
        with self._lock:
            self._open[reading.event_ms] = reading

    def arrived(
        self, way: str, event_ms: int, at_ms: float, *, value: float | None = None, noticed: bool = False
    ) -> None:
        """Note that a reading is somewhere since then; the first time counts. Others than ours are left alone."""
        with self._lock:
            reading = self._open.get(event_ms)
            if reading is None:
                return
            reading.arrived.setdefault(way, round(max(0.0, (at_ms - event_ms) / 1000), 3))
            reading.was_noticed |= noticed
            reading.is_wrong |= value is not None and value != reading.value

    def close_done(self, now_ms: float) -> list[Expected]:
        """Return those that are everywhere, and those that are given up; they are expected no longer."""
        with self._lock:
            done = [
                reading
                for reading in self._open.values()
                if all(way in reading.arrived for way in reading.ways) or now_ms - reading.event_ms > self._give_up_ms
            ]
            for reading in done:
                del self._open[reading.event_ms]
            return done

    def give_up_all(self) -> list[Expected]:
        """Return what is still expected; it is expected no longer."""
        with self._lock:
            left = list(self._open.values())
            self._open.clear()
            return left

    def earliest_missing(self, way: str) -> int | None:
        """Return the event time (ms) of the oldest reading that has not arrived in a way."""
        with self._lock:
            missing = [reading.event_ms for reading in self._open.values() if _lacks(reading, way)]
            return min(missing, default=None)

    def __len__(self) -> int:
        return len(self._open)


def _lacks(reading: Expected, way: str) -> bool:
    return way in reading.ways and way not in reading.arrived


class CanaryDevice:
    """Sends readings and follows them, in two threads and by ``look`` in the caller's."""

    def __init__(
        self, settings: Settings, *, first_seq: int, seconds: float, anomaly_every: int, bound_seconds: float
    ) -> None:
        self._settings = settings
        self._seconds = seconds
        self._anomaly_every = anomaly_every
        self._next_seq = first_seq
        self.watch = Watch(bound_seconds)
        self._partition = -1
        self._is_sending, self._is_following = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(self._send_all,), name="canary", daemon=True),
            threading.Thread(target=self._guarded, args=(self._follow,), name="canary-tail", daemon=True),
        ]
        self._producer = Producer(kafka.producer_config(settings, linger_ms=0))
        self._store_problems: dict[str, str] = {}
        self.failure = ""

    @property
    def store_problem(self) -> str:
        """Why a store could not be asked at the last look, or ``""``."""
        return "; ".join(f"the {name} does not answer: {text}" for name, text in self._store_problems.items() if text)

    def start(self) -> None:
        """Send a first reading, to learn its partition, and begin to follow it.

        Raises:
            EnvironmentProblemError: the broker does not take it.

        """
        self._is_sending.set()
        self._is_following.set()
        self._consumer = Consumer(kafka.consumer_config(self._settings, "fleetwatch-soak"))
        ends = {
            (name, number): kafka.watermarks(self._consumer, name, number)[1]
            for name in _TAILED
            for number in kafka.partitions_of(self._producer, name)
        }
        self._send_one()
        if self._producer.flush(30) or self._partition < 0:
            raise EnvironmentProblemError("the broker does not take the canary's reading")
        # what is derived from a partition goes to the partition of the same number
        mine = [TopicPartition(*place, end) for place, end in ends.items() if place[1] == self._partition]
        self._consumer.assign(mine)
        for thread in self._threads:
            thread.start()

    def stop_sending(self) -> None:
        """Send nothing more; what is under way is still followed."""
        self._is_sending.clear()
        self._threads[0].join(10)

    def close(self) -> None:
        """End both threads."""
        self.stop_sending()
        self._is_following.clear()
        self._threads[1].join(10)
        self._consumer.close()

    def look(self) -> list[Canary]:
        """Ask the database and the cache; return the readings whose fate is known now.

        A store that does not answer has nothing: the next look asks again.
        """
        self._ask_database()
        self._ask_cache()
        return [reading.as_record() for reading in self.watch.close_done(time.time() * 1000)]

    # --- Sending

    def _send_all(self) -> None:
        next_at = time.monotonic() + self._seconds
        while self._is_sending.is_set():
            self._producer.poll(max(0.0, min(0.2, next_at - time.monotonic())))
            if time.monotonic() >= next_at:
                self._send_one()
                next_at += self._seconds
        self._producer.flush(10)

    def _send_one(self) -> None:
        seq, self._next_seq = self._next_seq, self._next_seq + 1
        event_ms = int(time.time() * 1000)
        value = value_of(seq, self._anomaly_every)
        self.watch.expect(Expected(seq, event_ms, value, is_anomaly(seq, self._anomaly_every)))
        reading = SensorReading(
            device_id=DEVICE,
            sensor_type=SENSOR_TYPE,
            site="soak",
            event_time=from_millis(event_ms),
            seq=seq,
            value=value,
            unit="Cel",
        )
        self._producer.produce(topics.READINGS, avro.encode(reading), DEVICE, on_delivery=self._on_delivery)

    def _on_delivery(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failure = f"a reading of the canary was not delivered: {error}"
        else:
            self._partition = message.partition()

    # --- Following

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # a thread's death must be seen in the report, whatever it was
            self.failure = f"the canary stopped: {type(error).__name__}: {error}"

    def _follow(self) -> None:
        key = DEVICE.encode()
        while self._is_following.is_set():
            for message in self._consumer.consume(2000, timeout=0.2):
                if message.error() is None and message.key() == key:
                    self._take(message)

    def _take(self, message: Any) -> None:
        try:
            fields = fields_of(message.value())
        except RefusedError as refusal:
            self.failure = f"{message.topic()} holds what cannot be read: {refusal}"
            return
        at_ms = message.timestamp()[1]
        if message.topic() == topics.SCORED:
            noticed = fields["verdict"] == "ANOMALY"
            event_ms = to_millis(fields["event_time"])
            self.watch.arrived("scored", event_ms, at_ms, value=fields["value"], noticed=noticed)
        elif fields["rule"] == RULE and fields["state"] == "FIRING":
            self.watch.arrived("alert", to_millis(fields["started_at"]), at_ms)

    def _ask_database(self) -> None:
        url = self._settings.database_url.get_secret_value()
        try:
            with psycopg.connect(url, connect_timeout=5, autocommit=True) as connection:
                if (since := self.watch.earliest_missing("database")) is not None:
                    for event_time, value, stored_at in connection.execute(_READINGS, [DEVICE, from_millis(since)]):
                        at_ms = stored_at.timestamp() * 1000
                        self.watch.arrived("database", to_millis(event_time), at_ms, value=value)
                if (since := self.watch.earliest_missing("alert in database")) is not None:
                    for started_at, stored_at in connection.execute(_ALERTS, [DEVICE, RULE, from_millis(since)]):
                        self.watch.arrived("alert in database", to_millis(started_at), stored_at.timestamp() * 1000)
        except psycopg.OperationalError as error:
            self._store_problems["database"] = str(error)
        else:
            self._store_problems["database"] = ""

    def _ask_cache(self) -> None:
        if self.watch.earliest_missing("cache") is None:
            return
        url = self._settings.redis_url.get_secret_value()
        try:
            with redis.Redis.from_url(url, decode_responses=True, socket_timeout=5) as client:
                events = [json.loads(text) for text in client.lrange(f"device:{DEVICE}:events", 0, -1)]
        except redis.RedisError as error:
            self._store_problems["cache"] = str(error)
            return
        self._store_problems["cache"] = ""
        for event in events:
            self.watch.arrived("cache", event["event_time_ms"], event["cached_ms"], value=event["value"])


_TAILED: Final = (topics.SCORED, topics.ALERTS)
_READINGS: Final = "SELECT event_time, value, stored_at FROM readings WHERE device_id = %s AND event_time >= %s"
_ALERTS: Final = "SELECT started_at, stored_at FROM alerts WHERE device_id = %s AND rule = %s AND started_at >= %s"
