"""A dashboard process over real services, fed as the streams part would, and visited by a real browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
from confluent_kafka import Producer

from fleetwatch import avro, kafka
from fleetwatch.local import children
from tests.services import wait_until
from tests.unit.dashboard.factories import reading_row

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from fleetwatch.settings import Settings

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


@dataclass
class Visit:
    """A page in a browser, and what went wrong there."""

    page: Any
    url: str
    problems: list[str] = field(default_factory=list)
    away: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Go there and wait for its first part."""
        self.page.goto(f"{self.url}/{path}")
        self.page.locator(".fw-clock").wait_for(timeout=30_000)

    def check(self) -> None:
        """No error in the browser, nothing from elsewhere."""
        assert self.problems == []
        assert self.away == [], "the pages need nothing from elsewhere"


@contextmanager
def visiting(board: Running, chromium: str) -> Iterator[Visit]:
    """Open a browser on a dashboard."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        visit = Visit(page, board.url)

        def said(line: Any) -> None:
            # a page that is opened by its own address makes Streamlit look for its server below it first
            probes = re.search(r"/\w+/_stcore/", line.location.get("url", ""))
            if line.type == "error" and not probes:
                visit.problems.append(line.text)

        page.on("console", said)
        page.on("pageerror", lambda error: visit.problems.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith((board.url, "data:", "blob:")) else visit.away.append(asked.url),
        )
        yield visit
        browser.close()
