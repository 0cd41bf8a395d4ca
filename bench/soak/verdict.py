"""Whether a soak run was good: robust slopes of memory and lag, and a line for all that fell short. Pure."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from scipy.stats import theilslopes

from bench.soak.journal import ALERT_WAYS, WAYS
from fleetwatch import topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.soak.journal import Canary, Process, Run, Sample

BLOCKS: Final = 100
"""A slope is taken over the medians of so many stretches: neighbouring samples are too alike to count as many."""
LEAST_BLOCKS: Final = 8
LEAST_SECONDS: Final = 300.0
"""What lives or runs shorter than this says nothing about memory or lag: it still works its start off."""
SERVERS: Final = frozenset({"kafka", "postgres"})
"""They fill caches of a size that is set (heap, shared buffers): shown, not judged."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a good run keeps to."""

    leak_mb_per_hour: float = 2.0
    leak_mb: float = 30.0
    """Growth below this within the run is no leak that the run can show."""
    behind_seconds: float = 10.0
    """How far a group may be behind at the end, and how much further it may get in the run."""


class Slope(NamedTuple):
    """Growth in an hour: Theil-Sen estimate and its 95 % confidence bounds, and the hours it was seen over."""

    per_hour: float
    low: float
    high: float
    hours: float


class Life(NamedTuple):
    """One process from its start to its end or the run's."""

    name: str
    samples: list[tuple[float, Process]]

    @property
    def seconds(self) -> float:
        """How long it was seen."""
        return self.samples[-1][0] - self.samples[0][0]


def slope(times: Sequence[float], values: Sequence[float]) -> Slope | None:
    """Return the robust slope of values over times (s); None when there are too few."""
    if len(times) < LEAST_BLOCKS:
        return None
    cuts = np.array_split(np.arange(len(times)), min(BLOCKS, len(times)))
    hours = np.array([np.median(np.asarray(times)[cut]) for cut in cuts]) / 3600
    medians = np.array([np.median(np.asarray(values, np.float64)[cut]) for cut in cuts])
    found = theilslopes(medians, hours, alpha=0.95)
    return Slope(float(found[0]), float(found[2]), float(found[3]), float(hours[-1] - hours[0]))


def settling_seconds(seconds: float) -> float:
    """Return how long a process may fill its caches and train its models before its memory is judged."""
    return min(1800.0, seconds / 4)


def lives(samples: Sequence[Sample]) -> list[Life]:
    """Return every process' lives, by name and then in time."""
    found: dict[tuple[str, int], list[tuple[float, Process]]] = defaultdict(list)
    for sample in samples:
        for name, process in sample.processes.items():
            found[(name, process.pid)].append((sample.at, process))
    return sorted((Life(name, seen) for (name, _), seen in found.items()), key=lambda life: life.name)


def memory_slopes(run: Run) -> dict[str, Slope | None]:
    """Return the slope of each process' memory (MB an hour) over its longest life, without its first part."""
    longest: dict[str, Life] = {}
    for life in lives(run.samples):
        if life.name not in longest or life.seconds > longest[life.name].seconds:
            longest[life.name] = life
    return {name: _memory_slope(life) for name, life in longest.items()}


def _memory_slope(life: Life) -> Slope | None:
    if life.seconds < LEAST_SECONDS:
        return None
    settled = life.samples[0][0] + settling_seconds(life.seconds)
    kept = [(at, process.rss_mb) for at, process in life.samples if at >= settled]
    return slope([at for at, _ in kept], [value for _, value in kept])


def lag_seconds(run: Run, group: str) -> list[tuple[float, float]]:
    """Return at each sample how far a group was behind, as seconds of what is written for it on average."""
    known = [sample for sample in run.samples if group in sample.lags and sample.ends]
    if len(known) < 2 or not run.seconds:
        return []
    written = sum(growth_of(known, name) for name in topics.READ_BY[group])
    rate = max(written / run.seconds, 1.0)  # of one event a second at least: few alerts are not hours of lag
    return [(sample.at, sample.lags[group] / rate) for sample in known]


def restarts(run: Run) -> list[str]:
    """Return a line for each process that somebody else than us ended."""
    killed: dict[str, int] = defaultdict(int)
    for kill in run.kills:
        killed[kill.name] += 1
    found = []
    for name, group in itertools.groupby(lives(run.samples), key=lambda life: life.name):
        begun = [life.samples[0][0] for life in group]
        unasked = len(begun) - len({run.session_of(at) for at in begun}) - killed[name]
        if unasked > 0:
            found.append(f"{name} ended by itself and was started again {unasked} times")
    return found


def missed(canaries: Sequence[Canary], way: str, bound: float) -> list[Canary]:
    """Return the readings that did not arrive in a way, or too late."""
    return [
        canary
        for canary in canaries
        if way in canary.arrived and ((seconds := canary.arrived[way]) is None or seconds > bound)
    ]


def judge(run: Run, limits: Limits) -> list[str]:
    """Return a line for everything that fell short; none when the run was good."""
    return [
        *_judge_memory(run, limits),
        *_judge_lag(run, limits),
        *_judge_canary(run),
        *_judge_kills(run),
        *_judge_dead_letters(run),
        *restarts(run),
        *(trouble.text for trouble in run.troubles),
    ]


def leak_limit(slope_of: Slope, limits: Limits) -> float:
    """Return the growth (MB an hour) that counts as a leak, over the hours that were seen."""
    return max(limits.leak_mb_per_hour, limits.leak_mb / slope_of.hours)


def _judge_memory(run: Run, limits: Limits) -> list[str]:
    return [
        f"{name} grows by {found.per_hour:.1f} MB an hour ({found.low:.1f} to {found.high:.1f})"
        for name, found in memory_slopes(run).items()
        if found is not None and name not in SERVERS and found.low > leak_limit(found, limits)
    ]


def _judge_lag(run: Run, limits: Limits) -> list[str]:
    found = []
    for group in topics.READ_BY:
        behind = lag_seconds(run, group)
        if not behind:
            found.append(f"the lag of {group} is not known")
        if run.seconds < LEAST_SECONDS or not behind:
            continue
        last = behind[-max(3, len(behind) // 10) :]
        at_end = float(np.median([seconds for _, seconds in last]))
        if at_end > limits.behind_seconds:
            found.append(f"{group} is {at_end:.0f} s behind at the end")
        settled = behind[len(behind) // 4 :]
        growth = slope([at for at, _ in settled], [seconds for _, seconds in settled])
        if growth is not None and growth.low * growth.hours > limits.behind_seconds:
            found.append(f"the lag of {group} grows by {growth.per_hour:.0f} s an hour")
    return found


def _judge_canary(run: Run) -> list[str]:
    if not run.canaries:
        return ["no reading of the canary was followed"]
    bound = max(session.bound_seconds for session in run.sessions)
    found = []
    for way in (*WAYS, *ALERT_WAYS):
        if not any(way in canary.arrived for canary in run.canaries):
            found.append(f"canary: nothing was expected as {way}: the run was too short")
        elif late := missed(run.canaries, way, bound):
            never = sum(canary.arrived[way] is None for canary in late)
            found.append(f"canary: {len(late)} not in time as {way} ({never} never), within {bound:.0f} s")
    if wrong := sum(canary.is_wrong for canary in run.canaries):
        found.append(f"canary: {wrong} readings arrived with another value")
    return found


def _judge_kills(run: Run) -> list[str]:
    return [f"{kill.name} was not ready in time after kill -9" for kill in run.kills if kill.ready_after is None]


def _judge_dead_letters(run: Run) -> list[str]:
    found = growth_of(run.samples, topics.DEAD_LETTERS)
    return [f"{found} events became dead letters"] if found else []


def growth_of(samples: Sequence[Sample], topic: str) -> int:
    """Return how many events were written to a topic: a resumed run's embedded broker counts from nothing again."""
    counts = [sample.ends[topic] for sample in samples if topic in sample.ends]
    return sum(max(0, later - earlier) for earlier, later in itertools.pairwise(counts))
