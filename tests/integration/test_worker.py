"""The streams worker as a process of its own, on a real broker."""

from __future__ import annotations

import contextlib
import random
import struct
import time
import uuid
from collections import defaultdict
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from fleetwatch import avro, kafka, topics
from fleetwatch.records import (
    Alert,
    AlertState,
    Box,
    CameraDetection,
    DeadLetter,
    Reason,
    ScoredReading,
    Stage,
    WindowCount,
    from_millis,
)
from tests.faults.readings import Feed, assert_exact, read_records, reading, send
from tests.faults.workers import WorkerProcess, lag, rules_for, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    started: list[WorkerProcess] = []

    def begin(settings: Settings, **extra: str) -> WorkerProcess:
        worker = WorkerProcess(settings, tmp_path, **extra)
        started.append(worker)
        return worker

    yield begin
    for worker in started:
        worker.kill()


def test_every_kind_of_bad_input_is_dead_lettered_and_its_neighbours_are_scored(
    any_settings: Settings, start: Callable[..., WorkerProcess]
) -> None:
    mark = uuid.uuid4().hex[:8]
    worker = start(any_settings)
    worker.wait_ready()
    now = int(time.time() * 1000)
    device = f"poison-{mark}"
    key, good = reading(device, 0, 1.0, now)
    body = good[5:]

    def value_of(number: float) -> bytes:
        return reading(device, 1, number, now)[1]

    bad: dict[Reason, list[tuple[bytes | None, bytes | None]]] = {
        Reason.NOT_FRAMED: [(key, b"\xff" + random.Random(1).randbytes(200)), (key, b"\x00\x00")],
        Reason.TRUNCATED: [(key, good[:-3]), (key, good[:-1])],
        Reason.TRAILING_BYTES: [(key, good + b"abc")],
        Reason.UNKNOWN_SCHEMA: [(key, b"\x00" + struct.pack(">I", 999_999) + body)],
        Reason.WRONG_SCHEMA: [(key, b"\x00" + struct.pack(">I", avro.schema_ids()["alert.v1"]) + body)],
        Reason.NOT_A_NUMBER: [(key, value_of(float("nan")))],
        Reason.INFINITE: [(key, value_of(float("inf"))), (key, value_of(float("-inf")))],
        Reason.TOO_FAR_AHEAD: [reading(device, 2, 1.0, 7_258_118_400_000)],  # the year 2200
        Reason.EMPTY_KEY: [(b"", good), (None, good)],
        Reason.KEY_MISMATCH: [(key + b"x", good)],
        Reason.TOO_LARGE: [(key, good + b"x" * 900_000)],
        Reason.EMPTY_VALUE: [(key, None), (key, b"")],
        Reason.MALFORMED: [(key, good[:5] + b"\x01" + good[6:])],
    }
    events: list[tuple[bytes | None, bytes | None]] = []
    wanted = 0
    for number, items in enumerate(bad.values()):
        for item in items:
            events += [reading(device, 100 + 2 * wanted, 1.0 + number, now + 2 * wanted), item]
            wanted += 1
    send(any_settings, topics.READINGS, events)
    wait_for(lambda: worker.counted("dead_lettered") >= wanted, 30, "all bad events are dead-lettered")
    wait_for(lambda: lag(any_settings) == 0, 30, "everything is committed")

    letters = [letter for letter, _ in read_records(any_settings, topics.DEAD_LETTERS, DeadLetter)]
    # an empty key may land in any partition, and other tests may have left letters: tell ours by the value
    ours = [letter for letter in letters if letter.topic == topics.READINGS]
    by_reason = defaultdict(list)
    for letter in ours:
        by_reason[letter.reason].append(letter)
    for reason, items in bad.items():
        assert len(by_reason[reason]) >= len(items), reason
    (large,) = [letter for letter in by_reason[Reason.TOO_LARGE] if letter.raw_key == key]
    assert large.value_length == len(good) + 900_000
    assert len(large.raw_value or b"") == 64 * 1024
    assert large.stage is Stage.DECODE
    assert by_reason[Reason.NOT_A_NUMBER][0].stage is Stage.VALIDATE
    scored = [record for record, _ in read_records(any_settings, topics.SCORED, ScoredReading)]
    seqs = sorted(record.seq for record in scored if record.device_id == device)
    assert seqs == [100 + 2 * number for number in range(wanted)]
    assert worker.stop() == 0


def has_counted(worker: WorkerProcess, name: str) -> bool:
    return worker.counted(name) > 0


def test_kill_9_repeats_outputs_but_never_changes_or_loses_one(
    any_settings: Settings, start: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    mark = f"kill-{uuid.uuid4().hex[:6]}"
    environment = rules_for(mark, tmp_path)
    worker = start(any_settings, **environment)
    worker.wait_ready()
    feed = Feed(any_settings, mark)
    for _ in range(2):
        feed.send_for(4)
        worker.kill()
        worker = start(any_settings, **environment)
    feed.send_for(4)
    wait_for(lambda: worker.status()["ready"] and lag(any_settings) == 0, 60, "the last worker has caught up")
    wait_for(lambda: worker.counted("open_windows") == 0, 30, "all windows are closed")
    assert worker.stop() == 0
    assert_exact(any_settings, feed, environment)


def test_kill_9_while_batch_models_come_in_force_changes_no_score(
    kafka_settings: Settings, start: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    """Which model scores a reading depends on when it was trained; that it was this one, not on a restart."""
    mark = f"model-{uuid.uuid4().hex[:6]}"
    environment = rules_for(mark, tmp_path) | {
        "FLEETWATCH_TRAINING_SAMPLE": "300",
        "FLEETWATCH_WARM_UP_READINGS": "5",
        "FLEETWATCH_CHECKPOINT_SECONDS": "0.3",
    }
    worker = start(kafka_settings, **environment)
    feed = Feed(kafka_settings, mark)
    for counter in ("scored", "models_trained"):
        feed.send_until(partial(has_counted, worker, counter), 60, counter)
        feed.send_for(0.5)
        worker.kill()
        worker = start(kafka_settings, **environment)
    feed.send_until(lambda: worker.status()["ready"] and lag(kafka_settings) < 200, 60, "the last worker is at work")
    feed.send_for(3)
    wait_for(lambda: worker.status()["ready"] and lag(kafka_settings) == 0, 60, "the last worker has caught up")
    assert worker.stop() == 0
    got: dict[Any, set[bytes]] = defaultdict(set)
    for record, value in read_records(kafka_settings, topics.SCORED, ScoredReading):
        if record.device_id.startswith(mark):
            got[(record.device_id, record.seq)].add(value)
    assert len(got) == feed.total
    differing = [[avro.decode(value, ScoredReading) for value in values] for values in got.values() if len(values) > 1]
    assert not differing
    models = {avro.decode(value, ScoredReading).batch_model for values in got.values() for value in values}
    assert len(models) >= 2


def test_two_workers_share_the_partitions_and_one_takes_over_when_the_other_stops(
    kafka_settings: Settings, start: Callable[..., WorkerProcess]
) -> None:
    mark = uuid.uuid4().hex[:6]
    first, second = start(kafka_settings), start(kafka_settings)
    first.wait_ready()
    second.wait_ready()
    devices = [f"two-{mark}-{number}" for number in range(40)]
    number = 0

    def both_work() -> bool:
        nonlocal number
        now = int(time.time() * 1000)
        send(kafka_settings, topics.READINGS, [reading(d, number, 1.0, now) for d in devices])
        number += 1
        return first.counted("scored") > 0 and second.counted("scored") > 0

    wait_for(both_work, 60, "both workers score")
    assert second.stop() == 0
    for _ in range(50):
        both_work()
    wait_for(lambda: lag(kafka_settings) == 0, 60, "the first worker has taken over")
    seen = defaultdict(set)
    for record, _ in read_records(kafka_settings, topics.SCORED, ScoredReading):
        seen[record.device_id].add(record.seq)
    assert all(seen[device] == set(range(number)) for device in devices)
    assert first.stop() == 0


def test_a_surge_of_detections_fires_once_and_resolves(settings: Settings, start: Callable[..., WorkerProcess]) -> None:
    camera = f"cam-{uuid.uuid4().hex[:6]}"
    worker = start(settings)
    worker.wait_ready()
    begin = int(time.time() * 1000) // 2000 * 2000

    def detection(number: int, at_ms: int) -> tuple[bytes, bytes]:
        record = CameraDetection(
            camera_id=camera,
            site="gate",
            event_time=from_millis(at_ms),
            seq=number,
            label="person",
            confidence=0.5,
            box=Box(x=0.1, y=0.1, width=0.2, height=0.2),
        )
        return camera.encode(), avro.encode(record)

    send(settings, topics.DETECTIONS, [detection(number, begin + number) for number in range(250)])
    send(settings, topics.DETECTIONS, [detection(300, begin + 2500)])
    wait_for(lambda: worker.counted("alerts_resolved") >= 1, 30, "the surge is over")
    mine = [
        alert
        for alert, _ in read_records(settings, topics.ALERTS, Alert)
        if alert.device_id == camera and alert.rule == "crowd"
    ]
    assert [alert.state for alert in mine] == [AlertState.FIRING, AlertState.RESOLVED]
    assert mine[0].alert_id == mine[1].alert_id
    assert mine[0].started_at == from_millis(begin + 199)  # the 200th detection
    assert mine[1].ended_at == from_millis(begin) + timedelta(seconds=2)
    counts = [
        count
        for count, _ in read_records(settings, topics.COUNTS, WindowCount)
        if count.is_final and count.key == f"{camera}|person"
    ]
    assert [count.count for count in counts][:1] == [250]
    assert worker.stop() == 0


def test_the_end_of_a_worker_leaves_nothing_uncommitted(
    settings: Settings, start: Callable[..., WorkerProcess]
) -> None:
    device = f"stop-{uuid.uuid4().hex[:6]}"
    worker = start(settings, FLEETWATCH_CHECKPOINT_SECONDS="2")
    worker.wait_ready()
    now = int(time.time() * 1000)
    send(settings, topics.READINGS, [reading(device, number, 1.0, now + number) for number in range(500)])
    before = worker.counted("scored")
    wait_for(lambda: worker.counted("scored") >= max(before, 500), 20, "the readings are scored")
    assert worker.stop() == 0
    with contextlib.closing(Consumer(kafka.consumer_config(settings, topics.GROUP_STREAMS))) as client:
        numbers = kafka.partitions_of(client, topics.READINGS)
        committed = client.committed([TopicPartition(topics.READINGS, n) for n in numbers], timeout=10)
        ends = [client.get_watermark_offsets(TopicPartition(topics.READINGS, n), timeout=10)[1] for n in numbers]
    assert [max(0, position.offset) for position in committed] == ends
