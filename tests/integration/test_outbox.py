"""The outbox: blocks of messages to Kafka, and knowing whether the broker has them."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from fleetwatch import kafka, topics
from fleetwatch.byte_column import ByteColumn
from fleetwatch.errors import EnvironmentProblemError, TransientError
from fleetwatch.local.ports import free_port
from fleetwatch.settings import Settings
from streams import outbox as outbox_module
from streams.batch import Block
from streams.outbox import Outbox

if TYPE_CHECKING:
    from fleetwatch.local.kafka_server import KafkaServer

pytestmark = pytest.mark.integration

PATIENCE = 60.0


def block(topic: str, key: bytes | None, values: list[bytes]) -> Block:
    return Block(topic, ByteColumn.of([key] * len(values)), ByteColumn.of(values))


def read(settings: Settings, topic: str, key: bytes) -> list[tuple[int, int, bytes]]:
    """Partition, time and value of every record of a key, in the order of each partition, by confluent-kafka."""
    found: list[tuple[int, int, bytes]] = []

    def take(message: Any) -> None:
        if message.key() == key:
            found.append((message.partition(), message.timestamp()[1], message.value()))

    kafka.read_to_end(settings, topic, take, timeout=PATIENCE)
    return found


def fresh_key() -> bytes:
    return f"outbox-{uuid.uuid4().hex[:8]}".encode()


async def test_megabytes_arrive_in_order_in_the_partition_of_the_lane(any_settings: Settings) -> None:
    key, noise = fresh_key(), random.Random(1)
    many = [b"%d " % number + noise.randbytes(100) for number in range(20_000)]
    large = [noise.randbytes(700_000), noise.randbytes(800_000)]
    before_ms = int(time.time() * 1000)
    async with Outbox(any_settings) as outbox:
        outbox.send([block(topics.SCORED, key, many[:15_000]), block(topics.SCORED, key, large)], 2)
        outbox.send([block(topics.SCORED, key, many[15_000:])], 2)
        outbox.send([block(topics.SCORED, key, [b"another lane"])], 3)
        await outbox.flush()
    got = await asyncio.to_thread(read, any_settings, topics.SCORED, key)
    assert [value for partition, _, value in got if partition == 2] == many[:15_000] + large + many[15_000:]
    assert [value for partition, _, value in got if partition == 3] == [b"another lane"]
    assert {partition for partition, _, _ in got} == {2, 3}
    assert all(before_ms <= time_ms <= int(time.time() * 1000) for _, time_ms, _ in got)


async def test_nulls_and_empty_values_arrive_as_they_are(kafka_settings: Settings) -> None:
    mark = fresh_key()
    keys, values = ByteColumn.of([None, b"", mark]), ByteColumn.of([mark, mark, None])
    async with Outbox(kafka_settings) as outbox:
        outbox.send([Block(topics.DEAD_LETTERS, keys, values)], 0)
        await outbox.flush()
    found: list[tuple[bytes | None, bytes | None]] = []
    await asyncio.to_thread(
        kafka.read_to_end, kafka_settings, topics.DEAD_LETTERS, lambda m: found.append((m.key(), m.value()))
    )
    assert [row for row in found if mark in row] == [(None, mark), (b"", mark), (mark, None)]


async def test_a_key_belongs_where_every_producer_of_the_project_puts_it(any_settings: Settings) -> None:
    key = fresh_key()
    producer = kafka.Producer(kafka.producer_config(any_settings))
    producer.produce(topics.MODELS, b"librdkafka", key)
    assert producer.flush(60) == 0
    async with Outbox(any_settings) as outbox:
        outbox.send_by_key((topics.MODELS, key, b"outbox"))
        await outbox.flush()
    got = await asyncio.to_thread(read, any_settings, topics.MODELS, key)
    assert [value for _, _, value in got] == [b"librdkafka", b"outbox"]
    assert len({partition for partition, _, _ in got}) == 1


async def test_a_flush_with_nothing_to_send_is_done(settings: Settings) -> None:
    async with Outbox(settings) as outbox:
        await outbox.flush()
        await outbox.room()


async def test_nothing_behind_an_output_that_the_broker_refused_is_written(kafka_settings: Settings) -> None:
    key = fresh_key()
    too_large = random.Random(2).randbytes(1_500_000)
    async with Outbox(kafka_settings) as outbox:
        outbox.send([block(topics.SCORED, key, [b"before", too_large, b"after", b"after"])], 1)
        outbox.send([block(topics.SCORED, key, [b"another lane"])], 2)
        with pytest.raises(TransientError, match=r"^3 outputs were not delivered"):
            await outbox.flush()
        outbox.send([block(topics.SCORED, key, [b"later"])], 1)
        with pytest.raises(TransientError, match=r"^1 outputs were not delivered"):
            await outbox.flush()
    got = await asyncio.to_thread(read, kafka_settings, topics.SCORED, key)
    assert {(partition, value) for partition, _, value in got} == {(1, b"before"), (2, b"another lane")}


async def test_room_waits_until_the_broker_has_taken_enough(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "QUEUE_BYTES", 1_000_000)
    key, noise = fresh_key(), random.Random(3)
    async with Outbox(kafka_settings) as outbox:
        for _ in range(8):
            outbox.send([block(topics.SCORED, key, [noise.randbytes(800_000)])], 0)
        assert outbox._bytes > 6_000_000
        await outbox.room()
        assert outbox._bytes <= 1_000_000
        await outbox.flush()
        assert outbox._bytes == 0


async def test_no_broker_is_one_line() -> None:
    nobody = Settings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(EnvironmentProblemError, match="no Kafka broker answers"):
        await Outbox(nobody).__aenter__()


async def test_a_broker_that_is_away_fails_flush_and_room_and_gets_all_when_it_is_back(
    own_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "QUEUE_BYTES", 50)
    monkeypatch.setattr(outbox_module, "ROOM_SECONDS", 0.3)
    settings, key = Settings(bootstrap_servers=own_kafka.bootstrap_servers), fresh_key()
    kafka.ensure_topics(settings)
    async with Outbox(settings) as outbox:
        outbox.send([block(topics.SCORED, key, [b"before"])], 0)
        await outbox.flush()
        own_kafka.stop()
        outbox.send([block(topics.SCORED, key, [b"while it is away"])], 0)
        with pytest.raises(TransientError, match="bytes of outputs were not delivered to Kafka in time"):
            await outbox.flush(0.5)
        with pytest.raises(TransientError, match="its queue stayed full"):
            await outbox.room()
        own_kafka.start()
        outbox.send([block(topics.SCORED, key, [b"after"])], 0)
        await outbox.flush()
        got = await asyncio.to_thread(read, settings, topics.SCORED, key)
        assert [value for _, _, value in got] == [b"before", b"while it is away", b"after"]
        own_kafka.stop()
        outbox.send([block(topics.SCORED, key, [b"for nobody"])], 0)
        left = time.monotonic()
    assert time.monotonic() - left < 30, "leaving does not wait for a broker that is away"
