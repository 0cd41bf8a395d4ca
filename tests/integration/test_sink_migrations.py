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

REVISIONS = ["0001", "0002", "0003", "0004"]
HEAD = REVISIONS[-1]
ALL = (scored(), detection(), window(is_final=True), alert(), action(), letter())
TABLES = {
    *(table.name for table in STORED),
    "devices",
    "sink_offsets",
    "counts_1m",
    "counts_1h",
    "model_versions",
    "notices",
}


COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, coalesce(column_default, '-') FROM information_schema.columns
WHERE table_schema = 'public' ORDER BY table_name, ordinal_position
"""
INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
CHECKS = """
SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND contype = 'c' ORDER BY 1, 2
"""


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
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regclass('model_versions')").fetchone() != (None,):
            connection.execute(
                "INSERT INTO model_versions (sensor_type, version, status, changed_at, trained_at, record, artefact, "
                "artefact_sha256) VALUES ('t', 'v', 'ACTIVE', now(), now(), '{}', 'x', 'y') ON CONFLICT DO NOTHING"
            )
        notice = "VALUES ('telegram:42', 'a1', 'FIRING', 'sent', 1) ON CONFLICT DO NOTHING"
        connection.execute(f"INSERT INTO notices (lane, alert_id, told, state, attempts) {notice}".encode())


def _count_each(url: str, tables: set[str] = TABLES) -> dict[str, int]:
    return {
        table: _rows(url, sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))[0][0]
        for table in sorted(tables)
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


def test_down_and_up_step_by_step_keeps_the_rows_of_what_stays(database_url: str):
    migrate(database_url)
    _write_all(database_url)
    full = _count_each(database_url)
    for revision in reversed(REVISIONS[:-1]):
        assert downgrade(database_url, revision) == revision
        left = {name for name in TABLES if name in _tables(database_url)}
        assert _count_each(database_url, left) == {name: full[name] for name in sorted(left)}
    for revision in REVISIONS[1:]:
        assert migrate(database_url, revision) == revision
    assert _count_each(database_url) == full | {"model_versions": 0, "notices": 0}  # nothing else holds them
    _write_all(database_url)
    assert _count_each(database_url) == full


def test_the_revisions_are_the_files():
    from pathlib import Path

    from sinks import migrations

    folder = Path(migrations.__path__[0]) / "versions"
    assert sorted(file.name[:4] for file in folder.glob("[0-9]*.py")) == REVISIONS


def test_the_schema_is_the_one_that_is_checked_in(postgres_url: str, timescale_url: str):
    """A migration that changes it shows in the golden file: tables, columns, keys, indexes, checks."""
    import os
    from pathlib import Path

    golden = Path(__file__).parent.parent / "golden" / "database_schema.txt"
    for url in (postgres_url, timescale_url):
        migrate(url)
        found = (
            "\n".join(" ".join(map(str, row)) for query in (COLUMNS, INDEXES, CHECKS) for row in _rows(url, query))
            + "\n"
        )
        if os.environ.get("REWRITE_GOLDEN"):
            golden.write_text(found)
        assert found == golden.read_text()


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
