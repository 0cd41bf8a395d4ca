"""The history: PostgreSQL or TimescaleDB. Rows and Kafka offsets in one transaction, so that nothing counts twice.

A batch goes by binary COPY into temporary staging tables and from there by one upsert per table, keyed by natural
identity (DESIGN.md, section 4). Repeating a batch changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg

from sinks import sql
from sinks.batch import next_offsets
from sinks.postgres_errors import translate
from sinks.rows import TABLE_OF, rows_by_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import SecretStr

    from sinks.batch import Item, Partition
    from sinks.rows import Table

CONNECT_SECONDS: Final = 5
STATEMENT_SECONDS: Final = 60
LOCK_SECONDS: Final = 10


class TimescaleStore:
    """Implements ``sinks.store.Store``. One connection; a failed one is thrown away by the next ``open``."""

    name = "timescale"

    def __init__(self, url: SecretStr) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def open(self) -> None:
        """Connect anew and make the staging tables.

        Raises:
            TransientError: the server does not answer (yet).
            EnvironmentProblemError: wrong password, missing database or tables.

        """
        self.close()
        url = self._url.get_secret_value()
        try:
            self._connection = psycopg.connect(
                url,
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                application_name="fleetwatch-sink",
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=30_000,
            )
            self._connection.execute(
                sql.load("offsets")["prepare_connection"],
                {"statement_timeout": f"{STATEMENT_SECONDS}s", "lock_timeout": f"{LOCK_SECONDS}s"},
            )
            for table in TABLE_OF.values():
                self._connection.execute(staging_of(table).encode())
        except psycopg.Error as error:
            self.close()
            raise translate(error, url) from None

    def stored_offsets(self, partitions: Iterable[Partition], cluster_id: str) -> Mapping[Partition, int]:
        """Return the next offset of each partition that is known in this Kafka cluster."""
        wanted = set(partitions)
        rows = self._run("read", {"sink": self.name, "cluster_id": cluster_id}).fetchall()
        return {(topic, number): offset for topic, number, offset in rows if (topic, number) in wanted}

    def forget_offset(self, partition: Partition) -> None:
        """Drop one stored offset."""
        self._run("forget", {"sink": self.name, "topic": partition[0], "partition": partition[1]})

    def write(self, items: Sequence[Item], cluster_id: str) -> None:
        """Write rows and offsets in one transaction; all of it or nothing."""
        upserts = sql.load("upserts")
        try:
            with self._open_connection.transaction(), self._open_connection.cursor() as cursor:
                for table, rows in rows_by_table(items):
                    copy_rows(cursor, table, rows)
                    for name in table.upserts:
                        cursor.execute(upserts[name].format(columns=table.columns).encode())
                self._write_offsets(cursor, next_offsets(items), cluster_id)
        except psycopg.Error as error:
            raise translate(error, self._url.get_secret_value()) from None

    def close(self) -> None:
        """Drop the connection and what it has not committed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _open_connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        assert self._connection is not None, "open() comes first"
        return self._connection

    def _run(self, name: str, values: dict[str, Any]) -> psycopg.Cursor[tuple[Any, ...]]:
        try:
            return self._open_connection.execute(sql.load("offsets")[name], values)
        except psycopg.Error as error:
            raise translate(error, self._url.get_secret_value()) from None

    def _write_offsets(
        self, cursor: psycopg.Cursor[tuple[Any, ...]], offsets: Mapping[Partition, int], cluster_id: str
    ) -> None:
        cursor.execute(
            sql.load("offsets")["write"],
            {
                "sink": self.name,
                "cluster_id": cluster_id,
                "topics": [topic for topic, _ in offsets],
                "partitions": [number for _, number in offsets],
                "offsets": list(offsets.values()),
            },
        )


def staging_of(table: Table) -> str:
    """Return the statement that makes a table's staging table, emptied at each commit."""
    return (
        f"CREATE TEMP TABLE stage_{table.name} ON COMMIT DELETE ROWS AS "  # noqa: S608  # names of our own
        f"SELECT {table.columns} FROM {table.name} WITH NO DATA"
    )


def copy_rows(cursor: psycopg.Cursor[tuple[Any, ...]], table: Table, rows: Iterable[tuple[Any, ...]]) -> None:
    """Send rows to the staging table by binary COPY."""
    statement = f"COPY stage_{table.name} ({table.columns}) FROM STDIN (FORMAT BINARY)"
    with cursor.copy(statement.encode()) as copy:
        copy.set_types(list(table.types.values()))
        for row in rows:
            copy.write_row(row)
