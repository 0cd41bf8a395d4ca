"""The history: PostgreSQL or TimescaleDB. Rows and Kafka offsets in one transaction, so that nothing counts twice.

A batch goes by binary COPY into temporary staging tables and from there by one upsert per table, keyed by natural
identity. Repeating a batch changes nothing. Rows that are never replaced take a short cut while none of them is there
already, which is nearly always so: COPY straight into the table, and the way round only after a unique violation.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import psycopg

from sinks import sql
from sinks.devices import DeviceRow, device_rows
from sinks.housekeeping import edition_of, set_policies, tidy
from sinks.postgres_errors import translate
from sinks.retention import Edition, Retention
from sinks.rows import TABLES, WINDOW_COUNTS, ColumnTable
from sinks.store import StoreEmptiedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from pydantic import SecretStr

    from sinks.batch import Partition
    from sinks.rows import RowTable, Table
    from sinks.stretch import Stretch

CONNECT_SECONDS: Final = 5
LOCK_SECONDS: Final = 10
FOR_EVER: Final = Retention(raw=None, rollups=None)
LONG_WAY_AFTER_A_REPEAT: Final = 20
"""Repeats come in rows (a backlog read again): so many batches do not try the short cut after one."""


REPEATED: Final = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected)
"""A row is there already, or two sinks write the same rows at once, in an order that only the long way gives them."""


class TimescaleStore:
    """Implements ``sinks.store.Store``. One connection; a failed one is thrown away by the next ``open``."""

    name = "timescale"

    def __init__(
        self,
        url: SecretStr,
        *,
        statement_seconds: float = 60,
        retention: Retention = FOR_EVER,
        device_ttl: timedelta = timedelta(days=1),
        prepare: Callable[[], object] | None = None,
    ) -> None:
        """``prepare`` is called once, by the first ``open``: it brings the schema up to date.

        ``statement_seconds``: a statement that takes longer is given up, and counts as an error that passes.
        """
        self._url = url
        self._statement_ms = round(statement_seconds * 1000)
        self._retention = retention
        self._device_ttl = device_ttl
        self._edition = Edition.PLAIN
        self._has_policies = False
        self._prepare = prepare
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._batches_the_long_way = 0
        self._rolls_up = False
        self._known: dict[Partition, int] = {}
        self._must_compare = False

    def open(self) -> None:
        """Connect anew and make the staging tables.

        Raises:
            TransientError: the server does not answer (yet).
            EnvironmentProblemError: wrong password, missing database or tables.

        """
        self.close()
        if self._prepare is not None:
            self._prepare()
            self._prepare = None
        url = self._url.get_secret_value()
        try:
            self._connection = psycopg.connect(
                url,
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                client_encoding="UTF8",  # columns are sent as they are; the server converts to its own, or refuses
                application_name="fleetwatch-sink",
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=30_000,
            )
            self._connection.execute(
                sql.load("offsets")["prepare_connection"],
                {"statement_timeout": f"{self._statement_ms}ms", "lock_timeout": f"{LOCK_SECONDS}s"},
            )
            [self._rolls_up] = self._connection.execute(sql.load("offsets")["rolls_up"]).fetchone() or (False,)
            self._edition = edition_of(self._connection)
            for table in TABLES:
                self._connection.execute(staging_of(table).encode())
            self._must_compare = bool(self._known)
        except psycopg.Error as error:
            self.close()
            raise translate(error, url) from None

    def stored_offsets(self, partitions: Iterable[Partition], cluster_id: str) -> Mapping[Partition, int]:
        """Return the next offset of each partition that is known in this Kafka cluster."""
        wanted = set(partitions)
        stored = self._read_offsets(cluster_id)
        self._known = {place: offset for place, offset in stored.items() if place in wanted}
        self._must_compare = False
        return dict(self._known)

    def forget_offset(self, partition: Partition) -> None:
        """Drop one stored offset."""
        self._run("forget", {"sink": self.name, "topic": partition[0], "partition": partition[1]})
        self._known.pop(partition, None)

    def write(self, stretch: Stretch, cluster_id: str) -> None:
        """Write rows and offsets in one transaction; all of it or nothing.

        Raises:
            StoreEmptiedError: the server that answers now has not what was committed before (a standby that took over
                and was behind, a backup).

        """
        if self._must_compare:
            self._compare(cluster_id)
        devices = cache(lambda: device_rows(stretch))
        try:
            with self._open_connection.transaction(), self._open_connection.cursor() as cursor:
                for table in TABLES:
                    if isinstance(table, ColumnTable):
                        self._write_columns(cursor, table, stretch, meanwhile=devices)
                    elif rows := table.rows_of(stretch):
                        copy_rows(cursor, table, rows)
                        take_over(cursor, table, table.name)
                if found := devices():
                    cursor.execute(sql.load("upserts")["devices"].encode(), _in_columns(found))
                self._write_offsets(cursor, stretch.next_offsets(), cluster_id)
        except psycopg.Error as error:
            raise translate(error, self._url.get_secret_value()) from None
        for place, offset in stretch.next_offsets().items():
            self._known[place] = max(offset, self._known.get(place, 0))

    def tidy(self, now: datetime) -> dict[str, int]:
        """Mark silent devices and let old rows go."""
        try:
            if self._edition is Edition.COMMUNITY and not self._has_policies:
                set_policies(self._open_connection, self._retention)
                self._has_policies = True
            return tidy(self._open_connection, self._edition, self._retention, self._device_ttl, now)
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

    def _read_offsets(self, cluster_id: str) -> dict[Partition, int]:
        rows = self._run("read", {"sink": self.name, "cluster_id": cluster_id}).fetchall()
        return {(topic, number): offset for topic, number, offset in rows}

    def _compare(self, cluster_id: str) -> None:
        """Check after a new connection that the offsets are there which were written over the old one."""
        stored = self._read_offsets(cluster_id)
        self._must_compare = False
        lost = [place for place, offset in self._known.items() if stored.get(place, -1) < offset]
        if lost:
            self._known = {}
            raise StoreEmptiedError(f"the database has lost writes of {len(lost)} partitions that it had confirmed")

    def _run(self, name: str, values: dict[str, Any]) -> psycopg.Cursor[tuple[Any, ...]]:
        try:
            return self._open_connection.execute(sql.load("offsets")[name], values)
        except psycopg.Error as error:
            raise translate(error, self._url.get_secret_value()) from None

    def _write_columns(
        self,
        cursor: psycopg.Cursor[tuple[Any, ...]],
        table: ColumnTable,
        stretch: Stretch,
        meanwhile: Callable[[], object],
    ) -> None:
        """Write a stretch's rows of one table; ``meanwhile`` is called while the server is busy with them."""
        stream = table.copy_of(stretch)
        if stream is None:
            return
        if table.is_never_replaced and self._batches_the_long_way == 0:
            try:
                with self._open_connection.transaction():
                    copy_stream(cursor, table.name, table, stream, meanwhile)
            except REPEATED:
                self._batches_the_long_way = LONG_WAY_AFTER_A_REPEAT
                stream = table.copy_of(stretch) or iter(())
            else:
                return
        self._batches_the_long_way = max(0, self._batches_the_long_way - 1)
        copy_stream(cursor, f"stage_{table.name}", table, stream, meanwhile)
        take_over(
            cursor, table, f"{table.name}_and_rollups" if table is WINDOW_COUNTS and self._rolls_up else table.name
        )

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


def copy_stream(
    cursor: psycopg.Cursor[tuple[Any, ...]],
    into: str,
    table: Table,
    stream: Iterable[bytes],
    meanwhile: Callable[[], object],
) -> None:
    """Send a binary COPY stream into a table that has the columns of ``table``."""
    with cursor.copy(f"COPY {into} ({table.columns}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
        for piece in stream:
            copy.write(piece)
        meanwhile()  # the last pieces are on their way


def copy_rows(cursor: psycopg.Cursor[tuple[Any, ...]], table: RowTable, rows: Iterable[tuple[Any, ...]]) -> None:
    """Send rows to the staging table by binary COPY."""
    with cursor.copy(f"COPY stage_{table.name} ({table.columns}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
        copy.set_types(list(table.types.values()))
        for row in rows:
            copy.write_row(row)


def take_over(cursor: psycopg.Cursor[tuple[Any, ...]], table: Table, statement: str) -> None:
    """Write what was staged into the table."""
    upserts = sql.load("upserts")
    text = upserts[statement].replace("{window_counts}", upserts["window_counts"])  # with rollups it is part of one
    cursor.execute(text.format(columns=table.columns).encode())


def _in_columns(devices: list[DeviceRow]) -> dict[str, list[Any]]:
    return {name: list(values) for name, values in zip(DeviceRow._fields, zip(*devices, strict=True), strict=True)}
