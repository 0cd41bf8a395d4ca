"""Batch transport for Faust: an agent gets one event per partition and fetch, carrying all its raw records.

Faust's cost is per event delivered to an agent. For the *hot* topics this transport's consumer yields one message
for all that a fetch brought of a partition: its value is the records as columns, its offset the last one's.
Agents of other topics, and table changelogs, see ordinary messages.

Offsets of hot topics are committed by a bookkeeping of their own (``Ledger``): one past the longest prefix of
*delivered batches* that is acknowledged. Faust's own works with single offsets: it takes the inside of a batch for
a gap and falls behind, and an acknowledgement out of order commits past a batch that was never acknowledged.

Use: ``BatchApp("name", hot_topics={...}, fetch_wait_ms=...)`` instead of ``faust.App``, and
``app.topic("hot", schema=RawSchema())`` for the hot topics. ``batch_of(event)`` gives the records.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar, Final

import faust
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from faust.exceptions import ImproperlyConfigured
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.fetcher import first_offset, last_offset, to_columns, use_columns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from aiokafka import AIOKafkaConsumer

    from fleetwatch.record_batch import Records


class Ledger:
    """Which delivered batches of one partition are acknowledged, in order of delivery; ``done`` is where it begins."""

    def __init__(self, done: int | None = None) -> None:
        self._open: OrderedDict[int, bool] = OrderedDict()
        self._committable = done

    def deliver(self, last_offset: int) -> None:
        """Note a batch that goes to an agent, by the offset of its last record."""
        self._open[last_offset] = False

    def ack(self, last_offset: int) -> bool:
        """Note that a batch is done; False for one that is not (or no longer) known."""
        if last_offset not in self._open:
            return False
        self._open[last_offset] = True
        while self._open:
            first, is_acked = next(iter(self._open.items()))
            if not is_acked:
                break
            del self._open[first]
            self._committable = first + 1
        return True

    @property
    def committable(self) -> int | None:
        """One past the longest acknowledged prefix, None before there is one."""
        return self._committable

    @property
    def waiting(self) -> int:
        """How many delivered batches are not acknowledged, or wait behind one that is not."""
        return len(self._open)


class BatchMessage(ConsumerMessage):
    """A batch on its way to agents, and the ledger that it was delivered from.

    After a seek or a rebalance a partition has a new ledger. What was delivered before may be acknowledged later,
    and then counts nowhere: the same offsets come again, perhaps cut into other batches.
    """

    ledger: Ledger


class RawSchema(faust.Schema):
    """Leaves keys and values as they are: a batch's value is its records."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002  # Faust's signature
        """Return the key unchanged."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002  # Faust's signature
        """Return the value unchanged."""
        return message.value


GATHER_SECONDS: Final = 0.02
"""How long a consumer that is behind goes on fetching before it hands over what it has."""


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """Makes the aiokafka consumer with a fetch wait of our own (Faust's is fixed at 1.5 s), and gathers when behind."""

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self.app.fetch_wait_ms  # noqa: SLF001  # read when the consumer starts
        return consumer

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  # Faust's signature
        max_records: int | None = None,
    ) -> dict[Any, list[Any]]:
        """Fetch once, and for a while again where hot partitions have more: what is behind comes in larger batches.

        A broker may answer with little at a time (one produced batch, or a full fetch), and each hand-over to the
        application's thread costs more than another fetch.
        """
        generation, until = self.app.consumer_generation_id, time.monotonic() + GATHER_SECONDS
        fetch = super()._fetch_records
        found: dict[Any, list[Any]] = await fetch(consumer, active_partitions, timeout, max_records)
        room = (max_records or 0) - sum(map(len, found.values()))
        while room > 0 and found and self._is_behind(consumer, found) and (left := until - time.monotonic()) > 0:
            try:
                more = await fetch(consumer, active_partitions, left, room)
            except KafkaError:
                break  # it comes again with the next fetch; what was found must not be lost
            if self.app.consumer_generation_id != generation:
                found = more  # what was found before is sought again after a rebalance
                break
            for tp, records in more.items():
                found.setdefault(tp, []).extend(records)
                room -= len(records)
            if not more:
                break
        return found

    def _is_behind(self, consumer: AIOKafkaConsumer, found: dict[Any, list[Any]]) -> bool:
        """Say whether the broker has more of a hot partition than was found of it."""
        return any(
            (consumer.highwater(tp) or 0) > last_offset(records) + 1
            for tp, records in found.items()
            if tp.topic in self.app.hot_topics and records
        )


class BatchConsumer(driver.Consumer):
    """Faust's consumer, with batches and their own commit bookkeeping for hot topics."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ledgers: dict[TP, Ledger] = {}

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def is_caught_up(self, topic: str, partition: int, offset: int, *, within_seconds: float) -> bool:
        """Say whether the broker answered a fetch of a partition just now, and has nothing from this offset on."""
        tp = TopicPartition(topic, partition)
        consumer = self._thread._consumer  # noqa: SLF001  # the aiokafka consumer that Faust drives
        if consumer is None or tp not in consumer.assignment():
            return False
        answered_ms, end = consumer.last_poll_timestamp(tp), consumer.highwater(tp)
        if answered_ms is None or end is None:
            return False
        return bool(end <= offset and time.time() * 1000 - answered_ms < within_seconds * 1000)

    def end_of(self, topic: str, partition: int) -> int | None:
        """Return the offset after a partition's last record, as the last fetch said; None if that is not known."""
        tp = TopicPartition(topic, partition)
        consumer = self._thread._consumer  # noqa: SLF001  # the aiokafka consumer that Faust drives
        if consumer is None or tp not in consumer.assignment():
            return None
        end = consumer.highwater(tp)
        return None if end is None else int(end)

    def is_hot(self, topic: str) -> bool:
        """Say whether a topic's records come in batches."""
        return topic in self.app.hot_topics

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109  # Faust's signature
        """Yield one message a partition for hot topics, one a record for the others.

        As in the original, flow control, the generation and the active partitions are looked at between messages.
        """
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            await self._seek_back()
            return
        hot = {tp: batch for tp, batch in records.items() if self.is_hot(tp.topic) and batch}
        other = {tp: batch for tp, batch in records.items() if not self.is_hot(tp.topic)}
        for tp, record in self._interleave(hot, other):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                if isinstance(record, list):
                    await self._fetch_again(tp, first_offset(record))
                continue
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            if isinstance(record, list):
                self._read_offset[tp] = None  # or what comes at a lower offset, of a topic made anew, is dropped
                yield tp, self._deliver(tp, to_columns(record))
            else:
                yield tp, self._to_message(tp, record)

    def _interleave(self, hot: Mapping[TP, list[Any]], other: Mapping[TP, list[Any]]) -> Iterable[tuple[TP, Any]]:
        yield from hot.items()
        yield from self.scheduler.iterate(other)

    def _deliver(self, tp: TP, records: Records) -> BatchMessage:
        message = BatchMessage(
            tp.topic,
            tp.partition,
            int(records.offsets[-1]),
            int(records.times[-1]) / 1000.0,
            0,
            (),
            None,
            records,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
        message.ledger = self.ledgers.setdefault(tp, Ledger())
        message.ledger.deliver(message.offset)
        return message

    async def _fetch_again(self, tp: TP, offset: int) -> None:
        """Go back to what was fetched of a partition before the application paused it: it was not delivered."""
        with contextlib.suppress(IllegalStateError):  # not ours any more
            await self.seek_wait({tp: offset})

    async def _seek_back(self) -> None:
        try:
            await self.perform_seek()
        except Exception as error:  # noqa: BLE001  # as the original: it seeks again before the flow goes on
            self.log.warning("cannot seek while the flow is stopped: %r", error)

    def ack(self, message: Any) -> bool:
        """Note an acknowledgement; a batch's goes to its partition's ledger."""
        if not self.is_hot(message.topic):
            return bool(super().ack(message))
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        return bool(message.ledger.ack(message.offset))

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterable[TP]:
        yield from super()._filter_tps_with_pending_acks(topics)
        for tp in list(self.ledgers):
            if topics is None or tp in topics or tp.topic in topics:
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        if not self.is_hot(tp.topic):
            offset: int | None = super()._new_offset(tp)
            return offset
        ledger = self.ledgers.get(tp)
        return ledger.committable if ledger is not None else None

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if not self.is_hot(tp.topic):
            await super()._add_gap(tp, offset_from, offset_to)

    async def perform_seek(self) -> None:
        """Go back to what is committed, or to the offsets that the application names for hot partitions.

        Everything after it is delivered again, so the ledgers start anew. What the application names may be committed:
        a state may include more than was committed before its owner ended, and perhaps no record comes any more.
        """
        self.ledgers.clear()
        await super().perform_seek()
        hot = {tp for tp in self.assignment() if self.is_hot(tp.topic)}
        offsets = await self.app.start_offsets(hot)
        self.ledgers |= {tp: Ledger(offset) for tp, offset in offsets.items()}
        if self.app.conf.consumer_auto_offset_reset == "earliest":
            offsets = await self._beginnings(hot - offsets.keys()) | offsets
        if offsets:
            await self.seek_wait(offsets)

    async def _beginnings(self, tps: set[TP]) -> dict[TP, int]:
        """Return where partitions without a commit begin: aiokafka's seek stays where it is there."""
        fresh = [tp for tp in tps if not self._read_offset[tp]]
        return dict(await self.earliest_offsets(*fresh)) if fresh else {}

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Complain about a partition that stands still; one whose position is being looked up is none of them."""
        with contextlib.suppress(AssertionError):  # the original's, which would end the application
            super().verify_event_path(now, tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the ledgers: whoever gets the partitions next reads from what was committed."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self.ledgers.pop(tp, None)


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with the consumer above."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer


class BatchApp(faust.App):
    """A Faust app whose ``hot_topics`` come in batches.

    ``start_offsets`` may be replaced: it is asked after each assignment where to begin, for partitions whose state
    knows better than what was committed. ``stream_wait_empty`` is off and must stay so: with batches that wait for a
    checkpoint it would hang a rebalance.
    """

    start_offsets: Callable[[set[TP]], Awaitable[dict[TP, int]]]

    def __init__(self, *args: Any, hot_topics: set[str], fetch_wait_ms: int = 500, **kwargs: Any) -> None:
        if kwargs.setdefault("stream_wait_empty", False):
            raise ImproperlyConfigured("stream_wait_empty would hang a rebalance while batches are not acknowledged")
        self.hot_topics = frozenset(hot_topics)
        self.fetch_wait_ms = fetch_wait_ms
        use_columns(hot_topics)

        async def committed(_: set[TP]) -> dict[TP, int]:
            return {}

        self.start_offsets = committed
        super().__init__(*args, **kwargs)

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)


def batch_of(event: Any) -> tuple[str, int, Records]:
    """Return topic, partition and raw records of a batch event."""
    return event.message.topic, event.message.partition, event.value
