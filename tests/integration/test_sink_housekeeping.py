"""Silent devices leave and come back, old rows go, minutes and hours add up: on a clock that the test moves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
from pydantic import SecretStr
from structlog.testing import capture_logs

from fleetwatch.records import Scope, to_millis
from sinks.housekeeping import SLICE_ROWS, delete_slice, edition_of
from sinks.migrate import downgrade, migrate
from sinks.redis_cache import RedisStore
from sinks.retention import RAW, ROLLUPS, Edition, Retention, community_policies, days
from sinks.timescale import TimescaleStore
from tests.unit.sinks.samples import NOW, alert, detection, letter, scored, stretch, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

pytestmark = pytest.mark.integration

TTL = timedelta(hours=2)


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.fixture
def make_store(database_url: str) -> Iterator[Callable[..., TimescaleStore]]:
    migrate(database_url)
    made: list[TimescaleStore] = []

    def make(*, raw: float = 0, rollups: float = 0) -> TimescaleStore:
        retention = Retention(raw=days(raw), rollups=days(rollups))
        made.append(TimescaleStore(SecretStr(database_url), retention=retention, device_ttl=TTL))
        made[-1].open()
        return made[-1]

    yield make
    for store in made:
        store.close()


def _heard(device: str, at: timedelta, **changes: Any) -> Any:
    return scored(device, event_time=NOW + at, ingest_time=NOW + at, **changes)


def test_a_silent_device_is_inactive_until_it_speaks_again(
    make_store: Callable[..., TimescaleStore], database_url: str
):
    store = make_store()
    store.write(stretch(_heard("silent", timedelta(0)), _heard("speaks", timedelta(hours=1)), detection()), "c1")
    inactive = "SELECT device_id, inactive_since FROM devices WHERE inactive_since IS NOT NULL ORDER BY 1"
    assert store.tidy(NOW + TTL)["devices"] == 0
    later = NOW + TTL + timedelta(minutes=1)
    assert store.tidy(later)["devices"] == 2
    assert _rows(database_url, inactive) == [("cam-1", later), ("silent", later)]
    assert store.tidy(later + timedelta(minutes=1))["devices"] == 0
    store.write(stretch(_heard("silent", timedelta(hours=3))), "c1")
    assert _rows(database_url, inactive) == [("cam-1", later)]
    assert _rows(database_url, "SELECT count(*) FROM readings") == [(3,)], "its history stays"


def test_a_repeat_of_its_last_words_does_not_wake_a_device(
    make_store: Callable[..., TimescaleStore], database_url: str
):
    store = make_store()
    store.write(stretch(_heard("silent", timedelta(0))), "c1")
    store.tidy(NOW + timedelta(days=1))
    store.write(stretch(_heard("silent", timedelta(0))), "c1")
    assert _rows(database_url, "SELECT inactive_since IS NULL FROM devices") == [(False,)]


def test_a_recording_that_is_played_again_is_not_silent(make_store: Callable[..., TimescaleStore], database_url: str):
    store = make_store()
    record = scored("recorded", event_time=NOW - timedelta(days=900), ingest_time=NOW)
    store.write(stretch(record), "c1")
    assert store.tidy(NOW + timedelta(minutes=1))["devices"] == 0


@pytest.fixture
def cache(redis_url: str) -> Iterator[RedisStore]:
    store = RedisStore(SecretStr(redis_url), device_ttl=TTL)
    store.open()
    yield store
    store.close()


def test_a_silent_device_leaves_the_cache_until_it_speaks_again(cache: RedisStore, redis_url: str):
    cache.put(
        stretch(
            _heard("silent", timedelta(0)),
            window("silent"),
            _heard("speaks", timedelta(hours=1)),
            scored("recorded", event_time=NOW - timedelta(days=900), ingest_time=NOW + timedelta(hours=1)),
        )
    )
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert cache.tidy(NOW + TTL) == {"devices": 0}
        assert cache.tidy(NOW + TTL + timedelta(minutes=1)) == {"devices": 1}
        assert sorted(client.zrange("devices:last_seen", 0, -1)) == ["recorded", "speaks"]
        assert not [key for key in client.scan_iter() if "silent" in key]
        cache.put(stretch(_heard("silent", timedelta(hours=3), seq=9)))
        assert client.zscore("devices:last_seen", "silent") == to_millis(NOW + timedelta(hours=3))
        assert client.hget("device:silent", "seq") == "9"


def test_many_silent_devices_leave_page_by_page(cache: RedisStore, redis_url: str):
    cache.put(stretch(*(_heard(f"d{n}", timedelta(hours=n % 2)) for n in range(1300))))
    assert cache.tidy(NOW + TTL + timedelta(minutes=1)) == {"devices": 650}
    with redis.Redis.from_url(redis_url) as client:
        assert client.zcard("devices:last_seen") == 650


def test_a_window_without_a_newer_one_leaves_the_cache(cache: RedisStore, redis_url: str):
    cache.put(stretch(window()))
    with redis.Redis.from_url(redis_url) as client:
        assert 0 < client.pttl("window:DEVICE:press-1") <= TTL.total_seconds() * 1000


def test_old_rows_are_found_by_an_index_on_their_time(postgres_url: str):
    """An index that begins with the scope is read through where no scope is named, up to PostgreSQL 17."""
    migrate(postgres_url)
    values = {"before": NOW, "limit": 10, "scopes": [scope.value for scope in Scope]}
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SET enable_seqscan = off")
        for table in (*RAW, *ROLLUPS):
            plan = connection.execute(f"EXPLAIN {delete_slice(table)}".encode(), values).fetchall()
            [condition] = [line for (line,) in plan if "Index Cond" in line]
            assert table.column in condition
            assert ("scope = ANY" in condition) == (table.table in ("window_counts", "counts_1m", "counts_1h"))


def _old_and_new(days_ago: int) -> list[Any]:
    found: list[Any] = []
    for ago in (days_ago, 0):
        at = NOW - timedelta(days=ago)
        found += [
            scored(seq=1 + ago, event_time=at),
            detection(seq=1 + ago, event_time=at),
            window(window_start=at, window_end=at + timedelta(seconds=10), is_final=True),
            letter(offset=ago, broker_time=at),
            alert(f"a{ago}", started_at=at),
        ]
    return found


def _write_notices(url: str, *times: datetime) -> None:
    """What alerting writes."""
    with psycopg.connect(url) as connection:
        for number, time in enumerate(times):
            connection.execute(
                "INSERT INTO notices (lane, alert_id, told, state, attempts, changed_at) "
                "VALUES ('telegram:42', %s, 'FIRING', 'sent', 1, %s)",
                [str(number), time],
            )


def test_old_rows_go_and_young_ones_alerts_and_rollups_stay(
    make_store: Callable[..., TimescaleStore], database_url: str
):
    store = make_store(raw=30, rollups=365)
    store.write(stretch(*_old_and_new(100)), "c1")
    _write_notices(database_url, NOW - timedelta(days=100), NOW)
    done = store.tidy(NOW)
    assert done["chunks"] + done["rows"] == 5
    expected = {table.table: 1 for table in RAW} | {table.table: 2 for table in ROLLUPS} | {"alerts": 2}
    assert {name: _rows(database_url, f"SELECT count(*) FROM {name}")[0][0] for name in expected} == expected
    store.tidy(NOW + timedelta(days=360))  # a chunk of hours spans 90 days and goes as a whole
    for table in (*RAW, *ROLLUPS):
        left = 1 if table in ROLLUPS else 0
        assert _rows(database_url, f"SELECT count(*) FROM {table.table}") == [(left,)], table.table


def test_for_ever_is_for_ever(make_store: Callable[..., TimescaleStore]):
    store = make_store()
    store.write(stretch(*_old_and_new(10_000)), "c1")
    assert store.tidy(NOW + timedelta(days=10_000)) == {"devices": 2, "chunks": 0, "rows": 0}


def test_without_chunks_rows_go_slice_by_slice(postgres_url: str):
    migrate(postgres_url)
    store = TimescaleStore(SecretStr(postgres_url), retention=Retention(raw=days(1), rollups=None))
    store.open()
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "INSERT INTO dead_letters SELECT 't', 0, n, now() - INTERVAL '2 days', 'DECODE', 'MALFORMED', '', NULL,"
            " NULL, 0, '' FROM generate_series(1, 12000) AS n"
        )
        [now] = connection.execute("SELECT now()").fetchone() or ()
    assert [store.tidy(now)["rows"] for _ in range(3)] == [SLICE_ROWS, 2000, 0]
    store.close()


def test_only_one_sink_tidies_at_a_time(make_store: Callable[..., TimescaleStore], database_url: str):
    from sinks.housekeeping import TURN_KEY

    store = make_store(raw=1)
    store.write(stretch(*_old_and_new(100)), "c1")
    with psycopg.connect(database_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [TURN_KEY])
        assert not any(store.tidy(NOW).values())
    assert any(store.tidy(NOW).values())


# --- Minutes and hours


def _final(start: timedelta, **changes: Any) -> Any:
    begin = NOW + start
    return window(window_start=begin, window_end=begin + timedelta(seconds=10), is_final=True, **changes)


def test_minutes_and_hours_are_the_sums_of_their_final_windows(
    make_store: Callable[..., TimescaleStore], database_url: str
):
    store = make_store()
    windows = [
        _final(timedelta(seconds=10 * n), count=n + 1, sum=float(n), min=-float(n), max=float(n), late_count=1)
        for n in range(12)
    ]
    others = [_final(timedelta(0), source_partition=1), _final(timedelta(0), scope=Scope.SITE, key="north")]
    early = window(window_start=NOW + timedelta(minutes=3), window_end=NOW + timedelta(minutes=4))
    store.write(stretch(*windows[:7], early, *others), "c1")
    store.write(stretch(*windows[5:], *windows[:3]), "c1")  # repeats change nothing
    store.write(stretch(*windows), "c1")
    of_device = "WHERE scope = 'DEVICE' AND source_partition = 0"
    columns = "bucket, count, sum, min, max, late_count"
    assert _rows(database_url, f"SELECT {columns} FROM counts_1m {of_device} ORDER BY 1") == [
        (NOW, 21, 15.0, -5.0, 5.0, 6),
        (NOW + timedelta(minutes=1), 57, 51.0, -11.0, 11.0, 6),
    ]
    assert _rows(database_url, f"SELECT {columns} FROM counts_1h {of_device}") == [(NOW, 78, 66.0, -11.0, 11.0, 12)]
    assert _rows(database_url, "SELECT count(*) FROM counts_1m") == [(4,)]


def test_a_window_that_becomes_final_later_is_added_once(make_store: Callable[..., TimescaleStore], database_url: str):
    store = make_store()
    store.write(stretch(window(count=3, included_offset=1)), "c1")
    store.write(stretch(window(count=5, included_offset=2), window(count=7, included_offset=3, is_final=True)), "c1")
    store.write(stretch(window(count=9, included_offset=9, is_final=True)), "c1")
    assert _rows(database_url, "SELECT count FROM counts_1m") == [(7,)]
    assert _rows(database_url, "SELECT count FROM window_counts") == [(7,)], "a final count is never replaced"


def test_the_migration_rolls_up_what_is_there(make_store: Callable[..., TimescaleStore], database_url: str):
    windows = [_final(timedelta(seconds=10 * n), count=n, source_partition=n % 2) for n in range(400)]
    make_store().write(stretch(*windows, window(key="early")), "c1")
    queries = [
        f"SELECT * FROM {name} ORDER BY scope, key, bucket, source_partition" for name in ("counts_1m", "counts_1h")
    ]
    before = [sorted(map(str, _rows(database_url, query))) for query in queries]
    downgrade(database_url, "0001")
    migrate(database_url)
    assert [sorted(map(str, _rows(database_url, query))) for query in queries] == before
    assert len(before[0]) == 2 * 67


# --- Editions


def test_the_edition_is_read_from_the_licence(postgres_url: str, timescale_url: str):
    for url, edition in ((postgres_url, Edition.PLAIN), (timescale_url, Edition.APACHE)):
        with psycopg.connect(url) as connection:
            assert edition_of(connection) is edition


def test_what_the_community_edition_is_told_fails_elsewhere_only_for_its_licence(timescale_url: str):
    """The apache edition knows the same functions and options, and refuses to run them."""
    migrate(timescale_url)
    names = frozenset(table.table for table in (*RAW, *ROLLUPS)) - {"dead_letters", "notices"}
    statements = community_policies(
        Retention(raw=days(90), rollups=days(730)), hypertables=names, continuous=frozenset({"counts_1m"})
    )
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        for statement in statements:
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="license"):
                connection.execute(statement.encode())


def test_continuous_aggregates_fail_elsewhere_only_for_their_licence_and_leave_nothing(timescale_url: str):
    """What the migration does where the licence has them; the fall-back to tables starts from the same state."""
    from importlib import import_module

    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from sqlalchemy import NullPool, create_engine, text

    migrate(timescale_url, "0001")
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(timescale_url), poolclass=NullPool)
    with (
        engine.connect() as connection,
        Operations.context(MigrationContext.configure(connection)),
        capture_logs() as logs,
    ):
        assert not import_module("sinks.migrations.versions.0002_devices_and_rollups")._make_continuous()
        assert connection.execute(text("SELECT to_regclass('counts_1m')")).scalar() is None
    assert "license" in str(logs)
