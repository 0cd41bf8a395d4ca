"""What a device sent: bounded questions to the database, on plain PostgreSQL and TimescaleDB alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datetime import datetime

    from dashboard.database import Connection

MAX_RAW_ROWS: Final = 1_500
"""Up to so many readings are shown as they are; more are averaged into ``BUCKETS`` buckets."""
BUCKETS: Final = 500
MAX_ANOMALIES: Final = 500
MAX_NAMES: Final = 2_000
SHORTEST_STEP: Final = timedelta(milliseconds=1)

LAST_TIME: Final = "SELECT max(event_time) FROM readings WHERE device_id = %(device_id)s"
FIRST_TIME: Final = """
    SELECT min(event_time) FROM readings
    WHERE device_id = %(device_id)s AND event_time > %(start)s AND event_time <= %(end)s
"""
RAW: Final = """
    SELECT event_time, value, value, value, online_score, batch_score, 1
    FROM readings
    WHERE device_id = %(device_id)s AND event_time > %(start)s AND event_time <= %(end)s
    ORDER BY event_time DESC, seq DESC
    LIMIT %(limit)s
"""
AVERAGED: Final = """
    SELECT date_bin(%(step)s, event_time, %(first)s) AS bucket, avg(value), min(value), max(value),
           max(online_score), max(batch_score), count(*)
    FROM readings
    WHERE device_id = %(device_id)s AND event_time > %(start)s AND event_time <= %(end)s
    GROUP BY bucket
    ORDER BY bucket DESC
    LIMIT %(limit)s
"""
ANOMALIES: Final = """
    SELECT event_time, value, score
    FROM readings
    WHERE device_id = %(device_id)s AND event_time > %(start)s AND event_time <= %(end)s
      AND verdict = 'ANOMALY'
    ORDER BY event_time DESC
    LIMIT %(limit)s
"""
DESCRIPTION: Final = """
    SELECT sensor_type, site, unit FROM readings
    WHERE device_id = %(device_id)s AND event_time = %(end)s
    LIMIT 1
"""
SENSORS: Final = "SELECT device_id FROM devices WHERE kind = 'sensor' ORDER BY last_seen DESC LIMIT %(limit)s"


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One reading, or those of a bucket: then ``value`` is their mean, the scores their highest."""

    time: datetime
    value: float
    low: float
    high: float
    online_score: float | None
    batch_score: float | None
    readings: int


@dataclass(frozen=True, slots=True)
class AnomalyRow:
    """One reading with the verdict ANOMALY."""

    time: datetime
    value: float
    score: float | None


@dataclass(frozen=True, slots=True)
class History:
    """A device's readings in a range that ends with its newest one, in order of time."""

    device_id: str
    sensor_type: str
    site: str
    unit: str
    start: datetime
    end: datetime
    rows: tuple[HistoryRow, ...]
    anomalies: tuple[AnomalyRow, ...]
    step: timedelta | None
    """Width of a bucket; None when the readings are shown as they are."""


def history(connection: Connection, device_id: str, span: timedelta) -> History | None:
    """Return what a device sent in this time up to its newest reading; None when it has sent nothing."""
    end = first_row(connection, LAST_TIME, {"device_id": device_id})[0]
    if end is None:
        return None
    start = end - span
    asked: dict[str, Any] = {"device_id": device_id, "start": start, "end": end}
    sensor_type, site, unit = first_row(connection, DESCRIPTION, asked)
    step = None
    rows = connection.execute(RAW, asked | {"limit": MAX_RAW_ROWS + 1}).fetchall()
    if len(rows) > MAX_RAW_ROWS:
        first = first_row(connection, FIRST_TIME, asked)[0]
        step = max((end - first) / BUCKETS, SHORTEST_STEP)
        asked_averaged = asked | {"step": step, "first": first, "limit": BUCKETS + 1}
        rows = connection.execute(AVERAGED, asked_averaged).fetchall()
    anomalies = connection.execute(ANOMALIES, asked | {"limit": MAX_ANOMALIES}).fetchall()
    return History(
        device_id=device_id,
        sensor_type=sensor_type,
        site=site,
        unit=unit,
        start=start,
        end=end,
        rows=tuple(HistoryRow(*row) for row in reversed(rows)),
        anomalies=tuple(AnomalyRow(*row) for row in reversed(anomalies)),
        step=step,
    )


def sensor_names(connection: Connection) -> list[str]:
    """Return the sensors that the database knows, the most recently heard first, at most ``MAX_NAMES``."""
    return [row[0] for row in connection.execute(SENSORS, {"limit": MAX_NAMES})]


def first_row(connection: Connection, query: Any, asked: dict[str, Any]) -> tuple[Any, ...]:
    """Return the only row of an aggregate."""
    row = connection.execute(query, asked).fetchone()
    assert row is not None
    return row
