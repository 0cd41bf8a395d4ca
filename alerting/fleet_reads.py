"""What the bot is asked, read from the cache, or from the database where the cache does not answer. Blocking, bounded.

Every question ends within a few seconds. ``TransientError`` means that neither store answers.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
import redis
from confluent_kafka import KafkaException
from psycopg.rows import class_row, tuple_row

from alerting.fleet import FleetStatus, Lag, Sighting, gravest_first
from fleetwatch import kafka, topics
from fleetwatch.cached_alert import OPEN_ALERTS, alert_of
from fleetwatch.errors import TransientError
from fleetwatch.logs import get_logger
from fleetwatch.records import Alert, AlertState, RuleKind, Severity, from_millis

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwatch.settings import Settings

log = get_logger(__name__)

CACHE_SECONDS: Final = 2.0
DATABASE_MS: Final = 4000
EVENTS: Final = 10
MOST_CAMERAS: Final = 200

OPEN_ROWS: Final = """
    SELECT alert_id, rule, kind, fingerprint, device_id, site, severity, state, started_at, ended_at, value,
           threshold, summary, ingest_time, source_topic, source_partition, source_offset
    FROM alerts WHERE state = 'FIRING' ORDER BY started_at DESC LIMIT 10000
"""
DETECTIONS: Final = """
    SELECT event_time AS time, seq, label, confidence FROM detections
    WHERE camera_id = %(camera)s ORDER BY event_time DESC, seq DESC LIMIT %(limit)s
"""
CAMERAS: Final = """
    SELECT device_id FROM devices WHERE kind = 'camera' AND inactive_since IS NULL ORDER BY device_id LIMIT %(limit)s
"""
DEVICE_COUNT: Final = "SELECT count(*) FROM devices WHERE inactive_since IS NULL"
IS_DEVICE: Final = "SELECT EXISTS (SELECT FROM devices WHERE device_id = %(name)s)"
IS_RULE: Final = "SELECT EXISTS (SELECT FROM alerts WHERE rule = %(name)s)"
ALERT: Final = OPEN_ROWS.replace("state = 'FIRING' ORDER BY started_at DESC LIMIT 10000", "alert_id = %(alert_id)s")

T = TypeVar("T")


class FleetReads:
    """Answers questions; one call at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cache: Any = redis.Redis.from_url(
            settings.redis_url.get_secret_value(),
            decode_responses=True,
            socket_timeout=CACHE_SECONDS,
            socket_connect_timeout=CACHE_SECONDS,
        )

    def close(self) -> None:
        """Close the connection to the cache; the database has one for each question."""
        self._cache.close()

    def status(self, *, with_lag: bool, also: Alert | None = None) -> FleetStatus:
        """Return how the fleet is now. Lag is asked of the broker, which takes up to a few seconds.

        ``also`` is an alert so new that the stores may not have it yet.
        """
        alerts = self.open_alerts()
        if also is not None and all(alert.alert_id != also.alert_id for alert in alerts):
            alerts.append(also)
        devices = self._first(lambda: int(self._cache.zcard("devices:last_seen")) or None, self._device_count)
        return FleetStatus(
            at=datetime.now(UTC),
            devices=devices,
            silent=len({alert.device_id for alert in alerts if alert.kind is RuleKind.SILENCE}),
            open_alerts=Counter(alert.severity for alert in alerts),
            lag=self._lag() if with_lag else None,
        )

    def open_alerts(self) -> list[Alert]:
        """Return the open alerts, gravest first."""
        return gravest_first(self._first(self._cached_alerts, self._stored_alerts))

    def history(self, camera: str) -> list[Sighting]:
        """Return the newest ``EVENTS`` detections of a camera, newest first; none when there is no such camera."""
        return self._first(
            lambda: self._cached_history(camera),
            lambda: self._rows(DETECTIONS, {"camera": camera, "limit": EVENTS}, class_row(Sighting)),
        )

    def cameras(self) -> list[str]:
        """Return the names of active cameras, at most ``MOST_CAMERAS``."""
        return [row[0] for row in self._rows(CAMERAS, {"limit": MOST_CAMERAS}, tuple_row)]

    def knows_device(self, name: str) -> bool:
        """Whether such a device has ever been heard; True also when that cannot be found out."""
        return self._is_known(lambda: bool(self._cache.exists(f"device:{name}")) or None, IS_DEVICE, name)

    def knows_rule(self, name: str) -> bool:
        """Whether such a rule has ever given an alert; True also when that cannot be found out."""
        return self._is_known(lambda: None, IS_RULE, name)

    def alert(self, alert_id: str) -> Alert | None:
        """Return an alert by its id, open or not; None when nobody knows it."""

        def cached() -> Alert | None:
            text = self._cache.hget(OPEN_ALERTS, alert_id)
            return alert_of(text) if text else None

        def stored() -> Alert | None:
            rows = self._rows(ALERT, {"alert_id": alert_id}, tuple_row)
            return _alert_of_row(rows[0]) if rows else None

        return self._first(cached, stored)

    def _first(self, from_cache: Callable[[], T | None], from_database: Callable[[], T]) -> T:
        """Ask the cache; where it does not know or does not answer, ask the database."""
        is_empty = False
        try:
            found = from_cache()
            if found is not None:
                return found
            is_empty = True
        except (redis.RedisError, ValueError) as error:
            log.debug("cache_not_readable", kind=type(error).__name__)
        try:
            return from_database()
        except psycopg.Error as error:
            log.debug("database_not_readable", kind=type(error).__name__)
            why = "the cache does not know, the database" if is_empty else "neither the cache nor the database"
            raise TransientError(f"{why} does not answer") from None

    def _is_known(self, from_cache: Callable[[], bool | None], query: str, name: str) -> bool:
        try:
            return self._first(from_cache, lambda: bool(self._rows(query, {"name": name}, tuple_row)[0][0]))
        except TransientError:
            return True

    def _cached_alerts(self) -> list[Alert] | None:
        is_ours, is_unfilled = self._cache.hmget("sink:offsets", "id", "unfilled")
        if is_ours is None or is_unfilled is not None:
            return None  # nobody has filled this cache: that it has no alerts says nothing
        found = (alert_of(text) for text in self._cache.hvals(OPEN_ALERTS))
        return [alert for alert in found if alert is not None]

    def _stored_alerts(self) -> list[Alert]:
        return [_alert_of_row(row) for row in self._rows(OPEN_ROWS, {}, tuple_row)]

    def _cached_history(self, camera: str) -> list[Sighting] | None:
        if self._cache.hget(f"device:{camera}", "kind") != "camera":
            return None
        events = [json.loads(text) for text in self._cache.lrange(f"device:{camera}:events", 0, EVENTS - 1)]
        return [
            Sighting(
                time=from_millis(int(event["event_time_ms"])),
                seq=int(event["seq"]),
                label=str(event["label"]),
                confidence=float(event["confidence"]),
            )
            for event in events
            if "label" in event  # a box under one name may send readings too
        ]

    def _device_count(self) -> int:
        return int(self._rows(DEVICE_COUNT, {}, tuple_row)[0][0])

    def _rows(self, query: str, values: dict[str, Any], factory: Any) -> list[Any]:
        with psycopg.connect(
            self._settings.database_url.get_secret_value(),
            connect_timeout=2,
            options=f"-c statement_timeout={DATABASE_MS} -c default_transaction_read_only=on",
            application_name="fleetwatch-alert",
            row_factory=factory,
        ) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def _lag(self) -> Lag | None:
        groups = (topics.GROUP_STREAMS, topics.GROUP_TIMESCALE, topics.GROUP_REDIS)
        try:
            streams, database, cache = (sum(kafka.lag_of(self._settings, group).values()) for group in groups)
        except KafkaException as error:
            log.debug("lag_unknown", error=str(error))
            return None
        return Lag(streams=streams, database=database, cache=cache)


def _alert_of_row(row: tuple[Any, ...]) -> Alert:
    values = list(row)
    values[2], values[6], values[7] = RuleKind(row[2]), Severity(row[6]), AlertState(row[7])
    names = Alert.__dataclass_fields__
    return Alert(**dict(zip(names, values, strict=True)))
