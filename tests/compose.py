"""docker-compose.kafka.yml as Docker Compose would read it: variables put in, profiles chosen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from fleetwatch import topics

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).resolve().parents[1]
TEXT: Final = (ROOT / "docker-compose.kafka.yml").read_text()
MODEL: Final[dict[str, Any]] = yaml.safe_load(TEXT)
SERVICES: Final[dict[str, dict[str, Any]]] = MODEL["services"]
OURS: Final = {name: service for name, service in SERVICES.items() if "build" in service}
JOBS: Final = {name for name, service in OURS.items() if service.get("healthcheck") == {"disable": True}}
READER: Final = {
    topics.GROUP_STREAMS: ["worker"],
    topics.GROUP_TIMESCALE: ["sink", "timescale"],
    topics.GROUP_REDIS: ["sink", "redis"],
    topics.GROUP_ALERTING: ["alert"],
}
"""Consumer group -> the command whose process is in it."""
COMPLETED: Final = "service_completed_successfully"


def interpolated(value: str, given: Mapping[str, str] | None = None) -> str:
    """Return a value with ``${NAME:-default}`` and ``$$`` replaced; ``given`` is what `.env` says."""

    def replace(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else (given or {}).get(found[1]) or found[2]

    return re.sub(r"\$\$|\$\{([A-Z_]+):-([^}]*)\}", replace, value)


def environment(name: str, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of a service; one without a value is taken from ``given``, or is not set."""
    found = {}
    for variable, value in SERVICES[name].get("environment", {}).items():
        if value is None:
            if variable in (given or {}):
                found[variable] = (given or {})[variable]
        else:
            found[variable] = interpolated(str(value), given)
    return found


def command(name: str) -> list[str]:
    """Return the arguments of a service."""
    return [interpolated(part) for part in SERVICES[name]["command"]]


def started(*profiles: str) -> set[str]:
    """Return the services that come up with these profiles."""
    return {name for name, one in SERVICES.items() if not one.get("profiles") or set(profiles) & set(one["profiles"])}


def dependencies(name: str) -> dict[str, dict[str, Any]]:
    """Return what a service waits for."""
    found: dict[str, dict[str, Any]] = SERVICES[name].get("depends_on", {})
    return found
