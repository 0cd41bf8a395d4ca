"""Events that Kafka deletes before a sink has read them: it goes on, and says how many there were."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from fleetwatch import avro, kafka, topics
from fleetwatch.errors import TransientError
from fleetwatch.service import Service
from sinks.dead_letters import DeadLetterTopic
from sinks.runner import Runner, RunnerOptions
from sinks.source import KafkaSource
from tests.services import wait_until
from tests.unit.sinks.samples import scored

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from fleetwatch.settings import Settings
    from sinks.batch import Partition
    from sinks.stretch import Stretch

pytestmark = pytest.mark.integration


class _Store:
    """Counts what it is given of one device, or is away. Begins at the ends of the topics."""

    name = "store"

    def __init__(self, ends: Mapping[Partition, int], device: str) -> None:
        self.ends, self.device = ends, device.encode()
        self.is_away, self.is_placed, self.written = False, False, 0

    def open(self) -> None:
        pass

    def stored_offsets(self, _partitions: Iterable[Partition], _cluster_id: str) -> Mapping[Partition, int]:
        self.is_placed = True
        return self.ends

    def forget_offset(self, partition: Partition) -> None:
        raise AssertionError(partition)

    def write(self, stretch: Stretch, _cluster_id: str) -> None:
        if self.is_away:
            raise TransientError("away")
        self.written += sum(event.key == self.device for event in stretch.events[stretch.start : stretch.stop])

    def tidy(self, _now: datetime) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        pass


def test_what_kafka_deletes_while_the_store_is_away_is_counted(kafka_settings: Settings):
    device = f"d-{uuid.uuid4().hex[:8]}"
    admin = kafka.connect(kafka_settings)
    producer = Producer(kafka.producer_config(kafka_settings))
    source = KafkaSource(kafka_settings, f"group-{device}", [topics.SCORED])
    places = [(topics.SCORED, number) for number in kafka.partitions_of(admin, topics.SCORED)]
    asking = Consumer(kafka.consumer_config(kafka_settings, f"asking-{device}"))

    def ends() -> dict[Partition, int]:
        return {place: kafka.watermarks(asking, *place, patience=30)[1] for place in places}

    store = _Store(ends(), device)

    def produce(count: int) -> None:
        value = avro.encode(scored(device))
        for _ in range(count):
            producer.produce(topics.SCORED, value, device)
        assert producer.flush(30) == 0

    with Service("sink", host="127.0.0.1", port=0) as service, ThreadPoolExecutor(1) as pool:
        runner = Runner(
            store=store,
            source=source,
            dead_letters=DeadLetterTopic(kafka_settings),
            service=service,
            options=RunnerOptions(first_wait_seconds=0.02, longest_wait_seconds=0.1),
        )
        running: Any = pool.submit(runner.run)
        try:
            wait_until(lambda: store.is_placed, what="the sink having its partitions")
            produce(50)
            wait_until(lambda: store.written == 50, what="the first events")
            store.is_away = True
            produce(50)
            wait_until(lambda: service.status.problem == "away", what="the sink waiting")
            produce(200)
            to_delete = [TopicPartition(*place, end) for place, end in ends().items()]
            for deleted in admin.delete_records(to_delete).values():
                deleted.result(30)
            store.is_away = False
            wait_until(lambda: service.status.problem == "", what="the sink going on")
            produce(10)
            lost = service.status.counters
            wait_until(lambda: store.written + lost.get("events_lost", 0) == 310, what="all being accounted for")
            assert lost["events_lost"] >= 150
        finally:
            service.stopping.set()
            running.result(30)
            asking.close()
