"""The sinks as processes: killed, cut off from their stores, fed with poison. Nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest
import redis
from confluent_kafka import KafkaException, Producer

from fleetwatch import avro, kafka, topics
from sinks.cache_writes import KEPT_EVENTS
from tests.services import free_port, wait_until
from tests.unit.sinks.samples import detection, scored

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


class _Sink:
    """One sink as a process of its own."""

    def __init__(self, name: str, settings: Settings, log: Path, **environment: str) -> None:
        self.name, self._log = name, log
        self.port = free_port()
        self._environment = os.environ | {
            "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "FLEETWATCH_EMBEDDED_BROKER": str(settings.embedded_broker).lower(),
            "FLEETWATCH_HTTP_PORT": str(self.port),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fleetwatch.cli.main", "sink", self.name],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            assert self.process.poll() is None, self._log.read_text()
            return 0, ""

    def counter(self, name: str) -> int:
        code, text = self.get("/status")
        return int(json.loads(text)["counters"].get(name, 0)) if code else 0


class _Stream:
    """Scored readings of a few devices, sent at a steady rate until it is left; remembers what was acknowledged."""

    def __init__(self, settings: Settings, *, devices: int = 10, per_second: int = 500) -> None:
        self.prefix = f"sink-{uuid.uuid4().hex[:8]}-"
        self._devices, self._per_second = devices, per_second
        self._producer = Producer(kafka.producer_config(settings))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent: dict[str, list[int]] = defaultdict(list)
        self.failed = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._producer.flush(20) == 0
        assert self.failed == 0

    def _run(self) -> None:
        seq = 0
        while not self._stop.wait(self._devices / self._per_second):
            for number in range(self._devices):
                device = f"{self.prefix}{number}"
                self._producer.produce(
                    topics.SCORED,
                    key=device,
                    value=avro.encode(scored(device, seq)),
                    on_delivery=lambda error, _, device=device, seq=seq: self._reported(error, device, seq),
                )
            seq += 1
            self._producer.poll(0)

    def _reported(self, error: Any, device: str, seq: int) -> None:
        if error is None:
            self.sent[device].append(seq)
        else:
            self.failed += 1

    @property
    def total(self) -> int:
        return sum(map(len, self.sent.values()))


def _kill_at_random_moments(sinks: list[_Sink], stream: _Stream, times: int = 3) -> None:
    """Kill each sink while it writes: each time some rows after it began."""
    moment = random.Random(5)
    with stream:
        for _ in range(times):
            with ExitStack() as stack:
                for sink in sinks:
                    stack.enter_context(sink)
                for sink in sinks:
                    wait_until(lambda sink=sink: sink.counter("rows_written") > 300, what="writing", timeout=60)
                    threading.Event().wait(moment.uniform(0, 0.4))  # a random moment is what is tested
                    sink.kill()


def _count(url: str, prefix: str) -> tuple[int, int]:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*), count(DISTINCT (device_id, event_time, seq)) FROM readings"
            " WHERE starts_with(device_id, %s)",
            [prefix],
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def _assert_all_stored(url: str, settings: Settings, stream: _Stream) -> None:
    assert _count(url, stream.prefix) == (stream.total, stream.total)
    with psycopg.connect(url) as connection:
        stored = connection.execute(
            "SELECT topic, partition, next_offset FROM sink_offsets WHERE topic = %s", [topics.SCORED]
        ).fetchall()
    assert dict(_ends(settings)) == {(topic, partition): offset for topic, partition, offset in stored}
    assert set(kafka.lag_of(settings, topics.GROUP_TIMESCALE).values()) == {0}


def _ends(settings: Settings) -> dict[tuple[str, int], int]:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(kafka.consumer_config(settings, "sink-test-ends"))
    try:
        found = {}
        for number in kafka.partitions_of(consumer, topics.SCORED):
            _, high = consumer.get_watermark_offsets(TopicPartition(topics.SCORED, number), timeout=10)
            if high > 0:
                found[topics.SCORED, number] = high
        return found
    finally:
        consumer.close()


def test_both_sinks_killed_three_times_hold_every_event_once(
    settings: Settings, timescale_url: str, redis_url: str, tmp_path: Path
):
    urls = {"FLEETWATCH_DATABASE_URL": timescale_url, "FLEETWATCH_REDIS_URL": redis_url}
    sinks = [_Sink(name, settings, tmp_path / f"{name}.log", **urls) for name in ("timescale", "redis")]
    stream = _Stream(settings)
    _kill_at_random_moments(sinks, stream)
    with sinks[0], sinks[1]:
        for group in (topics.GROUP_TIMESCALE, topics.GROUP_REDIS):
            wait_until(lambda group=group: _lag(settings, group) == 0, what="catching up", timeout=60)
        assert [sink.stop() for sink in sinks] == [0, 0]
    assert stream.total > 3000
    _assert_all_stored(timescale_url, settings, stream)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        for device, sent in stream.sent.items():
            kept = [json.loads(text)["seq"] for text in client.lrange(f"device:{device}:events", 0, -1)]
            assert kept == sorted(sent, reverse=True)[:KEPT_EVENTS]
            assert client.hget(f"device:{device}", "seq") == str(max(sent))


def _lag(settings: Settings, group: str) -> int:
    try:
        return sum(kafka.lag_of(settings, group).values())
    except KafkaException:  # a fresh Kafka has no coordinator for a group at first
        return -1


def test_two_database_sinks_share_the_partitions_and_one_takes_over(
    settings: Settings, postgres_url: str, tmp_path: Path
):
    first, second = (
        _Sink("timescale", settings, tmp_path / f"{n}.log", FLEETWATCH_DATABASE_URL=postgres_url) for n in (1, 2)
    )
    stream = _Stream(settings)
    with first, second:
        with stream:
            for sink in (first, second):
                wait_until(lambda sink=sink: sink.counter("rows_written") > 100, what="writing", timeout=60)
            assert first.stop() == 0
            before = stream.total
            wait_until(lambda: stream.total > before + 500, what="more events", timeout=20)
        wait_until(lambda: _lag(settings, topics.GROUP_TIMESCALE) == 0, what="taking over", timeout=60)
        assert second.stop() == 0
    _assert_all_stored(postgres_url, settings, stream)


def test_database_stopped_and_started_the_sink_waits_says_so_and_goes_on(
    settings: Settings, short_tmp: Path, tmp_path: Path
):
    from fleetwatch.local.postgres import LocalPostgres

    server = LocalPostgres(short_tmp / f"pg-{uuid.uuid4().hex[:6]}", free_port())
    stream = _Stream(settings)
    with ExitStack() as cleanup:
        cleanup.callback(server.__exit__, None, None, None)
        server.__enter__()
        sink = _Sink("timescale", settings, tmp_path / "sink.log", FLEETWATCH_DATABASE_URL=server.url)
        cleanup.enter_context(sink)
        with stream:
            wait_until(lambda: sink.counter("rows_written") > 300, what="writing", timeout=60)
            server.__exit__(None, None, None)
            wait_until(lambda: sink.get("/readyz")[0] == 503, what="saying so", timeout=30)
            assert "PostgreSQL" in sink.get("/readyz")[1]
            assert sink.counter("retries") > 0
            assert "fleetwatch_sink_paused 1.0" in sink.get("/metrics")[1]
            server.__enter__()
            wait_until(lambda: sink.get("/readyz")[0] == 200, what="going on", timeout=30)
            before = sink.counter("rows_written")
            wait_until(lambda: sink.counter("rows_written") > before + 300, what="writing again", timeout=30)
        wait_until(lambda: _lag(settings, topics.GROUP_TIMESCALE) == 0, what="catching up", timeout=60)
        assert sink.stop() == 0
        _assert_all_stored(server.url, settings, stream)


def test_cache_stopped_and_flushed_the_sink_goes_on(settings: Settings, short_tmp: Path, tmp_path: Path):
    """A Redis that comes back empty is filled from the database; here there is none, and devices fill it anew."""
    from fleetwatch.local.redis_server import LocalRedis

    folder, port = short_tmp / f"redis-{uuid.uuid4().hex[:6]}", free_port()
    stream = _Stream(settings)
    with ExitStack() as cleanup:
        with LocalRedis(folder, port) as server:
            url = server.url
            sink = _Sink(
                "redis",
                settings,
                tmp_path / "sink.log",
                FLEETWATCH_REDIS_URL=url,
                FLEETWATCH_DATABASE_URL=f"postgresql://postgres@127.0.0.1:{free_port()}/none",
            )
            cleanup.enter_context(sink)
            cleanup.enter_context(stream)
            wait_until(lambda: sink.counter("rows_written") > 300, what="writing", timeout=60)
        wait_until(lambda: sink.get("/readyz")[0] == 503, what="saying so", timeout=30)
        assert "Redis" in sink.get("/readyz")[1]
        with LocalRedis(folder, port), redis.Redis.from_url(url, decode_responses=True) as client:
            client.flushall()
            wait_until(lambda: sink.get("/readyz")[0] == 200, what="going on", timeout=30)
            wait_until(lambda: bool(client.zcard("devices:last_seen")), what="the devices", timeout=30)
            assert sink.stop() == 0


def test_poison_is_dead_lettered_and_its_neighbours_are_stored(
    any_settings: Settings, postgres_url: str, tmp_path: Path
):
    settings, database_url = any_settings, postgres_url
    log, prefix = tmp_path / "sink.log", f"sink-{uuid.uuid4().hex[:8]}-"
    good = [scored(f"{prefix}{n}", seq=n) for n in range(50)]
    poison = scored(f"{prefix}\x00", seq=1)
    producer = Producer(kafka.producer_config(settings))
    for index, record in enumerate([*good[:25], poison, *good[25:]]):
        producer.produce(topics.SCORED, key=prefix, value=avro.encode(record))
        if index == 10:
            producer.produce(topics.SCORED, key=prefix, value=b"no avro")
    producer.produce(topics.DETECTIONS, key=f"{prefix}cam", value=avro.encode(detection(f"{prefix}cam")))
    producer.produce(topics.DETECTIONS, key=b"other", value=avro.encode(detection(f"{prefix}cam", seq=2)))
    assert producer.flush(10) == 0

    with _Sink("timescale", settings, log, FLEETWATCH_DATABASE_URL=database_url) as sink:
        wait_until(
            lambda: _lag(settings, topics.GROUP_TIMESCALE) == 0 and _letters(database_url, prefix) != [],
            what="storing the dead letters too",
            timeout=60,
        )
        wait_until(lambda: len(_letters(database_url, prefix)) == 2, what="both letters", timeout=20)
        assert sink.counter("refused_input") >= 1
        assert sink.get("/readyz")[0] == 200
        assert 'fleetwatch_sink_rows_refused_total{by="store"}' in sink.get("/metrics")[1]
        assert sink.stop() == 0
    assert _count(database_url, prefix) == (50, 50)
    assert _letters(database_url, prefix) == [("DECODE", "NOT_FRAMED"), ("STORE", "STORE_REFUSED")]
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM detections WHERE starts_with(camera_id, %s)", [prefix]
        ).fetchone()
    assert found == (1,)


def _letters(url: str, key: str) -> list[tuple[str, str]]:
    try:
        with psycopg.connect(url) as connection:
            return connection.execute(
                "SELECT stage, reason FROM dead_letters WHERE topic = %s AND raw_key = %s ORDER BY 1",
                [topics.SCORED, key.encode()],
            ).fetchall()
    except psycopg.errors.UndefinedTable:  # the sink is still bringing the schema up
        return []


@pytest.mark.parametrize(
    ("sink", "environment", "says"),
    [
        ("timescale", {"FLEETWATCH_DATABASE_URL": "postgresql://postgres:wrong@{postgres}/postgres"}, "password"),
        ("timescale", {"FLEETWATCH_DATABASE_URL": "postgresql://{user}@{postgres}/missing"}, "does not exist"),
        ("redis", {"FLEETWATCH_REDIS_URL": "nonsense://"}, "FLEETWATCH_REDIS_URL"),
        ("timescale", {"FLEETWATCH_BOOTSTRAP_SERVERS": "127.0.0.1:{free}"}, "no Kafka broker"),
    ],
)
def test_a_wrong_environment_is_one_line_and_exit_code_2(
    settings: Settings, postgres_url: str, sink: str, environment: dict[str, str], says: str
):
    from urllib.parse import urlsplit

    parts = urlsplit(postgres_url)
    places = {
        "postgres": f"{parts.hostname}:{parts.port}",
        "user": parts.netloc.rsplit("@", 1)[0],
        "free": str(free_port()),
    }
    result = subprocess.run(
        [sys.executable, "-m", "fleetwatch.cli.main", "sink", sink],
        env=os.environ
        | {
            "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "FLEETWATCH_EMBEDDED_BROKER": "true",
            "FLEETWATCH_DATABASE_URL": postgres_url,
        }
        | {name: value.format(**places) for name, value in environment.items()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("fleetwatch: ")
    assert says in last
    assert "Traceback" not in result.stderr
