from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from fleetwatch import avro, kafka
from fleetwatch.errors import RefusedError
from fleetwatch.records import CameraDetection, GroundTruth, Record, SensorReading, to_millis
from fleetwatch.service import Service
from producers.batches import KEY_OF, TOPIC_OF
from producers.replay_dataset import replay
from producers.series import load_series
from producers.shell import produce
from producers.simulate.scenario import FaultSeries, Scenario
from producers.simulate.simulation import simulate

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration


def make_scenario() -> Scenario:
    """A fleet whose site nobody else has: topics are shared by all tests."""
    return Scenario(
        name="test",
        sites=("t" + uuid.uuid4().hex[:10],),
        sensors={"temperature": 5, "power": 5},
        rate_hz=20,
        cameras=2,
        detections_per_second=5,
        faults=(FaultSeries(kind="STUCK", first_seconds=0.5, every_seconds=0.5, count=3),),
    )


def read(settings: Settings, record_type: type[Record], mark: str) -> list[tuple[bytes, Any]]:
    """Key and record of every message of a topic that carries the mark."""
    found: list[tuple[bytes, Any]] = []

    def take(message: Any) -> None:
        if mark.encode() not in (message.value() or b""):
            return
        try:
            found.append((message.key(), avro.decode(message.value(), record_type)))
        except RefusedError:
            pytest.fail(f"a message of {message.topic()} does not decode")

    kafka.read_to_end(settings, TOPIC_OF[record_type], take)
    return found


def test_what_is_counted_is_what_is_in_the_topics(any_settings: Settings) -> None:
    """Three seconds: delivery reports, schedule and topics agree, and every message decodes under its key."""
    settings, scenario = any_settings, make_scenario()
    before = time.time()
    with Service("simulate", host="127.0.0.1", port=0) as service:
        totals = produce(settings, service, lambda start: simulate(scenario, seed=1, start_ms=start), for_seconds=3)
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/status", timeout=5) as answer:
            status = json.load(answer)
    assert totals.failed == totals.skipped == 0
    assert status["counters"]["produced"] == totals.produced == totals.readings + totals.detections
    (site,) = scenario.sites
    readings = read(settings, SensorReading, site)
    detections = read(settings, CameraDetection, site)
    truths = read(settings, GroundTruth, site)
    assert len(readings) == totals.readings == 10 * 20 * 3
    assert len(detections) == totals.detections > 0
    assert len(truths) == totals.truth == 3
    for kind, messages in ((SensorReading, readings), (CameraDetection, detections), (GroundTruth, truths)):
        for key, record in messages:
            assert key.decode() == getattr(record, KEY_OF[kind])
    assert len({(r.device_id, r.event_time, r.seq) for _, r in readings}) == len(readings)
    times = [to_millis(r.event_time) / 1000 for _, r in readings]
    assert before <= min(times)
    assert max(times) - min(times) < 3
    assert max(times) <= time.time()


def test_recorded_series_arrive_at_their_speed(settings: Settings) -> None:
    mark = "r" + uuid.uuid4().hex[:10]
    first = load_series()[0]
    series = type(first)(first.entry.model_copy(update={"device_id": mark}), first.values, first.windows)
    with Service("replay-dataset", host="127.0.0.1", port=0) as service:
        totals = produce(settings, service, lambda start: replay([series], start_ms=start, speed=5), for_seconds=2)
    readings = read(settings, SensorReading, mark)
    assert len(readings) == totals.produced == 200
    begin = series.entry.start_row
    in_order = [r.value for _, r in sorted(readings, key=lambda pair: pair[1].seq)]
    assert in_order == list(series.values[begin : begin + 200])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_lost_when_the_process_is_stopped(settings: Settings, tmp_path: Path, number: int) -> None:
    """A signal in the middle of a run: exit code 0, and the count printed is the number of messages there."""
    scenario = make_scenario().changed(rate_hz=200)
    path = tmp_path / "scenario.yaml"
    path.write_text(json.dumps(scenario.model_dump(mode="json", exclude_none=True)))  # JSON is YAML
    environment = os.environ | {
        "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "FLEETWATCH_EMBEDDED_BROKER": "true",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "fleetwatch.cli.main", "simulate", "--scenario", str(path), "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    (site,) = scenario.sites
    try:
        deadline = time.monotonic() + 30
        while len(read(settings, SensorReading, site)) < 1000:
            assert process.poll() is None, "the process ended by itself"
            assert time.monotonic() < deadline, "nothing was produced in 30 s"
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    counted = json.loads(output.splitlines()[-1])
    assert counted["failed"] == 0
    assert counted["readings"] == len(read(settings, SensorReading, site))
    assert counted["detections"] == len(read(settings, CameraDetection, site))
    assert counted["truth"] == len(read(settings, GroundTruth, site))
