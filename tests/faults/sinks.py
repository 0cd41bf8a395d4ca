"""Faults of the sinks and their stores, while events flow through Kafka into TimescaleDB and Redis.

The sinks run all the time, as processes. A fault is put in again and again while they write; then the flow ends, the
sinks catch up, and what stands in the database and in the cache is held against what the broker has acknowledged.
"""

from __future__ import annotations

import json
import random
import signal
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import redis

from fleetwatch import topics
from fleetwatch.local.kafka_jars import cache_dir
from sinks.cache_writes import KEPT_EVENTS
from tests.faults.cache import CacheServer
from tests.faults.flow import Flow, ends, lag
from tests.faults.processes import SinkProcess
from tests.faults.proxy import CuttingProxy
from tests.faults.report import Outcome
from tests.services import TimescaleServer, fresh_database, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fleetwatch.settings import Settings
    from tests.faults.report import Scenario

PATIENCE: Final = 120.0
STATEMENT_SECONDS: Final = 2.0


@dataclass
class World:
    """Kafka, TimescaleDB on a disk that can be filled, Redis, and both sinks."""

    settings: Settings
    database: TimescaleServer
    database_url: str
    proxy: CuttingProxy
    cache: CacheServer
    sinks: dict[str, SinkProcess]
    random: random.Random = field(default_factory=lambda: random.Random(5))

    def wait_until_written(self, name: str, rows: int) -> None:
        """Wait until a sink has written some more; a sink that was started anew counts from zero."""
        sink = self.sinks[name]
        wait_until(
            lambda: sink.is_ready() and sink.counter("rows_written") > 0, what=f"{name} writing", timeout=PATIENCE
        )
        before = sink.counter("rows_written")
        wait_until(lambda: sink.counter("rows_written") >= before + rows, what=f"{name} writing", timeout=PATIENCE)

    def wait_until_paused(self, name: str, because: str) -> None:
        wait_until(lambda: self.sinks[name].is_paused(because), what=f"{name} saying that it waits", timeout=PATIENCE)

    def wait_until_ready(self, name: str) -> None:
        wait_until(self.sinks[name].is_ready, what=f"{name} going on", timeout=PATIENCE)

    def some(self, highest: float) -> float:
        return self.random.uniform(0, highest)


# --- The faults. Each is put in while both sinks write, and returns when what it broke is whole again.


def kill_timescale(world: World) -> None:
    _kill(world, "timescale")


def kill_redis(world: World) -> None:
    _kill(world, "redis")


def _kill(world: World, name: str) -> None:
    time.sleep(world.some(0.4))  # a random moment is what is tested
    world.sinks[name].kill()
    world.sinks[name].start()


def stop_database(world: World) -> None:
    """By turns as a person stops it, and as it crashes."""
    world.database.stop(by=world.random.choice([signal.SIGINT, signal.SIGQUIT]))
    world.wait_until_paused("timescale", "PostgreSQL")
    world.database.start()
    world.wait_until_ready("timescale")


def cut_connection_in_copy(world: World) -> None:
    retries = world.sinks["timescale"].counter("retries")
    world.proxy.cut_in_copy(world.random.randrange(1, 4000), timeout=PATIENCE)
    wait_until(lambda: world.sinks["timescale"].counter("retries") > retries, what="trying again", timeout=PATIENCE)
    world.wait_until_ready("timescale")


def fill_disk(world: World) -> None:
    world.database.fill_disk()
    try:
        world.wait_until_paused("timescale", "No space left on device")
    finally:
        world.database.empty_disk()
    world.wait_until_ready("timescale")


def hold_statements_up(world: World) -> None:
    """Somebody locks the table for longer than a statement of the sink may take."""
    with psycopg.connect(world.database_url) as connection:
        connection.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")
        world.wait_until_paused("timescale", "statement timeout")
    world.wait_until_ready("timescale")


def stop_cache(world: World) -> None:
    world.cache.stop(by=world.random.choice([signal.SIGTERM, signal.SIGKILL]))
    world.wait_until_paused("redis", "Redis")
    world.cache.start()
    world.wait_until_ready("redis")


def flush_cache(world: World) -> None:
    with redis.Redis.from_url(world.cache.url) as client:
        client.flushall()
        wait_until(lambda: bool(client.hexists("sink:offsets", "cluster")), what="filling the cache", timeout=PATIENCE)


FAULTS: Final[dict[str, Callable[[World], None]]] = {
    "sink-timescale-killed": kill_timescale,
    "sink-redis-killed": kill_redis,
    "sink-database-stopped": stop_database,
    "sink-connection-cut-in-copy": cut_connection_in_copy,
    "sink-disk-full": fill_disk,
    "sink-statement-time-out": hold_statements_up,
    "sink-redis-stopped": stop_cache,
    "sink-redis-flushed": flush_cache,
}


# --- Putting them in, and counting


@contextmanager
def world_of(settings: Settings, folder: Path) -> Iterator[World]:
    """Start the stores and both sinks on a broker that is there."""
    with ExitStack() as stack:
        database = stack.enter_context(TimescaleServer(cache_dir(), small_disk_mb=600))
        url = stack.enter_context(fresh_database(database.url, extension="timescaledb", tablespace="small"))
        proxy = stack.enter_context(CuttingProxy(database.port))
        cache = stack.enter_context(CacheServer(folder / "redis"))
        urls = {
            "FLEETWATCH_DATABASE_URL": url.replace(f":{database.port}/", f":{proxy.port}/"),
            "FLEETWATCH_DATABASE_TIMEOUT_SECONDS": str(STATEMENT_SECONDS),
            "FLEETWATCH_REDIS_URL": cache.url,
        }
        sinks = {
            name: stack.enter_context(SinkProcess(name, settings, folder / f"{name}.log", **urls))
            for name in ("timescale", "redis")
        }
        yield World(settings, database, url, proxy, cache, sinks)
        assert [sink.stop() for sink in sinks.values()] == [0, 0]


def put_in(world: World, faults: Iterable[str], runs: int, at_least: int = 0) -> Iterator[Outcome]:
    """Put each fault in ``runs`` times while events flow, and yield what was lost and doubled in both stores."""
    for name in faults:
        with Flow(world.settings, at_least=at_least) as flow:
            for _ in range(runs):
                for sink in world.sinks:
                    world.wait_until_written(sink, rows=world.random.randrange(1, 200))
                FAULTS[name](world)
        lost, doubled = _compare(world, flow)
        yield Outcome(name, runs, lost, doubled)


def _compare(world: World, flow: Flow) -> tuple[int, int]:
    for group in (topics.GROUP_TIMESCALE, topics.GROUP_REDIS):
        wait_until(lambda group=group: lag(world.settings, group) == 0, what=f"{group} catching up", timeout=PATIENCE)
    rows, distinct = count(world.database_url, flow.prefix)
    assert stored_offsets(world.database_url) == ends(world.settings, topics.SCORED)
    missing, twice = _compare_cache(world.cache.url, flow)
    return flow.total - distinct + missing, rows - distinct + twice


def _compare_cache(url: str, flow: Flow) -> tuple[int, int]:
    missing = twice = 0
    with redis.Redis.from_url(url, decode_responses=True) as client:
        for device, sent in flow.sent.items():
            wanted = sorted(sent, reverse=True)[:KEPT_EVENTS]
            kept = [json.loads(text)["seq"] for text in client.lrange(f"device:{device}:events", 0, -1)]
            missing += len(set(wanted) - set(kept)) + (client.hget(f"device:{device}", "seq") != str(max(sent)))
            twice += len(kept) - len(set(kept))
    return missing, twice


def count(url: str, prefix: str) -> tuple[int, int]:
    """Return the readings of a flow, and how many distinct ones there are."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*), count(DISTINCT (device_id, event_time, seq)) FROM readings"
            " WHERE starts_with(device_id, %s)",
            [prefix],
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def stored_offsets(url: str) -> dict[tuple[str, int], int]:
    with psycopg.connect(url) as connection:
        stored = connection.execute(
            "SELECT topic, partition, next_offset FROM sink_offsets WHERE topic = %s", [topics.SCORED]
        ).fetchall()
    return {(topic, partition): offset for topic, partition, offset in stored}


@dataclass(frozen=True)
class _Sinks:
    """All faults in one world on a Kafka of its own; killing goes along with 200,000 events."""

    names: tuple[str, ...] = tuple(FAULTS)

    def run(self, runs: int, only: frozenset[str]) -> Iterator[Outcome]:
        from fleetwatch.kafka import ensure_topics
        from fleetwatch.local.kafka_server import KafkaServer
        from fleetwatch.settings import Settings

        with tempfile.TemporaryDirectory(prefix="fleetwatch-") as name, KafkaServer(Path(name) / "kafka") as kafka:
            Path(name).chmod(0o755)
            settings = Settings(bootstrap_servers=kafka.bootstrap_servers)
            ensure_topics(settings)
            with world_of(settings, Path(name)) as world:
                for fault in FAULTS:
                    if fault in only:
                        yield from put_in(world, [fault], runs, at_least=200_000 if "killed" in fault else 0)


def scenarios() -> list[Scenario]:
    return [_Sinks()]
