"""The dashboard on real services: its queries, its tail, its process, and the page in a real browser."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
from confluent_kafka import Producer
from pydantic import SecretStr

from dashboard.reads import BUCKETS, MAX_RAW_ROWS, Database
from dashboard.snapshot import read_snapshot
from dashboard.tail import Tail
from fleetwatch import avro, kafka, topics
from fleetwatch.errors import TransientError
from fleetwatch.local import children
from fleetwatch.records import AlertState, Severity, Verdict, to_millis
from fleetwatch.settings import Settings
from sinks.batch import Event
from sinks.decoding import decode_all
from sinks.migrate import migrate
from sinks.redis_cache import RedisStore
from tests.services import wait_until
from tests.unit.dashboard.factories import alert, detection, reading, reading_row, resolved, window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

CHROMIUM_ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def now() -> datetime:
    return datetime.now(UTC)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def store(url: str, records: list[Any]) -> None:
    rows = [reading_row(record) for record in records]
    names = list(rows[0])
    columns = ", ".join(names)
    places = ", ".join(f"%({name})s" for name in names)
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO readings ({columns}) VALUES ({places})", rows)
        cursor.executemany(
            "INSERT INTO devices (device_id, kind, sensor_type, site, first_seen, last_seen)"
            " VALUES (%(device_id)s, 'sensor', %(sensor_type)s, %(site)s, %(event_time)s, %(event_time)s)"
            " ON CONFLICT (device_id) DO NOTHING",
            rows,
        )


@dataclass
class Feed:
    """Sends records to the output topics, as the streams part would."""

    settings: Settings

    def __post_init__(self) -> None:
        self._producer = Producer(kafka.producer_config(self.settings))

    def send(self, topic: str, *records: Any, key: str | None = None) -> None:
        for record in records:
            value = record if isinstance(record, bytes) else avro.encode(record)
            name = key or getattr(record, "device_id", None) or getattr(record, "camera_id", "k")
            self._producer.produce(topic, value, key=str(name).encode())
        assert self._producer.flush(20) == 0


# --- the queries


@pytest.fixture
def database(database_url: str) -> Iterator[tuple[Database, str]]:
    migrate(database_url)
    opened = Database(Settings(database_url=SecretStr(database_url)))
    yield opened, database_url
    opened.close()


def test_history_is_shown_as_it_is_while_it_is_short(database: tuple[Database, str]) -> None:
    asked, url = database
    end = now().replace(microsecond=0)
    store(
        url,
        [
            reading(
                "pump-1",
                at=end - timedelta(seconds=n),
                seq=n,
                value=float(n),
                verdict=Verdict.ANOMALY if n == 7 else Verdict.NORMAL,
                online_score=None if n > 50 else 0.5,
            )
            for n in range(120)
        ]
        + [reading("other", at=end)],
    )
    history = asked.history("pump-1", timedelta(minutes=1))
    assert history is not None
    assert history.step is None
    assert [row.value for row in history.rows] == [float(n) for n in range(59, -1, -1)], "the range, in order of time"
    assert (history.rows[0].online_score, history.rows[-1].online_score) == (None, 0.5)
    assert [(row.time, row.value) for row in history.anomalies] == [(end - timedelta(seconds=7), 7.0)]
    assert (history.sensor_type, history.site, history.unit) == ("temperature", "north", "°C")
    assert history.end == end
    assert asked.history("nobody", timedelta(minutes=1)) is None
    assert set(asked.sensor_names()) == {"pump-1", "other"}


def test_a_long_history_is_averaged_and_loses_no_anomaly(database: tuple[Database, str]) -> None:
    asked, url = database
    end = now().replace(microsecond=0)
    count = MAX_RAW_ROWS + 500
    store(
        url,
        [
            reading(
                "pump-1",
                at=end - timedelta(seconds=n),
                seq=n,
                value=900.0 if n == 333 else 10.0,
                verdict=Verdict.ANOMALY if n == 333 else Verdict.NORMAL,
            )
            for n in range(count)
        ],
    )
    history = asked.history("pump-1", timedelta(days=7))
    assert history is not None
    assert history.step == timedelta(seconds=count - 1) / BUCKETS, "as fine as what is there allows"
    assert len(history.rows) <= BUCKETS + 1
    assert sum(row.readings for row in history.rows) == count, "every reading is in one bucket"
    assert max(row.high for row in history.rows) == 900.0
    assert min(row.low for row in history.rows) == 10.0
    times = [row.time for row in history.rows]
    assert times == sorted(times)
    assert [row.value for row in history.anomalies] == [900.0]


def test_a_database_without_tables_and_one_that_is_gone_are_one_line(postgres_url: str) -> None:
    asked = Database(Settings(database_url=SecretStr(postgres_url)))
    with pytest.raises(TransientError, match="no tables yet"):
        asked.history("pump-1", timedelta(hours=1))
    asked.close()
    gone = Database(Settings(database_url=SecretStr(f"postgresql://postgres@127.0.0.1:{free_port()}/x")))
    with pytest.raises(TransientError, match="not reachable"):
        gone.history("pump-1", timedelta(hours=1))
    began = time.monotonic()
    with pytest.raises(TransientError, match="not reachable"):
        gone.sensor_names()
    assert time.monotonic() - began < 0.2, "after a failure it is not tried again at once"
    gone.close()


def test_the_dashboard_cannot_write(postgres_url: str) -> None:
    migrate(postgres_url)
    asked = Database(Settings(database_url=SecretStr(postgres_url)))
    with pytest.raises(TransientError, match="ReadOnlySqlTransaction"), asked._connection() as connection:
        connection.execute("DELETE FROM readings")
    asked.close()


# --- the tail


@contextmanager
def tailing(settings: Settings) -> Iterator[Tail]:
    tail = Tail(settings)
    tail.start()
    try:
        wait_until(lambda: bool(tail._positions), what="the tail finds the topics")
        yield tail
    finally:
        tail.stop()
        assert not tail.is_running


def test_the_tail_follows_all_topics_and_skips_what_is_broken(any_settings: Settings, redis_url: str) -> None:
    settings = any_settings.model_copy(update={"redis_url": SecretStr(redis_url)})
    sensor, camera, ill, alert_id, label = (unique(name) for name in ("pump", "cam", "ill", "alert", "label"))
    feed = Feed(settings)
    feed.send(topics.SCORED, reading(sensor, at=now() - timedelta(seconds=9), seq=1, value=1.0))  # before it starts
    with tailing(settings) as tail:
        wait_until(lambda: sensor in tail.board.devices, what="what came a little before")
        before = tail.board
        feed.send(topics.SCORED, reading(sensor, at=now(), seq=2, value=2.0))
        feed.send(topics.SCORED, b"\x00garbage", key=sensor)
        feed.send(topics.DETECTIONS, detection(camera, at=now()))
        feed.send(topics.DETECTIONS, detection(ill, at=now(), confidence=float("nan")))
        feed.send(topics.COUNTS, window(label, start=now()))
        feed.send(topics.ALERTS, alert(alert_id, device_id=sensor))
        feed.send(topics.DEAD_LETTERS, b"x", b"y")
        wait_until(
            lambda: (
                tail.board.devices[sensor].last.value == 2.0
                and camera in tail.board.cameras
                and any(key.key == label for key in tail.board.label_windows)
                and alert_id in tail.board.open_alerts
                and tail.board.dead_letters == before.dead_letters + 2
                and tail.board.unusable == before.unusable + 2
            ),
            what="everything on the board",
        )
        assert ill not in tail.board.cameras
        assert before.devices[sensor].last.value == 1.0, "a board that somebody reads never changes"
        feed.send(topics.ALERTS, alert(alert_id, device_id=sensor, state=AlertState.RESOLVED, ended_at=now()))
        wait_until(lambda: alert_id not in tail.board.open_alerts, what="the alert closes")
        assert tail.problems == ()


def test_the_tail_jumps_ahead_when_it_is_too_far_behind(settings: Settings, redis_url: str, monkeypatch) -> None:
    from dashboard import tail as module

    monkeypatch.setattr(module, "MAX_LAG", 10)
    monkeypatch.setitem(module.START_BACK, topics.SCORED, 5)
    sensor = unique("pump")
    feed = Feed(settings)
    tail = Tail(settings.model_copy(update={"redis_url": SecretStr(redis_url)}))
    for topic in (topics.SCORED,):
        for number in range(4):
            tail._positions[(topic, number)] = 0
    feed.send(topics.SCORED, *(reading(sensor, at=now(), seq=n) for n in range(300)))
    tail.start()
    try:
        wait_until(lambda: sensor in tail.board.devices, what="the newest events")
        wait_until(lambda: tail.board.devices[sensor].last.seq == 299, what="the very newest event")
        assert tail.board.skipped >= 280
        assert len(tail.board.devices[sensor].points) <= 20
    finally:
        tail.stop()


def test_the_tail_says_what_is_unreachable_and_recovers(embedded_broker: str, redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    settings = Settings(
        bootstrap_servers=f"127.0.0.1:{port}",
        embedded_broker=True,
        redis_url=SecretStr(f"redis://127.0.0.1:{free_port()}/0"),
    )
    tail = Tail(settings)
    tail.start()
    try:
        wait_until(lambda: any("Kafka is not reachable" in text for text in tail.problems), what="the notice")
        assert tail.is_running
        with forwarding(port, embedded_broker):
            wait_until(lambda: not any("Kafka" in text for text in tail.problems), what="Kafka is back", timeout=30)
            wait_until(lambda: any("Redis does not answer" in text for text in tail.problems), what="the other notice")
    finally:
        tail.stop()
    assert not tail.is_running


@contextmanager
def forwarding(port: int, target: str) -> Iterator[None]:
    """Let a port lead to a broker, as if it had just come up there."""
    import threading

    host, target_port = target.split(",", 1)[0].rsplit(":", 1)
    listener = socket.create_server(("127.0.0.1", port))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(65_536):
                sink.sendall(chunk)
        except OSError:
            pass
        finally:
            sink.close()

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection((host, int(target_port)))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_the_snapshot_is_what_the_cache_sink_wrote(redis_url: str) -> None:
    at = now().replace(microsecond=0)
    fired = alert("a1", at=at, device_id="pump-1")
    records = [
        (topics.SCORED, reading("pump-1", at=at - timedelta(seconds=1), seq=1, value=1.0, verdict=Verdict.ANOMALY)),
        (topics.SCORED, reading("pump-1", at=at, seq=2, value=2.0)),
        (topics.SCORED, reading("new", at=at, score=None, online_score=None, batch_score=None)),
        (topics.DETECTIONS, detection("cam-1", at=at, label="car")),
        (topics.ALERTS, fired),
        (topics.ALERTS, alert("a2", at=at)),
        (topics.ALERTS, resolved("a2", at=at)),
    ]
    cache = RedisStore(SecretStr(redis_url))
    cache.open()
    events = [
        Event(topic, 0, n, to_millis(at), getattr(record, "camera_id", "k").encode(), avro.encode(record))
        for n, (topic, record) in enumerate(records)
    ]
    cache.put(decode_all(events, 1000)[0])
    cache.close()
    with redis.Redis.from_url(redis_url) as client:
        client.zadd("devices:last_seen", {"vanished": to_millis(at)})
        client.hset("alerts:open", "broken", "{}")
    snapshot = read_snapshot(Settings(redis_url=SecretStr(redis_url)))
    devices = {device.device_id: device for device in snapshot.devices}
    assert devices.keys() == {"pump-1", "new"}
    assert [point.value for point in devices["pump-1"].points] == [1.0, 2.0]
    assert [point.is_anomaly for point in devices["pump-1"].points] == [True, False]
    assert devices["pump-1"].anomaly_ms == to_millis(records[0][1].ingest_time)
    assert devices["new"].last.score is None
    assert [(camera.camera_id, camera.last.label) for camera in snapshot.cameras] == [("cam-1", "car")]
    assert snapshot.open_alerts == (fired,)


def test_a_cache_that_is_gone_is_one_line() -> None:
    with pytest.raises(TransientError, match="Redis does not answer"):
        read_snapshot(Settings(redis_url=SecretStr(f"redis://127.0.0.1:{free_port()}/0")))


# --- the process


@dataclass
class Running:
    """A dashboard process."""

    process: subprocess.Popen[bytes]
    url: str
    health: str
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.health + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


def environment(settings: Settings, **more: str) -> dict[str, str]:
    return os.environ | {
        "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "FLEETWATCH_EMBEDDED_BROKER": str(settings.embedded_broker).lower(),
        **{f"FLEETWATCH_{name}": value for name, value in more.items()},
    }


@contextmanager
def running(settings: Settings, log: Path, **more: str) -> Iterator[Running]:
    port, health = free_port(), free_port()
    with log.open("wb") as lines:
        process = children.start(
            [sys.executable, "-m", "fleetwatch.cli.main", "dashboard"],
            log=lines.fileno(),
            env=environment(settings, DASHBOARD_PORT=str(port), HTTP_PORT=str(health), **more),
        )
    board = Running(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{health}", log)
    try:
        wait_until(
            lambda: process.poll() is not None or board.get("/readyz")[0] == 200, what="the dashboard", timeout=60
        )
        if process.poll() is not None:
            raise ChildProcessError(log.read_text())
        yield board
    finally:
        children.stop(process, by=signal.SIGTERM, timeout=10)


def test_the_process_keeps_the_contract_and_stops_within_five_seconds(settings: Settings, tmp_path: Path) -> None:
    with running(settings, tmp_path / "log") as board:
        status = json.loads(board.get("/status")[1])
        assert status["ready"]
        assert f"serving {board.url}" in status["doing"]
        with urllib.request.urlopen(board.url, timeout=5) as page:
            assert page.status == 200
        heavy = {"numba", "sklearn", "polars", "faust", "river"}
        loaded = (
            "import sys, dashboard.server, dashboard.fleet_page; print(*{name.split('.')[0] for name in sys.modules})"
        )
        modules = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout
        assert not heavy & set(modules.split())
        began = time.monotonic()
        board.process.send_signal(signal.SIGTERM)
        assert board.process.wait(10) == 0
        assert time.monotonic() - began < 5
        output = board.log.read_text()
        assert "service_stopped" in output
        assert "Traceback" not in output


def test_a_taken_port_is_one_clear_line_and_exit_code_two(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run(
            [sys.executable, "-m", "fleetwatch.cli.main", "dashboard", "--port", str(port)],
            env=environment(settings),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 2
    assert str(port) in result.stderr
    assert "FLEETWATCH_DASHBOARD_PORT" in result.stderr
    assert "Traceback" not in result.stderr


# --- the page in a browser


def test_the_page_in_a_browser(  # noqa: PLR0915  # one visit from beginning to end
    settings: Settings, postgres_url: str, redis_url: str, chromium: str, tmp_path: Path
) -> None:
    """A reading becomes a card, its value moves on without a reload, and history and choice survive one."""
    from playwright.sync_api import expect, sync_playwright

    migrate(postgres_url)
    sensor, other, camera = unique("pump"), unique("fan"), unique("cam")
    feed = Feed(settings)
    start = now()
    store(
        postgres_url,
        [
            reading(
                sensor,
                at=start - timedelta(seconds=n + 1),
                seq=1000 - n,
                verdict=Verdict.ANOMALY if n == 5 else Verdict.NORMAL,
            )
            for n in range(60)
        ],
    )
    problems: list[str] = []
    with (
        running(settings, tmp_path / "log", DATABASE_URL=postgres_url, REDIS_URL=redis_url) as board,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        away: list[str] = []
        page.on(
            "request",
            lambda asked: None if asked.url.startswith((board.url, "data:", "blob:")) else away.append(asked.url),
        )
        page.goto(board.url)

        feed.send(topics.SCORED, reading(sensor, at=now(), seq=2000, value=42.25), reading(other, at=now()))
        feed.send(topics.DETECTIONS, detection(camera, at=now(), label="forklift"))
        summary = f"above the limit {uuid.uuid4().hex[:6]}"
        feed.send(
            topics.ALERTS,
            alert(unique("alert"), at=now(), device_id=sensor, severity=Severity.CRITICAL, summary=summary),
        )
        page.get_by_placeholder("Part of a device id").fill(sensor.split("-")[1])
        page.keyboard.press("Enter")
        card = page.locator(f"[data-device='{sensor}']")
        expect(card).to_contain_text("42.25", timeout=20_000)
        expect(card).to_contain_text("Critical")
        expect(page.get_by_text(summary)).to_be_visible()
        page.evaluate("window.sameVisit = true")

        feed.send(topics.SCORED, reading(sensor, at=now(), seq=2001, value=43.75))
        expect(card).to_contain_text("43.75", timeout=10_000)
        assert page.evaluate("window.sameVisit"), "the value changed without a reload"

        page.get_by_role("button", name=f"Show the history of {sensor}").click()
        history = page.locator(f"[data-history='{sensor}']")
        expect(history).to_be_visible(timeout=10_000)
        expect(page.locator("[data-testid='stVegaLiteChart']")).to_have_count(2)
        expect(page.get_by_text("60 readings,")).to_be_visible()
        page.wait_for_url(f"**device={sensor}**", timeout=10_000)
        store(postgres_url, [reading(sensor, at=now(), seq=3000)])
        expect(page.get_by_text("61 readings,")).to_be_visible(timeout=10_000)
        assert page.evaluate("window.sameVisit"), "the history moved on without a reload"

        page.reload()
        expect(history).to_be_visible(timeout=20_000)
        assert f"device={sensor}" in page.url
        assert page.evaluate("window.sameVisit") is None

        assert "Traceback" not in page.content()
        page.set_viewport_size({"width": 420, "height": 900})
        expect(card).to_be_visible()
        page.wait_for_function(
            "document.querySelector('[data-testid=stMain]').scrollWidth <= 420", timeout=10_000
        )  # nothing is wider than a phone
        browser.close()
        assert "Traceback" not in board.log.read_text()
    assert problems == []
    assert away == [], "the page needs nothing from elsewhere"
