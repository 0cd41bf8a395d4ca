"""Fills the cache from the database, through the same writes as ever: newer values that are there already stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import dict_row

from fleetwatch import topics
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
from sinks.batch import Event, Item
from sinks.cache_writes import KEPT_EVENTS
from sinks.postgres_errors import translate
from sinks.rows import ALERTS, DETECTIONS, READINGS, WINDOW_COUNTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

    from sinks.redis_cache import RedisStore
    from sinks.rows import Table

log = get_logger(__name__)

ROWS_AT_ONCE: Final = 2000


def fill_cache(store: RedisStore, url: SecretStr, ttl: timedelta, now: datetime | None = None) -> int:
    """Write what the database has of the devices that spoke within ``ttl``; return the number of records.

    Raises:
        TransientError, EnvironmentProblemError: the database cannot be read.

    """
    values = {"events": KEPT_EVENTS, "since": (now or datetime.now(UTC)) - ttl}
    plain_url = url.get_secret_value()
    queries = sql.load("rebuild")
    written = 0
    try:
        with psycopg.connect(plain_url, connect_timeout=3, application_name="fleetwatch-rebuild") as connection:
            for table, item_of in _SOURCES:
                statement = queries[table.name].format(columns=table.columns)
                with connection.cursor(f"rebuild_{table.name}", row_factory=dict_row) as cursor:
                    cursor.execute(statement.encode(), values)
                    while rows := cursor.fetchmany(ROWS_AT_ONCE):
                        store.write([item_of(row) for row in rows])
                        written += len(rows)
    except psycopg.Error as error:
        raise translate(error, plain_url) from None
    log.info("cache_rebuilt", records=written)
    return written


def _item(record: Record, row: dict[str, Any], topic: str, ingest_time: datetime) -> Item:
    partition, offset = row["source_partition"], row.get("source_offset", 0)
    return Item(Event(topic, partition, offset, to_millis(ingest_time), None, None), record)


def _reading(row: dict[str, Any]) -> Item:
    revived = row | {
        "quality": Quality(row["quality"]),
        "verdict": Verdict(row["verdict"]),
        "state": DetectorState(row["state"]),
    }
    return _item(ScoredReading(**revived), row, topics.SCORED, row["ingest_time"])


def _detection(row: dict[str, Any]) -> Item:
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
    return _item(record, row, topics.DETECTIONS, row["ingest_time"])


def _window(row: dict[str, Any]) -> Item:
    record = WindowCount(**(row | {"scope": Scope(row["scope"])}))
    return _item(record, row, topics.COUNTS, row["window_end"])


def _alert(row: dict[str, Any]) -> Item:
    revived = row | {
        "kind": RuleKind(row["kind"]),
        "severity": Severity(row["severity"]),
        "state": AlertState(row["state"]),
    }
    return _item(Alert(**revived), row, topics.ALERTS, row["ingest_time"])


_SOURCES: Final[tuple[tuple[Table, Callable[[dict[str, Any]], Item]], ...]] = (
    (READINGS, _reading),
    (DETECTIONS, _detection),
    (WINDOW_COUNTS, _window),
    (ALERTS, _alert),
)
