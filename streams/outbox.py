"""Outputs to Kafka: blocks of messages become record batches at once, and it is known when the broker has them all.

aiokafka's producer takes finished batches and does the rest: leaders, retries, and sequence numbers against doubles.
One batch of a partition is on its way at a time, so that their order holds. After one that was refused for good the
broker refuses what follows it in its partition as well (a sequence number is missing): begin anew with a new outbox.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from typing import TYPE_CHECKING, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from fleetwatch import kafka, topics
from fleetwatch.errors import EnvironmentProblemError, TransientError
from fleetwatch.logs import get_logger
from fleetwatch.record_batch import WrittenBatch, write_batches
from streams.batch import blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetwatch.settings import Settings
    from streams.batch import Block, Message

log = get_logger(__name__)

BATCH_BYTES: Final = 900_000
"""Before compression; brokers take batches of 1 MiB unless told otherwise."""
QUEUE_BYTES: Final = 64 * 1024 * 1024
"""Compressed bytes that may wait for the broker before ``room`` waits too."""
ROOM_SECONDS: Final = 60.0

Place = tuple[str, int]


class _Route:
    """Batches on their way to one partition: how many were put in, and how many of them are done with."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[WrittenBatch] = asyncio.Queue()
        self.put = self.done = 0


class Outbox:
    """A producer of batches that counts what was not delivered; ``flush`` raises for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._routes: dict[Place, _Route] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._partitions: dict[str, int] = {}
        self._delivered = asyncio.Event()
        self._bytes = 0
        self._failed = 0

    async def __aenter__(self) -> Self:
        """Connect, and learn how many partitions each topic has.

        Raises:
            EnvironmentProblemError: no broker answers.

        """
        self._producer = AIOKafkaProducer(**kafka.aiokafka_config(self._settings), acks="all", enable_idempotence=True)
        try:
            await self._producer.start()
            for topic in topics.OUTPUTS:
                self._partitions[topic] = len(await self._producer.partitions_for(topic))
        except (KafkaError, OSError) as error:
            await self._producer.stop()
            raise EnvironmentProblemError(f"no Kafka broker answers: {error}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drop what was not delivered and disconnect."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # stop alone would wait until the broker is back, or for the request timeout of 40 s
        self._producer._message_accumulator.fail_all(ProducerClosed())  # noqa: SLF001
        await self._producer.stop()

    def send(self, blocks: Iterable[Block], partition: int) -> None:
        """Queue blocks for one partition of their topics.

        A lane's outputs go to the number of its own partition: that is where the keys of its devices belong, as long
        as topics have equally many partitions, and in any case always the same one.
        """
        now_ms = int(time.time() * 1000)
        for block in blocks:
            place = (block.topic, partition % self._partitions[block.topic])
            for batch in write_batches(block.keys, block.values, now_ms, max_bytes=BATCH_BYTES):
                self._put(place, batch)

    def send_by_key(self, message: Message) -> None:
        """Queue a message for the partition of its key, as every producer of the project chooses it."""
        topic, key, _ = message
        self.send(blocks_of([message]), zlib.crc32(key or b"") % self._partitions[topic])

    async def room(self) -> None:
        """Wait while too much waits for the broker.

        Raises:
            TransientError: nothing was taken for a minute.

        """
        while self._bytes > QUEUE_BYTES:
            self._delivered.clear()
            try:
                await asyncio.wait_for(self._delivered.wait(), ROOM_SECONDS)
            except TimeoutError:
                raise TransientError("Kafka takes no outputs: its queue stayed full for a minute") from None

    async def flush(self, seconds: float = 60.0) -> None:
        """Wait until everything queued so far is acknowledged by the broker; what comes meanwhile is not waited for.

        Raises:
            TransientError: something was not delivered in time; nothing after it may be committed.

        """
        wanted = [(route, route.put) for route in self._routes.values()]
        try:
            async with asyncio.timeout(seconds):
                while any(route.done < put for route, put in wanted):
                    self._delivered.clear()
                    await self._delivered.wait()
        except TimeoutError:
            raise TransientError(f"{self._bytes:,} bytes of outputs were not delivered to Kafka in time") from None
        failed, self._failed = self._failed, 0
        if failed:
            raise TransientError(f"{failed} outputs were not delivered to Kafka")

    def _put(self, place: Place, batch: WrittenBatch) -> None:
        route = self._routes.get(place)
        if route is None:
            route = self._routes[place] = _Route()
            self._tasks.append(asyncio.create_task(self._deliver(place, route), name=f"outbox {place}"))
        self._bytes += batch.size()
        route.put += 1
        route.queue.put_nowait(batch)

    async def _deliver(self, place: Place, route: _Route) -> None:
        topic, partition = place
        while True:
            batch = await route.queue.get()
            size = batch.size()
            try:
                await (await self._producer.send_batch(batch, topic, partition=partition))
            except KafkaError as error:
                self._failed += batch.record_count()
                log.error("output_not_delivered", topic=topic, partition=partition, error=str(error))  # noqa: TRY400
            finally:
                self._bytes -= size
                route.done += 1
                self._delivered.set()
