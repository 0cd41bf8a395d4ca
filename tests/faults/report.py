"""What a fault did, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Outcome:
    """How often a fault was put in, and how many events were lost or stand there twice after all of it."""

    fault: str
    runs: int
    lost: int
    doubled: int


class Scenario(Protocol):
    """Puts its faults ``runs`` times each into processes of its own; ``names`` are those faults."""

    names: tuple[str, ...]

    def run(self, runs: int, only: frozenset[str]) -> Iterable[Outcome]:
        """Yield the outcome of each fault in ``only``."""


def as_json(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """Return ``{fault: {"runs": .., "lost": .., "doubled": ..}}``."""
    return {
        outcome.fault: {name: value for name, value in asdict(outcome).items() if name != "fault"}
        for outcome in outcomes
    }
