"""The outbox of alerting over a real PostgreSQL, over one that hangs, and over none."""

from __future__ import annotations

import socket
import time

import psycopg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from alerting import outbox_store
from alerting.outbox_store import DatabaseOutbox
from alerting.ports import Delivered, RetryAfter, RetryReason, State
from sinks.migrate import migrate
from tests.fakes.alerts import waiting

pytestmark = pytest.mark.integration

LANE = "telegram:42"


def rows(url):
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT alert_id, told, state, attempts, reference, detail FROM notices").fetchall()


async def test_a_try_stands_between_two_records(postgres_url):
    migrate(postgres_url)
    one, two, over = waiting(1), waiting(2), waiting(1, after=3)
    outbox = DatabaseOutbox(SecretStr(postgres_url))
    assert await outbox.look(LANE, [one, two]) == {}
    await outbox.begin(LANE, [one, two])
    assert await outbox.look(LANE, [one, two]) == {one.key: State.UNKNOWN, two.key: State.UNKNOWN}
    await outbox.end(LANE, [one, two], RetryAfter(reason=RetryReason.RATE_LIMITED, detail="slow"), State.RETRYING)
    await outbox.begin(LANE, [one])
    await outbox.end(LANE, [one], Delivered(reference="77"), State.SENT)
    assert sorted(rows(postgres_url)) == [
        ("1", "FIRING", "sent", 2, "77", ""),
        ("2", "FIRING", "retrying", 1, "", "RATE_LIMITED: slow"),
    ]
    assert await outbox.look(LANE, [one, two, over]) == {one.key: State.SENT, two.key: State.RETRYING}
    assert await outbox.look("telegram:7", [one]) == {}, "each chat has its own"
    await outbox.close()


async def test_a_database_without_the_table_is_said_once_and_what_ended_meanwhile_is_written_later(
    postgres_url, monkeypatch
):
    monkeypatch.setattr(outbox_store, "PAUSE_SECONDS", 0.0)
    outbox = DatabaseOutbox(SecretStr(postgres_url))
    with capture_logs() as logs:
        for number in (1, 2):
            await outbox.begin(LANE, [waiting(number)])
            await outbox.end(LANE, [waiting(number)], Delivered(), State.SENT)
        assert outbox.hint == "the database has no table of notices: run fleetwatch sink migrate"
        migrate(postgres_url)
        await outbox.end(LANE, [waiting(3)], Delivered(), State.SENT)
    assert [entry["event"] for entry in logs if entry["event"].startswith("outbox")] == ["outbox_away", "outbox_back"]
    assert outbox.hint == ""
    assert sorted((row[0], row[2]) for row in rows(postgres_url)) == [("1", "sent"), ("2", "sent"), ("3", "sent")]
    await outbox.close()


async def test_a_database_that_hangs_costs_a_moment_once(monkeypatch):
    monkeypatch.setattr(outbox_store, "CALL_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outbox = DatabaseOutbox(SecretStr(f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x"))
        started = time.monotonic()
        assert await outbox.look(LANE, [waiting(1)]) == {}
        assert time.monotonic() - started < 3
        started = time.monotonic()
        for _ in range(100):
            await outbox.begin(LANE, [waiting(1)])
        assert time.monotonic() - started < 0.5
        assert outbox.hint.startswith("the database does not answer")
        await outbox.close()
