"""Reading the /status page of a process."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any

from fleetwatch.local.ports import LOOPBACK


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a process said of itself, and when (monotonic seconds)."""

    at: float
    ready: bool = False
    doing: str = ""
    problem: str = ""
    counters: dict[str, int] = field(default_factory=dict)


def fetch(port: int, *, now: float, timeout: float = 1.0) -> Seen | None:
    """Ask a process on loopback; None when it does not answer or does not make sense."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout)
    try:
        connection.request("GET", "/status")
        return parse(connection.getresponse().read(), now=now)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def parse(body: bytes, *, now: float) -> Seen | None:
    """Read the page's JSON; None for anything else."""
    try:
        page: Any = json.loads(body)
        return Seen(
            at=now,
            ready=bool(page["ready"]),
            doing=str(page["doing"]),
            problem=str(page["problem"]),
            counters={str(name): int(value) for name, value in page["counters"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
