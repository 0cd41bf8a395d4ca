"""A small pool of read-only connections, and what its failures mean to a page.

An unreachable database raises ``AwayError`` at once for a few seconds after a failure, so that an outage does
not hold up a page that asks every two seconds.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import tuple_row
from psycopg_pool import ConnectionPool, PoolTimeout

from dashboard import event_reads, reads
from dashboard.problems import AwayError
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    from dashboard.event_reads import PastAlerts, RefusalCount, Sightings
    from dashboard.reads import History
    from fleetwatch.records import Severity
    from fleetwatch.settings import Settings

log = get_logger(__name__)
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it would warn every second; the page says it

PAUSE_AFTER_FAILURE_S: Final = 5.0

Connection = psycopg.Connection[tuple[Any, ...]]


class Database:
    """Opened when first asked; a statement has 4 s. Every question may raise ``AwayError``."""

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
        """Return what a device sent in this time up to its newest reading; None when it has sent nothing."""
        with self.connection() as connection:
            return reads.history(connection, device_id, span)

    def sensor_names(self) -> list[str]:
        """Return the sensors that the database knows, the most recently heard first."""
        with self.connection() as connection:
            return reads.sensor_names(connection)

    def sightings(self, camera_id: str, span: timedelta) -> Sightings | None:
        """Return what a camera saw in this time up to its newest detection; None when it has seen nothing."""
        with self.connection() as connection:
            return event_reads.sightings(connection, camera_id, span)

    def past_alerts(self, since: datetime, severities: Sequence[Severity]) -> PastAlerts:
        """Return the alerts that began since then and are over, the newest first."""
        with self.connection() as connection:
            return event_reads.past_alerts(connection, since, severities)

    def refusals(self, since: datetime) -> list[RefusalCount]:
        """Return how many dead letters there were since then, by reason, the most frequent first."""
        with self.connection() as connection:
            return event_reads.refusals(connection, since)

    def is_there(self) -> bool:
        """Tell whether it answers."""
        try:
            with self.connection() as connection:
                return connection.execute("SELECT 1").fetchone() is not None
        except AwayError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._pool.close(timeout=2.0)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection.

        Raises:
            AwayError: the database cannot answer now.

        """
        if time.monotonic() - self._failed_at < PAUSE_AFTER_FAILURE_S:
            raise AwayError("problem.database")
        try:
            self._pool.open()  # does nothing when it is open
            with self._pool.connection() as connection:
                yield connection
        except psycopg.errors.QueryCanceled:
            raise AwayError("problem.database-slow") from None
        except psycopg.errors.UndefinedTable:
            raise AwayError("problem.database-empty") from None
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
            log.debug("database_unreachable", error=str(error))
            self._failed_at = time.monotonic()
            raise AwayError("problem.database") from None
        except psycopg.Error as error:
            raise AwayError("problem.database-refuses", error=type(error).__name__) from None
