"""The sinks as processes: killed, cut off from their stores, fed with poison. Nothing is lost or doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest
from confluent_kafka import Producer

from fleetwatch import avro, kafka, topics
from tests.faults.flow import Flow, ends, lag
from tests.faults.processes import SinkProcess
from tests.faults.sinks import FAULTS, count, put_in, stored_offsets, world_of
from tests.services import free_port, wait_until
from tests.unit.sinks.samples import alert, detection, scored

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(280)]


@pytest.mark.timeout(480)
def test_no_fault_loses_or_doubles_an_event(kafka_settings: Settings, tmp_path: Path):
    """Each fault three times, in one world; `make faults` does it fifty times."""
    with world_of(kafka_settings, tmp_path) as world:
        outcomes = list(put_in(world, FAULTS, runs=3))
    assert [outcome.fault for outcome in outcomes] == list(FAULTS)
    assert [outcome for outcome in outcomes if outcome.lost or outcome.doubled] == []


def test_two_database_sinks_share_the_partitions_and_one_takes_over(
    settings: Settings, postgres_url: str, tmp_path: Path
):
    first, second = (
        SinkProcess("timescale", settings, tmp_path / f"{n}.log", FLEETWATCH_DATABASE_URL=postgres_url) for n in (1, 2)
    )
    flow = Flow(settings)
    with first, second:
        with flow:
            for sink in (first, second):
                wait_until(lambda sink=sink: sink.counter("rows_written") > 100, what="writing", timeout=60)
            assert first.stop() == 0
            before = flow.total
            wait_until(lambda: flow.total > before + 500, what="more events", timeout=20)
        wait_until(lambda: lag(settings, topics.GROUP_TIMESCALE) == 0, what="taking over", timeout=60)
        assert second.stop() == 0
    assert count(postgres_url, flow.prefix) == (flow.total, flow.total)
    assert stored_offsets(postgres_url) == ends(settings, topics.SCORED)


def test_poison_is_dead_lettered_and_its_neighbours_are_stored(
    any_settings: Settings, postgres_url: str, tmp_path: Path
):
    settings, database_url = any_settings, postgres_url
    log, prefix = tmp_path / "sink.log", f"sink-{uuid.uuid4().hex[:8]}-"
    good = [scored(f"{prefix}{n}", seq=n) for n in range(50)]
    poison = alert(f"{prefix}\x00")
    producer = Producer(kafka.producer_config(settings))
    for index, record in enumerate(good):
        producer.produce(topics.SCORED, key=prefix, value=avro.encode(record))
        if index == 10:
            producer.produce(topics.SCORED, key=prefix, value=b"no avro")
    for record in (alert(f"{prefix}1"), poison, alert(f"{prefix}2")):
        producer.produce(topics.ALERTS, key=prefix, value=avro.encode(record))
    producer.produce(topics.DETECTIONS, key=f"{prefix}cam", value=avro.encode(detection(f"{prefix}cam")))
    producer.produce(topics.DETECTIONS, key=b"other", value=avro.encode(detection(f"{prefix}cam", seq=2)))
    assert producer.flush(10) == 0

    with SinkProcess("timescale", settings, log, FLEETWATCH_DATABASE_URL=database_url) as sink:
        wait_until(
            lambda: lag(settings, topics.GROUP_TIMESCALE) == 0 and _letters(database_url, prefix) != [],
            what="storing the dead letters too",
            timeout=60,
        )
        wait_until(lambda: len(_letters(database_url, prefix)) == 2, what="both letters", timeout=20)
        assert sink.counter("refused_input") >= 1
        assert sink.get("/readyz")[0] == 200
        assert 'fleetwatch_sink_rows_refused_total{by="store"}' in sink.get("/metrics")[1]
        assert sink.stop() == 0
    assert count(database_url, prefix) == (50, 50)
    assert _letters(database_url, prefix) == [("DECODE", "NOT_FRAMED"), ("STORE", "STORE_REFUSED")]
    with psycopg.connect(database_url) as connection:
        for table, column, expected in (("detections", "camera_id", 1), ("alerts", "alert_id", 2)):
            query = f"SELECT count(*) FROM {table} WHERE starts_with({column}, %s)"
            assert connection.execute(query.encode(), [prefix]).fetchone() == (expected,)


def _letters(url: str, key: str) -> list[tuple[str, str]]:
    try:
        with psycopg.connect(url) as connection:
            return connection.execute(
                "SELECT stage, reason FROM dead_letters WHERE raw_key = %s ORDER BY 1",
                [key.encode()],
            ).fetchall()
    except psycopg.errors.UndefinedTable:  # the sink is still bringing the schema up
        return []


def test_a_sink_whose_store_is_not_there_yet_says_at_once_what_it_waits_for(
    settings: Settings, short_tmp: Path, tmp_path: Path
):
    from fleetwatch.local.postgres import LocalPostgres

    server = LocalPostgres(short_tmp / f"pg-{uuid.uuid4().hex[:6]}", free_port())
    log = tmp_path / "sink.log"
    with server:  # makes its data, so that it is back quickly below
        url = server.url
    with SinkProcess("timescale", settings, log, FLEETWATCH_DATABASE_URL=url) as sink:
        wait_until(lambda: sink.is_paused("PostgreSQL"), what="saying so", timeout=60)
        assert "start it or set FLEETWATCH_DATABASE_URL" in sink.get("/readyz")[1]
        assert "at_most_seconds=20" in log.read_text()
        with server:
            wait_until(sink.is_ready, what="going on", timeout=60)
            assert "fleetwatch_sink_paused 0.0" in sink.get("/metrics")[1]
            assert sink.stop() == 0


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
