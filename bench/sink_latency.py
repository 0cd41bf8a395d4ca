"""How soon a scored reading can be read from the database and from the cache, at a steady rate through real Kafka.

Both sinks run as processes of their own. Some of the devices are probes: a reader asks for their newest reading every
few milliseconds, and notes for every reading that it finds for the first time how long ago it was handed to Kafka.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from confluent_kafka import Producer

from fleetwatch import avro, kafka, topics
from fleetwatch.local.kafka_jars import cache_dir
from fleetwatch.local.kafka_server import KafkaServer
from fleetwatch.settings import Settings
from tests.faults.cache import CacheServer
from tests.faults.processes import SinkProcess
from tests.services import TimescaleServer, fresh_database, wait_until
from tests.unit.sinks.samples import scored

if TYPE_CHECKING:
    from collections.abc import Callable

BARS_MS = {"database": 1000, "cache": 300}
TICKS_PER_SECOND = 100
PROBES = 10


class Probe:
    """Notes when readings of the probe devices can be seen, and how long after they were sent."""

    def __init__(self, sent: dict[str, list[float]], newest: Callable[[], dict[str, int]], every: float) -> None:
        self._sent, self._newest, self._every = sent, newest, every
        self._seen = dict.fromkeys(sent, -1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.latencies: list[tuple[float, float]] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            found, now = self._newest(), time.time()
            for device, seq in found.items():
                for number in range(self._seen[device] + 1, seq + 1):
                    self.latencies.append((self._sent[device][number], now - self._sent[device][number]))
                self._seen[device] = seq

    def percentiles(self, since: float) -> dict[str, float]:
        found = sorted(latency * 1000 for sent, latency in self.latencies if sent >= since)
        return {name: found[int(len(found) * part)] for name, part in (("p50", 0.5), ("p99", 0.99))} | {
            "max": found[-1],
            "samples": len(found),
        }


def measure(per_second: int, seconds: float, warm_seconds: float) -> dict[str, dict[str, float]]:
    devices = [f"device-{n}" for n in range(per_second // 2)]
    probes = devices[:PROBES]
    sent: dict[str, list[float]] = {device: [] for device in probes}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleetwatch-")))
        folder.chmod(0o755)
        broker = stack.enter_context(KafkaServer(folder / "kafka"))
        settings = Settings(bootstrap_servers=broker.bootstrap_servers)
        kafka.ensure_topics(settings)
        database = stack.enter_context(TimescaleServer(cache_dir(), fsync="on"))
        url = stack.enter_context(fresh_database(database.url, extension="timescaledb"))
        cache = stack.enter_context(CacheServer(folder / "redis"))
        urls = {"FLEETWATCH_DATABASE_URL": url, "FLEETWATCH_REDIS_URL": cache.url}
        sinks = [
            stack.enter_context(SinkProcess(name, settings, folder / f"{name}.log", **urls))
            for name in ("timescale", "redis")
        ]
        for sink in sinks:
            wait_until(sink.is_ready, what=f"{sink.name} being ready", timeout=120)
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        client = stack.enter_context(redis.Redis.from_url(cache.url))
        start = datetime.now(UTC)

        def in_database() -> dict[str, int]:
            return dict(
                connection.execute(
                    "SELECT device, newest.seq FROM unnest(%s::text[]) AS device CROSS JOIN LATERAL"
                    " (SELECT seq FROM readings WHERE device_id = device ORDER BY event_time DESC LIMIT 1) AS newest",
                    [probes],
                ).fetchall()
            )

        def in_cache() -> dict[str, int]:
            with client.pipeline(transaction=False) as pipeline:
                for device in probes:
                    pipeline.hget(f"device:{device}", "seq")
                answers: list[Any] = pipeline.execute()
            return {device: int(seq) for device, seq in zip(probes, answers, strict=True) if seq is not None}

        readers = {"database": Probe(sent, in_database, 0.01), "cache": Probe(sent, in_cache, 0.005)}
        for reader in readers.values():
            reader.start()
        produce(settings, devices, sent, per_second, warm_seconds + seconds, start)
        for reader in readers.values():
            wait_until(lambda reader=reader: len(reader.latencies) == sum(map(len, sent.values())), what="all seen")
            reader.stop()
        since = start.timestamp() + warm_seconds
        return {name: reader.percentiles(since) for name, reader in readers.items()}


def produce(
    settings: Settings,
    devices: list[str],
    sent: dict[str, list[float]],
    per_second: int,
    seconds: float,
    start: datetime,
) -> None:
    """Every tick the probes speak, and as many others as the rate asks for."""
    producer = Producer(kafka.producer_config(settings))
    per_tick = per_second // TICKS_PER_SECOND
    others, turn = devices[PROBES:], 0
    for tick in range(int(seconds * TICKS_PER_SECOND)):
        at = start + timedelta(seconds=tick / TICKS_PER_SECOND)
        time.sleep(max(0.0, at.timestamp() - time.time()))
        speakers = [*sent, *(others[(turn + n) % len(others)] for n in range(per_tick - PROBES))]
        turn += per_tick - PROBES
        for device in speakers:
            value = avro.encode(scored(device, tick, event_time=at, ingest_time=at))
            if device in sent:
                sent[device].append(time.time())
            producer.produce(topics.SCORED, value, device)
        producer.poll(0)
    assert producer.flush(30) == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-second", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--warm-seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = measure(asked.per_second, asked.seconds, asked.warm_seconds)
    for name, figures in found.items():
        shown = ", ".join(f"{figure} {value:.0f}" for figure, value in figures.items())
        print(f"{name:<9} ms at {asked.per_second} events/s: {shown}   (bar p99 {BARS_MS[name]})")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
