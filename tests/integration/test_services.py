"""The test services themselves: each is the real thing, and each test gets it clean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from fleetwatch import kafka, topics

if TYPE_CHECKING:
    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration


def test_a_database_is_fresh_and_empty(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        (tables,) = connection.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchone() or (None,)
        connection.execute("CREATE TABLE left_behind (a int)")  # the other parameter must not see it
    assert tables == 0


def test_timescale_makes_hypertables(timescale_url: str) -> None:
    with psycopg.connect(timescale_url) as connection:
        connection.execute("CREATE TABLE t (at timestamptz NOT NULL, v float)")
        connection.execute("SELECT create_hypertable('t', 'at')")
        connection.execute("INSERT INTO t VALUES (now(), 1), (now() - interval '30 days', 2)")
        assert connection.execute("SELECT count(*) FROM show_chunks('t')").fetchone() == (2,)


@pytest.mark.parametrize("round_number", [1, 2])
def test_redis_is_empty_in_each_test(redis_url: str, round_number: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", round_number)


def test_every_topic_exists_on_both_brokers(any_settings: Settings) -> None:
    client = kafka.connect(any_settings)
    assert {name: len(kafka.partitions_of(client, name)) for name in topics.ALL} == dict.fromkeys(topics.ALL, 4)
