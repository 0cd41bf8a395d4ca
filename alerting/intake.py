"""The consumer of the alert topic: where reading starts, when it pauses, and how offsets are committed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from fleetwatch import kafka, topics
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetwatch.settings import Settings

log = get_logger(__name__)

LOOK_BACK: Final = 1000
"""So many messages before the committed offset are read again at assignment: what people know already."""
MOST_AT_ONCE: Final = 500
_AS_COMMITTED: Final = -1001
"""librdkafka then starts at the committed offset or, without one, where ``auto.offset.reset`` says."""


class Intake:
    """Reads ``fleet.alerts`` in the group of alerting. All callbacks run inside ``read`` and ``close``.

    ``on_assign`` gets partition -> committed offset (None when there is none yet): what lies before it has
    been settled and is handed out only as a reminder. ``on_revoke`` gets the partitions; offsets can still be
    committed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_assign: Callable[[dict[int, int | None]], None],
        on_revoke: Callable[[Sequence[int]], None],
        on_commit_failed: Callable[[Sequence[int]], None],
    ) -> None:
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._on_commit_failed = on_commit_failed
        self._is_paused = False
        self._is_closing = False
        config = kafka.consumer_config(settings, topics.GROUP_ALERTING)
        self._consumer = Consumer(config | {"on_commit": self._committed})
        self._consumer.subscribe(
            [topics.ALERTS], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def read(self, timeout: float) -> list[Any]:
        """Return what comes within so many seconds, none of it from a partition that was taken away meanwhile."""
        good = []
        for message in self._consumer.consume(MOST_AT_ONCE, timeout=timeout):
            error = message.error()
            if error is None:
                good.append(message)
            elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
                log.warning("kafka_consumer", error=error.str())
        return good

    def pause(self, *, is_paused: bool) -> None:
        """Stop or go on fetching while staying in the group."""
        if is_paused != self._is_paused:
            self._is_paused = is_paused
            assigned = self._consumer.assignment()
            (self._consumer.pause if is_paused else self._consumer.resume)(assigned)

    def commit(self, offsets: dict[int, int], *, wait: bool = False) -> None:
        """Commit next offsets; without ``wait`` a failure is told to ``on_commit_failed``."""
        if not offsets:
            return
        positions = [TopicPartition(topics.ALERTS, number, offset) for number, offset in offsets.items()]
        try:
            self._consumer.commit(offsets=positions, asynchronous=not wait)
        except KafkaException as error:
            log.warning("commit_failed", error=str(error))
            self._on_commit_failed(list(offsets))

    def close(self) -> None:
        """Leave the group. Nothing is committed."""
        self._is_closing = True
        self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        settled = {position.partition: self._settled_before(consumer, position) for position in partitions}
        self._on_assign(settled)
        starts = {
            number: _AS_COMMITTED if known is None else max(0, known - LOOK_BACK) for number, known in settled.items()
        }
        consumer.assign([TopicPartition(topics.ALERTS, number, start) for number, start in starts.items()])
        self._is_paused = False
        log.info("partitions_assigned", partitions=sorted(settled))

    @staticmethod
    def _settled_before(consumer: Consumer, position: TopicPartition) -> int | None:
        """Return the committed offset; None without one, or when it is of a topic that was made anew."""
        try:
            (committed,) = consumer.committed([position], timeout=10)
            _low, high = consumer.get_watermark_offsets(position, timeout=10)
        except KafkaException as error:
            log.warning("committed_offset_unknown", partition=position.partition, error=str(error))
            return None
        return committed.offset if 0 <= committed.offset <= high else None

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if partitions and not self._is_closing:
            self._on_revoke([position.partition for position in partitions])
            log.info("partitions_revoked", partitions=sorted(position.partition for position in partitions))

    def _committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        failed = [position.partition for position in partitions if error or position.error]
        if failed:
            log.warning("commit_failed", error=str(error), partitions=failed)
            self._on_commit_failed(failed)
