"""How the pages' questions are answered over a month of readings: by an index, never by reading a table through."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from dashboard import event_reads, reads
from sinks.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

START = datetime(2026, 5, 1, tzinfo=UTC)
END = START + timedelta(days=30, minutes=-20)
DEVICES = 60

MONTH = f"""
INSERT INTO readings
SELECT 'device-' || d, 'temperature', 'site-' || d % 9, t, extract(epoch FROM t)::bigint, 20.5, 'Cel', 'GOOD',
       0.5, 0.5, 0.5, CASE WHEN d % 50 = 0 THEN 'ANOMALY' ELSE 'NORMAL' END, 'READY', 'm', 'm', false, t, d % 4, 1
FROM generate_series('{START}'::timestamptz, '{END}'::timestamptz, INTERVAL '20 minutes') AS t,
     generate_series(1, {DEVICES}) AS d;
INSERT INTO detections
SELECT 'camera-' || d, t, extract(epoch FROM t)::bigint, 'gate', 'person', 0.9, 0, 0, 1, 1, NULL, t, 0, 1
FROM generate_series('{START}'::timestamptz, '{END}'::timestamptz, INTERVAL '1 hour') AS t,
     generate_series(1, 30) AS d;
INSERT INTO window_counts
SELECT scope, scope || '-' || d, t, t + INTERVAL '30 minutes', 'fleet.readings', 0, 5, 5, 5, 1, 1, 0, 1, true
FROM generate_series('{START}'::timestamptz, '{END}'::timestamptz, INTERVAL '30 minutes') AS t,
     generate_series(1, 12) AS d, unnest(ARRAY['SITE', 'DEVICE']) AS scope;
INSERT INTO counts_1m SELECT window_start, scope, key, source_topic, source_partition, 5, 5, 5, 1, 1, 0
FROM window_counts;
INSERT INTO alerts
SELECT 'alert-' || n, 'r', 'LEVEL', 'f', 'device-' || n % {DEVICES}, 's', 'INFO',
       CASE WHEN n % 500 = 0 THEN 'FIRING' ELSE 'RESOLVED' END, '{START}'::timestamptz + n * INTERVAL '1 minute',
       NULL, 1, 1, '', now(), 't', 0, n
FROM generate_series(1, 20000) AS n;
ANALYZE;
"""

LARGE = ("readings", "detections", "window_counts", "counts_1m", "alerts")
DAY = {"device_id": "device-50", "start": END - timedelta(days=1), "end": END, "limit": 100}
CAMERA = {"camera_id": "camera-7", "start": END - timedelta(hours=6), "end": END, "limit": 100}
PAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "newest reading of a device": (reads.LAST_TIME, DAY),
    "first reading of a range": (reads.FIRST_TIME, DAY),
    "a device's readings": (reads.RAW, DAY),
    "a device's readings, averaged": (
        reads.AVERAGED,
        DAY | {"start": START, "step": timedelta(hours=2), "first": START},
    ),
    "a device's anomalies": (reads.ANOMALIES, DAY),
    "what a device is": (reads.DESCRIPTION, DAY),
    "newest detection of a camera": (event_reads.LAST_SIGHTING, CAMERA),
    "a camera's newest detections": (event_reads.SEEN, CAMERA),
    "a camera's counts by label": (event_reads.SEEN_BY_LABEL, CAMERA | {"step": timedelta(minutes=12)}),
    "past alerts": (
        event_reads.PAST_ALERTS,
        {"since": START + timedelta(days=12), "severities": ["INFO", "WARNING"], "limit": 51},
    ),
    "the last minutes of all devices": (
        "SELECT * FROM readings WHERE event_time > %(end)s - INTERVAL '5 minutes'",
        DAY,
    ),
    "a site's windows of the last hours": (
        "SELECT * FROM window_counts WHERE scope = 'SITE' AND window_start > %(end)s - INTERVAL '2 hours'",
        DAY,
    ),
    "a device's minutes of a day": (
        "SELECT * FROM counts_1m WHERE scope = 'DEVICE' AND key = 'DEVICE-3' AND bucket > %(start)s ORDER BY bucket",
        DAY,
    ),
    "open alerts": ("SELECT * FROM alerts WHERE state = 'FIRING' ORDER BY started_at DESC LIMIT 50", {}),
    "a device's alerts": (
        "SELECT * FROM alerts WHERE device_id = 'device-50' ORDER BY started_at DESC LIMIT 50",
        {},
    ),
}


@pytest.fixture(scope="module", params=["postgres", "timescale"])
def month(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[Any]]:
    """A database with a month of readings; nobody changes it."""
    from tests.services import fresh_database

    extension = "timescaledb" if request.param == "timescale" else ""
    server = request.getfixturevalue(f"{request.param}_server")
    with fresh_database(server, extension=extension) as url:
        migrate(url)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in filter(str.strip, MONTH.split(";")):
                connection.execute(statement.encode())
            yield connection


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def test_no_page_reads_a_large_table_through(month: psycopg.Connection[Any]):
    """A month of readings in 30 chunks: a sequential scan of any of them would be one of 50 million rows some day."""
    chunks = {
        name
        for (name,) in month.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relname ~ '^_hyper_'"
        )
    }
    large = {*LARGE, *(name.rsplit(".", 1)[-1] for name in chunks)}
    for page, (query, asked) in PAGES.items():
        [[[explained]]] = month.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}".encode(), asked).fetchall()
        nodes = list(_nodes(explained["Plan"]))
        read_through = [
            n["Relation Name"] for n in nodes if n["Node Type"] == "Seq Scan" and n["Relation Name"] in large
        ]
        assert read_through == [], page
        assert any("Index" in node["Node Type"] for node in nodes), page
        looked_at = sum(node["Actual Rows"] * node["Actual Loops"] for node in nodes if "Index" in node["Node Type"])
        assert looked_at <= 3_000, page


def test_the_questions_find_what_they_ask_for(month: psycopg.Connection[Any]):
    """A plan of an empty answer would prove nothing."""
    for page, (query, asked) in PAGES.items():
        assert month.execute(query.encode(), asked).fetchone(), page
