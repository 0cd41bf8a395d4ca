"""The outbox in the database: the table ``notices``, a row for each destination and change of an alert.

Lanes wait for it, so each call is short: a few seconds at most for the first one that fails, nothing for those after it
until ``PAUSE_SECONDS`` later. While the database is away notices go out without it, as they would without an outbox.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import AsyncConnection

from alerting.ports import Delivered, State
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pydantic import SecretStr

    from alerting.ports import Outcome, Position, Told, Waiting

log = get_logger(__name__)

CALL_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 10.0
MOST_LATE: Final = 1000
"""Outcomes that are kept in memory while the database is away, to be written when it is back."""

LOOK: Final = """
    SELECT alert_id, told, state FROM notices
    WHERE lane = %(lane)s AND alert_id = ANY(%(ids)s)
"""
BEGIN: Final = """
    INSERT INTO notices (lane, alert_id, told, state, attempts)
    SELECT DISTINCT %(lane)s, alert_id, told, 'unknown', 1
    FROM unnest(%(ids)s::text[], %(told)s::text[]) AS coming (alert_id, told)
    ON CONFLICT (lane, alert_id, told) DO UPDATE
    SET state = 'unknown', attempts = notices.attempts + 1, changed_at = clock_timestamp()
"""
END: Final = """
    INSERT INTO notices (lane, alert_id, told, state, attempts, reference, detail)
    SELECT DISTINCT %(lane)s, alert_id, told, %(state)s, 1, %(reference)s, %(detail)s
    FROM unnest(%(ids)s::text[], %(told)s::text[]) AS coming (alert_id, told)
    ON CONFLICT (lane, alert_id, told) DO UPDATE
    SET state = excluded.state, reference = excluded.reference, detail = excluded.detail,
        changed_at = clock_timestamp()
"""


class DatabaseOutbox:
    """Implements ``ports.Outbox``. One connection, opened when first needed; all calls on the lanes' loop.

    ``hint`` says what is wrong with the database and what to do; empty when all is well.
    """

    def __init__(self, url: SecretStr) -> None:
        self._url = url
        self.hint = ""
        self._connection: AsyncConnection[tuple[Any, ...]] | None = None
        self._lock = asyncio.Lock()
        self._paused_until = 0.0
        self._late: list[dict[str, Any]] = []

    async def look(self, lane: str, changes: Sequence[Waiting]) -> dict[tuple[Position, Told], State]:  # noqa: D102  # the port says it
        async def ask(connection: AsyncConnection[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
            cursor = await connection.execute(
                LOOK, {"lane": lane, "ids": [change.alert.alert_id for change in changes]}
            )
            return await cursor.fetchall()

        rows = await self._call(ask) or []
        found = {(alert_id, told): State(state) for alert_id, told, state in rows}
        keyed = ((change.key, found.get((change.alert.alert_id, change.told.value))) for change in changes)
        return {key: state for key, state in keyed if state is not None}

    async def begin(self, lane: str, changes: Sequence[Waiting]) -> None:  # noqa: D102
        async def write(connection: AsyncConnection[tuple[Any, ...]]) -> bool:
            await connection.execute(BEGIN, _names(lane, changes))
            return True

        await self._call(write)

    async def end(self, lane: str, changes: Sequence[Waiting], outcome: Outcome, state: State) -> None:  # noqa: D102
        row = _names(lane, changes) | {
            "state": state.value,
            "reference": outcome.reference if isinstance(outcome, Delivered) else "",
            "detail": "" if isinstance(outcome, Delivered) else f"{outcome.reason.value}: {outcome.detail}"[:500],
        }

        async def write(connection: AsyncConnection[tuple[Any, ...]]) -> bool:
            while self._late:
                await connection.execute(END, self._late[0])
                self._late.pop(0)
            await connection.execute(END, row)
            return True

        if not await self._call(write):
            self._late.append(row)
            del self._late[:-MOST_LATE]

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _call(self, work: Callable[[AsyncConnection[tuple[Any, ...]]], Awaitable[Any]]) -> Any:
        """Return what the work returns, or None when the database is away."""
        async with self._lock:
            if time.monotonic() < self._paused_until:
                return None
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    if self._connection is None:
                        self._connection = await self._connect()
                    found = await work(self._connection)
            except (
                psycopg.DataError
            ) as error:  # a text that PostgreSQL does not take: of one alert, not of the database
                log.warning("notice_not_recorded", kind=type(error).__name__)
                return None
            except (psycopg.Error, OSError, TimeoutError) as error:
                await self._lose(error)
                return None
            self._tell("")
            return found

    async def _connect(self) -> AsyncConnection[tuple[Any, ...]]:
        return await AsyncConnection.connect(
            self._url.get_secret_value(),
            autocommit=True,
            connect_timeout=2,
            options=f"-c statement_timeout={round(CALL_SECONDS * 1000)}",
            application_name="fleetwatch-alert",
        )

    async def _lose(self, error: BaseException) -> None:
        self._paused_until = time.monotonic() + PAUSE_SECONDS
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        if isinstance(error, psycopg.errors.UndefinedTable):
            hint = "the database has no table of notices: run fleetwatch sink migrate"
        else:
            hint = "the database does not answer: after a kill a notice may be told twice"
        self._tell(hint, kind=type(error).__name__)

    def _tell(self, hint: str, **why: str) -> None:
        if hint == self.hint:
            return
        self.hint = hint
        if hint:
            log.warning("outbox_away", hint=hint, **why)
        else:
            log.info("outbox_back")


def _names(lane: str, changes: Sequence[Waiting]) -> dict[str, Any]:
    return {
        "lane": lane,
        "ids": [change.alert.alert_id for change in changes],
        "told": [change.told.value for change in changes],
    }
