"""The rounds of the comparison: every contestant in turn, several times, and what comes out of it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench import check, figures
from bench.feed import Fleet
from bench.measure import BenchError, Contestant, broker, make_topics, work_off

if TYPE_CHECKING:
    from collections.abc import Sequence

READINGS = 1_000_000
"""The most that a contestant gets in one measurement."""


@dataclass
class Rounds:
    """Rates of each contestant by round, and facts of its first measurement."""

    per_cpu_second: list[dict[str, float]] = field(default_factory=list)
    per_second: list[dict[str, float]] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def wrong(self) -> list[str]:
        """What contestants wrote that is not as it must be."""
        return [f"{name}: {text}" for name, found in self.facts.items() for text in found["check"]["wrong"]]


def say(text: str) -> None:
    """Tell how it goes; standard output is for the figures."""
    print(text, file=sys.stderr, flush=True)


def new_fleet(devices: int, per_second: float, readings: int = READINGS) -> Fleet:
    """Return a fleet whose first ``readings`` readings end now."""
    per_second *= devices
    return Fleet(devices, per_second, int((time.time() - readings / per_second) * 1000))


def run_rounds(kind: str, chosen: Sequence[Contestant], fleet: Fleet, *, rounds: int, seconds: float) -> Rounds:
    """Measure everyone in each round, in another order each time; outputs are compared in the first.

    Raises:
        BenchError: a contestant did not do its work.

    """
    result = Rounds()
    readings = fleet.readings(0, READINGS)
    for number in range(rounds):
        by_cpu: dict[str, float] = {}
        by_time: dict[str, float] = {}
        first = number * 4 % len(chosen)
        for one in [*chosen[first:], *chosen[:first]]:
            if one.once and number:
                continue
            with broker(kind) as settings:
                make_topics(settings, one)
                outcome = work_off(settings, one, readings, seconds=seconds, follow=number == 0)
                rate = figures.rate(outcome.samples, one.warm)
                if rate is None:
                    raise BenchError(f"{one.name}: nothing was measured")
                by_cpu[one.name], by_time[one.name] = rate
                if outcome.followed is not None:
                    result.facts[one.name] = {
                        "rss_mb": outcome.rss_bytes[-1] >> 20,
                        "least_backlog": outcome.least_backlog,
                        "check": check.outputs(settings, one, fleet, outcome.fed, outcome.followed.values),
                    }
                    if outcome.followed.missed:
                        result.facts[one.name]["check"]["wrong"].append(
                            f"{outcome.followed.missed} records were forgotten by the broker before they were read"
                        )
            say(
                f"round {number + 1}  {one.name:18} {by_cpu[one.name]:>11,.0f} events per CPU-second"
                f" {by_time[one.name]:>11,.0f} per second"
            )
        result.per_cpu_second.append(by_cpu)
        result.per_second.append(by_time)
    return result
