"""How the pipeline flows: rates and the state of each reader, from a few looks at the broker's offsets. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from fleetwatch import topics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetwatch.local.lag import Look

RATE_SECONDS: Final = 12.0
STANDS_AFTER_SECONDS: Final = 12.0
BEHIND_SECONDS: Final = 10.0
"""A reader that lacks more than what came in so many seconds is behind."""
LEAST_BEHIND: Final = 200
FLOWING: Final = (
    topics.READINGS,
    topics.DETECTIONS,
    topics.SCORED,
    topics.COUNTS,
    topics.ALERTS,
    topics.ALERT_ACTIONS,
    topics.DEAD_LETTERS,
)


class Health(Enum):
    """What can be said of a part from outside, the worst first."""

    AWAY = "AWAY"
    STANDS = "STANDS"
    BEHIND = "BEHIND"
    UNKNOWN = "UNKNOWN"
    WELL = "WELL"


@dataclass(frozen=True, slots=True)
class Reader:
    """A consumer group."""

    group: str
    health: Health
    lag: int
    waiting: Mapping[tuple[str, int], int]
    committed_per_second: float | None


def rates(looks: Sequence[Look]) -> dict[str, float]:
    """Return new messages per second of each topic over the last seconds; empty before the second look."""
    if len(looks) < 2:
        return {}
    last = looks[-1]
    first = next(look for look in looks if last.at - look.at <= RATE_SECONDS)
    if first is last:
        first = looks[-2]
    seconds = max(last.at - first.at, 1e-3)
    return {
        topic: max(0, sum(last.ends[place] - first.ends.get(place, last.ends[place]) for place in _of(last, topic)))
        / seconds
        for topic in FLOWING
    }


def readers(looks: Sequence[Look]) -> list[Reader]:
    """Judge every consumer group by what it has committed, the worst first."""
    if not looks:
        return []
    last = looks[-1]
    flow = rates(looks)
    found = []
    for group, waiting in last.waiting.items():
        committed = _moved(looks, group)
        lag = sum(waiting.values())
        incoming = sum(flow.get(topic, 0.0) for topic in topics.READ_BY[group])
        if lag == 0:
            health = Health.WELL
        elif _stands(looks, group):
            health = Health.STANDS
        elif committed is None:
            health = Health.UNKNOWN
        elif lag > max(LEAST_BEHIND, BEHIND_SECONDS * incoming):
            health = Health.BEHIND
        else:
            health = Health.WELL
        found.append(Reader(group, health, lag, waiting, committed))
    return sorted(found, key=lambda reader: list(Health).index(reader.health))


def _of(look: Look, topic: str) -> list[tuple[str, int]]:
    return [place for place in look.ends if place[0] == topic]


def _progress(look: Look, group: str) -> int:
    return sum(look.committed.get(group, {}).values())


def _moved(looks: Sequence[Look], group: str) -> float | None:
    if len(looks) < 2:
        return None
    last = looks[-1]
    first = next((look for look in looks[:-1] if last.at - look.at <= RATE_SECONDS), looks[-2])
    return max(0.0, _progress(last, group) - _progress(first, group)) / max(last.at - first.at, 1e-3)


def _stands(looks: Sequence[Look], group: str) -> bool:
    """Tell whether something has waited for long and nothing was committed since."""
    last = looks[-1]
    before = [look for look in looks if last.at - look.at >= STANDS_AFTER_SECONDS]
    if not before:
        return False
    since = before[-1]
    waited = all(look.lags.get(group, 0) > 0 for look in looks if look.at >= since.at)
    return waited and _progress(since, group) == _progress(last, group)
