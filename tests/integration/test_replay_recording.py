"""Recordings into the topics of real brokers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fleetwatch import avro, kafka, topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.recording.reader import Recording
from fleetwatch.recording.rows import Messages
from fleetwatch.recording.writer import RecordingWriter
from fleetwatch.records import SensorReading, to_millis
from fleetwatch.service import Service
from producers.replay_recording import HEADER, Mark, Options, replay
from tests.unit.recording.recordings import START_MS, reading

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration


def make(folder: Path, count: int, *, every_ms: int = 10) -> Recording:
    """Readings and truth-like events in four partitions, some without key or value, some with headers."""
    with RecordingWriter(folder, {topics.READINGS: 4, topics.ALERTS: 4}) as writer:
        for start in range(0, count, 500):
            numbers = range(start, min(start + 500, count))
            writer.append(
                topics.READINGS,
                Messages(
                    np.array([number % 4 for number in numbers]),
                    np.array([1000 + number // 4 for number in numbers]),
                    np.array([START_MS + every_ms * number for number in numbers]),
                    [f"press-{number % 5}".encode() if number % 50 else None for number in numbers],
                    [avro.encode(reading(number)) if number % 30 else None for number in numbers],
                    [[("trace", b"%d" % number)] if number % 10 == 0 else None for number in numbers],
                ),
            )
        writer.append(topics.ALERTS, Messages(np.array([0]), np.array([0]), np.array([START_MS]), [b"k"], [b"v"]))
        writer.close()
    return Recording(folder)


def of_topic(settings: Settings, topic: str) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    kafka.read_to_end(
        settings, topic, lambda message: found.setdefault(message.partition(), []).append(message), timeout=120
    )
    return found


def run(settings: Settings, recording: Recording, prefix: str, **options: Any) -> Any:
    with Service("replay", host="127.0.0.1", port=0) as service:
        return replay(settings, service, recording, Options(prefix, **({"speed": None} | options)))


def new_prefix() -> str:
    return f"t{uuid.uuid4().hex[:10]}."


def is_replayed(recording: Recording, found: dict[int, list[Any]], delta_ms: int = 0) -> None:
    """Every event once, in the order and the partition it had, with key, value, time and headers."""
    rows = [rows.shifted(delta_ms) if delta_ms else rows for rows in recording.rows(topics.READINGS)]
    for partition in range(4):
        expected = [
            (key, value, millis, offset, [header for header in (headers or []) if header])
            for block in rows
            for key, value, millis, offset, number, headers in zip(
                block.keys(),
                block.values(),
                block.broker_ms.tolist(),
                block.offsets.tolist(),
                block.partitions.tolist(),
                block.headers() or [None] * len(block),
                strict=True,
            )
            if number == partition
        ]
        messages = found[partition]
        marks = [Mark.of(message.headers()) for message in messages]
        assert [mark.offset for mark in marks if mark] == [facts[3] for facts in expected]
        for message, (key, value, millis, _, headers) in zip(messages, expected, strict=True):
            assert (message.key(), message.value()) == (key, value)
            assert message.timestamp()[1] == millis
            assert [header for header in message.headers() if header[0] != HEADER] == headers


def test_a_replay_is_the_recording_again(any_settings: Settings, tmp_path: Path):
    """Derived topics are left out; a second run has nothing to do, unless it is told to do it again."""
    recording, prefix = make(tmp_path / "rec", 2000), new_prefix()
    totals = run(any_settings, recording, prefix)
    assert (totals.replayed, totals.failed, totals.left) == (2000, 0, 0)
    is_replayed(recording, of_topic(any_settings, prefix + topics.READINGS))
    totals = run(any_settings, recording, prefix)
    assert (totals.replayed, totals.before, totals.left) == (0, 2000, 0)
    assert run(any_settings, recording, prefix, again=True).replayed == 2000


def test_times_are_moved_to_now_by_whole_windows(kafka_settings: Settings, tmp_path: Path):
    recording, prefix = make(tmp_path / "rec", 400), new_prefix()
    before = int(time.time() * 1000)
    run(kafka_settings, recording, prefix, shift_to_now=True)
    found = of_topic(kafka_settings, prefix + topics.READINGS)
    mark = Mark.of(found[0][0].headers())
    assert mark is not None
    assert mark.delta_ms % 10_000 == 0
    assert before - 10_000 <= START_MS + mark.delta_ms <= time.time() * 1000
    is_replayed(recording, found, mark.delta_ms)
    times = [
        to_millis(avro.decode(message.value(), SensorReading).event_time) for message in found[1] if message.value()
    ]
    assert min(times) >= START_MS + mark.delta_ms


def test_speed_is_kept(kafka_settings: Settings, tmp_path: Path):
    """Two seconds of recording at twice the speed take one second, not less."""
    recording = make(tmp_path / "rec", 200, every_ms=10)
    totals = run(kafka_settings, recording, new_prefix(), speed=2.0)
    assert totals.replayed == 200
    assert totals.seconds >= 0.95


def test_a_killed_replay_goes_on_behind_what_arrived(kafka_settings: Settings, tmp_path: Path):
    """kill -9 in the middle; the second run sends exactly the rest, with the same shift of time."""
    recording, prefix = make(tmp_path / "rec", 8000), new_prefix()
    environment = os.environ | {"FLEETWATCH_BOOTSTRAP_SERVERS": kafka_settings.bootstrap_servers}
    command = [sys.executable, "-m", "fleetwatch.cli.main", "replay", str(tmp_path / "rec"), "--to", prefix]
    process = subprocess.Popen(
        [*command, "--speed", "2", "--shift-time", "now"], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        arrived = 0
        while arrived < 200:
            assert process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline, "nothing arrived in 120 s"
            time.sleep(0.05)
            client = kafka.connect(kafka_settings)
            if kafka.partitions_of(client, prefix + topics.READINGS):
                arrived = sum(map(len, of_topic(kafka_settings, prefix + topics.READINGS).values()))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    output = subprocess.run(
        [*command, "--speed", "max", "--json"], env=environment, stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    totals = json.loads(output.splitlines()[-1])
    assert totals["before"] >= 200
    assert totals["replayed"] > 0
    assert totals["before"] + totals["replayed"] == 8000
    found = of_topic(kafka_settings, prefix + topics.READINGS)
    mark = Mark.of(found[0][0].headers())
    assert mark is not None
    assert mark.delta_ms > 0
    is_replayed(recording, found, mark.delta_ms)


def test_topics_that_do_not_fit_are_one_line(kafka_settings: Settings, tmp_path: Path):
    recording, prefix = make(tmp_path / "rec", 10), new_prefix()
    with pytest.raises(EnvironmentProblemError, match=r"has no fleet.counts; it has fleet.alerts, fleet.readings"):
        run(kafka_settings, recording, prefix, topics=("fleet.counts",))
    kafka.ensure_topics(kafka_settings.model_copy(update={"partitions": 2}), [prefix + topics.READINGS])
    with pytest.raises(EnvironmentProblemError, match="has 2 partitions, the recorded topic had 4"):
        run(kafka_settings, recording, prefix)
