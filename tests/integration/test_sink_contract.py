"""What every sink promises, run over both stores: repeating is harmless, older never wins, one bad row harms nobody."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
import pytest
import redis
from pydantic import SecretStr

from sinks.isolation import write_isolating
from sinks.store import StoreRefusedError
from tests.unit.sinks.samples import NOW, action, alert, detection, letter, scored, stretch, window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sinks.store import Store

pytestmark = pytest.mark.integration

ALL = (scored(), detection(), window(), alert(), action(), letter())


class _World(Protocol):
    """A store, and the same questions about it whatever it is."""

    store: Store

    def everything(self) -> dict[str, Any]: ...
    def events_of(self, device: str) -> list[tuple[int, float]]: ...
    def last_seen(self, device: str) -> Any: ...
    def window_count_of(self, key: str) -> int: ...
    def open_alerts(self) -> set[str]: ...
    def poison(self) -> Any: ...


class _Database:
    def __init__(self, url: str) -> None:
        from sinks.migrate import migrate
        from sinks.timescale import TimescaleStore

        migrate(url)
        self.store = TimescaleStore(SecretStr(url))
        self.store.open()
        self.store.stored_offsets([], "cluster")
        self.connection = psycopg.connect(url, autocommit=True)

    def _all(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, values).fetchall()

    def everything(self) -> dict[str, Any]:
        tables = (
            "readings",
            "detections",
            "window_counts",
            "alerts",
            "alert_actions",
            "dead_letters",
            "devices",
        )
        return {table: self._all(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables}

    def events_of(self, device: str) -> list[tuple[int, float]]:
        return self._all(
            "SELECT seq, value FROM readings WHERE device_id = %s ORDER BY event_time DESC, seq DESC", device
        )

    def last_seen(self, device: str) -> Any:
        [row] = self._all("SELECT last_seen, site FROM devices WHERE device_id = %s", device)
        return row

    def window_count_of(self, key: str) -> int:
        [[count]] = self._all("SELECT count FROM window_counts WHERE key = %s", key)
        return count

    def open_alerts(self) -> set[str]:
        return {alert_id for (alert_id,) in self._all("SELECT alert_id FROM alerts WHERE state = 'FIRING'")}

    def poison(self) -> Any:
        return alert("a\x00")

    def close(self) -> None:
        self.connection.close()
        self.store.close()


class _Cache:
    def __init__(self, url: str) -> None:
        from sinks.redis_cache import RedisStore

        self.store = RedisStore(SecretStr(url))
        self.store.open()
        self.store.stored_offsets([], "cluster")
        self.client = redis.Redis.from_url(url, decode_responses=True)

    def everything(self) -> dict[str, Any]:
        readers = {
            "hash": self.client.hgetall,
            "zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            "list": lambda key: self.client.lrange(key, 0, -1),
            "string": self.client.get,
        }
        return {key: readers[self.client.type(key)](key) for key in sorted(self.client.keys())}

    def events_of(self, device: str) -> list[tuple[int, float]]:
        import json

        events = map(json.loads, self.client.lrange(f"device:{device}:events", 0, -1))
        return [(event["seq"], event["value"]) for event in events]

    def last_seen(self, device: str) -> Any:
        from fleetwatch.records import from_millis

        [millis, site] = self.client.hmget(f"device:{device}", "event_time_ms", "site")
        assert self.client.zscore("devices:last_seen", device) == float(millis)
        return from_millis(int(millis)), site

    def window_count_of(self, key: str) -> int:
        return int(self.client.hget(f"window:DEVICE:{key}", "fleet.readings/0:count"))

    def open_alerts(self) -> set[str]:
        return set(self.client.hkeys("alerts:open"))

    def poison(self) -> Any:
        self.client.set("device:taken", "not a hash")
        return scored("taken")

    def close(self) -> None:
        self.client.close()
        self.store.close()


@pytest.fixture(params=["postgres", "timescale", "redis"])
def world(request: pytest.FixtureRequest) -> Iterator[_World]:
    url = request.getfixturevalue(f"{request.param}_url")
    made = _Cache(url) if request.param == "redis" else _Database(url)
    yield made
    made.close()


def _write(world: _World, *records: Any) -> None:
    world.store.write(stretch(*records), "cluster")


def test_written_twice_it_holds_one_of_each(world: _World):
    _write(world, *ALL)
    once = world.everything()
    _write(world, *ALL)
    assert world.everything() == once
    assert once


def test_repeated_within_a_batch_it_holds_one_of_each(world: _World):
    _write(world, *ALL, *ALL)
    assert world.events_of("press-1") == [(1, 21.0)]
    assert world.open_alerts() == {"a1"}


def test_an_older_event_never_overwrites_a_newer_one(world: _World):
    _write(world, scored(seq=5, site="new"))
    _write(world, scored(seq=4, site="old"), scored(seq=3, site="older"))
    assert world.last_seen("press-1") == (NOW + timedelta(seconds=5), "new")
    assert world.events_of("press-1") == [(5, 25.0), (4, 24.0), (3, 23.0)]


def test_the_sequence_number_decides_within_a_millisecond(world: _World):
    """Also beyond 2^53, where a double cannot tell two of them apart."""
    big = 2**60
    for seq in (big + 1, big, 9, -3, big + 2):
        _write(world, scored(seq=seq, event_time=NOW, value=1.0))
    assert [seq for seq, _ in world.events_of("press-1")] == [big + 2, big + 1, big, 9, -3]


def test_a_window_is_never_replaced_by_one_of_lower_rank(world: _World):
    _write(world, window(included_offset=9, count=5))
    assert world.window_count_of("press-1") == 5
    _write(world, window(included_offset=10, count=6))
    assert world.window_count_of("press-1") == 6
    _write(world, window(included_offset=9, count=5))
    assert world.window_count_of("press-1") == 6
    _write(world, window(included_offset=10, is_final=True, count=7))
    _write(world, window(included_offset=2**53 + 1, count=99))
    assert world.window_count_of("press-1") == 7


def test_the_highest_window_of_a_batch_is_kept_whatever_the_order(world: _World):
    _write(world, window(is_final=True, count=8), window(included_offset=99, count=5), window(count=1))
    assert world.window_count_of("press-1") == 8


def test_a_resolved_alert_stays_resolved(world: _World):
    _write(world, alert("a1"), alert("a2"))
    assert world.open_alerts() == {"a1", "a2"}
    _write(world, alert("a1", is_open=False))
    _write(world, alert("a1"), alert("a2"))
    assert world.open_alerts() == {"a2"}
    _write(world, alert("a3"), alert("a3", is_open=False))
    assert world.open_alerts() == {"a2"}


def test_a_poison_row_is_refused_alone_and_its_neighbours_are_stored(world: _World):
    batch = stretch(*(scored(f"press-{n}", seq=n) for n in range(20)), world.poison(), scored("last"))
    refused: list[int] = []
    write_isolating(
        batch,
        lambda part: world.store.write(part, "cluster"),
        lambda event, _: refused.append(event.offset),
    )
    assert refused == [20]
    for device in [*(f"press-{n}" for n in range(20)), "last"]:
        assert world.events_of(device), device


def test_a_refused_batch_is_told_as_such(world: _World):
    with pytest.raises(StoreRefusedError):
        _write(world, world.poison())


def test_after_opening_again_it_works_as_before(world: _World):
    """The runner opens a store anew after each failure."""
    _write(world, scored(seq=1))
    world.store.open()
    world.store.stored_offsets([], "cluster")
    _write(world, scored(seq=2))
    assert [seq for seq, _ in world.events_of("press-1")] == [2, 1]


def test_an_empty_stretch_is_fine(world: _World):
    world.store.write(stretch(scored()).emptied(), "cluster")
    world.store.write(stretch(), "cluster")
