"""Ports that are kept for a child which listens only after a while."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.local.ports import LOOPBACK, claim_ports, claimed, free_port
from fleetwatch.settings import Settings

HOLD = """
import sys
from fleetwatch.local.ports import claimed
with claimed(int(sys.argv[1]), wanted_by="", remedy=""):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_claim_keeps_others_away_lets_a_child_listen_and_ends_with_its_process() -> None:
    port = free_port()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(EnvironmentProblemError, match=rf"port {port} for the page .* has it\): choose"),
            claimed(port, wanted_by="the page", remedy="choose another"),
        ):
            pass
        socket.create_server((LOOPBACK, port)).close()
        holder.kill()
    with claimed(port, wanted_by="the page", remedy=""):
        pass


def test_a_port_where_something_listens_is_not_claimed() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(EnvironmentProblemError, match="in use"), claimed(port, wanted_by="the page", remedy=""):
            pass
    with claimed(port, wanted_by="the page", remedy=""):
        pass


def test_of_two_runs_at_once_the_second_moves_its_gateway_and_is_refused_the_dashboard() -> None:
    wanted = Settings().model_copy(update={"dashboard_port": 0})
    with ExitStack() as one, ExitStack() as two:
        first, second = claim_ports(wanted, one), claim_ports(wanted, two)
        assert first.gateway_port != second.gateway_port
        for name in ("dashboard", "gateway"):
            port = getattr(first, f"{name}_port")
            with ExitStack() as three, pytest.raises(EnvironmentProblemError, match=f"port {port} .*--{name}-port"):
                claim_ports(wanted.model_copy(update={f"{name}_port": port}), three)
