"""The alerting process as a child, and alerts for it to tell of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime

from confluent_kafka import Producer

from fleetwatch import avro, kafka, topics
from fleetwatch.records import Alert
from tests.fakes.alerts import make_alert
from tests.services import wait_until

CHAT = 42
READY_SECONDS = 40.0  # joining a group takes 3 s, after a kill up to the session's 10 s more


class Process:
    """``fleetwatch alert`` as a child, its output read line by line."""

    def __init__(self, settings, api, *, chats=(CHAT,), **variables):
        environment = os.environ | {
            "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "FLEETWATCH_EMBEDDED_BROKER": str(settings.embedded_broker).lower(),
            "FLEETWATCH_LOG_LEVEL": "debug",
            "FLEETWATCH_LOG_FORMAT": "json",
        }
        if api is not None:
            environment |= {
                "FLEETWATCH_TELEGRAM_TOKEN": api.token,
                "FLEETWATCH_TELEGRAM_CHAT_IDS": json.dumps(chats),
                "FLEETWATCH_TELEGRAM_API_URL": api.url,
            }
        self.lines: list[str] = []
        self.logs: list[str] = []
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "fleetwatch.cli.main", "alert"],
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.popen.stdout, self.lines), (self.popen.stderr, self.logs))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream, lines):
        for line in stream:
            lines.append(line.rstrip("\n"))  # line by line as they come

    def wait_until_ready(self):
        wait_until(lambda: self.status()["ready"], what="alerting ready", timeout=READY_SECONDS)

    def status(self):
        started = [json.loads(line) for line in self.logs if "service_started" in line]
        if not started:
            assert self.popen.poll() is None, self.logs
            return {"ready": False, "counters": {}}
        with urllib.request.urlopen(f"http://127.0.0.1:{started[0]['port']}/status", timeout=5) as answer:
            return json.load(answer)

    def counter(self, name):
        return self.status()["counters"].get(name, 0)

    def kill(self):
        self.popen.send_signal(signal.SIGKILL)
        self._end()

    def stop(self):
        self.popen.send_signal(signal.SIGTERM)
        return self._end()

    def _end(self):
        code = self.popen.wait(20)
        for reader in self._readers:
            reader.join(5)
        self.popen.stdout.close()
        self.popen.stderr.close()
        return code


@contextmanager
def alerting(settings, api, **options):
    process = Process(settings, api, **options)
    try:
        process.wait_until_ready()
        yield process
    finally:
        if process.popen.poll() is None:
            process.stop()


def alert_of(device, number, **changes):
    now = datetime.now(UTC)
    return make_alert(f"{device}-{number}", **({"device_id": device, "started_at": now, "ingest_time": now} | changes))


def produce(settings, *values):
    """Send alerts (or raw bytes) to the alert topic and wait for the broker."""
    producer = Producer(kafka.producer_config(settings))
    failures = []
    for value in values:
        raw, key = (avro.encode(value), value.device_id) if isinstance(value, Alert) else (value, "raw")
        producer.produce(
            topics.ALERTS,
            raw,
            key=key,
            on_delivery=lambda error, _: failures.append(error) if error else None,
        )
    assert producer.flush(20) == 0
    assert failures == []
