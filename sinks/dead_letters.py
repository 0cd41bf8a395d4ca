"""Sends what cannot be stored to the dead-letter topic, and returns only when the broker has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, Producer

from fleetwatch import avro, kafka, topics
from fleetwatch.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwatch.records import DeadLetter
    from fleetwatch.settings import Settings


class DeadLetterTopic:
    """Producer of dead letters; made at the first one, since most processes never need it."""

    def __init__(self, settings: Settings, *, timeout: float = 30.0) -> None:
        self._settings = settings
        self._timeout = timeout
        self._producer: Any = None

    def send(self, letters: Sequence[DeadLetter]) -> None:
        """Send and wait for the delivery reports. Sent twice they are one: their identity is the place in Kafka.

        Raises:
            TransientError: at least one was not delivered in time.

        """
        if not letters:
            return
        if self._producer is None:
            self._producer = Producer(kafka.producer_config(self._settings, linger_ms=0))
        failures: list[str] = []

        def report(error: Any, _message: Any) -> None:
            if error is not None:
                failures.append(str(error))

        try:
            for letter in letters:
                self._producer.produce(
                    topics.DEAD_LETTERS, key=letter.raw_key, value=avro.encode(letter), on_delivery=report
                )
        except (KafkaException, BufferError) as error:
            raise TransientError(f"cannot send dead letters: {error}") from None
        undelivered = self._producer.flush(self._timeout)
        if undelivered or failures:
            reason = failures[0] if failures else "the broker does not answer"
            raise TransientError(f"dead letters were not delivered: {reason}")
