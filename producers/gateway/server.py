"""The gateway as a process: what must hold before it starts, its life, its clean end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import time
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from fleetwatch import kafka, topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.logs import get_logger
from producers.gateway.app import build_app
from producers.gateway.desk import Desk, Rules, is_loopback
from producers.gateway.intake import Intake
from producers.gateway.models import Detection, Incoming, Reading
from producers.gateway.outlet import KafkaOutlet
from producers.gateway.pressure import BODIES_HELD, Limits
from producers.gateway.sequence import Sequence
from producers.gateway.token_source import TokenSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry

    from fleetwatch.service import Service
    from fleetwatch.settings import Settings

log = get_logger(__name__)

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than most devices pause, and than nginx keeps a connection to us (60 s)."""
_TICKS: Final = 10
"""uvicorn's ticks in a second."""


class _Server(uvicorn.Server):
    """uvicorn, stopped by the service's flag; once a second it looks at the tokens and says how it goes."""

    def __init__(self, config: uvicorn.Config, service: Service, tokens: TokenSource, place: str) -> None:
        super().__init__(config)
        self._service = service
        self._tokens = tokens
        self._place = place
        self._produced = 0
        self._at = time.monotonic()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the service."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; called ten times a second."""
        if self._service.stopping.is_set():
            return True
        if counter % _TICKS == 0:
            self._tokens.look_again()
            self._say_how_it_goes()
        return await super().on_tick(counter)

    def _say_how_it_goes(self) -> None:
        now, produced = time.monotonic(), self._service.status.counters["produced"]
        rate = (produced - self._produced) / max(now - self._at, 0.001)
        whose = (
            "no tokens: this machine only" if self._tokens.current is None else f"{len(self._tokens.current)} tokens"
        )
        self._service.ready(f"serving {self._place}, {rate:.0f} events/s, {self._tokens.problem or whose}")
        self._produced, self._at = produced, now


def run(settings: Settings, service: Service, registry: CollectorRegistry) -> int:
    """Serve until SIGTERM or SIGINT: then no new request is taken, and those that were are answered.

    Returns 1 when the Kafka client has broken for good, else 0.

    Raises:
        EnvironmentProblemError: no broker, the port is taken, tokens are missing or cannot be read.

    """
    host = settings.gateway_host
    tokens = TokenSource(settings)
    check_reach(host, has_tokens=tokens.current is not None)
    with listen(host, settings.gateway_port) as listener:
        kafka.ensure_topics(settings, topics.INPUTS)
        outlet = KafkaOutlet(settings, service)
        place = _place(listener)
        desk = make_desk(settings, service, outlet, tokens, registry)
        server = _Server(_config(settings, build_app(desk)), service, tokens, place)
        if tokens.current is None:
            log.warning("no_tokens", says="this machine only is served; fleetwatch gateway token DEVICE makes one")
        log.info("gateway_serves", address=place)
        asyncio.run(_serve(server, listener, outlet))
        service.status.doing = "waiting for delivery reports"
        outlet.close()
    return 1 if outlet.failure else 0


def make_desk(
    settings: Settings, service: Service, outlet: KafkaOutlet, tokens: TokenSource, registry: CollectorRegistry
) -> Desk:
    """Wire what a request passes through."""
    sequence = Sequence()
    max_items, max_skew_ms = settings.gateway_max_items, round(settings.max_skew_seconds * 1000)
    intakes: dict[type[Incoming], Intake] = {
        model: Intake(model, sequence, max_items=max_items, max_skew_ms=max_skew_ms) for model in (Reading, Detection)
    }
    limits = Limits(
        requests=settings.gateway_max_requests,
        body_bytes=settings.gateway_max_body_bytes * BODIES_HELD,
        events=settings.gateway_max_in_flight,
    )
    rules = Rules(
        limits=limits, max_body_bytes=settings.gateway_max_body_bytes, body_seconds=settings.gateway_timeout_seconds
    )
    return Desk(
        status=service.status,
        is_stopping=service.stopping.is_set,
        intakes=intakes,
        outlet=outlet,
        rules=rules,
        tokens=lambda: tokens.current,
        registry=registry,
    )


def check_reach(host: str, *, has_tokens: bool) -> None:
    """Check that others can reach the gateway only when it asks them for tokens.

    Raises:
        EnvironmentProblemError: there are none, and the address is not loopback.

    """
    if not has_tokens and not is_loopback(host):
        raise EnvironmentProblemError(
            f"gateway: without tokens it serves loopback only, not {host}: set FLEETWATCH_GATEWAY_TOKENS_FILE "
            "(`fleetwatch gateway token DEVICE --add` fills it), or leave FLEETWATCH_GATEWAY_HOST at 127.0.0.1"
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that holds the address; it takes connections when the server starts.

    Raises:
        EnvironmentProblemError: the address is taken or not this machine's.

    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # with the protocol: only then asyncio turns off Nagle's algorithm, which costs 40 ms a request
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            # taken at once, so that two gateways on one port do not both believe that it is theirs
            found.listen(2048)
        except OSError:
            found.close()
            raise
    except OSError as error:
        raise EnvironmentProblemError(
            f"gateway: cannot listen on {host}:{port} ({error.strerror}): free the port, or choose another with --port "
            "or FLEETWATCH_GATEWAY_PORT"
        ) from None
    return found


def _place(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _config(settings: Settings, app: Any) -> uvicorn.Config:
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.gateway_timeout_seconds) + 2,
    )


async def _serve(server: _Server, listener: socket.socket, outlet: KafkaOutlet) -> None:
    outlet.start()
    await server.serve(sockets=[listener])
