"""TCP ports on loopback: a free one, whether a wanted one is free, and keeping one until a child listens there."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import sys
from typing import TYPE_CHECKING, Final

from fleetwatch.errors import EnvironmentProblemError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetwatch.settings import Settings

LOOPBACK: Final = "127.0.0.1"
_random = random.SystemRandom()  # two stacks that start at once must not try the same ports


def free_port() -> int:
    """Return a port that was free a moment ago (the caller must be ready to try another one).

    It lies below the range from which the kernel numbers outgoing connections: one of those could take it
    while a child is still importing.
    """
    for _ in range(50):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, _random.randrange(15_000, 32_000)))
            return int(probe.getsockname()[1])
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def require_free(port: int, *, wanted_by: str, remedy: str) -> None:
    """Check that nothing listens on a port of loopback.

    Raises:
        EnvironmentProblemError: it is taken or not allowed; the text names it and the remedy.

    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections that linger do not count
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise EnvironmentProblemError(
                f"port {port} for {wanted_by} cannot be used ({error.strerror}): {remedy}"
            ) from None


@contextlib.contextmanager
def claimed(port: int, *, wanted_by: str, remedy: str) -> Iterator[None]:
    """Keep a port for a child that listens only after a while: other claims of it fail at once.

    It lasts until the block or the process ends, even by kill -9: the claim is a name of the kernel's (Linux; nothing
    is claimed elsewhere), which belongs to the same network namespace as the port.

    Raises:
        EnvironmentProblemError: it is taken, claimed or not allowed; the text names it and the remedy.

    """
    with contextlib.ExitStack() as stack:
        if sys.platform == "linux":
            name = stack.enter_context(socket.socket(socket.AF_UNIX))
            try:
                name.bind(f"\0fleetwatch/port/{port}")
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                raise EnvironmentProblemError(
                    f"port {port} for {wanted_by} cannot be used (a `fleetwatch up` has it): {remedy}"
                ) from None
        require_free(port, wanted_by=wanted_by, remedy=remedy)
        yield


def claim_ports(settings: Settings, stack: contextlib.ExitStack) -> Settings:
    """Return settings with the ports of dashboard and gateway, kept for this run until the stack ends.

    0 is a free port. A gateway's port that nobody chose gives way when it is taken.

    Raises:
        EnvironmentProblemError: a port that was chosen, or the dashboard's, is taken.

    """
    is_chosen = "gateway_port" in settings.model_fields_set and settings.gateway_port != 0
    dashboard, gateway = settings.dashboard_port or free_port(), settings.gateway_port or free_port()
    remedy = "stop what listens there, or choose another --{}-port"
    stack.enter_context(claimed(dashboard, wanted_by="the dashboard", remedy=remedy.format("dashboard")))
    try:
        stack.enter_context(claimed(gateway, wanted_by="the gateway", remedy=remedy.format("gateway")))
    except EnvironmentProblemError:
        if is_chosen:
            raise
        gateway = free_port()
        stack.enter_context(claimed(gateway, wanted_by="the gateway", remedy=remedy.format("gateway")))
    return settings.model_copy(update={"dashboard_port": dashboard, "gateway_port": gateway})
