"""The mission's row "Redis persistence": a restart keeps the cache, an empty cache is filled from the database."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import yaml
from pydantic import SecretStr

from fleetwatch import avro, topics
from fleetwatch.local import children
from fleetwatch.local.ports import free_port
from fleetwatch.local.redis_server import LocalRedis, _binary
from sinks.migrate import migrate
from sinks.redis_cache import RedisStore
from sinks.timescale import TimescaleStore
from tests.faults.processes import SinkProcess
from tests.faults.readings import send
from tests.services import wait_until
from tests.unit.sinks.samples import alert, detection, scored, stretch, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration

COMPOSE = Path(__file__).resolve().parents[2] / "docker-compose.kafka.yml"


@contextmanager
def local_stack(folder: Path) -> Iterator[str]:
    """Redis as `fleetwatch up` starts it."""
    with LocalRedis(folder) as server:
        yield server.url


@contextmanager
def as_in_compose(folder: Path) -> Iterator[str]:
    """Redis with the command of docker-compose.kafka.yml, its volume a folder of the test."""
    service = yaml.safe_load(COMPOSE.read_text())["services"]["redis"]
    assert [volume.split(":")[1] for volume in service["volumes"]] == ["/data"], "where the image's Redis works"
    *shell, line = service["command"]
    assert shell == ["sh", "-c"]
    binary = shutil.which("redis-server") or str(_binary())
    port = free_port()
    line = line.replace("$$", "$").replace("redis-server", f"{binary} --port {port} --bind 127.0.0.1", 1)
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"REDISCLI_AUTH": "secret"}
    with (folder / "log").open("ab") as log:
        process = children.start(["sh", "-c", line], log=log, cwd=folder, env=environment)
    url = f"redis://:secret@127.0.0.1:{port}/0"
    try:
        wait_until(lambda: answers(url), what="Redis answering")
        yield url
    finally:
        children.stop(process, by=signal.SIGTERM, timeout=10)


def answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:  # not listening yet, or still loading
        return False


def content(url: str) -> dict[str, Any]:
    """Return every key with its value."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        read: dict[str, Callable[[str], Any]] = {
            "hash": client.hgetall,
            "list": lambda key: client.lrange(key, 0, -1),
            "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        }
        return {key: read[client.type(key)](key) for key in sorted(client.scan_iter())}


def now() -> datetime:
    return datetime.now(UTC)


def history() -> list[Any]:
    at = {"event_time": now(), "ingest_time": now()}
    return [
        *(scored("press-1", seq=seq, **at) for seq in (1, 2, 3)),
        scored("press-2", seq=9, **at),
        detection("cam-1", event_time=now()),
        window("press-1", window_start=now(), window_end=now()),
        alert("a-1", started_at=now()),
    ]


@pytest.mark.parametrize("server", [local_stack, as_in_compose], ids=["local stack", "compose"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_restart_keeps_the_cache(
    server: Callable[[Path], AbstractContextManager[str]], end: signal.Signals, tmp_path: Path
) -> None:
    folder = tmp_path / "redis"
    with server(folder) as url:
        store = RedisStore(SecretStr(url))
        store.open()
        store.put(stretch(*history()))
        store.close()
        before = content(url)
        assert {"device:press-1", "device:press-1:events", "devices:last_seen", "alerts:open"} <= set(before)
        with redis.Redis.from_url(url) as client:
            pid = int(client.info("server")["process_id"])
        os.kill(pid, end)
        wait_until(lambda: not answers(url), what="Redis ending")
    with server(folder) as url:
        assert content(url) == before


def test_an_empty_cache_is_filled_from_the_database_at_start_and_while_it_runs(
    settings: Settings, postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    migrate(postgres_url)
    database = TimescaleStore(SecretStr(postgres_url))
    database.open()
    database.write(stretch(*history()), "c1")
    database.close()
    urls = {"FLEETWATCH_DATABASE_URL": postgres_url, "FLEETWATCH_REDIS_URL": redis_url}
    with (
        redis.Redis.from_url(redis_url, decode_responses=True) as client,
        SinkProcess("redis", settings, tmp_path / "sink.log", **urls),
    ):

        def is_full() -> bool:
            devices = set(client.zrange("devices:last_seen", 0, -1))
            return {"press-1", "press-2", "cam-1"} <= devices and client.hexists("alerts:open", "a-1")

        wait_until(is_full, what="the empty cache is filled", timeout=60)
        assert client.hget("device:press-2", "seq") == "9"
        assert client.llen("device:press-1:events") == 3
        client.flushall()
        camera = f"cam-{uuid.uuid4().hex[:8]}"  # the sink looks at the cache with every batch that comes
        record = detection(camera, event_time=now())
        send(settings, topics.DETECTIONS, [(camera.encode(), avro.encode(record))])
        wait_until(is_full, what="the emptied cache is filled again", timeout=30)
