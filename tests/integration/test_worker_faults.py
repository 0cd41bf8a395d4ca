"""Streams workers on real Kafka, killed wherever it could hurt: what stands in the topics is as if nothing had been.

The short form; `make faults` does the same many times, at random moments, under load and with a broker that restarts.
"""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.faults.readings import Feed, assert_exact
from tests.faults.streams import EVERY_STEP, REBALANCES, die_at, settle, stop_for_a_while
from tests.faults.workers import PATIENCE, Crew, ForkedWorker, rules_for

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings
    from tests.faults.dying_worker import Death

pytestmark = pytest.mark.integration

POISONED = 3


def mark_of(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:6]}"


@pytest.mark.parametrize("deaths", [EVERY_STEP[:6], EVERY_STEP[6:]], ids=["until the cut is written", "after that"])
def test_a_worker_killed_at_any_step_changes_nothing(
    kafka_settings: Settings, tmp_path: Path, deaths: tuple[Death, ...]
) -> None:
    """One after another, each on the state that those before have left."""
    feed = Feed(kafka_settings, mark_of("step"))
    environment = rules_for(feed.mark, tmp_path)
    with Crew(kafka_settings, tmp_path, environment) as crew:
        for death in deaths:
            die_at(crew, feed, death)
        settle(crew, feed, kafka_settings)
    assert_exact(kafka_settings, feed, environment)


def test_a_worker_killed_in_a_rebalance_changes_nothing(kafka_settings: Settings, tmp_path: Path) -> None:
    feed = Feed(kafka_settings, mark_of("join"))
    environment = rules_for(feed.mark, tmp_path)
    with Crew(kafka_settings, tmp_path, environment) as crew:
        for death in REBALANCES:
            die_at(crew, feed, death)
            for survivor in crew.alive:
                survivor.kill()
        settle(crew, feed, kafka_settings)
    assert_exact(kafka_settings, feed, environment)


def test_a_worker_that_stood_still_gives_way_to_the_one_that_took_over(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    feed = Feed(kafka_settings, mark_of("still"))
    environment = rules_for(feed.mark, tmp_path)
    with Crew(kafka_settings, tmp_path, environment) as crew:
        assert stop_for_a_while(crew, feed).wait() == 1
        settle(crew, feed, kafka_settings)
    assert_exact(kafka_settings, feed, environment)


def test_a_reading_that_cannot_be_scored_is_dead_lettered_and_its_neighbours_are_scored(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    """The fold raises when half of it is done. The worker ends; the next one goes carefully over the same readings.

    A worker ends at the first partition in which that happens, so three partitions can take three restarts.
    """
    feed = Feed(kafka_settings, mark_of("raise"))
    environment = rules_for(feed.mark, tmp_path)
    poison = f"{feed.mark}-poison"
    with Crew(kafka_settings, tmp_path, environment) as crew:
        worker = crew.start(poison=poison)
        feed.send_until(lambda: worker.counted("scored") > 0, PATIENCE, "it works")
        for number in range(POISONED):
            feed.say(f"{poison}-{number}", 1.0, int(time.time() * 1000))
        feed.send_until(lambda: not worker.is_alive(), PATIENCE, "it ends")
        for _ in range(POISONED):
            assert worker.wait() == 1
            worker = crew.start(poison=poison)
            feed.send_until(partial(_is_over, worker), PATIENCE, "the readings are refused")
            if worker.is_alive():
                break
        worker.kill()
        crew.start(poison=poison)
        settle(crew, feed, kafka_settings)
    assert_exact(kafka_settings, feed, environment, poison)


def _is_over(worker: ForkedWorker) -> bool:
    return not worker.is_alive() or worker.counted("dead_lettered") >= POISONED
