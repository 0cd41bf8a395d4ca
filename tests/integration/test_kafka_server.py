"""Our launcher of a real Apache Kafka: what it keeps, how it ends, and what it says when it cannot start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from fleetwatch import kafka, topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.local import kafka_jars
from fleetwatch.local.kafka_server import KafkaServer
from fleetwatch.local.ports import free_port
from fleetwatch.settings import Settings
from tests.services import unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

KEEP_ALIVE = """
import sys, time
from pathlib import Path
from fleetwatch.local.kafka_server import KafkaServer
with KafkaServer(Path(sys.argv[1])) as server:
    print(server._process.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def jars() -> Path:
    try:
        kafka_jars.java_command()
        return kafka_jars.jar_dir()
    except EnvironmentProblemError as problem:
        unavailable(str(problem))


@pytest.fixture
def server(jars: Path, tmp_path: Path) -> Iterator[KafkaServer]:
    made = KafkaServer(tmp_path / "kafka")
    yield made
    made.stop()


def produce(settings: Settings, count: int) -> None:
    failed = []
    producer = Producer(kafka.producer_config(settings))
    for number in range(count):
        producer.produce(
            topics.READINGS,
            key=f"device-{number}",
            value=b"x",
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
    assert producer.flush(30) == 0
    assert failed == []


def count_records(settings: Settings) -> int:
    return kafka.read_to_end(settings, topics.READINGS, lambda _: None)


def test_records_outlive_a_stop_and_a_kill_on_the_same_port(server: KafkaServer) -> None:
    server.start()
    settings = Settings(bootstrap_servers=server.bootstrap_servers, partitions=3)
    kafka.ensure_topics(settings)
    assert len(kafka.partitions_of(kafka.connect(settings), topics.READINGS)) == 3
    produce(settings, 500)

    server.stop()
    with pytest.raises(EnvironmentProblemError, match="no Kafka broker answers"):
        kafka.connect(settings, timeout=1)
    server.start()
    assert count_records(settings) == 500

    produce(settings, 300)
    server.kill()
    server.start()
    assert server.bootstrap_servers == settings.bootstrap_servers
    assert count_records(settings) == 800

    with pytest.raises(EnvironmentProblemError, match="another fleetwatch runs Kafka in"):
        KafkaServer(server.log_file.parent).start()
    assert count_records(settings) == 800


def test_topics_are_made_on_purpose_only(kafka_broker: str) -> None:
    client = kafka.connect(Settings(bootstrap_servers=kafka_broker))
    assert kafka.partitions_of(client, "nobody-made-this") == []
    assert kafka.partitions_of(client, "nobody-made-this") == []


def test_the_broker_ends_with_a_killed_parent_and_its_folder_is_usable(server: KafkaServer, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", KEEP_ALIVE, str(tmp_path / "kafka")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        broker = int(parent.stdout.readline())
        os.kill(broker, 0)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
    wait_until(lambda: not _runs(broker), what="the broker's end", timeout=10)
    server.start()
    assert server.port


def test_a_taken_port_is_named(jars: Path, tmp_path: Path, kafka_broker: str) -> None:
    port = int(kafka_broker.rsplit(":", 1)[1])
    with pytest.raises(EnvironmentProblemError, match=f"port {port} for Kafka"):
        KafkaServer(tmp_path / "kafka", port=port).start()


def test_a_wanted_port_is_taken(jars: Path, tmp_path: Path) -> None:
    port = free_port()
    with KafkaServer(tmp_path / "kafka", port=port) as server:
        assert server.bootstrap_servers == f"127.0.0.1:{port}"


@pytest.mark.parametrize("damage", ["not a number", ""])
def test_a_damaged_folder_is_one_line(server: KafkaServer, tmp_path: Path, damage: str) -> None:
    data = tmp_path / "kafka" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text(f"version={damage}\n")
    with pytest.raises(EnvironmentProblemError, match="Apache Kafka does not start: ") as caught:
        server.start()
    assert "\n" not in str(caught.value)


# --- without Java, Maven or the network


def _program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a PATH with nothing but what the test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return tmp_path / "bin"


def test_without_java_it_says_what_to_install(bare: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match=r"needs Java 17 and none is found: install openjdk-17"):
        kafka_jars.java_command()


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.2"])
def test_an_old_java_is_named_with_its_version(bare: Path, version: str) -> None:
    _program(bare, "java", f"echo 'openjdk version \"{version}\" 2020-01-01' >&2")
    with pytest.raises(EnvironmentProblemError, match=r"needs Java 17, .*/java is version (8|11): install"):
        kafka_jars.java_command()


@pytest.mark.parametrize("version", ["17", "17.0.15", "25-ea"])
def test_a_new_java_will_do(bare: Path, version: str) -> None:
    _program(bare, "java", f"echo 'openjdk version \"{version}\" 2025-01-01' >&2")
    assert kafka_jars.java_command() == str(bare / "java")


def test_without_maven_it_says_what_to_install(bare: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match="`mvn` is not found: install maven"):
        kafka_jars.jar_dir()


def test_a_failing_maven_is_one_line_and_leaves_no_half_cache(bare: Path) -> None:
    _program(bare, "mvn", "echo '[ERROR] Could not transfer artifact'; echo '[ERROR] more'; exit 1")
    for _ in range(2):
        with pytest.raises(EnvironmentProblemError, match=r"cannot fetch .*Could not transfer artifact") as caught:
            kafka_jars.jar_dir()
        assert "\n" not in str(caught.value)


def test_jars_are_fetched_once_and_again_when_the_pom_changes(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = tmp_path / "fetched"
    _program(
        bare,
        "mvn",
        f"echo x >> {fetched}\n"
        'for a in "$@"; do case $a in -DoutputDirectory=*) /bin/mkdir -p "${a#*=}";; esac; done',
    )
    first = kafka_jars.jar_dir()
    assert first == kafka_jars.jar_dir()
    assert fetched.read_text().count("x") == 1
    other = tmp_path / "pom.xml"
    other.write_text(kafka_jars.POM.read_text() + "<!-- another log library -->")
    monkeypatch.setattr(kafka_jars, "POM", other)
    kafka_jars.jar_dir()
    assert fetched.read_text().count("x") == 2


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
