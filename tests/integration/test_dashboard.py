"""The dashboard on real services: its queries, its tail, its process, and the page in a real browser."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
from pydantic import SecretStr

from dashboard import event_reads
from dashboard.actions import Actions, acknowledgement
from dashboard.database import Database
from dashboard.reads import BUCKETS, MAX_RAW_ROWS
from dashboard.snapshot import read_snapshot
from dashboard.tail import Tail
from dashboard.watch import Watch
from fleetwatch import avro, kafka, topics
from fleetwatch.errors import TransientError
from fleetwatch.records import AlertAction, AlertState, Severity, Verdict, to_millis
from fleetwatch.settings import Settings
from sinks.batch import Event
from sinks.decoding import decode_all
from sinks.migrate import migrate
from sinks.redis_cache import RedisStore
from tests.dashboards import Feed, environment, free_port, now, running, store, unique
from tests.services import wait_until
from tests.unit.dashboard.factories import alert, dead_letter, detection, model, reading, resolved, window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

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


def test_a_camera_has_counts_by_label_and_its_newest_detections(database: tuple[Database, str]) -> None:
    asked, url = database
    end = now().replace(microsecond=0)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.cursor().executemany(
            "INSERT INTO detections (camera_id, event_time, seq, site, label, confidence, box_x, box_y, box_width,"
            " box_height, ingest_time, source_partition, source_offset)"
            " VALUES ('cam-1', %s, %s, 'gate', %s, 0.9, 0, 0, 1, 1, now(), 0, 1)",
            [(end - timedelta(seconds=20 * n), 100 - n, "car" if n % 4 else "person") for n in range(60)],
        )
    found = asked.sightings("cam-1", timedelta(minutes=15))
    assert found is not None
    assert [row.seq for row in found.newest] == list(range(100, 90, -1))
    assert found.newest[0].time == end
    totals = {label: sum(row.count for row in found.bins if row.label == label) for label in ("car", "person")}
    assert totals == {"person": 12, "car": 33}, "45 of them are within 15 minutes"
    assert {(row.time - found.start) % found.step for row in found.bins} == {timedelta(0)}
    assert asked.sightings("cam-2", timedelta(minutes=15)) is None


def test_past_alerts_are_bounded_and_say_who_took_them_first(database: tuple[Database, str]) -> None:
    asked, url = database
    at = now().replace(microsecond=0)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO alerts SELECT 'a' || n, 'r', 'LEVEL', 'f', 'pump-1', 's',"
            " CASE n %% 2 WHEN 0 THEN 'INFO' ELSE 'CRITICAL' END,"
            " CASE n WHEN 5 THEN 'FIRING' ELSE 'RESOLVED' END, %s::timestamptz - n * INTERVAL '1 minute',"
            " %s::timestamptz, 1, 1, '', now(), 't', 0, n FROM generate_series(1, 200) AS n",
            (at, at),
        )
        connection.cursor().executemany(
            "INSERT INTO alert_actions (action_id, alert_id, device_id, action, who, at, note)"
            " VALUES (%s, 'a1', 'pump-1', %s, %s, %s, '')",
            [
                ("1", "ACKNOWLEDGE", "late", at),
                ("2", "ACKNOWLEDGE", "first", at - timedelta(seconds=5)),
                ("3", "MUTE", "mute", at - timedelta(seconds=9)),
            ],
        )
    found = asked.past_alerts(at - timedelta(hours=3), [Severity.CRITICAL])
    assert [one.alert_id for one in found.alerts[:3]] == ["a1", "a3", "a7"], "what still fires is not over"
    assert (found.alerts[0].acknowledged_by, found.alerts[1].acknowledged_by) == ("first", None)
    assert len(found.alerts) == event_reads.PAST_SHOWN
    assert found.has_more
    few = asked.past_alerts(at - timedelta(minutes=4, seconds=30), list(Severity))
    assert [one.alert_id for one in few.alerts] == ["a1", "a2", "a3", "a4"]
    assert not few.has_more


def test_dead_letters_are_counted_by_reason(database: tuple[Database, str]) -> None:
    asked, url = database
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            'INSERT INTO dead_letters (topic, partition, "offset", broker_time, stage, reason, detail, value_length,'
            " value_sha256) SELECT 't', 0, n, now() - n * INTERVAL '1 hour', 'DECODE',"
            " CASE n % 3 WHEN 0 THEN 'TRUNCATED' ELSE 'MALFORMED' END, '', 0, '' FROM generate_series(1, 30) AS n"
        )
    found = asked.refusals(now() - timedelta(hours=23, minutes=30))
    assert [(row.reason.name, row.count) for row in found] == [("MALFORMED", 16), ("TRUNCATED", 7)]
    assert asked.is_there()


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
    with pytest.raises(TransientError, match="ReadOnlySqlTransaction"), asked.connection() as connection:
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
    names = ("pump", "cam", "ill", "alert", "label", "version")
    sensor, camera, ill, alert_id, label, version = (unique(name) for name in names)
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
        feed.send(topics.ALERT_ACTIONS, acknowledgement(alert(alert_id), who="Dana", at=now()), key=alert_id)
        feed.send(topics.MODELS, model(version), key=f"temperature/{version}")
        feed.send(topics.DEAD_LETTERS, b"x", b"y", dead_letter(detail=label))
        wait_until(
            lambda: (
                tail.board.devices[sensor].last.value == 2.0
                and camera in tail.board.cameras
                and any(key.key == label for key in tail.board.label_windows)
                and alert_id in tail.board.open_alerts
                and tail.board.dead_letters == before.dead_letters + 3
                and tail.board.unusable == before.unusable + 4
                and tail.board.notes.acknowledged.get(alert_id) is not None
                and ("temperature", version) in tail.board.notes.models
                and any(refusal.detail == label for refusal in tail.board.notes.refusals)
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

    def said() -> list[str]:
        return [str(problem) for problem in tail.problems]

    tail.start()
    try:
        wait_until(lambda: any("Kafka is not reachable" in problem for problem in said()), what="the notice")
        assert tail.is_running
        with forwarding(port, embedded_broker):
            wait_until(
                lambda: not any("Kafka" in str(text) for text in tail.problems), what="Kafka is back", timeout=30
            )
            wait_until(lambda: any("Redis does not answer" in problem for problem in said()), what="the other notice")
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


# --- the actions and the watch


def test_an_action_is_in_kafka_when_sending_returns(any_settings: Settings) -> None:
    desk = Actions(any_settings)
    action = acknowledgement(alert(unique("alert")), who="Dana", at=now().replace(microsecond=0))
    desk.send(action)
    found: list[Any] = []
    kafka.read_to_end(any_settings, topics.ALERT_ACTIONS, found.append)
    desk.close()
    mine = [avro.decode(one.value(), AlertAction) for one in found if one.key() == action.alert_id.encode()]
    assert mine == [action]


def test_an_action_that_no_broker_takes_is_one_line(monkeypatch) -> None:
    from dashboard import actions

    monkeypatch.setattr(actions, "DELIVERY_SECONDS", 0.5)
    desk = Actions(Settings(bootstrap_servers=f"127.0.0.1:{free_port()}", embedded_broker=True))
    with pytest.raises(TransientError, match="nothing was acknowledged"):
        desk.send(acknowledgement(alert(), who="Dana", at=now()))


def test_the_watch_sees_offsets_and_stores_while_somebody_looks(settings: Settings, redis_url: str) -> None:
    watch = Watch(settings.model_copy(update={"redis_url": SecretStr(redis_url)}), lambda: False)
    watch.start()
    try:
        assert watch.seen().looks == ()
        wait_until(lambda: len(watch.seen().looks) >= 2, what="two looks")
        seen = watch.seen()
        assert (seen.kafka, seen.database, seen.redis) == (True, False, True)
        assert seen.looks[-1].waiting.keys() == set(topics.READ_BY)
    finally:
        watch.stop()


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


def test_the_process_keeps_the_contract_and_stops_within_five_seconds(settings: Settings, tmp_path: Path) -> None:
    with running(settings, tmp_path / "log") as board:
        status = json.loads(board.get("/status")[1])
        assert status["ready"]
        assert f"serving {board.url}" in status["doing"]
        with urllib.request.urlopen(board.url, timeout=5) as page:
            assert page.status == 200
        heavy = {"numba", "sklearn", "polars", "faust", "river"}
        parts = ("server", "fleet_page", "device_page", "cameras_page", "alerts_page", "models_page", "pipeline_page")
        imported = ", ".join(f"dashboard.{part}" for part in parts)
        loaded = f"import sys, {imported}; print(*(name.split('.')[0] for name in sys.modules))"
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
