"""The schema: up and down on data, by several processes at once, on plain PostgreSQL and on TimescaleDB."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from fleetwatch.errors import EnvironmentProblemError, TransientError
from sinks.migrate import BASE, downgrade, migrate
from sinks.rows import TABLES as STORED
from tests.services import free_port
from tests.unit.sinks.samples import action, alert, detection, letter, scored, stretch, window

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

HEAD = "0002"
ALL = (scored(), detection(), window(is_final=True), alert(), action(), letter())
TABLES = {*(table.name for table in STORED), "devices", "sink_offsets", "counts_1m", "counts_1h"}


def _rows(url: str, query: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def _tables(url: str) -> set[str]:
    return {name for (name,) in _rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def _write_all(url: str) -> None:
    from sinks.timescale import TimescaleStore

    store = TimescaleStore(SecretStr(url))
    store.open()
    store.write(stretch(*ALL), "cluster")
    store.close()


def _count_each(url: str) -> dict[str, int]:
    return {
        table: _rows(url, sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))[0][0]
        for table in sorted(TABLES)
    }


def test_down_and_up_again_with_data_in_every_table(database_url: str):
    assert migrate(database_url) == HEAD
    _write_all(database_url)
    full = _count_each(database_url)
    assert all(full.values()), full
    assert downgrade(database_url) == BASE
    assert not _tables(database_url) & TABLES
    assert migrate(database_url) == HEAD
    _write_all(database_url)
    assert _count_each(database_url) == full


def test_migrating_again_keeps_the_data(database_url: str):
    migrate(database_url)
    _write_all(database_url)
    before = _count_each(database_url)
    assert migrate(database_url) == HEAD
    assert _count_each(database_url) == before


def test_processes_that_start_at_once_take_turns(database_url: str):
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(migrate, [database_url] * 4)) == [HEAD] * 4
    assert _tables(database_url) >= TABLES


def test_hypertables_are_made_where_the_extension_is(timescale_url: str):
    migrate(timescale_url)
    found = _rows(timescale_url, "SELECT hypertable_name FROM timescaledb_information.hypertables ORDER BY 1")
    assert found == [("counts_1h",), ("counts_1m",), ("detections",), ("readings",), ("window_counts",)]


@pytest.fixture
def bare_timescale_url(timescale_server: str) -> Iterator[str]:
    """A database on a TimescaleDB server in which nobody has made the extension."""
    from tests.services import fresh_database

    with fresh_database(timescale_server) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP EXTENSION IF EXISTS timescaledb CASCADE")
        yield url


def test_the_extension_is_made_where_it_can_be(bare_timescale_url: str):
    migrate(bare_timescale_url)
    assert _rows(bare_timescale_url, "SELECT count(*) FROM timescaledb_information.hypertables") == [(5,)]


def test_both_editions_have_the_same_columns_and_keys(postgres_url: str, timescale_url: str):
    columns = (
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_schema = 'public' ORDER BY 1, ordinal_position"
    )
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    found = []
    for url in (postgres_url, timescale_url):
        migrate(url)
        found.append((_rows(url, columns), _rows(url, indexes)))
    assert found[0] == found[1]


def test_every_column_that_is_written_exists(postgres_url: str):
    migrate(postgres_url)
    found: dict[str, set[str]] = {}
    for table, column in _rows(
        postgres_url,
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'",
    ):
        found.setdefault(table, set()).add(column)
    for table in STORED:
        assert found[table.name] - set(table.types) <= {"stored_at"}
        assert set(table.types) <= found[table.name]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM readings WHERE device_id = 'x' ORDER BY event_time DESC LIMIT 100",
        "SELECT * FROM readings WHERE event_time > now() - INTERVAL '5 minutes'",
        "SELECT * FROM detections WHERE camera_id = 'x' ORDER BY event_time DESC LIMIT 100",
        "SELECT * FROM window_counts WHERE scope = 'SITE' AND window_start > now() - INTERVAL '1 hour'",
        "SELECT * FROM alerts WHERE state = 'FIRING' ORDER BY started_at DESC LIMIT 50",
    ],
)
def test_the_dashboards_queries_find_an_index(postgres_url: str, query: str):
    migrate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {query}").fetchall())
    assert "Index" in plan
    assert "Seq Scan" not in plan


def test_a_wrong_password_or_database_needs_a_person(postgres_url: str):
    from urllib.parse import urlsplit

    parts = urlsplit(postgres_url)
    wrong = parts._replace(netloc=f"postgres:wrong@{parts.hostname}:{parts.port}").geturl()
    with pytest.raises(EnvironmentProblemError, match="check user and password"):
        migrate(wrong)
    with pytest.raises(EnvironmentProblemError, match="does not exist"):
        migrate(parts._replace(path="/no_such_database").geturl())


def test_a_server_that_does_not_answer_may_come_back():
    with pytest.raises(TransientError, match="start it"):
        migrate(f"postgresql://postgres@127.0.0.1:{free_port()}/x")
