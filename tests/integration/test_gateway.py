"""The gateway as a process on real brokers: what it claims is in Kafka, whatever happens to either of the two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections import Counter
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any, Self

import pytest

from fleetwatch import avro, kafka, topics
from fleetwatch.local.ports import free_port
from fleetwatch.records import CameraDetection, Record, SensorReading
from fleetwatch.settings import Settings
from tests.services import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.local.kafka_server import KafkaServer

pytestmark = pytest.mark.integration

BOX = {"x": 0.4, "y": 0.3, "width": 0.1, "height": 0.2}
SENDERS = 6


class Gateway:
    """A running ``fleetwatch gateway``."""

    def __init__(self, settings: Settings, **more: str) -> None:
        self.port, self._health = free_port(), free_port()
        self._environment = os.environ | {
            "FLEETWATCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "FLEETWATCH_EMBEDDED_BROKER": str(settings.embedded_broker).lower(),
            "FLEETWATCH_GATEWAY_PORT": str(self.port),
            "FLEETWATCH_HTTP_PORT": str(self._health),
            **more,
        }

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fleetwatch.cli.main", "gateway", "--json"],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(self.is_ready, what="the gateway being ready", timeout=60)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()[1]
        return self.health("/readyz")[0] == 200

    def health(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def post(self, content: object, path: str = "/v1/readings", **headers: str) -> tuple[int, dict[str, Any], Any]:
        """Return code, body and headers of the answer.

        Raises:
            OSError, HTTPException: there was none.

        """
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json"} | headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.headers
        finally:
            connection.close()

    def stop(self) -> dict[str, Any]:
        """End it by SIGTERM; return what it says that it produced."""
        self.process.send_signal(signal.SIGTERM)
        output, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, errors
        assert "Traceback" not in errors
        report: dict[str, Any] = json.loads(output.splitlines()[-1])
        return report


class Senders:
    """Threads that post readings of devices with a mark, one after the other, and note what was accepted."""

    def __init__(self, gateway: Gateway, mark: str) -> None:
        self._gateway, self._mark = gateway, mark
        self.accepted: set[tuple[str, int]] = set()
        self.codes: Counter[int] = Counter()
        self.waits: list[str | None] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(SENDERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        seq = 0
        while not self._stop.is_set():
            items = [reading(f"{self._mark}-{number}", seq=seq + n) for n in range(3)]
            seq += 3
            try:
                code, answer, headers = self._gateway.post(items)
            except (OSError, HTTPException):  # no answer: nothing is claimed
                self.codes[0] += 1
                self._stop.wait(0.02)
                continue
            self.codes[code] += 1
            if code == 503:
                self.waits.append(headers["Retry-After"])
                self._stop.wait(0.1)  # sooner than it says, but a broker that starts needs the processors
            for result in answer.get("results", ()):
                if result["status"] == "accepted":
                    self.accepted.add((f"{self._mark}-{number}", result["seq"]))


def reading(device: str, **more: object) -> dict[str, object]:
    return {"device_id": device, "sensor_type": "temperature", "site": "own", "value": 20.5, "unit": "Cel"} | more


def read(settings: Settings, record_type: type[Record], mark: str) -> list[Any]:
    """Return the records of a topic whose key begins so."""
    topic = topics.READINGS if record_type is SensorReading else topics.DETECTIONS
    found: list[Any] = []

    def take(message: Any) -> None:
        if message.key().startswith(mark.encode()):
            found.append(avro.decode(message.value(), record_type, strict=True))
            assert message.key().decode() in {getattr(found[-1], name, "") for name in ("device_id", "camera_id")}

    kafka.read_to_end(settings, topic, take)
    return found


@pytest.fixture
def mark() -> str:
    return "g" + uuid.uuid4().hex[:10]


def test_accepted_means_that_it_can_be_read_from_the_topic(any_settings: Settings, mark: str) -> None:
    with Gateway(any_settings) as gateway:
        code, answer, _ = gateway.post([reading(mark, seq=1), reading(mark, value=None), reading(mark)])
        assert (code, answer["accepted"], answer["refused"]) == (207, 2, 1)
        found = read(any_settings, SensorReading, mark)
        assert [record.seq for record in found] == [1, answer["results"][2]["seq"]]
        assert found[0].value == 20.5
        detection = {"camera_id": mark, "site": "own", "label": "person", "confidence": 0.5, "box": BOX}
        code, answer, _ = gateway.post(detection, "/v1/detections")
        assert code == 202
        (seen,) = read(any_settings, CameraDetection, mark)
        assert (seen.seq, seen.box.width) == (answer["results"][0]["seq"], 0.1)
        assert (
            'fleetwatch_gateway_request_seconds_count{code="207",path="/v1/readings"} 1.0'
            in gateway.health("/metrics")[1]
        )
        report = gateway.stop()
    assert (report["produced"], report["readings"], report["detections"], report["refused"]) == (3, 2, 1, 1)
    assert report["failed"] == 0


def test_a_stop_answers_what_was_taken_and_a_kill_has_claimed_nothing_that_is_not_there(
    kafka_settings: Settings, mark: str
) -> None:
    """First SIGTERM, then kill -9, each in the middle of six clients' requests."""
    with Gateway(kafka_settings) as gateway, Senders(gateway, f"{mark}-a") as senders:
        wait_until(lambda: senders.codes[202] > 100, what="some requests", timeout=60)
        report = gateway.stop()
    assert report["failed"] == 0
    assert report["produced"] == len(senders.accepted)
    there = [(record.device_id, record.seq) for record in read(kafka_settings, SensorReading, f"{mark}-a")]
    assert sorted(there) == sorted(senders.accepted)  # nothing is there that was not answered, either
    with Gateway(kafka_settings) as gateway, Senders(gateway, f"{mark}-b") as senders:
        wait_until(lambda: senders.codes[202] > 100, what="some requests", timeout=60)
        gateway.process.kill()
        wait_until(lambda: senders.codes[0] > SENDERS, what="requests without an answer")
    there = [(record.device_id, record.seq) for record in read(kafka_settings, SensorReading, f"{mark}-b")]
    assert len(senders.accepted) > 300
    assert senders.accepted <= set(there)
    assert len(there) == len(set(there))


def test_without_its_broker_it_claims_nothing_says_so_and_goes_on_when_it_is_back(
    own_kafka: KafkaServer, mark: str
) -> None:
    """Apache Kafka is stopped under load and started again."""
    settings = Settings(bootstrap_servers=own_kafka.bootstrap_servers)
    more = {"FLEETWATCH_GATEWAY_TIMEOUT_SECONDS": "2"}
    with Gateway(settings, **more) as gateway, Senders(gateway, mark) as senders:
        wait_until(lambda: senders.codes[202] > 50, what="some requests", timeout=60)
        own_kafka.stop()
        wait_until(lambda: senders.codes[503] > 50, what="refusals", timeout=60)
        assert gateway.health("/readyz") == (503, "no Kafka broker answers; requests are refused with 503\n")
        before = len(senders.accepted)
        own_kafka.start()
        wait_until(lambda: len(senders.accepted) > before + 100, what="requests being accepted again", timeout=60)
    assert senders.codes.keys() == {202, 503}
    assert all(wait is not None and int(wait) >= 1 for wait in senders.waits)
    there = {(record.device_id, record.seq) for record in read(settings, SensorReading, mark)}
    assert senders.accepted <= there


def test_tokens_made_by_the_command_open_the_gateway_for_their_devices(
    settings: Settings, mark: str, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.touch()
    with Gateway(settings, FLEETWATCH_GATEWAY_TOKENS_FILE=str(file)) as gateway:
        assert gateway.post(reading(mark))[0] == 401
        token = subprocess.run(
            [sys.executable, "-m", "fleetwatch.cli.main", "gateway", "token", f"{mark}-*", "--add"],
            env=os.environ | {"FLEETWATCH_GATEWAY_TOKENS_FILE": str(file)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.strip()
        header = {"Authorization": f"Bearer {token}"}
        wait_until(lambda: gateway.post(reading(f"{mark}-1"), **header)[0] == 202, what="the new token in force")
        assert gateway.post(reading("another"), **header)[0] == 403
        assert token not in gateway.health("/status")[1]
        assert gateway.stop()["produced"] == 1


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"FLEETWATCH_GATEWAY_HOST": "0.0.0.0"}, "without tokens it serves loopback only"),
        ({"FLEETWATCH_GATEWAY_TOKENS_FILE": "/nowhere/tokens"}, "cannot be read"),
    ],
)
def test_wrong_surroundings_are_one_line(more: dict[str, str], text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleetwatch.cli.main", "gateway", "--port", "0"],
        env=os.environ | more,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("fleetwatch: ")
    assert text in line
    assert "Traceback" not in done.stderr
