"""Paced production: what is due goes to Kafka, and every delivery report is counted.

Guarantee: an event that was handed to the client is acknowledged by all in-sync replicas or counted as failed
before ``produce`` returns, whatever ended the run. Event times are the schedule's: a late tick is no drift.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from fleetwatch import kafka, topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.logs import get_logger
from fleetwatch.records import GroundTruth
from producers.batches import KEY_OF, TOPIC_OF, Batch, Source
from producers.encode import RowEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleetwatch.records import Record
    from fleetwatch.service import Service, Status
    from fleetwatch.settings import Settings

log = get_logger(__name__)

SHORTEST_WAIT: Final = 0.03
"""From the beginning of one pass over the sources to the next, in seconds: what is due together goes together."""
LONGEST_WAIT: Final = 0.2
CATCH_UP_MS: Final = 30_000
"""What is later than this (the machine slept, or cannot keep up) is left out and counted as ``skipped``."""
FLUSH_SECONDS: Final = 70.0
"""Longer than the client's delivery time-out: after it every message has its report."""
POLL_EVERY: Final = 500
"""Messages between two polls for delivery reports."""


class Delivery:
    """Hands messages to the Kafka client and counts their delivery reports in a status."""

    def __init__(self, settings: Settings, status: Status) -> None:
        self._status = status
        self._encoders: dict[type[Record], RowEncoder] = {}
        self._since_poll = 0
        for name in ("produced", "readings", "detections", "truth", "failed", "skipped"):
            status.count(name, 0)
        self._producer = Producer(kafka.producer_config(settings) | {"error_cb": self._on_error})

    def send(self, batch: Batch, first: int, last: int) -> None:
        """Hand over rows ``first`` (inclusive) to ``last`` (exclusive); wait while the queue is full.

        Raises:
            EnvironmentProblemError: the client is broken for good (a fatal error) or the broker forbids it.

        """
        topic = TOPIC_OF[batch.record_type]
        key_field = KEY_OF[batch.record_type]
        encode = self._encoders.get(batch.record_type)
        if encode is None:
            encode = self._encoders[batch.record_type] = RowEncoder(batch.record_type)
        for row in batch.rows[first:last]:
            self._hand_over(topic, row[key_field].encode(), encode(row))

    def poll(self) -> None:
        """Take in the delivery reports that have come."""
        self._producer.poll(0)
        self._since_poll = 0

    def finish(self) -> None:
        """Wait for all delivery reports; what has none in time counts as failed."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while len(self._producer) and time.monotonic() < deadline:
            self._producer.flush(0.5)
        if left := len(self._producer):
            self._status.count("failed", left)
            log.error("events_undelivered", events=left)

    def _hand_over(self, topic: str, key: bytes, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=self._on_delivery)
            except BufferError:
                self._producer.poll(0.1)
                continue
            except KafkaException as error:
                raise EnvironmentProblemError(f"cannot produce to {topic}: {error.args[0].str()}") from None
            break
        self._since_poll += 1
        if self._since_poll >= POLL_EVERY:
            self.poll()

    def _on_delivery(self, error: KafkaError | None, message: Any) -> None:
        status = self._status
        if error is not None:
            status.count("failed")
            if not status.problem:
                log.error("delivery_failed", topic=message.topic(), error=error.str())
            status.problem = f"delivery to {message.topic()} failed: {error.str()}"
            return
        topic = message.topic()
        if topic == topics.TRUTH:
            status.count("truth")
        else:
            status.count("produced")
            status.count("readings" if topic == topics.READINGS else "detections")
        if status.problem:
            status.problem = ""

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  # its public name
            if not self._status.problem:
                log.warning("brokers_down", waiting=len(self._producer))
            self._status.problem = "no Kafka broker answers; events wait"


class Cursor:
    """How far one source has been sent."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._batch: Batch | None = None
        self._at = 0

    @property
    def due_ms(self) -> int | None:
        """When the next event is due at the earliest; None when nothing comes any more."""
        if self._batch is not None:
            return self._batch.due_ms[self._at]
        return self._source.begin_ms

    def send_due(self, delivery: Delivery, *, before_ms: int, not_before_ms: int) -> int:
        """Send what is due before a time, of one batch; return how many events were too old and left out."""
        batch = self._batch or self._source.take()
        due = batch.due_ms
        first = self._at
        last = first
        while last < len(due) and due[last] < before_ms:
            last += 1
        kept = first
        while kept < last and due[kept] < not_before_ms:
            kept += 1
        delivery.send(batch, kept, last)
        self._batch, self._at = (batch, last) if last < len(due) else (None, 0)
        return kept - first if batch.record_type is not GroundTruth else 0


@dataclass(frozen=True, slots=True)
class Totals:
    """What a run did, counted from delivery reports."""

    produced: int
    readings: int
    detections: int
    truth: int
    failed: int
    skipped: int
    seconds: float

    @property
    def is_whole(self) -> bool:
        """Whether every event that was handed over arrived."""
        return self.failed == 0


def produce(
    settings: Settings,
    service: Service,
    make_sources: Callable[[int], Iterable[Source]],
    *,
    for_seconds: float | None = None,
    clock: Callable[[], float] = time.time,
) -> Totals:
    """Produce in real time until the time is over, the sources are, or the service is to stop.

    ``make_sources`` gets the start in milliseconds since 1970; what is due within ``for_seconds`` is sent.

    Raises:
        EnvironmentProblemError: there is no broker, or it refuses for good.

    """
    kafka.ensure_topics(settings)
    delivery = Delivery(settings, service.status)
    start_ms = int(clock() * 1000)
    end_ms = None if for_seconds is None else start_ms + round(for_seconds * 1000)
    cursors = [Cursor(source) for source in make_sources(start_ms)]
    service.ready("producing")
    began = time.monotonic()
    try:
        _run(service, cursors, delivery, end_ms, clock)
    finally:
        service.status.doing = "waiting for delivery reports"
        delivery.finish()
    counters = service.status.counters
    names = ("produced", "readings", "detections", "truth", "failed", "skipped")
    return Totals(**{name: counters.get(name, 0) for name in names}, seconds=round(time.monotonic() - began, 3))


def _run(
    service: Service,
    cursors: list[Cursor],
    delivery: Delivery,
    end_ms: int | None,
    clock: Callable[[], float],
) -> None:
    rate = _Rate(service.status)
    stopping = service.stopping
    while not stopping.is_set():
        passed_at = clock()
        now_ms = int(passed_at * 1000)
        before_ms = now_ms + 1 if end_ms is None else min(now_ms + 1, end_ms)
        for cursor in cursors:
            while (due := cursor.due_ms) is not None and due < before_ms and not stopping.is_set():
                skipped = cursor.send_due(delivery, before_ms=before_ms, not_before_ms=now_ms - CATCH_UP_MS)
                service.status.count("skipped", skipped)
        delivery.poll()
        upcoming = [due for cursor in cursors if (due := cursor.due_ms) is not None]
        if not upcoming or (end_ms is not None and now_ms >= end_ms):
            return
        rate.show(behind_ms=now_ms - min(upcoming))
        now = clock()
        pause = max(min(upcoming) / 1000 - now, passed_at + SHORTEST_WAIT - now)
        stopping.wait(min(max(pause, 0.0), LONGEST_WAIT))


class _Rate:
    """Says once a second what is being produced."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._at = time.monotonic()
        self._produced = 0

    def show(self, *, behind_ms: int) -> None:
        now = time.monotonic()
        if now - self._at < 1:
            return
        produced = self._status.counters["produced"]
        a_second = (produced - self._produced) / (now - self._at)
        late = f", {behind_ms / 1000:.0f} s behind" if behind_ms > 2000 else ""
        if not self._status.doing.startswith("stopping"):
            self._status.doing = f"producing {a_second:.0f} events/s{late}"
        self._at, self._produced = now, produced
