"""Fills the cache from the database, through the same writes as ever: newer values that are there already stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from psycopg.rows import dict_row

from fleetwatch import avro, topics
from fleetwatch.logs import get_logger
from fleetwatch.records import (
    Alert,
    AlertState,
    Box,
    CameraDetection,
    DetectorState,
    Quality,
    Record,
    RuleKind,
    Scope,
    ScoredReading,
    Severity,
    Verdict,
    WindowCount,
    to_millis,
)
from sinks import sql
from sinks.batch import Event
from sinks.cache_writes import KEPT_EVENTS
from sinks.decoding import decode_all
from sinks.postgres_errors import translate
from sinks.rows import ALERTS, DETECTIONS, READINGS, WINDOW_COUNTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

    from sinks.redis_cache import RedisStore
    from sinks.rows import Table

log = get_logger(__name__)

ROWS_AT_ONCE: Final = 2000
_ANY_SKEW_MS: Final = 1 << 60
"""What is in the database was checked before it came there."""


class Filled(NamedTuple):
    """How many records were read, and the offsets that they include, as fields of ``sink:offsets``."""

    records: int
    start: dict[str, str | int]


def fill_cache(store: RedisStore, url: SecretStr, ttl: timedelta, now: datetime | None = None) -> Filled:
    """Write what the database has of the devices that spoke within ``ttl``.

    Raises:
        TransientError, EnvironmentProblemError: the database cannot be read.

    """
    values = {"events": KEPT_EVENTS, "since": (now or datetime.now(UTC)) - ttl}
    plain_url = url.get_secret_value()
    queries = sql.load("rebuild")
    written = 0
    try:
        with psycopg.connect(plain_url, connect_timeout=3, application_name="fleetwatch-rebuild") as connection:
            offsets = connection.execute(queries["offsets"].encode()).fetchall()  # before the rows they include
            for table, event_of in _SOURCES:
                statement = queries[table.name].format(columns=table.columns)
                with connection.cursor(f"rebuild_{table.name}", row_factory=dict_row) as cursor:
                    cursor.execute(statement.encode(), values)
                    while rows := cursor.fetchmany(ROWS_AT_ONCE):
                        stretch, _ = decode_all([event_of(row) for row in rows], _ANY_SKEW_MS)
                        store.put(stretch)
                        written += len(rows)
    except psycopg.Error as error:
        raise translate(error, plain_url) from None
    log.info("cache_rebuilt", records=written)
    return Filled(written, _start(offsets))


def _start(offsets: list[tuple[str, str, int, int]]) -> dict[str, str | int]:
    """Return the fields of ``sink:offsets``; the cluster is the one that was written to last."""
    if not offsets:
        return {}
    cluster = offsets[0][0]
    return {"cluster": cluster} | {
        f"{topic}/{number}": offset for of_cluster, topic, number, offset in offsets if of_cluster == cluster
    }


def _event(record: Record, row: dict[str, Any], topic: str, key: str, ingest_time: datetime) -> Event:
    partition, offset = row["source_partition"], row.get("source_offset", 0)
    return Event(topic, partition, offset, to_millis(ingest_time), key.encode(), avro.encode(record))


def _reading(row: dict[str, Any]) -> Event:
    revived = row | {
        "quality": Quality(row["quality"]),
        "verdict": Verdict(row["verdict"]),
        "state": DetectorState(row["state"]),
    }
    return _event(ScoredReading(**revived), row, topics.SCORED, row["device_id"], row["ingest_time"])


def _detection(row: dict[str, Any]) -> Event:
    record = CameraDetection(
        camera_id=row["camera_id"],
        site=row["site"],
        event_time=row["event_time"],
        seq=row["seq"],
        label=row["label"],
        confidence=row["confidence"],
        box=Box(x=row["box_x"], y=row["box_y"], width=row["box_width"], height=row["box_height"]),
        track_id=row["track_id"],
    )
    return _event(record, row, topics.DETECTIONS, row["camera_id"], row["ingest_time"])


def _window(row: dict[str, Any]) -> Event:
    record = WindowCount(**(row | {"scope": Scope(row["scope"])}))
    return _event(record, row, topics.COUNTS, row["key"], row["window_end"])


def _alert(row: dict[str, Any]) -> Event:
    revived = row | {
        "kind": RuleKind(row["kind"]),
        "severity": Severity(row["severity"]),
        "state": AlertState(row["state"]),
    }
    return _event(Alert(**revived), row, topics.ALERTS, row["device_id"], row["ingest_time"])


_SOURCES: Final[tuple[tuple[Table, Callable[[dict[str, Any]], Event]], ...]] = (
    (READINGS, _reading),
    (DETECTIONS, _detection),
    (WINDOW_COUNTS, _window),
    (ALERTS, _alert),
)
