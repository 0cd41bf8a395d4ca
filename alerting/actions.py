"""``fleet.alert-actions``: what people did, written so that the broker has it before anybody is told, and read back.

Every alerting process reads all of the topic, from its beginning at the start: acknowledgements and mutes hold in all
of them, wherever they were made, and survive a restart.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from fleetwatch import avro, kafka, topics
from fleetwatch.errors import RefusedError, TransientError
from fleetwatch.logs import get_logger
from fleetwatch.records import AlertAction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwatch.settings import Settings

log = get_logger(__name__)

CATCH_UP_SECONDS: Final = 30.0
MOST_AT_ONCE: Final = 500
DELIVERY_SECONDS: Final = 8.0
_READER: Final = "fleetwatch-alert-actions"
"""A group in name only: nothing is committed, partitions are taken, not assigned."""


class ActionReader:
    """Reads every partition of the topic from its beginning. Not thread-safe: for the consumer's loop."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer(kafka.consumer_config(settings, _READER))
        self._ends: dict[int, int] = {}
        starts = []
        for number in kafka.partitions_of(self._consumer, topics.ALERT_ACTIONS):
            low, high = kafka.watermarks(self._consumer, topics.ALERT_ACTIONS, number)
            starts.append(TopicPartition(topics.ALERT_ACTIONS, number, low))
            if high > low:
                self._ends[number] = high
        self._consumer.assign(starts)

    def catch_up(self, timeout: float = CATCH_UP_SECONDS) -> list[AlertAction]:
        """Return what was in the topic when the reader was made.

        What cannot be read in time comes later; then a warning is logged.
        """
        found: list[AlertAction] = []
        deadline = time.monotonic() + timeout
        while self._ends and time.monotonic() < deadline:
            found += self.read(0.1)
        if self._ends:
            log.warning("actions_not_all_read", seconds=timeout, partitions=sorted(self._ends))
        return found

    def read(self, timeout: float = 0.0) -> list[AlertAction]:
        """Return what has come; what is no action is logged and left out."""
        found: list[AlertAction] = []
        for message in self._consumer.consume(MOST_AT_ONCE, timeout=timeout):
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
                    log.warning("kafka_consumer", error=error.str())
                continue
            self._passed(message)
            try:
                found.append(avro.decode(message.value(), AlertAction))
            except RefusedError as refused:  # the database sink makes it a dead letter
                log.warning("action_refused", reason=refused.reason.value, partition=message.partition())
        return found

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _passed(self, message: Any) -> None:
        end = self._ends.get(message.partition())
        if end is not None and message.offset() + 1 >= end:
            del self._ends[message.partition()]


class ActionPublisher:
    """Writes actions. Blocking, thread-safe; the broker is first spoken to when there is something to write."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Producer | None = None

    def publish(self, actions: Sequence[AlertAction]) -> None:
        """Return when the broker has acknowledged all of them.

        Raises:
            TransientError: it has not, within some seconds. Some may have been written.

        """
        if self._producer is None:
            timeout = {"delivery.timeout.ms": round(DELIVERY_SECONDS * 1000)}
            self._producer = Producer(kafka.producer_config(self._settings) | timeout)
        problems: list[str] = []
        delivered: list[bool] = []

        def reported(error: Any, _message: Any) -> None:
            if error is None:
                delivered.append(True)
            else:
                problems.append(str(error))

        try:
            for action in actions:
                key = key_of(action)
                self._producer.produce(topics.ALERT_ACTIONS, avro.encode(action), key=key, on_delivery=reported)
        except (KafkaException, BufferError) as error:
            problems.append(str(error))
        self._producer.flush(DELIVERY_SECONDS + 2)
        if problems or len(delivered) < len(actions):
            log.warning("action_not_delivered", problem=problems[0] if problems else "no answer")
            raise TransientError("the broker has not acknowledged what was done")

    def close(self) -> None:
        """Forget the producer; nothing is left in it."""
        self._producer = None


def key_of(action: AlertAction) -> str:
    """Return the key: all actions about one thing are in one partition."""
    return action.alert_id or action.device_id or action.rule or "all"
