"""Bounded questions to the database: each has a LIMIT, and runs on plain PostgreSQL and TimescaleDB.

An unreachable database raises ``TransientError`` at once for a few seconds after a failure, so that an outage
does not hold up a page that asks every two seconds.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import tuple_row
from psycopg_pool import ConnectionPool, PoolTimeout

from fleetwatch.errors import TransientError
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from fleetwatch.settings import Settings

log = get_logger(__name__)
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it would warn every second; the page says it

MAX_RAW_ROWS: Final = 1_500
"""Up to so many readings are shown as they are; more are averaged into ``BUCKETS`` buckets."""
BUCKETS: Final = 500
MAX_ANOMALIES: Final = 500
MAX_NAMES: Final = 2_000
SHORTEST_STEP: Final = timedelta(milliseconds=1)
PAUSE_AFTER_FAILURE_S: Final = 5.0

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


class Database:
    """A small pool of read-only connections, opened when first asked."""

    def __init__(self, settings: Settings) -> None:
        self._pool = ConnectionPool(
            settings.database_url.get_secret_value(),
            min_size=0,
            max_size=4,
            open=False,
            timeout=2.0,
            max_idle=60.0,
            reconnect_timeout=1.0,
            kwargs={
                "autocommit": True,
                "row_factory": tuple_row,
                "connect_timeout": 2,
                "options": "-c statement_timeout=4000 -c default_transaction_read_only=on",
                "application_name": "fleetwatch-dashboard",
            },
            check=ConnectionPool.check_connection,
            name="dashboard",
        )
        self._failed_at = float("-inf")

    def history(self, device_id: str, span: timedelta) -> History | None:
        """Return what a device sent in this time up to its newest reading; None when it has sent nothing.

        Raises:
            TransientError: the database cannot answer now.

        """
        with self._connection() as connection:
            end = _first(connection, LAST_TIME, {"device_id": device_id})[0]
            if end is None:
                return None
            start = end - span
            asked: dict[str, Any] = {"device_id": device_id, "start": start, "end": end}
            sensor_type, site, unit = _first(connection, DESCRIPTION, asked)
            step = None
            rows = connection.execute(RAW, asked | {"limit": MAX_RAW_ROWS + 1}).fetchall()
            if len(rows) > MAX_RAW_ROWS:
                first = _first(connection, FIRST_TIME, asked)[0]
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

    def sensor_names(self) -> list[str]:
        """Return the sensors that the database knows, the most recently heard first, at most ``MAX_NAMES``.

        Raises:
            TransientError: the database cannot answer now.

        """
        with self._connection() as connection:
            return [row[0] for row in connection.execute(SENSORS, {"limit": MAX_NAMES})]

    def close(self) -> None:
        """Close the connections."""
        self._pool.close(timeout=2.0)

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        if time.monotonic() - self._failed_at < PAUSE_AFTER_FAILURE_S:
            raise TransientError("The database is not reachable: no history until it is back.")
        try:
            self._pool.open()  # does nothing when it is open
            with self._pool.connection() as connection:
                yield connection
        except psycopg.errors.QueryCanceled:
            raise TransientError("The database takes too long to answer: try a shorter range.") from None
        except psycopg.errors.UndefinedTable:
            raise TransientError("The database has no tables yet: is the database sink running?") from None
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
            log.debug("database_unreachable", error=str(error))
            self._failed_at = time.monotonic()
            raise TransientError("The database is not reachable: no history until it is back.") from None
        except psycopg.Error as error:
            raise TransientError(f"The database refuses to answer ({type(error).__name__}).") from None


def _first(connection: psycopg.Connection[tuple[Any, ...]], query: Any, asked: dict[str, Any]) -> tuple[Any, ...]:
    row = connection.execute(query, asked).fetchone()
    assert row is not None
    return row
