"""Events to Kafka, and word of each when the broker has acknowledged it: librdkafka's thread bridged to asyncio.

One thread serves the delivery reports. It wakes the event loop once for all requests whose last report has come, not
once a message.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer

from fleetwatch import kafka, topics
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwatch.service import Service
    from fleetwatch.settings import Settings
    from producers.gateway.intake import Event

log = get_logger(__name__)

EMBEDDED_LINGER_MS: Final = 10
"""Less than other producers take on the mock cluster, whose readers get one batch at a time: here somebody waits."""
POLL_SECONDS: Final = 0.1
PROBE_SECONDS: Final = 1.0
AWAY: Final = "no Kafka broker answers; requests are refused with 503"
_KINDS: Final = {topics.READINGS: "readings", topics.DETECTIONS: "detections"}


class Outlet(Protocol):
    """Where events go. For the event loop's thread."""

    @property
    def in_flight(self) -> int:
        """Events handed over and without a report."""

    @property
    def is_away(self) -> bool:
        """Whether it is known that nothing can be delivered now."""

    async def deliver(self, topic: str, events: Sequence[Event]) -> list[bool]:
        """Hand events over in their order; return for each whether it was acknowledged, when all have their report.

        An event that was not acknowledged may arrive all the same. Takes as long as the delivery time-out at most.
        """


class _Batch:
    """The events of one request. ``reports`` is counted by the poll thread, ``handed`` set by the loop's."""

    __slots__ = ("acknowledged", "done", "handed", "reports")

    def __init__(self, size: int, done: asyncio.Future[None]) -> None:
        self.acknowledged = [False] * size
        self.handed = size
        self.reports = 0
        self.done = done


class KafkaOutlet:
    """Delivers to Kafka. ``start`` in the event loop, ``close`` after it has ended."""

    def __init__(self, settings: Settings, service: Service) -> None:
        self._service = service
        self._status = service.status
        for name in ("produced", "readings", "detections", "failed"):
            self._status.count(name, 0)
        self._timeout = settings.gateway_timeout_seconds
        linger_ms = EMBEDDED_LINGER_MS if settings.embedded_broker else None
        self._producer = Producer(
            kafka.producer_config(settings, linger_ms=linger_ms)
            | {"delivery.timeout.ms": round(self._timeout * 1000), "error_cb": self._on_error}
        )
        self._handed = 0
        self._reported = 0
        self._settled: deque[_Batch] = deque()
        self._is_woken = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve_reports, name="delivery-reports", daemon=True)
        self.is_away = False
        self.failure = ""
        """Why the client is broken for good; the process must end then."""

    @property
    def in_flight(self) -> int:
        """Events handed over and without a report."""
        return self._handed - self._reported

    def start(self) -> None:
        """Begin to serve reports, for the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """Wait for the reports that are missing, then end; what has none in time counts as failed."""
        left = self._producer.flush(self._timeout + 1)
        if left:
            self._status.count("failed", left)
            log.error("events_undelivered", events=left)
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    async def deliver(self, topic: str, events: Sequence[Event]) -> list[bool]:
        """As ``Outlet.deliver``."""
        batch = _Batch(len(events), self._loop.create_future())
        produce, on_report = self._producer.produce, self._on_report
        for index, event in enumerate(events):
            try:
                produce(topic, event.value, event.key, on_delivery=partial(on_report, batch, index))
            except (BufferError, KafkaException) as error:
                log.warning("event_not_handed_over", topic=topic, error=str(error))
                batch.handed = index  # the rest is not tried: a device's events keep their order
                break
            self._handed += 1
        if batch.reports >= batch.handed and not batch.done.done():
            batch.done.set_result(None)
        await batch.done
        return batch.acknowledged

    # --- In the poll thread

    def _serve_reports(self) -> None:
        pause = threading.Event()
        while not self._closing.is_set():
            try:
                self._producer.poll(POLL_SECONDS)
                if self.is_away:
                    self._probe()
            except Exception:  # a report that is not served would leave a client waiting
                log.exception("serving_reports_failed")
                pause.wait(POLL_SECONDS)

    def _probe(self) -> None:
        """Ask whether a broker is back: the client does not look for one while nothing waits."""
        try:
            self._producer.list_topics(topics.READINGS, timeout=PROBE_SECONDS)
        except KafkaException:
            return
        self._is_back()

    def _on_report(self, batch: _Batch, index: int, error: KafkaError | None, message: Any) -> None:
        self._reported += 1
        status = self._status
        if error is None:
            batch.acknowledged[index] = True
            status.count("produced")
            status.count(_KINDS[message.topic()])
            if self.is_away:
                self._is_back()
        else:
            status.count("failed")
            log.warning("event_not_acknowledged", topic=message.topic(), error=error.str())
        batch.reports += 1
        if batch.reports >= batch.handed:
            self._settled.append(batch)
            if not self._is_woken:
                self._is_woken = True
                self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle)
        except RuntimeError:  # the loop has ended, nobody waits any more
            log.warning("report_after_the_end")

    def _is_back(self) -> None:
        self.is_away = False
        self._status.problem = ""
        log.info("broker_is_back")

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN and not self.is_away:  # noqa: SLF001  # its public name
            self.is_away = True
            self._status.problem = AWAY
            log.warning("brokers_down", waiting=self.in_flight)
        elif error.code() == KafkaError._FATAL:  # noqa: SLF001
            self.failure = error.str()
            self._status.problem = f"the Kafka client is broken for good: {self.failure}"
            log.error("kafka_client_broken", error=self.failure)
            self._service.stopping.set()

    # --- In the event loop

    def _settle(self) -> None:
        self._is_woken = False
        while self._settled:
            batch = self._settled.popleft()
            if not batch.done.done():
                batch.done.set_result(None)
