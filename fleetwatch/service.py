"""What every long-running process shares: /healthz, /readyz, /metrics, /status, and a clean stop on SIGTERM.

A process makes one ``Service``, says what it is doing, sets itself ready, and loops until ``stopping`` is set.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

log = get_logger(__name__)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nothing reads


@dataclass
class Status:
    """What a process is doing, for /status and the live table. Written by its main loop, read by HTTP threads."""

    service: str
    ready: bool = False
    doing: str = "starting"
    problem: str = ""
    counters: dict[str, int] = field(default_factory=dict)
    started_monotonic: float = field(default_factory=time.monotonic)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a named counter."""
        self.counters[name] = self.counters.get(name, 0) + by

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "service": self.service,
            "ready": self.ready,
            "doing": self.doing,
            "problem": self.problem,
            "counters": dict(self.counters),
            "uptime_seconds": round(time.monotonic() - self.started_monotonic, 1),
        }


class _StatusCollector:
    """Exports a status' counters and readiness, so that /metrics has them for every process."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the moment."""
        events = GaugeMetricFamily(
            "fleetwatch_events", "What this process counted since its start, by kind.", labels=["service", "kind"]
        )
        for kind, count in list(self._status.counters.items()):
            events.add_metric([self._status.service, kind], count)
        yield events
        is_ready = self._status.ready and not self._status.problem
        ready = GaugeMetricFamily("fleetwatch_ready", "1 while /readyz answers 200.", labels=["service"])
        ready.add_metric([self._status.service], float(is_ready))
        yield ready


class Service:
    """Health server and stop flag of one process; use as a context manager around its main loop.

    ``problem`` non-empty makes /readyz answer 503 with it. /healthz answers 200 as long as the process runs.
    """

    def __init__(self, name: str, *, host: str, port: int, registry: CollectorRegistry | None = None) -> None:
        self.status = Status(service=name)
        self.registry = registry or CollectorRegistry()
        self.registry.register(_StatusCollector(self.status))
        ProcessCollector(registry=self.registry)
        self.stopping = threading.Event()
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(self))
        except OSError as error:
            raise EnvironmentProblemError(
                f"{name}: cannot listen on {host}:{port} ({error.strerror}): free the port or set FLEETWATCH_HTTP_PORT"
            ) from None
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGINT, self._on_signal)
        log.info("service_started", service=self.status.service, port=self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        log.info("service_stopped", service=self.status.service, counters=self.status.counters)

    def ready(self, doing: str) -> None:
        """Say that the process does its work now."""
        self.status.ready = True
        self.status.doing = doing

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self.status.doing = "stopping"
        self.stopping.set()


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            status = service.status
            if self.path == "/healthz":
                self._answer(200, "text/plain", b"ok\n")
            elif self.path == "/readyz":
                is_ready = status.ready and not status.problem
                text = status.problem or ("ready" if is_ready else status.doing)
                self._answer(200 if is_ready else 503, "text/plain", f"{text}\n".encode())
            elif self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(service.registry))
            elif self.path == "/status":
                self._answer(200, "application/json", json.dumps(status.as_dict()).encode())
            else:
                self._answer(404, "text/plain", b"there are /healthz, /readyz, /metrics and /status\n")

        def _answer(self, code: int, content_type: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
            log.debug("http", request=format % args)

    return Handler
