"""From a request to its answer, without socket and Kafka: what is claimed, and what is not even read."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from fleetwatch import topics
from fleetwatch.service import Status
from producers.gateway.app import build_app
from producers.gateway.desk import Desk, Rules
from producers.gateway.intake import Intake
from producers.gateway.models import Detection, Reading
from producers.gateway.pressure import Limits
from producers.gateway.sequence import Sequence
from producers.gateway.tokens import Tokens, make_token, parse_tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from producers.gateway.intake import Event

NOW_US = 1_795_305_600_000_000
READING = {"device_id": "b-1", "sensor_type": "temperature", "site": "cellar", "value": 58, "unit": "Cel"}
BAD = {**READING, "value": None}
DETECTION = {
    "camera_id": "c-1",
    "site": "gate",
    "label": "person",
    "confidence": 0.9,
    "box": {"x": 0.4, "y": 0.3, "width": 0.1, "height": 0.2},
}
TOKEN, LINE = make_token("b-*", lambda size: bytes(range(size)))
JSON = {"Content-Type": "application/json"}


class ScriptedOutlet:
    """Acknowledges all but the devices in ``lost``; waits while ``held`` is set."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.is_away = False
        self.lost: set[str] = set()
        self.delivered: list[tuple[str, list[str]]] = []
        self.go, self.asked = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def deliver(self, topic: str, events: list[Event]) -> list[bool]:
        self.delivered.append((topic, [event.device for event in events]))
        self.in_flight += len(events)
        self.asked.set()
        await self.go.wait()
        self.in_flight -= len(events)
        return [event.device not in self.lost for event in events]


class Gateway:
    """The application with its outlet, and a client of it."""

    def __init__(self, *, tokens: Tokens | None = None, host: str = "127.0.0.1:8080", **limits: int) -> None:
        self.outlet = ScriptedOutlet()
        self.status = Status(service="gateway")
        self.is_stopping = False
        sequence = Sequence()
        intakes = {model: Intake(model, sequence, max_items=5, max_skew_ms=300_000) for model in (Reading, Detection)}
        rules = Rules(
            limits=Limits(**({"requests": 10, "body_bytes": 5000, "events": 100} | limits)),
            max_body_bytes=1000,
            body_seconds=0.05,
        )
        desk = Desk(
            status=self.status,
            is_stopping=lambda: self.is_stopping,
            intakes=intakes,
            outlet=self.outlet,
            rules=rules,
            tokens=lambda: tokens,
            registry=CollectorRegistry(),
            clock_us=lambda: NOW_US,
        )
        self.desk = desk
        transport = httpx.ASGITransport(build_app(desk), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url=f"http://{host}")

    async def post(self, content: Any, path: str = "/v1/readings", **headers: str) -> httpx.Response:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await self.client.post(path, content=body, headers=JSON | headers)

    async def refusal(self, content: Any, **headers: str) -> tuple[int, str]:
        """Post what is refused as a whole; return the code and the word."""
        response = await self.post(content, **headers)
        assert set(response.json()) == {"error", "detail"}
        assert self.outlet.delivered == []
        return response.status_code, response.json()["error"]


async def test_one_object_is_accepted_with_what_was_filled_in() -> None:
    gateway = Gateway()
    response = await gateway.post(READING)
    assert response.status_code == 202
    assert response.json() == {
        "accepted": 1,
        "refused": 0,
        "failed": 0,
        "results": [{"index": 0, "status": "accepted", "event_time": "2026-11-22T00:00:00.000Z", "seq": NOW_US}],
    }
    assert gateway.outlet.delivered == [(topics.READINGS, ["b-1"])]


async def test_detections_go_to_their_topic() -> None:
    gateway = Gateway()
    assert (await gateway.post([DETECTION, DETECTION], "/v1/detections")).json()["accepted"] == 2
    assert gateway.outlet.delivered == [(topics.DETECTIONS, ["c-1", "c-1"])]


async def test_of_a_mixed_list_the_good_ones_are_accepted_and_each_has_its_result() -> None:
    gateway = Gateway()
    response = await gateway.post([BAD, READING, 3])
    answer = response.json()
    assert response.status_code == 207
    assert (answer["accepted"], answer["refused"], answer["failed"]) == (1, 2, 0)
    assert [(result["index"], result["status"]) for result in answer["results"]] == [
        (0, "refused"),
        (1, "accepted"),
        (2, "refused"),
    ]
    assert answer["results"][0]["errors"] == [{"field": "value", "expected": "a finite number"}]
    assert gateway.outlet.delivered == [(topics.READINGS, ["b-1"])]
    assert gateway.status.counters["refused"] == 2


async def test_when_all_are_refused_nothing_is_handed_over() -> None:
    gateway = Gateway()
    response = await gateway.post(BAD)
    assert response.status_code == 422
    assert response.json()["results"][0]["errors"][0]["field"] == "value"
    assert gateway.outlet.delivered == []


async def test_what_kafka_did_not_acknowledge_is_not_claimed_and_can_be_sent_again_as_it_was() -> None:
    gateway = Gateway()
    gateway.outlet.lost = {"b-2"}
    response = await gateway.post([READING, {**READING, "device_id": "b-2"}, BAD])
    answer = response.json()
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert [result["status"] for result in answer["results"]] == ["accepted", "failed", "refused"]
    assert answer["results"][1]["seq"] == NOW_US + 1
    assert answer["results"][1]["event_time"] == "2026-11-22T00:00:00.000Z"


async def test_the_answer_waits_for_kafka() -> None:
    gateway = Gateway()
    gateway.outlet.go.clear()
    asked = asyncio.create_task(gateway.post(READING))
    await gateway.outlet.asked.wait()
    assert not asked.done()
    assert gateway.desk.requests == 1
    gateway.outlet.go.set()
    assert (await asked).status_code == 202
    assert gateway.desk.requests == 0


async def test_without_a_broker_or_when_stopping_nothing_is_taken() -> None:
    gateway = Gateway()
    gateway.outlet.is_away = True
    assert await gateway.refusal(READING) == (503, "busy")
    gateway.outlet.is_away, gateway.is_stopping = False, True
    response = await gateway.post(READING)
    assert response.status_code == 503
    assert "stopping" in response.json()["detail"]
    assert int(response.headers["Retry-After"]) >= 1
    assert gateway.status.counters["busy"] == 2


async def test_a_request_too_many_is_refused_and_room_is_given_back() -> None:
    gateway = Gateway(requests=1)
    gateway.outlet.go.clear()
    asked = asyncio.create_task(gateway.post(READING))
    await gateway.outlet.asked.wait()
    assert (await gateway.post(READING)).status_code == 503
    gateway.outlet.go.set()
    await asked
    assert (await gateway.post(READING)).status_code == 202


async def test_events_too_many_are_refused_before_any_is_handed_over() -> None:
    gateway = Gateway(events=4)
    gateway.outlet.in_flight = 3
    assert await gateway.refusal([READING, READING]) == (503, "busy")
    assert (await gateway.post(READING)).status_code == 202


async def test_bodies_hold_their_room_even_when_they_are_refused() -> None:
    gateway = Gateway(body_bytes=1000)
    for content in (BAD, b"{", READING):
        await gateway.post(content)
    assert gateway.desk._held.body_bytes == gateway.desk._held.requests == 0


async def test_a_body_too_large_is_refused_with_and_without_a_length() -> None:
    gateway = Gateway()
    assert await gateway.refusal(b" " * 1001) == (413, "too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 100

    response = await gateway.client.post("/v1/readings", content=chunks(), headers=JSON)
    assert (response.status_code, response.json()["error"]) == (413, "too_large")
    assert (await gateway.post([READING] * 6)).status_code == 413  # more events than one request may have


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    """The client of the test would wait for its own body: the application is called as a server does."""
    gateway = Gateway()
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/readings",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"10")],
        "query_string": b"",
    }

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await build_app(gateway.desk)(scope, receive, send)
    assert sent[0]["status"] == 408


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
async def test_another_content_type_is_refused(kind: str) -> None:
    assert await Gateway().refusal(READING, **{"Content-Type": kind}) == (415, "not_json")


async def test_parameters_of_the_content_type_do_not_matter() -> None:
    response = await Gateway().post(READING, **{"Content-Type": "Application/JSON; charset=utf-8"})
    assert response.status_code == 202


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:8080", 202),
        ("localhost", 202),
        ("[::1]:8080", 202),
        ("127.3.2.1", 202),
        ("gateway.example", 403),  # a proxy, or a browser that was lied to about the name
        ("localhost.example", 403),
        ("10.0.0.5:8080", 403),
    ],
)
async def test_without_tokens_only_this_machine_is_answered(host: str, code: int) -> None:
    response = await Gateway(host=host).post(READING)
    assert response.status_code == code


async def test_a_token_that_is_missing_or_wrong_is_refused_before_the_body_is_read() -> None:
    gateway = Gateway(tokens=Tokens(parse_tokens(LINE, name="file")), host="gateway.example")
    response = await gateway.post(b"not even JSON")
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert await gateway.refusal(READING, Authorization="Bearer fw_nonsense") == (401, "unknown_token")
    assert (await gateway.post(READING, Authorization=f"Bearer {TOKEN}")).status_code == 202


async def test_one_device_of_others_refuses_the_whole_request() -> None:
    gateway = Gateway(tokens=Tokens(parse_tokens(LINE, name="file")))
    mixed = [READING, {**READING, "device_id": "other"}]
    assert await gateway.refusal(mixed, Authorization=f"Bearer {TOKEN}") == (403, "other_device")
    assert gateway.status.counters["denied"] == 1


async def test_other_paths_and_methods_and_defects_are_answered_without_a_stack_trace() -> None:
    gateway = Gateway()
    for response in (await gateway.client.get("/v2"), await gateway.client.get("/v1/readings")):
        assert response.status_code in {404, 405}
        assert "POST /v1/readings" in response.json()["detail"]
    gateway.outlet.deliver = None  # type: ignore[assignment, method-assign]  # a defect
    response = await gateway.post(READING)
    assert (response.status_code, response.json()["error"]) == (500, "internal")
    assert "Traceback" not in response.text
    assert gateway.desk.requests == 0
