"""TCP ports on loopback: a free one, and whether a wanted one is free."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Final

from fleetwatch.errors import EnvironmentProblemError

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


def is_free(port: int) -> bool:
    """Whether a port of loopback can be listened on."""
    try:
        require_free(port, wanted_by="nobody", remedy="")
    except EnvironmentProblemError:
        return False
    return True


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
