"""Commands about models as people call them, and a history to train on."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from confluent_kafka import OFFSET_END, Consumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from fleetwatch import avro, kafka, topics
from fleetwatch.cli.main import build_app
from fleetwatch.errors import RefusedError
from fleetwatch.recording.rows import Messages
from fleetwatch.recording.writer import RecordingWriter
from fleetwatch.records import ScoredReading
from tests.faults.readings import reading

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings


@dataclass(frozen=True)
class Said:
    """What a command printed as JSON, and its exit code."""

    code: int
    facts: dict[str, Any]


class Commands:
    """`fleetwatch train` and `fleetwatch models ...` with the settings of a worker."""

    def __init__(self, settings: Settings, **environment: str) -> None:
        self._environment = {
            "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "FLEETWATCH_EMBEDDED_BROKER": str(settings.embedded_broker),
            "FLEETWATCH_MODELS_DIR": str(settings.models_dir),
            "FLEETWATCH_LOG_LEVEL": "error",
            **environment,
        }

    def __call__(self, *arguments: str) -> Said:
        result = CliRunner().invoke(build_app(), [*arguments, "--json"], env=self._environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, json.loads(result.stdout.splitlines()[-1]))

    def models(self, sensor_type: str) -> dict[str, dict[str, Any]]:
        """What `models list` says of a type, by version."""
        found = self("models", "list", "--sensor-type", sensor_type).facts["models"]
        return {facts["version"]: facts for facts in found}

    def active(self, sensor_type: str) -> list[str]:
        return [version for version, facts in self.models(sensor_type).items() if facts["status"] == "ACTIVE"]


class Newest:
    """Which model scored the newest reading of each device of a type; follows the topic."""

    def __init__(self, settings: Settings, sensor_type: str) -> None:
        self._sensor_type = sensor_type
        self._found: dict[str, tuple[int, str]] = {}
        self._consumer = Consumer(kafka.consumer_config(settings, f"newest-{sensor_type}"))
        numbers = kafka.partitions_of(self._consumer, topics.SCORED)
        self._consumer.assign([TopicPartition(topics.SCORED, number, OFFSET_END) for number in numbers])
        self._consumer.consume(1, timeout=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def are(self, version: str, *, of: int) -> bool:
        """Whether a version scored the newest reading of so many devices, and no other one those of the others."""
        while messages := self._consumer.consume(2000, timeout=0.05):
            for message in messages:
                with contextlib.suppress(RefusedError):
                    one = avro.decode(message.value(), ScoredReading)
                    if one.sensor_type == self._sensor_type:
                        known = self._found.get(one.device_id, (-1, ""))
                        self._found[one.device_id] = max(known, (one.seq, one.batch_model))
        models = [model for device, (_, model) in self._found.items() if "-quiet-" not in device]
        return len(models) >= of and set(models) == {version}


def shadow_readings(port: int, version: str) -> float:
    """How many readings a version was compared on, as a worker's metrics have it."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
        for family in text_string_to_metric_families(answer.read().decode()):
            for sample in family.samples:
                if sample.name == "fleetwatch_shadow_readings" and sample.labels["version"] == version:
                    return float(sample.value)
    return 0.0


def history(folder: Path, kind: str, *, seed: int = 0, readings: int = 1000) -> Path:
    """A recording of three devices of a type, as noisy as the feed's."""
    rng, start_ms = np.random.default_rng(seed), 1_780_000_000_000
    times = [start_ms + number * 100 for number in range(readings)]
    events = [
        reading(f"old-{number % 3}", number, float(rng.normal()), at, kind=kind) for number, at in enumerate(times)
    ]
    keys, values = zip(*events, strict=True)
    with RecordingWriter(folder, {topics.READINGS: 1}) as writer:
        zeros, offsets = np.zeros(readings, np.int64), np.arange(readings)
        writer.append(topics.READINGS, Messages(zeros, offsets, np.array(times), keys, values))
        writer.close(times[-1])
    return folder
