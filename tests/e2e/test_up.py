"""The whole system by ``fleetwatch up``, on the embedded broker and on Apache Kafka."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.local.kafka_jars import jar_dir, java_command
from fleetwatch.local.ports import free_port
from tests.e2e.stack import SCENARIO, Up, is_free, processes_of, wait_until_gone
from tests.services import unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

COMMON = ("--scenario", str(SCENARIO))


@pytest.fixture(scope="module")
def state_dir(short_tmp: Path) -> Path:
    """One state directory for all runs on the embedded broker: each but the first finds old data."""
    return short_tmp / "up"


@pytest.fixture
def dashboard_port() -> Iterator[int]:
    port = free_port()
    yield port
    assert is_free(port)


def check(summary: dict[str, Any], report: str) -> None:
    assert summary["ok"], report
    assert summary["unaccounted"] == summary["in_flight"] == 0
    assert summary["produced"] == summary["stored"] + summary["dead_lettered"]
    assert summary["produced"] > 1000
    assert summary["faults_alerted"] > 0
    assert summary["alerts_fired"] >= summary["faults_alerted"]
    assert summary["notified"] >= summary["alerts_fired"]
    assert summary["devices"] == summary["cache_devices"] == 10 + 4 + summary["replayed_devices_scored"]
    for way in ("scored", "alert", "database", "cache"):
        latency = summary["latency_ms"][way]
        assert 0 <= latency["p50"] <= latency["p99"], way


def post_a_reading(port: int) -> None:
    """Send one to the gateway as soon as it serves: it must be accounted for like all others."""
    reading = {"device_id": "posting", "sensor_type": "temperature", "site": "own", "value": 20, "unit": "Cel"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/readings",
        data=json.dumps(reading).encode(),
        headers={"Content-Type": "application/json"},
    )

    def is_accepted() -> bool:
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return bool(answer.status == 202)
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:  # nothing listens yet
            return False

    wait_until(is_accepted, what="the gateway serving", timeout=60)


def test_a_run_on_the_embedded_broker_accounts_for_every_event(state_dir: Path, dashboard_port: int) -> None:
    arguments = ("--for", "25", "--json", "--dashboard-port", str(dashboard_port))
    with Up(state_dir, *COMMON, *arguments) as up:
        exit_code = up.wait(timeout=150)
        assert exit_code == 0, up.report()
        assert up.stderr == ""
        check(up.summary(), up.report())
        assert up.lines[0].startswith("embedded broker: in memory")
        wait_until_gone(state_dir)


def test_a_second_run_on_old_data_survives_a_kill_counts_its_own_events_and_stops_early_on_ctrl_c(
    state_dir: Path, dashboard_port: int
) -> None:
    gateway_port = free_port()
    ports = ("--dashboard-port", str(dashboard_port), "--gateway-port", str(gateway_port))
    with Up(state_dir, *COMMON, "--for", "600", "--json", *ports) as up:
        up.wait_for_line("first scored reading")
        (victim,) = (pid for pid in processes_of(state_dir) if b"\0sink\0redis" in command_of(pid))
        os.kill(victim, signal.SIGKILL)
        up.wait_for_line("sink-redis was killed by SIGKILL")
        up.wait_for_line("sink-redis is started again")
        post_a_reading(gateway_port)
        up.process.send_signal(signal.SIGINT)
        up.wait(timeout=100)
        summary = up.summary()
        assert summary["produced"] == summary["stored"], up.report()
        assert summary["in_flight"] == summary["unaccounted"] == 0
        assert 0 < summary["scored"] < summary["produced"]
        wait_until_gone(state_dir)


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_without_a_time_a_signal_ends_it_with_exit_code_0(state_dir: Path, dashboard_port: int) -> None:
    with Up(state_dir, "--no-producers", "--json", "--dashboard-port", str(dashboard_port)) as up:
        up.wait_for_line("the database and the cache are up")
        up.process.send_signal(signal.SIGTERM)
        assert up.wait(timeout=60) == 0, up.report()
        assert up.stderr == ""
        wait_until_gone(state_dir)


def test_nothing_is_left_when_the_supervisor_itself_is_killed(state_dir: Path, dashboard_port: int) -> None:
    with Up(state_dir, "--no-producers", "--json", "--dashboard-port", str(dashboard_port)) as up:
        up.wait_for_line("the database and the cache are up")
        wait_until(lambda: len(processes_of(state_dir)) >= 7, what="every process starting")
        up.process.kill()
        wait_until_gone(state_dir)


def test_a_run_on_apache_kafka_accounts_for_every_event(short_tmp: Path, dashboard_port: int) -> None:
    try:
        java_command()
        jar_dir()
    except EnvironmentProblemError as problem:
        unavailable(str(problem))
    state_dir = short_tmp / "up-kafka"
    arguments = ("--broker", "kafka", "--for", "25", "--json", "--dashboard-port", str(dashboard_port))
    with Up(state_dir, *COMMON, *arguments) as up:
        began = time.monotonic()
        assert up.wait(timeout=200) == 0, up.report()
        assert up.stderr == ""
        check(up.summary(), up.report())
        assert up.summary()["seconds"] < time.monotonic() - began + 5
        wait_until_gone(state_dir)
