"""What must hold before the gateway starts."""

from __future__ import annotations

import socket

import pytest

from fleetwatch.errors import EnvironmentProblemError
from producers.gateway.server import check_reach, listen


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "gateway.example", "::", ""])
def test_without_tokens_others_are_not_served(host: str) -> None:
    with pytest.raises(EnvironmentProblemError, match=r"without tokens it serves loopback only.*FLEETWATCH_GATEWAY"):
        check_reach(host, has_tokens=False)
    check_reach(host, has_tokens=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "LOCALHOST"])
def test_without_tokens_this_machine_is_served(host: str) -> None:
    check_reach(host, has_tokens=False)


def test_a_port_that_is_taken_is_named_with_what_to_do() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(EnvironmentProblemError, match=rf"127\.0\.0\.1:{port} .*FLEETWATCH_GATEWAY_PORT"):
            listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(EnvironmentProblemError, match=r"cannot listen on 192\.0\.2\.1:0"):
        listen("192.0.2.1", 0)


def test_connections_are_such_that_asyncio_turns_off_nagles_algorithm() -> None:
    """It looks at the protocol of the socket: without it an answer takes 40 ms longer."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.proto == socket.IPPROTO_TCP
