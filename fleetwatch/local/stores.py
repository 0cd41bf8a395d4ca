"""What the end of a run asks the database and the cache, and what a fresh broker asks of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import psycopg
import redis

from fleetwatch.local.tally import Latencies
from fleetwatch.records import to_millis

if TYPE_CHECKING:
    from datetime import datetime

CACHE_SAMPLE: Final = 2000
"""Latency of the cache is taken from the events of at most so many devices."""

_STORED: Final = """
WITH rows AS (
    SELECT ingest_time, stored_at FROM readings WHERE ingest_time >= %(since)s
    UNION ALL
    SELECT ingest_time, stored_at FROM detections WHERE ingest_time >= %(since)s
), delays AS (
    SELECT greatest(0, extract(epoch FROM stored_at - ingest_time) * 1000)::bigint AS millis FROM rows
)
SELECT count(*),
       percentile_disc(0.5) WITHIN GROUP (ORDER BY millis),
       percentile_disc(0.99) WITHIN GROUP (ORDER BY millis)
FROM delays
"""
_DEVICES: Final = """
SELECT count(*) FROM devices AS d
WHERE EXISTS (SELECT FROM readings AS r WHERE r.device_id = d.device_id AND r.ingest_time >= %(since)s)
   OR EXISTS (SELECT FROM detections AS c WHERE c.camera_id = d.device_id AND c.ingest_time >= %(since)s)
"""


@dataclass(frozen=True)
class Stored:
    """What the database has of this run."""

    rows: int
    devices: int
    latency: dict[str, int | None]


@dataclass(frozen=True)
class Cached:
    """What the cache has of this run."""

    devices: int
    latency: dict[str, int | None]


def ask_database(url: str, *, since: datetime) -> Stored:
    """Count the rows of events that the broker took since then, their devices, their way into the store.

    Raises:
        psycopg.Error: the database does not answer.

    """
    with psycopg.connect(url, connect_timeout=10, autocommit=True) as connection:
        rows, p50, p99 = connection.execute(_STORED, {"since": since}).fetchone() or (0, None, None)
        (devices,) = connection.execute(_DEVICES, {"since": since}).fetchone() or (0,)
    return Stored(rows, devices, {"p50": p50, "p99": p99})


def ask_cache(url: str, *, since: datetime) -> Cached:
    """Count the devices whose newest event came since then, and how long events took into the cache.

    Raises:
        redis.RedisError: the cache does not answer.

    """
    earliest = to_millis(since)
    latencies = Latencies()
    devices = 0
    with redis.Redis.from_url(url, decode_responses=True, socket_timeout=10) as client:
        keys = client.scan_iter("device:*", count=1000, _type="hash")
        while chunk := list(islice(keys, 1000)):
            pipeline = client.pipeline(transaction=False)
            for key in chunk:
                pipeline.hget(key, "ingest_ms")
            recent = [key for key, at in zip(chunk, pipeline.execute(), strict=True) if int(at or 0) >= earliest]
            for key in recent[: max(0, CACHE_SAMPLE - devices)]:
                pipeline.lrange(f"{key}:events", 0, -1)
            for events in pipeline.execute():
                _add_latencies(latencies, events, earliest)
            devices += len(recent)
    return Cached(devices, latencies.as_dict())


def _add_latencies(latencies: Latencies, events: list[str], earliest: int) -> None:
    for text in events:
        event: dict[str, Any] = json.loads(text)
        if event["ingest_ms"] >= earliest:
            latencies.add(event["cached_ms"] - event["ingest_ms"])


def forget_old_broker(database_url: str) -> None:
    """Take leave of an embedded broker that ended, in a database of our own, before the sinks start on a new one.

    Its offsets are gone, so stored ones mean nothing; the streams' state went with it, so nobody will resolve
    what is still firing (a new alert comes if the condition holds).

    Raises:
        psycopg.Error: the database does not answer or is not migrated.

    """
    with psycopg.connect(database_url, connect_timeout=10, autocommit=True) as connection:
        connection.execute("DELETE FROM sink_offsets")
        connection.execute(
            "UPDATE alerts SET state = 'RESOLVED', ended_at = clock_timestamp(),"
            " summary = summary || ' (closed: the embedded broker was restarted)' WHERE state = 'FIRING'"
        )


def empty_cache(redis_url: str) -> None:
    """Empty a Redis of our own: what it says of an ended broker's devices is old, and it fills again.

    Raises:
        redis.RedisError: the cache does not answer.

    """
    with redis.Redis.from_url(redis_url, socket_timeout=10) as client:
        client.flushdb()
