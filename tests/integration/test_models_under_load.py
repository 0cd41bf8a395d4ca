"""Models are trained, promoted and rolled back while readings flow and workers are killed."""

from __future__ import annotations

import itertools
import uuid
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from fleetwatch import avro, topics
from fleetwatch.records import ScoredReading
from tests.faults.models import Commands, Newest, history, shadow_readings
from tests.faults.readings import Feed, read_records
from tests.faults.workers import PATIENCE, Crew, ForkedWorker, lag, rules_for, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration

BUSY = 60
LEAST = 50


def scored_by(settings: Settings, mark: str) -> dict[tuple[str, int], set[bytes]]:
    """The different bytes of each reading's score."""
    found: dict[tuple[str, int], set[bytes]] = defaultdict(set)
    for record, value in read_records(settings, topics.SCORED, ScoredReading):
        if record.device_id.startswith(mark):
            found[(record.device_id, record.seq)].add(value)
    return found


def test_no_reading_is_left_out_or_scored_differently_while_models_change(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    """Train, promote and roll back under load; after each change the worker is killed, and another one goes on."""
    mark = f"reg-{uuid.uuid4().hex[:6]}"
    environment = rules_for(mark, tmp_path) | {
        "FLEETWATCH_TRAINING_FIRST": "false",
        "FLEETWATCH_WARM_UP_READINGS": "5",
        "FLEETWATCH_CHECKPOINT_SECONDS": "0.3",
    }
    commands = Commands(kafka_settings, FLEETWATCH_PROMOTE_MIN_READINGS=str(LEAST), FLEETWATCH_WARM_UP_READINGS="5")
    feed = Feed(kafka_settings, mark, busy=BUSY)
    with Crew(kafka_settings, tmp_path, environment) as crew, Newest(kafka_settings, mark) as newest:

        def change(version: str) -> ForkedWorker:
            """Wait for a version, kill the worker that has it, and return the next one."""
            feed.send_until(lambda: newest.are(version, of=BUSY), PATIENCE, f"{version} scores")
            for worker in crew.alive:
                worker.kill()
            return crew.start()

        crew.start()
        feed.send_until(lambda: newest.are("", of=BUSY), PATIENCE, "a worker scores")
        first = train(commands, tmp_path, mark, seed=1)
        worker = change(first)
        second = train(commands, tmp_path, mark, seed=2)
        assert commands.active(mark) == [first]
        assert commands("models", "promote", mark, second).code == 1  # nothing is known of it yet
        is_compared = partial(is_shadow_compared, worker, second)
        feed.send_until(is_compared, PATIENCE, "the shadow is compared")
        assert commands("models", "promote", mark, second, "--force").code == 0  # the guard has tests of its own
        change(second)
        assert commands("models", "rollback", mark).facts["model"]["version"] == first
        worker = change(first)
        feed.send_until(lambda: worker.counted("scored") > 0, PATIENCE, "the last worker scores")
        wait_for(lambda: lag(kafka_settings) == 0, PATIENCE, "the last worker catches up")
        assert worker.stop() == 0

    got = scored_by(kafka_settings, mark)
    assert len(got) == feed.total
    differing = {who: [avro.decode(one, ScoredReading) for one in some] for who, some in got.items() if len(some) > 1}
    assert not differing
    assert phases(got) == {("", first, second, first)}


def train(commands: Commands, folder: Path, sensor_type: str, *, seed: int) -> str:
    past = history(folder / f"past-{seed}", sensor_type, seed=seed)
    said = commands("train", "--from-recording", str(past), "--sensor-type", sensor_type)
    return str(said.facts["trained"][0]["version"])


def is_shadow_compared(worker: ForkedWorker, version: str) -> bool:
    return shadow_readings(worker.port, version) >= LEAST


def phases(got: dict[tuple[str, int], set[bytes]]) -> set[tuple[Any, ...]]:
    """Which models scored the busy devices, one after another: the same on every partition."""
    by_device: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for (device, seq), values in got.items():
        if "-quiet-" not in device:
            by_device[device].append((seq, avro.decode(min(values), ScoredReading).batch_model))
    return {
        tuple(version for version, _ in itertools.groupby(model for _, model in sorted(some)))
        for some in by_device.values()
    }
