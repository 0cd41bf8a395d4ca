"""Faults of streams workers and their broker, while readings flow: the outputs must be those of a fold without any.

``doubled`` counts identities that stand in a topic with other bytes than that fold's, or with several.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.faults.dying_worker import IN_REBALANCE, Death
from tests.faults.readings import Feed, differences
from tests.faults.report import Outcome
from tests.faults.workers import PATIENCE, Crew, ForkedWorker, lag, rules_for, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleetwatch.local.kafka_server import KafkaServer
    from fleetwatch.settings import Settings
    from tests.faults.report import Scenario

EVERY_STEP: Final = (
    Death("committed"),
    Death("lane-loaded", 3),
    Death("batch-folded", 3),
    Death("cut", 6),
    Death("outputs-delivered", 2),
    Death("record-written", 40),
    Death("blocks-delivered", 2),
    Death("manifests-delivered"),
    Death("stale-keys-removed"),
    Death("acknowledged", 2),
    Death("clock-caused-written"),
    Death("clock-caused-delivered"),
)
"""The steps of a checkpoint, the first time after one that went well (four of eight lanes get readings)."""
REBALANCES: Final = tuple(Death(point) for point in IN_REBALANCE)
STOPPED_SECONDS: Final = 7.0
"""Longer than a session: the others have taken over, and the worker finds that it stood still."""


def die_at(crew: Crew, feed: Feed, death: Death) -> None:
    """Have a worker die at a point while readings flow; where that is in a rebalance, another one joins and lives."""
    worker = crew.start(death)
    if death.point in IN_REBALANCE:
        feed.send_until(lambda: worker.counted("scored") > 0, PATIENCE, f"it works before {death}")
        crew.start()
    feed.send_until(lambda: not worker.is_alive(), PATIENCE, f"the worker comes to {death}")
    assert worker.wait() == -signal.SIGKILL, worker.log.read_text()[-3000:]


def stop_for_a_while(crew: Crew, feed: Feed, *, seconds: float = STOPPED_SECONDS) -> ForkedWorker:
    """Stop one of two workers until the other has taken over, and let it go on; return it."""
    first, second = crew.start(), crew.start()
    feed.send_until(lambda: first.counted("scored") > 0 and second.counted("scored") > 0, PATIENCE, "both work")
    before = second.counted("devices")
    first.signal(signal.SIGSTOP)
    end = time.monotonic() + seconds
    feed.send_until(
        lambda: time.monotonic() > end and second.counted("devices") > before, PATIENCE, "the second takes over"
    )
    first.signal(signal.SIGCONT)
    return first


def settle(crew: Crew, feed: Feed, settings: Settings) -> None:
    """Let workers (one, if all are dead) catch up and close all windows, and end them."""
    if not crew.alive:
        crew.start()
    feed.send_until(lambda: any(worker.counted("scored") for worker in crew.alive), PATIENCE, "somebody works")
    wait_for(lambda: lag(settings) == 0, PATIENCE, "the workers catch up")
    wait_for(lambda: not any(map(_open_windows, crew.alive)), PATIENCE, "all windows are closed")
    workers = crew.alive
    assert [worker.stop() for worker in workers] == [0] * len(workers)


def _open_windows(worker: ForkedWorker) -> int:
    return worker.counted("open_windows")


# --- Many times, at random moments


@dataclass
class World:
    """A Kafka of its own, readings that flow, and the workers."""

    kafka: KafkaServer
    settings: Settings
    feed: Feed
    crew: Crew
    random: random.Random


def kill_at_points(world: World, run: int) -> None:
    deaths = EVERY_STEP + REBALANCES
    death = deaths[run % len(deaths)]
    # later rounds die later: further on in a checkpoint, between other records, in another checkpoint
    die_at(world.crew, world.feed, Death(death.point, death.nth + run // len(deaths)))
    for survivor in world.crew.alive:
        survivor.kill()


def kill_at_random(world: World, _: int) -> None:
    worker = world.crew.start()
    wait_for(lambda: worker.status()["ready"], PATIENCE, "the worker has its partitions")
    world.feed.send_for(world.random.uniform(0.1, 3))
    worker.kill()


def scale(world: World, _: int) -> None:
    """One worker, three, one; of the two that go one ends properly."""
    one = world.crew.alive[:1] or [world.crew.start()]
    every = [*one, world.crew.start(), world.crew.start()]
    before = [worker.counted("scored") for worker in every]
    world.feed.send_until(
        lambda: all(worker.counted("scored") > count for worker, count in zip(every, before, strict=True)),
        PATIENCE,
        "all three work",
    )
    leaving = world.random.sample(every, 2)
    leaving[0].kill()
    assert leaving[1].stop() in {0, 1}  # 1: it was in the middle of a rebalance
    world.feed.send_for(1)


def restart_broker(world: World, _: int) -> None:
    """By turns as a person stops it and as it crashes. A worker may give up; then another one is started."""
    if not world.crew.alive:
        world.crew.start()
    (worker,) = world.crew.alive
    before = worker.counted("scored")
    world.feed.send_until(lambda: worker.counted("scored") > before or not worker.is_alive(), PATIENCE, "it works")
    world.feed.send_for(world.random.uniform(0.1, 1))
    world.random.choice([world.kafka.stop, world.kafka.kill])()
    time.sleep(world.random.uniform(0, 3))  # how long it is away is what is tested
    world.kafka.start()


def stop_worker(world: World, _: int) -> None:
    first = stop_for_a_while(world.crew, world.feed, seconds=world.random.uniform(4, 9))
    world.feed.send_for(1)
    for worker in world.crew.alive:  # one that slept for less than a session has come back
        worker.kill()
    assert first.wait() in {1, -signal.SIGKILL}


@dataclass(frozen=True)
class _Kind:
    put_in: Callable[[World, int], None]
    busy: int = 12
    idle_seconds: float = 3.0
    partitions: int = 4


KINDS: Final = {
    "worker-killed-at-points": _Kind(kill_at_points),
    "worker-killed-at-random": _Kind(kill_at_random),
    # of four partitions Faust may give three workers 2, 2 and 0
    "workers-scaled-1-3-1-under-load": _Kind(scale, busy=300, partitions=6),
    # readings may come as late as the broker was away: the clock must not close their windows before
    "broker-restarted": _Kind(restart_broker, busy=100, idle_seconds=15.0),
    "stopped-worker-wakes-up": _Kind(stop_worker),
}


@dataclass(frozen=True)
class _Streams:
    """Each fault on a Kafka of its own; outputs are compared when it was put in as often as asked."""

    names: tuple[str, ...] = tuple(KINDS)

    def run(self, runs: int, only: frozenset[str]) -> Iterator[Outcome]:
        for name, kind in KINDS.items():
            if name in only:
                yield self._put_in(name, kind, runs)

    def _put_in(self, name: str, kind: _Kind, runs: int) -> Outcome:
        from fleetwatch.kafka import ensure_topics
        from fleetwatch.local.kafka_server import KafkaServer
        from fleetwatch.settings import Settings

        with tempfile.TemporaryDirectory(prefix="fleetwatch-") as text, KafkaServer(Path(text) / "kafka") as kafka:
            folder = Path(text)
            settings = Settings(bootstrap_servers=kafka.bootstrap_servers, partitions=kind.partitions)
            ensure_topics(settings)
            environment = rules_for("fault", folder) | {"FLEETWATCH_IDLE_SECONDS": str(kind.idle_seconds)}
            with Crew(settings, folder, environment) as crew:
                feed = Feed(settings, "fault", busy=kind.busy)
                world = World(kafka, settings, feed, crew, random.Random(5))
                try:
                    for run in range(runs):
                        kind.put_in(world, run)
                    settle(crew, feed, settings)
                except AssertionError as error:
                    error.add_note(crew.last_words())
                    raise
            found = differences(settings, feed, environment)
        if found.lost or found.different:
            sys.stderr.write(f"{name}: {found}\n")
        return Outcome(name, runs, len(found.lost), len(found.different))


def scenarios() -> list[Scenario]:
    return [_Streams()]
