"""The recorder beside real brokers: whole, repeatable, and never in the way of others."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions

from fleetwatch import avro, kafka, topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.recording import reader
from fleetwatch.recording.reader import Recording
from fleetwatch.records import SensorReading, from_millis
from fleetwatch.service import Service
from producers.dead_letters import original
from producers.record import At, Plan, parse_at, record
from tests.services import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration

START_MS = 1_790_000_000_000


def new_topic(settings: Settings) -> str:
    """A topic of readings that nobody else has."""
    name = f"t{uuid.uuid4().hex[:10]}.{topics.READINGS}"
    kafka.ensure_topics(settings, [name])
    return name


def produce(settings: Settings, topic: str, count: int, first: int = 0) -> None:
    producer = Producer(kafka.producer_config(settings))
    failed: list[Any] = []
    for number in range(first, first + count):
        device = f"press-{number % 7}"
        value = avro.encode(
            SensorReading(
                device_id=device,
                sensor_type="temperature",
                site="north",
                event_time=from_millis(START_MS + number * 10),
                seq=number,
                value=float(number),
                unit="Cel",
            )
        )
        headers = [("trace", b"1"), ("empty", None)] if number % 10 == 0 else None
        while True:
            try:
                producer.produce(
                    topic,
                    value if number % 11 else b"\x00no avro",
                    device.encode() if number % 13 else None,
                    on_delivery=lambda error, _: failed.append(error) if error else None,
                    headers=headers,
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0
    assert failed == []


def of_topic(settings: Settings, topic: str) -> dict[tuple[int, int], tuple[Any, ...]]:
    found: dict[tuple[int, int], tuple[Any, ...]] = {}

    def take(message: Any) -> None:
        place = (message.partition(), message.offset())
        found[place] = (message.key(), message.value(), message.timestamp()[1], message.headers())

    kafka.read_to_end(settings, topic, take, timeout=120)
    return found


def of_recording(folder: Path, topic: str) -> dict[tuple[int, int], tuple[Any, ...]]:
    found: dict[tuple[int, int], tuple[Any, ...]] = {}
    for rows in Recording(folder).rows(topic):
        headers = rows.headers() or [None] * len(rows)
        for number, (key, value) in enumerate(zip(rows.keys(), rows.values(), strict=True)):
            place = (int(rows.partitions[number]), int(rows.offsets[number]))
            assert place not in found, "an event is there twice"
            found[place] = (key, value, int(rows.broker_ms[number]), headers[number])
    return found


def run(settings: Settings, folder: Path, topic: str, **plan: Any) -> Any:
    given: dict[str, Any] = {"begin": At(word="start"), "end": At(word="now")}
    with Service("record", host="127.0.0.1", port=0) as service:
        return record(settings, service, Plan(topics=(topic,), **(given | plan)), folder)


def test_a_recording_is_what_is_in_the_topic(any_settings: Settings, tmp_path: Path):
    """Keys, values, times and headers are the same, also of what is no Avro; a second run adds what came since."""
    topic = new_topic(any_settings)
    produce(any_settings, topic, 3000)
    manifest = run(any_settings, tmp_path / "rec", topic)
    assert of_recording(tmp_path / "rec", topic) == of_topic(any_settings, topic)
    assert manifest.topics[topic].total.events == 3000
    produce(any_settings, topic, 500, first=3000)
    manifest = run(any_settings, tmp_path / "rec", topic)
    assert of_recording(tmp_path / "rec", topic) == of_topic(any_settings, topic)
    assert manifest.is_complete
    assert reader.verify(tmp_path / "rec").problems == []


def test_nothing_is_committed_and_no_group_is_joined(kafka_settings: Settings, tmp_path: Path):
    """The recorder has a group id, as every client must; the broker has no offsets of it, and others keep theirs."""
    topic = new_topic(kafka_settings)
    produce(kafka_settings, topic, 200)
    theirs = Consumer(kafka.consumer_config(kafka_settings, f"group-{topic}"))
    theirs.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    run(kafka_settings, tmp_path / "rec", topic)
    assert [place.offset for place in theirs.committed([TopicPartition(topic, 0)], timeout=10)] == [1]
    theirs.close()
    ours = Consumer(kafka.consumer_config(kafka_settings, "fleetwatch-recorder"))
    places = [TopicPartition(topic, number) for number in kafka.partitions_of(ours, topic)]
    assert all(place.offset < 0 for place in ours.committed(places, timeout=10))
    ours.close()


def test_a_recording_may_begin_and_end_at_a_time(kafka_settings: Settings, tmp_path: Path):
    topic = new_topic(kafka_settings)
    produce(kafka_settings, topic, 300)
    middle = max(facts[2] for facts in of_topic(kafka_settings, topic).values()) + 1
    while time.time() * 1000 <= middle:
        time.sleep(0.001)
    produce(kafka_settings, topic, 400, first=300)
    assert run(kafka_settings, tmp_path / "a", topic, end=At(time_ms=middle)).topics[topic].total.events == 300
    later = run(kafka_settings, tmp_path / "b", topic, begin=At(time_ms=middle))
    assert later.topics[topic].total.events == 400


def test_a_recording_may_end_at_a_time_to_come(kafka_settings: Settings, tmp_path: Path):
    topic = new_topic(kafka_settings)
    produce(kafka_settings, topic, 100)
    end = int(time.time() * 1000) + 1500
    manifest = run(kafka_settings, tmp_path / "rec", topic, end=At(time_ms=end))
    assert manifest.topics[topic].total.events == 100
    assert manifest.clock_ends_ms == end
    assert time.time() * 1000 >= end


def test_a_missing_topic_is_one_line_and_is_not_made_by_asking(any_settings: Settings, tmp_path: Path):
    """Both brokers make a topic when they are asked for it by its name (Apache Kafka where it is set up so)."""
    name = f"nope-{uuid.uuid4().hex[:10]}"
    with pytest.raises(EnvironmentProblemError, match=f"topic {name} does not exist at"):
        run(any_settings, tmp_path / "rec", name)
    assert not (tmp_path / "rec").exists()
    assert original(any_settings, (name, 0, 0)) is None
    assert name not in kafka.connect(any_settings).list_topics(timeout=10).topics


def test_a_wrong_time_is_one_line():
    with pytest.raises(EnvironmentProblemError, match="--from yesterday: give start, now, an offset, or a time"):
        parse_at("yesterday", "--from")


def test_partitions_that_are_added_are_recorded_from_their_start(
    kafka_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """While it runs, though only events of now on are wanted, and where they came between two runs."""
    topic, folder = new_topic(kafka_settings), tmp_path / "rec"
    monkeypatch.setattr("producers.record.LOOK_SECONDS", 0.5)
    admin = kafka.connect(kafka_settings)
    produce(kafka_settings, topic, 300)

    def add_partitions(total: int) -> None:
        admin.create_partitions([NewPartitions(topic, total)])[topic].result(30)
        wait_until(lambda: len(kafka.partitions_of(admin, topic)) == total, what="the partitions")

    with Service("record", host="127.0.0.1", port=0) as service, ThreadPoolExecutor(1) as pool:
        running = pool.submit(record, kafka_settings, service, Plan((topic,), At(word="now")), folder)
        wait_until(lambda: service.status.ready, what="the recorder")
        add_partitions(6)
        produce(kafka_settings, topic, 700, first=300)
        wait_until(lambda: service.status.counters.get("recorded") == 700, what="all events recorded", timeout=30)
        service.stopping.set()
        manifest = running.result(30)
    assert manifest.topics[topic].partitions == 6
    assert manifest.topics[topic].total.partitions.keys() >= {4, 5}
    add_partitions(7)
    produce(kafka_settings, topic, 300, first=1000)
    assert run(kafka_settings, folder, topic, begin=At(word="now")).topics[topic].total.events == 1000
    there = of_topic(kafka_settings, topic)
    recorded = of_recording(folder, topic)
    assert recorded == {place: there[place] for place in recorded}
    assert reader.verify(folder).problems == []


def test_what_begins_now_goes_on_where_it_began_even_if_nothing_had_come(any_settings: Settings, tmp_path: Path):
    """What comes between two runs of ``--from now`` is in the recording, also in partitions that were silent before."""
    topic = new_topic(any_settings)
    produce(any_settings, topic, 100)
    assert run(any_settings, tmp_path / "rec", topic, begin=At(word="now")).topics[topic].total.events == 0
    produce(any_settings, topic, 200, first=100)
    assert run(any_settings, tmp_path / "rec", topic, begin=At(word="now")).topics[topic].total.events == 200
    assert reader.verify(tmp_path / "rec").problems == []


@pytest.mark.parametrize("kills", [2])
def test_a_killed_recorder_loses_nothing_and_repeats_nothing(kafka_settings: Settings, tmp_path: Path, kills: int):
    """While events come, the recorder is killed again and again; each time what is there verifies."""
    topic = new_topic(kafka_settings)
    folder = tmp_path / "rec"
    chance = random.Random(1)
    environment = os.environ | {"FLEETWATCH_BOOTSTRAP_SERVERS": kafka_settings.bootstrap_servers}
    command = [sys.executable, "-m", "fleetwatch.cli.main", "record", "--topics", topic, "--out", str(folder)]
    sent = 0
    for _ in range(kills):
        process = subprocess.Popen([*command, "--part-mb", "1"], env=environment, stderr=subprocess.DEVNULL)
        try:
            before = sent
            deadline = time.monotonic() + 120
            while sent < before + 1500 or not _grew(folder, before):
                assert process.poll() is None, "the recorder ended by itself"
                assert time.monotonic() < deadline, "nothing was recorded in 120 s"
                if sent < before + 1500:
                    produce(kafka_settings, topic, 500, first=sent)
                    sent += 500
                else:
                    time.sleep(0.02)
                if _grew(folder, before) and chance.random() < 0.2:
                    break
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        found = reader.verify(folder)
        assert found.problems == []
    run(kafka_settings, folder, topic)
    assert of_recording(folder, topic) == of_topic(kafka_settings, topic)
    found = reader.verify(folder)
    assert (found.problems, found.notes, found.events) == ([], [], {topic: sent})


def _grew(folder: Path, events: int) -> bool:
    if not (folder / "manifest.json").exists():
        return False
    return sum(reader.verify(folder).events.values()) > events
