"""Reads the topics of one consumer group for the runner: membership, pausing, placing and committing by hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from fleetwatch import kafka
from fleetwatch.errors import TransientError
from fleetwatch.logs import get_logger
from sinks.batch import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleetwatch.settings import Settings
    from sinks.batch import Partition

log = get_logger(__name__)

COMMIT_SECONDS = 0.5
KAFKA_SECONDS = 10.0
"""How long a question to the broker may take."""
PROBE_SECONDS = 1.0
_EACH_ATTEMPT = frozenset({KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._RESOLVE})  # noqa: SLF001
"""What a broker that is away gives for each attempt to reach it."""


class KafkaSource:
    """A consumer whose new partitions stand still until ``place`` says where to start.

    ``generation`` changes with every rebalance: events read under an older one may belong to another member now.
    """

    def __init__(self, settings: Settings, group: str, topics: Iterable[str]) -> None:
        self._topics = list(topics)
        self._consumer: Any = Consumer(kafka.consumer_config(settings, group) | {"error_cb": self._on_error})
        self._is_away = False
        self._assigned: list[Partition] = []
        self._uncommitted: dict[Partition, int] = {}
        self._read_while_paused: list[Event] = []
        self._is_placed = True
        self._next_commit = 0.0
        self.generation = 0

    def subscribe(self) -> None:
        """Join the group."""
        self._consumer.subscribe(
            self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    @property
    def to_place(self) -> list[Partition]:
        """Partitions that were assigned and wait for ``place``."""
        return [] if self._is_placed else list(self._assigned)

    @property
    def assigned(self) -> list[Partition]:
        """Partitions of this member."""
        return list(self._assigned)

    def place(self, starts: Mapping[Partition, int] | None) -> None:
        """Start reading; None begins where the group has committed, or at the oldest kept event."""
        self._consumer.assign(
            [
                TopicPartition(topic, number, OFFSET_INVALID if starts is None else starts[topic, number])
                for topic, number in self._assigned
            ]
        )
        self._is_placed = True
        self.resume()  # a pause outlives a rebalance

    def place_again(self) -> None:
        """Stand still until ``place`` says anew where to start."""
        self._consumer.assign([])
        self._read_while_paused = []
        self._is_placed = not self._assigned

    def read(self, count: int, timeout: float) -> list[Event]:
        """Return up to ``count`` events, as soon as they are there or the time in seconds is over."""
        events, self._read_while_paused = self._read_while_paused, []
        for message in self._consumer.consume(count, timeout=timeout):
            if message.error() is not None:
                log.warning("kafka_says", error=str(message.error()))
                continue
            events.append(
                Event(
                    message.topic(),
                    message.partition(),
                    message.offset(),
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                )
            )
        return events

    def pause(self) -> None:
        """Stop fetching and stay a member."""
        if self._is_placed and self._assigned:
            self._consumer.pause(self._partitions())

    def stay_member(self, timeout: float) -> None:
        """Take part in rebalances while paused; what arrives all the same is kept for ``read``."""
        before = self.generation
        events = self.read(100, timeout)
        # a rebalance within that call: the events are of partitions that another member may have by now
        self._read_while_paused = events if self.generation == before else []

    def resume(self) -> None:
        """Fetch again."""
        if self._is_placed and self._assigned:
            self._consumer.resume(self._partitions())

    def commit(self, offsets: Mapping[Partition, int]) -> bool:
        """Commit these and what was not committed before; False when it must be tried again.

        The stores know best how far they are: while events flow Kafka is told twice a second, and at once when there is
        nothing new.
        """
        self._uncommitted |= offsets
        if not self._uncommitted or (offsets and time.monotonic() < self._next_commit):
            return True
        self._next_commit = time.monotonic() + COMMIT_SECONDS
        try:
            self._consumer.commit(
                offsets=[TopicPartition(topic, number, at) for (topic, number), at in self._uncommitted.items()],
                asynchronous=False,
            )
        except KafkaException as error:
            log.warning("commit_failed", error=str(error))
            return False
        self._uncommitted = {}
        return True

    def is_away(self) -> bool:
        """Whether no broker answers; one that was away is asked, for a second at most."""
        if self._is_away:
            try:
                self._consumer.list_topics(self._topics[0], timeout=PROBE_SECONDS)
            except KafkaException:
                return True
            self._is_away = False
            log.info("broker_is_back")
        return False

    def cluster_id(self) -> str:
        """Return the name that the Kafka cluster gave itself.

        Raises:
            TransientError: no broker answers.

        """
        try:
            return str(self._consumer.list_topics(self._topics[0], timeout=KAFKA_SECONDS).cluster_id)
        except KafkaException as error:
            raise TransientError(f"Kafka does not answer: {error}") from None

    def kept(self, partition: Partition) -> tuple[int, int]:
        """Return the oldest kept offset and the one past the newest.

        Raises:
            TransientError: no broker answers.

        """
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=KAFKA_SECONDS)
        except KafkaException as error:
            raise TransientError(f"Kafka does not answer: {error}") from None
        return int(low), int(high)

    def known_end(self, partition: Partition) -> int | None:
        """Return the end of a partition as of the last fetch, without asking the broker."""
        try:
            _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
        except KafkaException:
            return None
        return int(high) if high >= 0 else None

    def close(self) -> None:
        """Leave the group; the partitions go to other members at once."""
        self._consumer.close()

    def _partitions(self) -> list[Any]:
        return [TopicPartition(topic, number) for topic, number in self._assigned]

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  # its public name
            if not self._is_away:
                log.warning("brokers_down")
            self._is_away = True
        elif error.code() not in _EACH_ATTEMPT:
            log.warning("kafka_says", error=error.str())

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        consumer.assign([])  # nothing is read before the runner knows where to start
        self._change([(partition.topic, partition.partition) for partition in partitions])
        self._is_placed = False
        log.info("partitions_assigned", partitions=len(partitions))

    def _on_revoke(self, _consumer: Any, partitions: list[Any]) -> None:
        self.commit({})
        self._change([])
        log.info("partitions_revoked", partitions=len(partitions))

    def _on_lost(self, _consumer: Any, partitions: list[Any]) -> None:
        self._change([])
        log.warning("partitions_lost", partitions=len(partitions))

    def _change(self, partitions: list[Partition]) -> None:
        self.generation += 1
        self._assigned = partitions
        self._is_placed = True
        self._uncommitted = {}
        self._read_while_paused = []
