"""What the database sink does from time to time: devices that fell silent are marked, rows that are too old go.

Community edition of TimescaleDB: its own jobs drop chunks, compress them and refresh the rollups; they are set up once
at the start. Apache edition: ``drop_chunks``. Plain PostgreSQL: rows are deleted in slices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg

from fleetwatch.logs import get_logger
from fleetwatch.records import Scope
from sinks import sql
from sinks.retention import RAW, ROLLUPS, Edition, Retention, community_policies
from sinks.store import MUCH

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sinks.retention import Ageing

log = get_logger(__name__)

TURN_KEY: Final = 0x666C_7469_6479
"""Of the advisory lock: two sinks do not tidy at once."""
SLICE_ROWS: Final = MUCH

Connection = psycopg.Connection[tuple[Any, ...]]


def edition_of(connection: Connection) -> Edition:
    """Return what kind of database it is. A licence that is not known counts as the one with less."""
    [name] = connection.execute(sql.load("housekeeping")["edition"]).fetchone() or ("plain",)
    return Edition(name) if name in {edition.value for edition in Edition} else Edition.APACHE


def set_policies(connection: Connection, retention: Retention) -> None:
    """Set TimescaleDB's own jobs up (community edition). What it refuses is said in the log, and goes without."""
    names = [table.table for table in (*RAW, *ROLLUPS)]
    kinds = connection.execute(
        "SELECT relname, relkind FROM pg_class"
        " WHERE relnamespace = current_schema()::regnamespace AND relname = ANY(%s)",
        [names],
    ).fetchall()
    continuous = frozenset(name for name, kind in kinds if kind == "v")
    hypertables = frozenset(name for name in names if _is_hypertable(connection, name))
    for statement in community_policies(retention, hypertables=hypertables, continuous=continuous):
        try:
            connection.execute(statement.encode())
        except psycopg.Error as error:
            log.warning("policy_refused", statement=statement, why=str(error).splitlines()[0])


def tidy(
    connection: Connection, edition: Edition, retention: Retention, device_ttl: timedelta, now: datetime
) -> dict[str, int]:
    """Do what is due; return how many devices were marked and how many chunks and rows went.

    Rows go one slice of a table at a time: call again while there are as many as ``SLICE_ROWS``.
    """
    queries = sql.load("housekeeping")
    found = {"devices": 0, "chunks": 0, "rows": 0}
    with connection.transaction():
        if connection.execute(queries["take_turn"], {"key": TURN_KEY}).fetchone() != (True,):
            return found
        marked = connection.execute(queries["mark_inactive"], {"now": now, "silent_since": now - device_ttl})
        found["devices"] = marked.rowcount
        for table, age in retention.kept():
            is_hypertable = edition is not Edition.PLAIN and _is_hypertable(connection, table.table)
            if is_hypertable and edition is Edition.APACHE:
                found["chunks"] += _drop_chunks(connection, table, now - age)
            elif not is_hypertable and _is_table(connection, table.table):
                found["rows"] += _delete_slice(connection, table, now - age)
    return found


def _drop_chunks(connection: Connection, table: Ageing, before: datetime) -> int:
    statement = sql.load("housekeeping")["drop_chunks"].format(table=f"'{table.table}'")
    [chunks] = connection.execute(statement.encode(), {"before": before}).fetchone() or (0,)
    return int(chunks)


def _delete_slice(connection: Connection, table: Ageing, before: datetime) -> int:
    return connection.execute(
        delete_slice(table).encode(),
        {"before": before, "limit": SLICE_ROWS, "scopes": [scope.value for scope in Scope]},
    ).rowcount


def delete_slice(table: Ageing) -> str:
    """Return the statement that lets a slice of a table's rows go; it takes before, limit and scopes."""
    scoped = "scope = ANY (%(scopes)s) AND " if table.has_scope else ""
    return sql.load("housekeeping")["delete_slice"].format(table=table.table, column=table.column, scoped=scoped)


def _is_hypertable(connection: Connection, table: str) -> bool:
    return connection.execute(sql.load("housekeeping")["is_hypertable"], {"table": table}).fetchone() == (True,)


def _is_table(connection: Connection, table: str) -> bool:
    """Whether it is a table and no continuous aggregate."""
    return connection.execute("SELECT relkind = 'r' FROM pg_class WHERE oid = %s::regclass", [table]).fetchone() == (
        True,
    )
