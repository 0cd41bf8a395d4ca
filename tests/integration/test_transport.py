"""The batch transport in small Faust apps, on real brokers."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as AioTopicPartition
from aiokafka.errors import KafkaError
from confluent_kafka import Consumer, Producer, TopicPartition
from faust.transport.drivers import aiokafka as driver

from fleetwatch import kafka
from fleetwatch.local import children
from fleetwatch.settings import Settings
from streams import fetcher
from tests.integration.batch_app import PARTITIONS, PATIENCE, Probe, committed, fill, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from faust.types import TP

    from fleetwatch.local.kafka_server import KafkaServer

pytestmark = pytest.mark.integration

ALL = range(PARTITIONS)


def fresh_topic(settings: Settings, name: str = "hot") -> str:
    topic = f"{name}-{uuid.uuid4().hex[:8]}"
    kafka.ensure_topics(settings, [topic])
    return topic


def fresh_group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


def values(count: int) -> list[bytes]:
    return [b"value %d" % number for number in range(count)]


async def test_a_batch_held_back_holds_back_the_commit_and_comes_again(any_settings: Settings) -> None:
    topic, group = fresh_topic(any_settings), fresh_group()
    async with Probe(any_settings, group, topic, acks=False) as probe:
        for end in (100, 200, 300):
            await asyncio.to_thread(fill, any_settings, topic, [0], values(100))
            await probe.until_got(0, list(range(end)))
        assert probe.batches[0].values[:3] == [b"value 0", b"value 1", b"value 2"]
        first, *others = [batch.event for batch in probe.batches]
        for event in reversed(others):
            event.ack()
        assert (await probe.commit())[0] is None
    async with Probe(any_settings, group, topic, acks=False) as probe:
        await probe.until_got(0, list(range(300)))
        for batch in reversed(probe.batches):
            batch.event.ack()
        assert (await probe.commit())[0] == 300
        first.ack()  # of an app that is gone
        assert (await probe.commit())[0] == 300


async def test_a_fetch_that_begins_inside_of_a_record_batch_gives_no_earlier_record(any_settings: Settings) -> None:
    topic, group = fresh_topic(any_settings), fresh_group()
    await asyncio.to_thread(fill, any_settings, topic, [2], values(100))
    consumer = Consumer(kafka.consumer_config(any_settings, group))
    consumer.commit(offsets=[TopicPartition(topic, 2, 61)], asynchronous=False)
    consumer.close()
    async with Probe(any_settings, group, topic) as probe:
        await probe.until_got(2, list(range(61, 100)))
        assert probe.batches[0].values[0] == b"value 61"
        await until(lambda: probe.app.consumer.ledgers[next(iter(probe.tps(2)))].committable == 100, "it is done")
        assert (await probe.commit())[2] == 100


async def test_what_was_fetched_before_a_pause_comes_after_it(any_settings: Settings) -> None:
    topic = fresh_topic(any_settings)
    fill(any_settings, topic, ALL, values(50))
    async with Probe(any_settings, fresh_group(), topic, stream_buffer_maxsize=1) as probe:
        probe.gate.clear()
        await until(lambda: len(probe.batches) == 1, "the agent has a batch and stands still")
        paused = probe.tps(*ALL)
        probe.app.consumer.pause_partitions(paused)
        probe.gate.set()
        # one was with the agent, one in its buffer, one on the way there; what is left was fetched, but not delivered
        await until(lambda: not probe.app.consumer.unacked, "what was delivered is done")
        probe.app.consumer.resume_partitions(paused)
        for partition in ALL:
            await probe.until_got(partition, list(range(50)))


async def test_a_paused_partition_stays_silent_and_goes_on_where_it_was(kafka_settings: Settings) -> None:
    topic = fresh_topic(kafka_settings)
    async with Probe(kafka_settings, fresh_group(), topic) as probe:
        await asyncio.to_thread(fill, kafka_settings, topic, [0], values(10))
        await probe.until_got(0, list(range(10)))
        probe.app.consumer.pause_partitions(probe.tps(0))
        await asyncio.to_thread(fill, kafka_settings, topic, [0], values(10))
        for end in (10, 20):
            await asyncio.to_thread(fill, kafka_settings, topic, [1], values(10))
            await probe.until_got(1, list(range(end)))
        assert probe.offsets(0) == list(range(10))
        probe.app.consumer.resume_partitions(probe.tps(0))
        await probe.until_got(0, list(range(20)))
        assert (await probe.commit()) == {0: 20, 1: 20, 2: None, 3: None}


async def test_a_seek_without_a_commit_goes_back_to_the_beginning_or_where_the_app_says(
    kafka_settings: Settings,
) -> None:
    topic = fresh_topic(kafka_settings)
    fill(kafka_settings, topic, [0, 1], values(30))
    async with Probe(kafka_settings, fresh_group(), topic, acks=False) as probe:

        async def seek() -> int:
            before = len(probe.batches)
            probe.app.consumer.stop_flow()
            await probe.app.consumer.perform_seek()
            probe.app.consumer.resume_flow()
            return before

        await probe.until_got(0, list(range(30)))
        await probe.until_got(1, list(range(30)))
        before = await seek()
        await probe.until_got(0, list(range(30)), before)
        await probe.until_got(1, list(range(30)), before)

        async def start_offsets(hot: set[TP]) -> dict[TP, int]:
            assert hot == probe.tps(*ALL)
            return dict.fromkeys(probe.tps(1), 17)

        probe.app.start_offsets = start_offsets
        before = await seek()
        await probe.until_got(0, list(range(30)), before)
        await probe.until_got(1, list(range(17, 30)), before)
        assert (await probe.commit()) == {0: None, 1: 17, 2: None, 3: None}
        for batch in probe.batches[before:]:
            batch.event.ack()
        assert (await probe.commit()) == {0: 30, 1: 30, 2: None, 3: None}


async def test_what_would_stop_faust_does_not_stop_a_hot_topic(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = fresh_topic(kafka_settings)
    async with Probe(kafka_settings, fresh_group(), topic) as probe:
        await until(lambda: len(probe.owned) == PARTITIONS, "it has its partitions")
        consumer = probe.app.consumer
        # offsets start anew in a topic that was made anew
        consumer._read_offset.update(dict.fromkeys(probe.tps(0), 1000))
        await asyncio.to_thread(fill, kafka_settings, topic, [0], values(10))
        await probe.until_got(0, list(range(10)))
        # a seek fails while the flow is stopped
        failures: list[None] = []

        async def no_seek() -> None:
            failures.append(None)
            raise KafkaError("the broker is away")

        with monkeypatch.context() as patch:
            patch.setattr(consumer, "perform_seek", no_seek)
            consumer.flow_active = False  # as a rebalance that begins during a fetch leaves it
            await until(lambda: bool(failures), "it tried to seek")
        await consumer.perform_seek()
        consumer.resume_flow()
        # a partition's position is being looked up just when Faust looks whether all of them move
        with monkeypatch.context() as patch:
            patch.setattr(driver.Consumer, "verify_event_path", Mock(side_effect=AssertionError))
            await consumer.verify_all_partitions_active()
        await asyncio.to_thread(fill, kafka_settings, topic, [0], values(10))
        await probe.until_got(0, list(range(20)))
        assert not probe.app.should_stop


async def test_a_rebalance_does_not_wait_for_batches_that_are_not_acknowledged(kafka_settings: Settings) -> None:
    topic, group = fresh_topic(kafka_settings), fresh_group()
    fill(kafka_settings, topic, ALL, values(20))
    async with Probe(kafka_settings, group, topic, acks=False) as first:
        for partition in ALL:
            await first.until_got(partition, list(range(20)))
        before = len(first.batches)
        async with Probe(kafka_settings, group, topic, acks=False) as second:
            await until(lambda: len(first.owned) == len(second.owned) == 2, "each has two partitions")
            assert first.owned | second.owned == set(ALL)
            for partition in second.owned:
                await second.until_got(partition, list(range(20)))
            for partition in first.owned:
                await first.until_got(partition, list(range(20)), before)
            # what was delivered before the rebalance was delivered again since: only that counts
            for batch in first.batches[:before]:
                batch.event.ack()
            assert set((await first.commit()).values()) == {None}
            for batch in first.batches[before:]:
                batch.event.ack()
            assert (await first.commit()) == {partition: 20 if partition in first.owned else None for partition in ALL}
        before = len(first.batches)
        await until(lambda: len(first.owned) == PARTITIONS, "the first takes over")
        for partition in ALL:
            done = (await first.commit())[partition] is not None
            await first.until_got(partition, [] if done else list(range(20)), before)


async def test_other_topics_and_tables_are_faust_as_ever(kafka_settings: Settings) -> None:
    hot, plain, group = fresh_topic(kafka_settings), fresh_topic(kafka_settings, "plain"), fresh_group()
    kafka.ensure_topics(kafka_settings, [f"{group}-seen-changelog"])
    for partition in ALL:
        fill(kafka_settings, plain, [partition], [b'"a%d"' % partition, b'"b"', b'"a%d"' % partition])
    fill(kafka_settings, hot, ALL, values(30))

    def with_table(probe: Probe) -> tuple[Any, list[Any]]:
        table = probe.app.Table("seen", default=int, partitions=PARTITIONS)
        events = []

        @probe.app.agent(probe.app.topic(plain, value_type=str, value_serializer="json"), name="plain")
        async def take(stream: Any) -> None:
            async for event in stream.events():
                table[event.value] += 1
                events.append((event.message.partition, event.message.offset, event.value))

        return table, events

    probe = Probe(kafka_settings, group, hot, acks=False)
    table, events = with_table(probe)
    async with probe:
        for partition in ALL:
            await probe.until_got(partition, list(range(30)))
        await until(lambda: len(events) == 3 * PARTITIONS, "every plain event")
        for partition in ALL:
            assert [event[1:] for event in events if event[0] == partition] == [
                (0, f"a{partition}"),
                (1, "b"),
                (2, f"a{partition}"),
            ]
        await probe.app.producer.flush()
        assert set((await probe.commit()).values()) == {None}
        assert await asyncio.to_thread(committed, kafka_settings, plain, group) == dict.fromkeys(ALL, 3)
    probe = Probe(kafka_settings, group, hot)
    table, events = with_table(probe)
    async with probe:
        for partition in ALL:
            await probe.until_got(partition, list(range(30)))
        assert {key: table[key] for key in table if key != "b"} == {f"a{partition}": 2 for partition in ALL}
        await until(lambda: not probe.app.consumer.unacked, "every batch is done")
        assert set((await probe.commit()).values()) == {30}
        assert events == []


# --- as aiokafka has it


@pytest.fixture
def transactions(kafka_settings: Settings) -> str:
    """A topic with two transactions that were committed, two that were aborted, and a record outside of any."""
    topic = fresh_topic(kafka_settings)
    producer = Producer(kafka.client_config(kafka_settings) | {"transactional.id": topic})
    producer.init_transactions(60)
    for number in range(4):
        producer.begin_transaction()
        for value in values(5):
            producer.produce(topic, value, partition=0)
        producer.flush(60)
        if number % 2:
            producer.abort_transaction(60)
        else:
            producer.commit_transaction(60)
    fill(kafka_settings, topic, [0], [b"outside"])
    return topic


@pytest.mark.parametrize(("isolation", "count"), [("read_uncommitted", 21), ("read_committed", 11)])
async def test_aborted_transactions_are_aiokafkas_business(
    kafka_settings: Settings, transactions: str, isolation: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read() -> list[tuple[int, int, bytes | None]]:
        place = AioTopicPartition(transactions, 0)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka_settings.bootstrap_servers, isolation_level=isolation, enable_auto_commit=False
        )
        found: list[tuple[int, int, bytes | None]] = []
        await consumer.start()
        try:
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            deadline = time.monotonic() + PATIENCE
            while (not found or found[-1][2] != b"outside") and time.monotonic() < deadline:
                for fetched in (await consumer.getmany(timeout_ms=200)).values():
                    records = fetcher.to_columns(fetched)
                    found += zip(
                        records.offsets.tolist(), records.times.tolist(), records.values.to_list(), strict=True
                    )
        finally:
            await consumer.stop()
        return found

    rows = await read()
    for name in ("MemoryRecords", "PartitionRecords"):
        monkeypatch.setattr(fetcher.fetcher, name, getattr(fetcher.fetcher, name))  # put back after the test
    monkeypatch.setattr(fetcher.PartitionRecords, "hot_topics", frozenset())
    fetcher.use_columns([transactions])
    assert await read() == rows
    assert len(rows) == count


# --- processes and brokers that end


class WorkerProcess:
    """An app as a process of its own; what it did is in its log, a line a batch."""

    def __init__(self, settings: Settings, group: str, topic: str, folder: Path, *, hold: int = 0) -> None:
        self._out = folder / f"worker-{uuid.uuid4().hex[:6]}.log"
        self._log = self._out.open("wb")
        self._errors = self._out.with_suffix(".err").open("wb")
        command = [sys.executable, "-m", "tests.integration.batch_app", settings.bootstrap_servers, group, topic]
        root = Path(__file__).parents[2]
        self.process = children.start([*command, str(hold)], log=self._errors, stdout=self._log, cwd=root)

    def said(self, what: str) -> list[tuple[int, int, int]]:
        """Partition, first and last offset of each batch that is "done", or that it was about to "ack"."""
        lines = [json.loads(line) for line in self._out.read_bytes().split(b"\n")[:-1]]
        return [(partition, first, last) for name, partition, first, last in lines if name == what]

    def done(self) -> dict[int, set[int]]:
        """Offsets of each partition."""
        found: dict[int, set[int]] = defaultdict(set)
        for partition, first, last in self.said("done"):
            found[partition].update(range(first, last + 1))
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()
        self._errors.close()
        sys.stdout.write(self._out.with_suffix(".err").read_text())  # shown where the test failed


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    started: list[WorkerProcess] = []

    def begin(*args: Any, **given: Any) -> WorkerProcess:
        worker = WorkerProcess(*args, tmp_path, **given)
        started.append(worker)
        return worker

    yield begin
    for worker in started:
        worker.kill()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


def test_kill_9_loses_nothing_that_was_not_acknowledged(
    kafka_settings: Settings, start: Callable[..., WorkerProcess]
) -> None:
    topic, group = fresh_topic(kafka_settings), fresh_group()
    worker = start(kafka_settings, group, topic, hold=5)
    sent = 0

    def has_worked() -> bool:
        nonlocal sent
        fill(kafka_settings, topic, ALL, values(20))
        sent += 20
        return len(worker.said("done")) > 40 and any(committed(kafka_settings, topic, group).values())

    wait_for(has_worked, "some batches are committed, and one before them is held")
    worker.kill()
    held, *_ = worker.said("done")
    assert committed(kafka_settings, topic, group)[held[0]] is None
    after = start(kafka_settings, group, topic)
    everything = set(range(sent))
    wait_for(lambda: all(worker.done()[p] | after.done()[p] == everything for p in ALL), "nothing is missing")
    not_acknowledged = set(worker.said("done")) - set(worker.said("ack"))
    assert held in not_acknowledged
    for partition, first, last in not_acknowledged:
        again = set(range(first, last + 1))
        wait_for(lambda p=partition, again=again: after.done()[p] >= again, "what was not acknowledged comes again")
    assert after.done()[held[0]] == everything
    wait_for(lambda: committed(kafka_settings, topic, group) == dict.fromkeys(ALL, sent), "all is committed")


def test_a_broker_that_goes_away_and_comes_back(own_kafka: KafkaServer, start: Callable[..., WorkerProcess]) -> None:
    settings = Settings(bootstrap_servers=own_kafka.bootstrap_servers)
    topic, group = fresh_topic(settings), fresh_group()
    fill(settings, topic, ALL, values(100))
    worker = start(settings, group, topic)
    wait_for(lambda: committed(settings, topic, group) == dict.fromkeys(ALL, 100), "the first part is committed")
    own_kafka.stop()
    own_kafka.start()
    fill(settings, topic, ALL, values(100))
    wait_for(lambda: committed(settings, topic, group) == dict.fromkeys(ALL, 200), "the second part is committed")
    assert all(worker.done()[partition] == set(range(200)) for partition in ALL)
    assert worker.process.poll() is None
