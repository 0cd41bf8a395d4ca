"""How fast the sinks write: the database sink beside ``psql \\copy`` and executemany, the cache sink beside a pipeline.

Everything in one run, against real servers of their own, in turns; medians of the rounds. The sinks are given what
Kafka gives them (framed Avro), so decoding is part of their time; the others get rows and commands ready made.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import redis
from pydantic import SecretStr

from fleetwatch import avro, columns, topics
from fleetwatch.local.kafka_jars import cache_dir
from fleetwatch.local.redis_server import LocalRedis
from fleetwatch.records import ScoredReading, from_millis
from sinks.batch import Event
from sinks.cache_writes import calls_of
from sinks.decoding import decode_all
from sinks.migrate import migrate
from sinks.redis_cache import RedisStore, script
from sinks.rows import READINGS
from sinks.timescale import TimescaleStore
from tests.services import POSTGRES_BIN, TimescaleServer, fresh_database
from tests.unit.sinks.samples import scored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sinks.store import Store

BATCH = 20_000
SKEW_MS = 10**12
START_MS = 1_780_000_000_000


def feed(events: int, devices: int) -> list[Event]:
    """Scored readings as they come from Kafka: each device speaks once a second, in no order within it."""
    record = scored("device-00000")
    values = []
    random = np.random.default_rng(1)
    per_second = -(-events // devices)
    for second in range(per_second):
        for number in random.permutation(devices)[: events - len(values)].tolist():
            at = from_millis(START_MS + second * 1000 + number % 1000)
            values.append(
                avro.encode(
                    _changed(
                        record,
                        device_id=f"device-{number:05}",
                        event_time=at,
                        ingest_time=at + timedelta(milliseconds=5),
                        seq=second,
                        value=float(random.normal(20, 3)),
                        online_score=float(random.random()),
                        batch_score=float(random.random()),
                        score=float(random.random()),
                        source_offset=len(values),
                    )
                )
            )
    return [Event(topics.SCORED, 0, offset, START_MS, b"key", value) for offset, value in enumerate(values)]


def _changed(record: ScoredReading, **changes: Any) -> ScoredReading:
    return ScoredReading(**({name: getattr(record, name) for name in record.__slots__} | changes))


def batches(events: list[Event]) -> Iterator[list[Event]]:
    for start in range(0, len(events), BATCH):
        yield events[start : start + BATCH]


def write_all(store: Store, events: list[Event]) -> float:
    """Return the seconds that decoding and writing take, and close the store."""
    began = time.perf_counter()
    for batch in batches(events):
        store.write(decode_all(batch, SKEW_MS)[0], "bench")
    seconds = time.perf_counter() - began
    store.close()
    return seconds


# --- The database


def sink_into_database(url: str, events: list[Event]) -> float:
    store = TimescaleStore(SecretStr(url))
    store.open()
    return write_all(store, events)


def executemany(url: str, rows: list[tuple[Any, ...]]) -> float:
    places = ", ".join(["%s"] * len(READINGS.types))
    statement = f"INSERT INTO readings ({READINGS.columns}) VALUES ({places}) ON CONFLICT DO NOTHING".encode()
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        for start in range(0, len(rows), BATCH):
            cursor.executemany(statement, rows[start : start + BATCH])
            connection.commit()
        return time.perf_counter() - began


def psql_copy(psql: list[str], url: str, file: str) -> float:
    command = f"\\copy readings ({READINGS.columns}) FROM '{file}'"
    began = time.perf_counter()
    subprocess.run([*psql, "--no-psqlrc", "--quiet", url, "-c", command], check=True)
    return time.perf_counter() - began


def rows_of(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(f"SELECT {READINGS.columns} FROM readings ORDER BY source_offset".encode()).fetchall()


def write_file(url: str, file: Path) -> None:
    """Rows in the order in which they were read, in psql's own format."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor, file.open("wb") as out:
        query = f"COPY (SELECT {READINGS.columns} FROM readings ORDER BY source_offset) TO STDOUT".encode()
        with cursor.copy(query) as copy:
            for part in copy:
                out.write(part)


def measure_database(events: list[Event], rounds: int) -> dict[str, float]:
    found: dict[str, list[float]] = {"sink": [], "psql_copy": [], "executemany": []}
    with ExitStack() as stack:
        server = stack.enter_context(TimescaleServer(cache_dir(), fsync="on", max_wal_size="4GB"))
        root, run = server.root, server.run

        def on_fresh_database(write: Callable[[str], float]) -> float:
            with fresh_database(server.url, extension="timescaledb") as url:
                migrate(url)
                seconds = write(url)
                with psycopg.connect(url) as connection:
                    assert connection.execute("SELECT count(*) FROM readings").fetchone() == (len(events),)
                return seconds

        with fresh_database(server.url, extension="timescaledb") as url:
            migrate(url)
            sink_into_database(url, events)  # also compiles the kernels
            rows = rows_of(url)
            write_file(url, root / run.lstrip("/") / "rows.txt")
        psql = ["chroot", str(root), f"{POSTGRES_BIN}/psql"]
        for _ in range(rounds):
            found["sink"].append(on_fresh_database(lambda url: sink_into_database(url, events)))
            found["psql_copy"].append(on_fresh_database(lambda url: psql_copy(psql, url, f"{run}/rows.txt")))
            found["executemany"].append(on_fresh_database(lambda url: executemany(url, rows)))
    return {name: len(events) / statistics.median(seconds) for name, seconds in found.items()}


# --- The cache


def sink_into_cache(url: str, events: list[Event]) -> float:
    store = RedisStore(SecretStr(url))
    store.open()
    store.stored_offsets([], "bench")
    return write_all(store, events)


def bare_pipeline(url: str, events: list[Event]) -> float:
    """redis-py's own pipeline, given the same calls ready made."""
    calls = [list(calls_of(decode_all(batch, SKEW_MS)[0], START_MS)) for batch in batches(events)]
    with redis.Redis.from_url(url) as client:
        shas = {name: client.script_load(script(name)) for name in ("device", "window", "alert")}
        began = time.perf_counter()
        for batch in calls:
            with client.pipeline(transaction=False) as pipeline:
                for call in batch:
                    pipeline.evalsha(shas[call.script], len(call.keys), *call.keys, *call.arguments)
                pipeline.execute()
        return time.perf_counter() - began


def measure_cache(events: list[Event], rounds: int) -> dict[str, float]:
    found: dict[str, list[float]] = {"sink": [], "pipeline": []}
    with tempfile.TemporaryDirectory(prefix="fleetwatch-") as folder, LocalRedis(Path(folder) / "redis") as server:
        client = redis.Redis.from_url(server.url)
        for _ in range(rounds):
            for name, write in (("sink", sink_into_cache), ("pipeline", bare_pipeline)):
                client.flushall()
                found[name].append(write(server.url, events))
        client.close()
    return {name: len(events) / statistics.median(seconds) for name, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    columns.decode_batch([b""], [b""], ScoredReading)
    events = feed(asked.events, asked.devices)
    cache = measure_cache(events, asked.rounds)
    database = measure_database(events, asked.rounds)
    print(f"{asked.events} scored readings of {asked.devices} devices, events/s (median of {asked.rounds})")
    for name, rate in database.items():
        print(f"  database  {name:<12} {rate:>9.0f}")
    for name, rate in cache.items():
        print(f"  cache     {name:<12} {rate:>9.0f}")
    shares = {
        "of_psql_copy": database["sink"] / database["psql_copy"],
        "of_executemany": database["sink"] / database["executemany"],
        "of_pipeline": cache["sink"] / cache["pipeline"],
    }
    print(f"  sink / psql \\copy   {shares['of_psql_copy']:.2f}   (bar 0.70)")
    print(f"  sink / executemany  {shares['of_executemany']:.2f}   (bar 3)")
    print(f"  sink / pipeline     {shares['of_pipeline']:.2f}   (bar 0.80)")
    if asked.json:
        asked.json.write_text(json.dumps({"database": database, "cache": cache, "shares": shares}, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
