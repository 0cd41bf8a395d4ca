"""What only the cache promises: its keys as the dashboard reads them, its bounds, and that it can be rebuilt."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from fleetwatch import topics
from sinks.redis_cache import RedisStore
from sinks.store import StoreEmptiedError
from tests.unit.sinks.samples import NOW, NOW_MS, alert, detection, scored, stretch, window

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    made = RedisStore(SecretStr(redis_url))
    made.open()
    made.stored_offsets([], "c1")
    yield made
    made.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as made:
        yield made


def _sequence(client: redis.Redis, device: str = "press-1") -> list[int]:
    return [json.loads(text)["seq"] for text in client.lrange(f"device:{device}:events", 0, -1)]


def test_the_keys_of_a_device(store: RedisStore, client: redis.Redis):
    store.put(stretch(scored(seq=3)))
    found = client.hgetall("device:press-1")
    assert int(found.pop("cached_ms")) > NOW_MS
    assert found == {
        "kind": "sensor", "sensor_type": "temperature", "site": "north", "value": "23.0", "unit": "Cel",
        "online_score": "0.25", "batch_score": "", "score": "0.5", "verdict": "NORMAL", "state": "READY",
        "event_time_ms": str(NOW_MS + 3000), "seq": "3", "ingest_ms": str(NOW_MS + 3005),
    }  # fmt: skip
    [event] = map(json.loads, client.lrange("device:press-1:events", 0, -1))
    assert event.keys() == {"event_time_ms", "seq", "value", "score", "verdict", "ingest_ms", "cached_ms"}
    assert client.zrange("devices:last_seen", 0, -1, withscores=True) == [("press-1", NOW_MS + 3000)]


def test_the_last_hundred_events_are_kept(store: RedisStore, client: redis.Redis):
    for first in range(0, 250, 50):
        store.put(stretch(*(scored(seq=n) for n in range(first, first + 50))))
    assert _sequence(client) == list(range(249, 149, -1))
    store.put(stretch(*(scored(seq=n) for n in range(300))))
    assert _sequence(client) == list(range(299, 199, -1))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.lists(st.integers(0, 150), min_size=1, max_size=200),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
)
def test_any_order_any_cut_any_repetition_gives_the_same_list(
    store: RedisStore, client: redis.Redis, order: list[int], cuts: list[int]
):
    client.flushall()
    rest, turn = order, 0
    while rest:
        size = cuts[turn % len(cuts)]
        store.put(stretch(*(scored(seq=n) for n in rest[:size])))
        rest, turn = rest[size:], turn + 1
    assert _sequence(client) == sorted(set(order), reverse=True)[:100]
    assert client.hget("device:press-1", "seq") == str(max(order))


def test_partitions_of_a_window_stand_side_by_side(store: RedisStore, client: redis.Redis):
    store.put(stretch(window(source_partition=0, count=3), window(source_partition=1, count=4)))
    found = client.hgetall("window:DEVICE:press-1")
    assert (found["fleet.readings/0:count"], found["fleet.readings/1:count"]) == ("3", "4")
    assert found["fleet.readings/0:window_start_ms"] == str(NOW_MS)
    assert found["fleet.readings/0:window_end_ms"] == str(NOW_MS + 10_000)
    assert found["fleet.readings/0:is_final"] == "0"
    assert found["fleet.readings/0:sum"] == "14.0"


def test_a_later_window_replaces_a_final_one(store: RedisStore, client: redis.Redis):
    store.put(stretch(window(is_final=True, included_offset=50)))
    later = NOW + timedelta(seconds=10)
    store.put(stretch(window(window_start=later, window_end=later, included_offset=51, count=1)))
    store.put(stretch(window(is_final=True, included_offset=50)))
    assert client.hget("window:DEVICE:press-1", "fleet.readings/0:window_start_ms") == str(NOW_MS + 10_000)


def test_scripts_are_loaded_again_after_the_server_forgot_them(store: RedisStore, client: redis.Redis):
    store.put(stretch(scored(seq=1)))
    client.script_flush()
    store.put(stretch(scored(seq=2)))
    assert _sequence(client) == [2, 1]


def test_an_empty_cache_is_filled_at_the_start_a_full_one_is_not(redis_url: str):
    filled: list[RedisStore] = []

    def fill(store: RedisStore) -> dict[str, str | int]:
        filled.append(store)
        return {"cluster": "c1", f"{topics.SCORED}/2": 70}

    store = RedisStore(SecretStr(redis_url), fill=fill)
    store.open()
    assert filled == [store]
    assert store.stored_offsets([(topics.SCORED, 1), (topics.SCORED, 2)], "c1") == {(topics.SCORED, 2): 70}
    store.write(stretch(scored()), "c1")
    store.open()
    assert filled == [store]
    store.close()


def test_a_cache_that_could_not_be_filled_is_filled_when_the_database_is_back(redis_url: str):
    answers: list[dict[str, str | int] | None] = [None, {"cluster": "c1", f"{topics.SCORED}/0": 5}]
    store = RedisStore(SecretStr(redis_url), fill=lambda _: answers.pop(0))
    store.open()
    assert store.stored_offsets([(topics.SCORED, 0)], "c1") is None
    store.write(stretch(scored(), first_offset=40), "c1")
    with pytest.raises(StoreEmptiedError):
        store.tidy(NOW)
    store.open()
    assert answers == []
    assert store.stored_offsets([(topics.SCORED, 0)], "c1") == {(topics.SCORED, 0): 5}
    store.tidy(NOW)
    store.close()


def test_the_offsets_lie_in_the_cache_and_only_go_forward(store: RedisStore, client: redis.Redis):
    places = [(topics.SCORED, 0), (topics.SCORED, 1)]
    assert store.stored_offsets(places, "c1") is None
    store.write(stretch(scored(), first_offset=40), "c1")
    store.write(stretch(scored(), first_offset=7), "c1")
    assert store.stored_offsets(places, "c1") == {(topics.SCORED, 0): 41}
    assert store.stored_offsets(places, "c2") == {}
    store.write(stretch(scored(), first_offset=3), "c2")
    assert store.stored_offsets(places, "c2") == {(topics.SCORED, 0): 4}
    store.forget_offset((topics.SCORED, 0))
    assert store.stored_offsets(places, "c2") == {}
    assert client.hget("sink:offsets", "cluster") == "c2"


def test_a_cache_that_is_emptied_while_it_is_written_to_is_noticed(store: RedisStore, client: redis.Redis):
    store.write(stretch(scored()), "c1")
    client.flushall()
    with pytest.raises(StoreEmptiedError):
        store.write(stretch(scored(seq=2)), "c1")
    assert not client.exists("sink:offsets")
    store.open()
    assert store.stored_offsets([(topics.SCORED, 0)], "c1") is None
    store.write(stretch(scored(seq=2)), "c1")


def test_a_cache_that_another_sink_filled_anew_is_noticed(store: RedisStore, client: redis.Redis, redis_url: str):
    client.flushall()
    other = RedisStore(SecretStr(redis_url))
    other.open()
    other.close()
    with pytest.raises(StoreEmptiedError):
        store.write(stretch(scored()), "c1")


def test_the_cache_is_rebuilt_from_the_database(store: RedisStore, client: redis.Redis, database_url: str):
    from sinks.migrate import migrate
    from sinks.rebuild import fill_cache
    from sinks.timescale import TimescaleStore

    start = datetime.now(UTC).replace(microsecond=0)
    records = [
        *(scored(seq=n, event_time=start + timedelta(seconds=n), ingest_time=start) for n in range(130)),
        *(detection(seq=n, event_time=start + timedelta(seconds=n)) for n in range(3)),
        scored("silent", event_time=start - timedelta(days=3)),
        window(window_start=start, window_end=start + timedelta(seconds=10)),
        window(window_start=start - timedelta(minutes=5), window_end=start, count=1),
        alert("open"),
        alert("closed", is_open=False),
    ]
    store.put(stretch(*records))
    client.delete("device:silent", "device:silent:events", "alerts:resolved")
    client.zrem("devices:last_seen", "silent")
    wanted = _without_cached_ms(client)
    client.flushall()

    migrate(database_url)
    database = TimescaleStore(SecretStr(database_url))
    database.open()
    database.write(stretch(*records), "c1")
    database.close()
    filled = fill_cache(store, SecretStr(database_url), ttl=timedelta(days=1))
    assert filled.start["cluster"] == "c1"
    assert filled.start[f"{topics.SCORED}/0"] == 134
    assert _without_cached_ms(client) == wanted


def _without_cached_ms(client: redis.Redis) -> dict[str, object]:
    found: dict[str, object] = {}
    for key in client.scan_iter():
        if key == "sink:offsets":
            continue
        if client.type(key) == "hash":
            fields = client.hgetall(key)
            found[key] = {name: value for name, value in fields.items() if not name.endswith("cached_ms")}
        elif client.type(key) == "list":
            found[key] = [
                {name: value for name, value in json.loads(text).items() if name != "cached_ms"}
                for text in client.lrange(key, 0, -1)
            ]
        else:
            found[key] = client.zrange(key, 0, -1, withscores=True)
    return found
