"""The mission's row "pruning": who falls silent is alerted, leaves the live view, and returns when it speaks."""

from __future__ import annotations

import threading
import time
import uuid
import zlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import psycopg
import pytest
import redis
from confluent_kafka import Producer
from pydantic import SecretStr

from dashboard.tail import Tail
from fleetwatch import kafka, topics
from fleetwatch.records import Alert, AlertState
from sinks.migrate import migrate
from tests.faults.processes import SinkProcess
from tests.faults.readings import read_records, reading
from tests.faults.workers import WorkerProcess
from tests.services import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration

SILENT_AFTER = 1.5
TTL = 6.0


class Speakers:
    """Devices that report five times a second, each while it is in ``speaking``."""

    def __init__(self, settings: Settings, *devices: str) -> None:
        self.speaking = set(devices)
        self._producer = Producer(kafka.producer_config(settings))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        seq = 0
        while not self._stopping.wait(0.2):
            seq += 1
            for device in tuple(self.speaking):
                key, value = reading(device, seq, 20.0 + seq % 7, int(time.time() * 1000))
                self._producer.produce(topics.READINGS, value, key)
            self._producer.poll(0)
        assert self._producer.flush(20) == 0


class Places:
    """Where a device shows while it is live."""

    def __init__(self, settings: Settings, tail: Tail, cache: redis.Redis) -> None:
        self._url = settings.database_url.get_secret_value()
        self._tail, self._cache = tail, cache

    def of(self, device: str) -> set[str]:
        found = {
            "cache": self._cache.exists(f"device:{device}") + self._cache.exists(f"device:{device}:events") == 2,
            "list of the cache": self._cache.zscore("devices:last_seen", device) is not None,
            "dashboard": device in self._tail.board.devices,
            "active in the database": self.ask("SELECT inactive_since FROM devices WHERE device_id = %s", device)
            == [(None,)],
        }
        return {name for name, is_there in found.items() if is_there}

    def ask(self, query: str, device: str) -> list[tuple[datetime | None, ...]]:
        with psycopg.connect(self._url) as connection:
            return connection.execute(query.encode(), [device]).fetchall()


EVERYWHERE = {"cache", "list of the cache", "dashboard", "active in the database"}


@pytest.fixture
def live(settings: Settings, postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[Settings]:
    """A worker, both sinks, and settings for a dashboard, with a short time to live."""
    migrate(postgres_url)
    urls = {"database_url": SecretStr(postgres_url), "redis_url": SecretStr(redis_url), "device_ttl_seconds": TTL}
    settings = settings.model_copy(update=urls)
    rules = tmp_path / "rules.yaml"
    rules.write_text(f"rules: [{{name: silent, kind: silence, after_seconds: {SILENT_AFTER}}}]\n")
    common = {"FLEETWATCH_DEVICE_TTL_SECONDS": str(TTL)}
    stores = {"FLEETWATCH_DATABASE_URL": postgres_url, "FLEETWATCH_REDIS_URL": redis_url, **common}
    with ExitStack() as stack:
        for name in ("timescale", "redis"):
            stack.enter_context(SinkProcess(name, settings, tmp_path / f"{name}.log", **stores))
        own = {"FLEETWATCH_RULES_FILE": str(rules), "FLEETWATCH_OUT_OF_ORDERNESS_SECONDS": "0.5", **common}
        stack.callback(WorkerProcess(settings, tmp_path, **own).kill)
        yield settings


def pair_of_one_partition() -> tuple[str, str]:
    """Return two device ids: silence is judged when others of the partition speak."""
    mark = uuid.uuid4().hex[:8]
    steady, *others = (f"prune-{mark}-{number}" for number in range(20))
    place = zlib.crc32(steady.encode()) % 4
    return steady, next(other for other in others if zlib.crc32(other.encode()) % 4 == place)


def test_a_silent_device_is_alerted_leaves_the_live_view_and_returns(live: Settings) -> None:
    steady, fickle = pair_of_one_partition()
    tail = Tail(live)
    with (
        redis.Redis.from_url(live.redis_url.get_secret_value(), decode_responses=True) as cache,
        Speakers(live, steady, fickle) as speakers,
    ):
        places = Places(live, tail, cache)
        tail.start()
        try:
            wait_until(lambda: places.of(fickle) == EVERYWHERE, what="the device is everywhere", timeout=60)
            speakers.speaking.remove(fickle)
            wait_until(lambda: not places.of(fickle), what="the device is nowhere", timeout=40)
            assert places.of(steady) == EVERYWHERE

            alerts = [found for found in read_records(live, topics.ALERTS, Alert) if found[0].device_id == fickle]
            firing = [alert for alert, _ in alerts if alert.state is AlertState.FIRING]
            assert [alert.rule for alert in firing] == ["silent"]
            ((inactive_since,),) = places.ask("SELECT inactive_since FROM devices WHERE device_id = %s", fickle)
            assert inactive_since is not None
            assert firing[0].ingest_time < inactive_since, "the alert comes before the device leaves"
            wait_until(lambda: is_given_up(live, fickle), what="the open alert is resolved", timeout=20)

            before = places.ask("SELECT max(event_time) FROM readings WHERE device_id = %s", fickle)
            speakers.speaking.add(fickle)
            wait_until(lambda: places.of(fickle) == EVERYWHERE, what="the device is back", timeout=40)
            first = "SELECT min(event_time) FROM readings WHERE device_id = %s"
            assert places.ask(first, fickle) < before, "its history stayed"
        finally:
            tail.stop()


def is_given_up(settings: Settings, device: str) -> bool:
    """Whether its alert says that the device was given up."""
    return any(
        "given up" in alert.summary
        for alert, _ in read_records(settings, topics.ALERTS, Alert)
        if alert.device_id == device and alert.state is AlertState.RESOLVED
    )
