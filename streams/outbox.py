"""Outputs to Kafka: produce a batch's messages, and know when the broker has all of them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from fleetwatch import kafka
from fleetwatch.errors import TransientError
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetwatch.settings import Settings

log = get_logger(__name__)


class Outbox:
    """A producer that counts what was not delivered; ``flush`` raises for it."""

    def __init__(self, settings: Settings) -> None:
        self._producer = Producer(kafka.producer_config(settings))
        self._failed = 0

    def send(self, messages: Iterable[tuple[str, bytes | None, bytes]]) -> None:
        """Queue (topic, key, value) messages; blocks only while the local queue is full."""
        produce = self._producer.produce
        for topic, key, value in messages:
            try:
                produce(topic, value, key, on_delivery=self._on_delivery)
            except BufferError:
                self._make_room()
                produce(topic, value, key, on_delivery=self._on_delivery)
        self._producer.poll(0)

    def send_to(self, topic: str, partition: int, messages: Iterable[tuple[bytes, bytes]]) -> None:
        """Queue (key, value) messages for a given partition."""
        for key, value in messages:
            self._producer.produce(topic, value, key, partition, on_delivery=self._on_delivery)

    async def flush(self, seconds: float = 60.0) -> None:
        """Wait until everything queued is acknowledged by the broker.

        Raises:
            TransientError: something was not delivered in time; nothing after it may be committed.

        """
        left = await asyncio.to_thread(self._producer.flush, seconds)
        failed, self._failed = self._failed, 0
        if left or failed:
            raise TransientError(f"{left + failed} outputs were not delivered to Kafka")

    def _on_delivery(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed += 1
            log.error("output_not_delivered", topic=message.topic(), error=error.str())

    def _make_room(self, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        full = len(self._producer)
        while len(self._producer) > full // 2:
            self._producer.poll(0.1)
            if time.monotonic() > deadline:
                raise TransientError("Kafka takes no outputs: its queue stayed full for a minute")
