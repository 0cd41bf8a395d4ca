"""Fixtures over real services. Servers are started once per test run, databases are fresh for each test."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings as hypothesis_settings

from tests.services import (
    Broker,
    RedisServer,
    TimescaleServer,
    cache_dir,
    find_chromium,
    fresh_database,
    unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetwatch.local.kafka_server import KafkaServer
    from fleetwatch.settings import Settings


def pytest_configure() -> None:
    """Keep settings of the person at the desk out of the tests."""
    for name in [name for name in os.environ if name.startswith("FLEETWATCH_")]:
        del os.environ[name]


# `make test` gives the same answer for the same code; `make explore` looks where nobody looked before.
hypothesis_settings.register_profile("same", derandomize=True, deadline=None)
hypothesis_settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis_settings.load_profile("same")


@pytest.fixture(scope="session")
def short_tmp() -> Iterator[Path]:
    """A folder with a short path that other users may enter: for sockets, and servers that give up root."""
    with tempfile.TemporaryDirectory(prefix="fleetwatch-", ignore_cleanup_errors=True) as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


# --- Brokers


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    """Bootstrap servers of the embedded broker, with all topics (four partitions each, nothing survives)."""
    from fleetwatch.local.broker import EmbeddedBroker

    with EmbeddedBroker() as broker:
        _ensure_topics(broker.bootstrap_servers, embedded=True)
        yield broker.bootstrap_servers


@pytest.fixture(scope="session")
def kafka_broker(short_tmp: Path) -> Iterator[str]:
    """Bootstrap servers of a real Apache Kafka (KRaft, one node), with all topics."""
    from fleetwatch.errors import EnvironmentProblemError
    from fleetwatch.local.kafka_server import KafkaServer

    with ExitStack() as stack:
        try:
            server = stack.enter_context(KafkaServer(short_tmp / "kafka"))
        except EnvironmentProblemError as problem:
            unavailable(str(problem))
        _ensure_topics(server.bootstrap_servers, embedded=False)
        yield server.bootstrap_servers


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaServer]:
    """An Apache Kafka that the test may stop and start."""
    from fleetwatch.errors import EnvironmentProblemError
    from fleetwatch.local.kafka_server import KafkaServer

    server = KafkaServer(tmp_path / "kafka")
    try:
        server.start()
    except EnvironmentProblemError as problem:
        unavailable(str(problem))
    yield server
    server.stop()


@pytest.fixture(params=["embedded", "kafka"])
def any_broker(request: pytest.FixtureRequest) -> Broker:
    """Each of the two brokers in turn."""
    is_embedded = request.param == "embedded"
    servers = request.getfixturevalue("embedded_broker" if is_embedded else "kafka_broker")
    return Broker(bootstrap_servers=servers, embedded=is_embedded)


@pytest.fixture
def settings(embedded_broker: str, tmp_path: Path) -> Settings:
    """Settings on the embedded broker; files go to the test's own folder."""
    return _settings(Broker(embedded_broker, embedded=True), tmp_path)


@pytest.fixture
def kafka_settings(kafka_broker: str, tmp_path: Path) -> Settings:
    """Settings on real Apache Kafka."""
    return _settings(Broker(kafka_broker, embedded=False), tmp_path)


@pytest.fixture
def any_settings(any_broker: Broker, tmp_path: Path) -> Settings:
    """Settings on each of the two brokers in turn."""
    return _settings(any_broker, tmp_path)


def _settings(broker: Broker, folder: Path) -> Settings:
    from fleetwatch.settings import Settings

    return Settings(
        bootstrap_servers=broker.bootstrap_servers,
        embedded_broker=broker.embedded,
        state_dir=folder / "state",
        models_dir=folder / "models",
    )


def _ensure_topics(bootstrap_servers: str, *, embedded: bool) -> None:
    from fleetwatch.kafka import ensure_topics
    from fleetwatch.settings import Settings

    ensure_topics(Settings(bootstrap_servers=bootstrap_servers, embedded_broker=embedded))


# --- Stores


@pytest.fixture(scope="session")
def postgres_server(short_tmp: Path) -> Iterator[str]:
    """URL of a plain PostgreSQL server, from the wheel."""
    from fleetwatch.local.postgres import LocalPostgres

    with LocalPostgres(short_tmp / "pg") as server:
        yield server.url


@pytest.fixture(scope="session")
def timescale_server() -> Iterator[str]:
    """URL of a real TimescaleDB server."""
    with TimescaleServer(cache_dir()) as server:
        yield server.url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a fresh, empty database in plain PostgreSQL."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def timescale_url(timescale_server: str) -> Iterator[str]:
    """URL of a fresh database with the TimescaleDB extension, as the official image makes it."""
    with fresh_database(timescale_server, extension="timescaledb") as url:
        yield url


@pytest.fixture(params=["postgres", "timescale"])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of a fresh database in each of the two servers in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(scope="session")
def redis_server(short_tmp: Path) -> Iterator[str]:
    """URL of a real Redis: the machine's, else the one from the wheel."""
    folder = short_tmp / "redis"
    folder.mkdir(mode=0o700)
    if binary := shutil.which("redis-server"):
        with RedisServer(binary, folder) as server:
            yield server.url
        return
    from fleetwatch.local.redis_server import LocalRedis

    with LocalRedis(folder) as local:
        yield local.url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of a real Redis without any key."""
    import redis

    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


# --- Browser


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium."""
    return find_chromium()
