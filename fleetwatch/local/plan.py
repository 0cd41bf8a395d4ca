"""Which processes make up the system, how they start and stop, when a dead one starts again. Pure."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from fleetwatch import topics

if TYPE_CHECKING:
    from collections.abc import Sequence

ENVIRONMENT_EXIT: Final = 2
"""Exit code of a process whose surroundings are wrong: starting it again would not help."""
HEALTHY_AFTER_SECONDS: Final = 60.0


class Role(Enum):
    """What a process is for; decides its place in the orders below."""

    PRODUCER = "producer"
    GATEWAY = "gateway"
    STREAMS = "streams"
    SINK = "sink"
    ALERTING = "alerting"
    DASHBOARD = "dashboard"


SOURCES: Final = (Role.PRODUCER, Role.GATEWAY)
"""What brings events into Kafka, and counts them as produced."""
STOP_ORDER: Final = (
    SOURCES,
    (Role.STREAMS,),
    (Role.SINK, Role.ALERTING, Role.DASHBOARD),
)
"""Upstream first, so that what is under way still finds its reader."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One process: its name in the table and in log files, its command, its consumer group."""

    name: str
    role: Role
    arguments: tuple[str, ...]
    group: str | None = None

    def command(self) -> list[str]:
        """Return the command line, for the interpreter that runs this."""
        return [sys.executable, "-m", "fleetwatch.cli.main", *self.arguments]


def all_specs(*, seed: int, scenario: str, producers: bool) -> tuple[Spec, ...]:
    """Return every process; what the first scored reading needs comes first."""
    streams = Spec(name="worker", role=Role.STREAMS, arguments=("worker",), group=topics.GROUP_STREAMS)
    simulate = ("simulate", "--scenario", scenario, "--seed", str(seed), "--json")
    sources = (
        Spec(name="simulate", role=Role.PRODUCER, arguments=simulate),
        Spec(name="replay-dataset", role=Role.PRODUCER, arguments=("replay-dataset", "--json")),
    )
    gateway = Spec(name="gateway", role=Role.GATEWAY, arguments=("gateway", "--json"))
    readers = (
        Spec(
            name="sink-timescale",
            role=Role.SINK,
            arguments=("sink", "timescale", "--no-migrate"),
            group=topics.GROUP_TIMESCALE,
        ),
        Spec(name="sink-redis", role=Role.SINK, arguments=("sink", "redis"), group=topics.GROUP_REDIS),
        Spec(name="alert", role=Role.ALERTING, arguments=("alert",), group=topics.GROUP_ALERTING),
        Spec(name="dashboard", role=Role.DASHBOARD, arguments=("dashboard",)),
    )
    return (streams, *(sources if producers else ()), gateway, *readers)


def stop_stages(specs: Sequence[Spec]) -> list[list[str]]:
    """Return names in the order of stopping; those of one list stop together."""
    stages = [[spec.name for spec in specs if spec.role in roles] for roles in STOP_ORDER]
    return [stage for stage in stages if stage]


def restart_delay(failures: int, *, base_seconds: float = 0.5, cap_seconds: float = 30.0) -> float:
    """Return how long to wait before the next start, after so many failures in a row (1 = the first)."""
    return float(min(cap_seconds, base_seconds * 2 ** min(failures - 1, 16)))


class AfterExit(Enum):
    """What to do about a process that ended without being asked to."""

    RESTART = "restart"
    FINISHED = "finished"
    STOP_ALL = "stop all"


def after_exit(role: Role, exit_code: int) -> AfterExit:
    """Decide: wrong surroundings stop everything, a producer may reach its end, all else starts again."""
    if exit_code == ENVIRONMENT_EXIT:
        return AfterExit.STOP_ALL
    if exit_code == 0 and role is Role.PRODUCER:
        return AfterExit.FINISHED
    return AfterExit.RESTART
