"""The health server of a process and its stop on SIGTERM. The only kernel tests with a socket, on loopback."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Counter

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """Give pytest its signal handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def service() -> Iterator[Service]:
    with Service("probe", host="127.0.0.1", port=0) as service:
        yield service


def get(service: Service, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{service.port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_alive_from_the_start_but_ready_only_when_it_says_so(service: Service):
    assert get(service, "/healthz") == (200, "ok\n")
    assert get(service, "/readyz") == (503, "starting\n")
    service.ready("reading")
    assert get(service, "/readyz") == (200, "ready\n")
    service.status.problem = "the database does not answer"
    assert get(service, "/readyz") == (503, "the database does not answer\n")
    assert get(service, "/healthz") == (200, "ok\n")
    service.status.problem = ""
    assert get(service, "/readyz") == (200, "ready\n")


def test_the_status_says_what_it_does_and_counts(service: Service):
    service.ready("writing 240 rows/s")
    service.status.count("stored", 5)
    service.status.count("stored")
    code, text = get(service, "/status")
    status = json.loads(text)
    assert code == 200
    assert status.pop("uptime_seconds") >= 0
    assert status == {
        "service": "probe",
        "ready": True,
        "doing": "writing 240 rows/s",
        "problem": "",
        "counters": {"stored": 6},
    }


def test_the_metrics_have_the_counters_the_readiness_and_the_process_own():
    registry = CollectorRegistry()
    Counter("probe_own", "Of the process.", registry=registry).inc()
    with Service("probe", host="127.0.0.1", port=0, registry=registry) as service:
        service.status.count("stored", 6)
        before = get(service, "/metrics")
        service.ready("reading")
        after = get(service, "/metrics")
    assert before[0] == 200
    assert 'fleetwatch_events{kind="stored",service="probe"} 6.0' in before[1]
    assert "probe_own_total 1.0" in before[1]
    assert 'fleetwatch_ready{service="probe"} 0.0' in before[1]
    assert 'fleetwatch_ready{service="probe"} 1.0' in after[1]


def test_another_path_is_answered_with_the_ones_there_are(service: Service):
    code, text = get(service, "/nothing")
    assert code == 404
    assert "/readyz" in text


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EnvironmentProblemError) as error:
            Service("probe", host="127.0.0.1", port=port)
    text = str(error.value)
    assert text.startswith(f"probe: cannot listen on 127.0.0.1:{port} (Address already in use): ")
    assert "FLEETWATCH_HTTP_PORT" in text


def test_an_address_of_another_machine_is_named():
    with pytest.raises(EnvironmentProblemError, match=r"cannot listen on 192\.0\.2\.1:0"):
        Service("probe", host="192.0.2.1", port=0)


def test_the_port_is_free_after_the_end():
    with Service("probe", host="127.0.0.1", port=0) as service:
        port = service.port
        assert not service.stopping.is_set()
    assert service.stopping.is_set()
    with Service("probe", host="127.0.0.1", port=port):
        pass


PROCESS = """
from fleetwatch.logs import configure_logs
from fleetwatch.service import Service
configure_logs()
with Service("probe", host="127.0.0.1", port=0) as service:
    service.ready("waiting")
    print(service.port, flush=True)
    was_asked = service.stopping.wait(20)
print(was_asked, service.status.doing)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_process_to_stop_and_it_ends_cleanly(number: signal.Signals):
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
    assert out == "True stopping\n"
    assert "Traceback" not in errors
    assert process.returncode == 0
