"""One request from its headers to its answer. The steps are in ``Desk.take``; nothing is claimed that Kafka has not.

Order: room for it, who it is, what it is, its body, its events, whose they are, room for them, delivery.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import Histogram
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from producers.gateway import pressure
from producers.gateway.answers import outcome
from producers.gateway.intake import BadBodyError, Event
from producers.gateway.pressure import Load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request

    from fleetwatch.service import Status
    from producers.gateway.intake import Intake
    from producers.gateway.models import Incoming
    from producers.gateway.outlet import Outlet
    from producers.gateway.pressure import Busy, Limits
    from producers.gateway.tokens import Grant, Tokens

_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_random = random.SystemRandom()


class RefusedRequestError(Exception):
    """A request of which nothing is taken."""

    def __init__(self, status: int, error: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.error, self.detail, self.headers = status, error, detail, dict(headers or {})


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a request must keep to."""

    limits: Limits
    max_body_bytes: int
    body_seconds: float
    """A body must have come within this."""


@dataclass
class _Held:
    """What requests hold at the moment."""

    requests: int = 0
    body_bytes: int = 0


@dataclass(kw_only=True)
class Desk:
    """Takes requests in, in the event loop's thread. ``tokens`` gives the ones in force, None when there are none."""

    status: Status
    is_stopping: Callable[[], bool]
    intakes: Mapping[type[Incoming], Intake]
    outlet: Outlet
    rules: Rules
    tokens: Callable[[], Tokens | None]
    registry: CollectorRegistry
    clock_us: Callable[[], int] = lambda: time.time_ns() // 1000
    _held: _Held = field(default_factory=_Held)

    def __post_init__(self) -> None:
        self._seconds = Histogram(
            "fleetwatch_gateway_request_seconds",
            "From a request's headers to its answer.",
            ["path", "code"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        for name in ("refused", "busy", "denied"):
            self.status.count(name, 0)

    @property
    def requests(self) -> int:
        """Requests that are being worked on."""
        return self._held.requests

    async def take(self, request: Request, model: type[Incoming]) -> Response:
        """Answer a request with events of one kind."""
        began = time.perf_counter()
        try:
            response = await self._take(request, model)
        except RefusedRequestError as refused:
            response = answer(refused.status, {"error": refused.error, "detail": refused.detail}, refused.headers)
        except ClientDisconnect:
            response = Response(status_code=400)  # nobody reads it
        self._seconds.labels(request.scope["path"], response.status_code).observe(time.perf_counter() - began)
        return response

    async def _take(self, request: Request, model: type[Incoming]) -> Response:
        arrival_us = self.clock_us()
        length = _content_length(request, self.rules.max_body_bytes)
        self._refuse_if(pressure.busy_for_request(self._load(), self.rules.limits, body_bytes=length))
        grant = self._grant(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RefusedRequestError(415, "not_json", "send JSON, with the header Content-Type: application/json")
        held = self._held
        held.requests += 1
        held.body_bytes += length
        try:
            body = await self._body(request)
            try:
                items = self.intakes[model].read(body, arrival_us)
            except BadBodyError as bad:
                raise RefusedRequestError(bad.status, bad.error, bad.detail) from None
            events = [item for item in items if isinstance(item, Event)]
            self._require_own_devices(grant, events)
            self._refuse_if(pressure.busy_for_events(self._load(), self.rules.limits, events=len(events)))
            acknowledged = await self.outlet.deliver(model.TOPIC, events) if events else []
        finally:
            held.requests -= 1
            held.body_bytes -= length
        status, content = outcome(items, acknowledged)
        self.status.count("refused", content["refused"])
        return answer(status, content, _retry(None) if status == 503 else {})

    def _load(self) -> Load:
        return Load(
            requests=self._held.requests,
            body_bytes=self._held.body_bytes,
            events=self.outlet.in_flight,
            is_broker_away=self.outlet.is_away,
            is_stopping=self.is_stopping(),
        )

    def _refuse_if(self, busy: Busy | None) -> None:
        if busy is not None:
            self.status.count("busy")
            detail = f"{busy.value}: nothing was taken, try again after the seconds in Retry-After"
            raise RefusedRequestError(503, "busy", detail, _retry(busy))

    def _grant(self, request: Request) -> Grant | None:
        tokens = self.tokens()
        if tokens is None:
            if not is_loopback(_name_of(request.headers.get("host", ""))):
                self.status.count("denied")
                detail = "this gateway has no tokens and serves its own machine only, as 127.0.0.1 or localhost"
                raise RefusedRequestError(403, "loopback_only", detail)
            return None
        grant = tokens.grant_of(request.headers.get("authorization"))
        if grant is None:
            self.status.count("denied")
            detail = "the header `Authorization: Bearer TOKEN` is missing, or its token is not known here"
            raise RefusedRequestError(401, "unknown_token", detail, {"WWW-Authenticate": "Bearer"})
        return grant

    def _require_own_devices(self, grant: Grant | None, events: list[Event]) -> None:
        if grant is None:
            return
        for event in events:
            if not grant.allows(event.device):
                self.status.count("denied")
                detail = f"this token may not send for device {event.device!r}; nothing was taken"
                raise RefusedRequestError(403, "other_device", detail)

    async def _body(self, request: Request) -> bytes:
        chunks: list[bytes] = []
        length = 0
        try:
            async with asyncio.timeout(self.rules.body_seconds):
                async for chunk in request.stream():
                    length += len(chunk)
                    if length > self.rules.max_body_bytes:
                        raise _too_large(self.rules.max_body_bytes)
                    chunks.append(chunk)
        except TimeoutError:
            detail = f"the body did not come within {self.rules.body_seconds:g} s"
            raise RefusedRequestError(408, "too_slow", detail, {"Connection": "close"}) from None
        return b"".join(chunks)


def answer(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response."""
    text = json.dumps(content, separators=(",", ":"))
    return Response(text, status, dict(headers or {}), "application/json")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _name_of(host: str) -> str:
    """Return a Host header without its port."""
    return host[: host.rfind("]") + 1] if host.startswith("[") else host.partition(":")[0]


def _content_length(request: Request, limit: int) -> int:
    """Return what a body is going to take; without a length (chunked) as much as it may.

    The server below has checked that the header is a number, if it is there.
    """
    given = request.headers.get("content-length")
    if given is None:
        return limit
    if int(given) > limit:
        raise _too_large(limit)
    return int(given)


def _too_large(limit: int) -> RefusedRequestError:
    return RefusedRequestError(
        413, "too_large", f"the body may have {limit} bytes at most: send fewer events at a time"
    )


def _retry(reason: Busy | None) -> dict[str, str]:
    return {"Retry-After": str(pressure.retry_after(reason, _random.random()))}
