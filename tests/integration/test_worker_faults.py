"""Streams workers on real Kafka, killed wherever it could hurt: what stands in the topics is as if nothing had been.

The short form; `make faults` does the same many times, at random moments, under load and with a broker that restarts.
"""

from __future__ import annotations

import signal
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.faults.dying_worker import ALONE, IN_REBALANCE, Death
from tests.faults.readings import Feed, assert_exact
from tests.faults.streams import die_at, settle
from tests.faults.workers import PATIENCE, Crew, rules_for

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration


def mark_of(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:6]}"


def test_a_worker_killed_at_any_step_changes_nothing(kafka_settings: Settings, tmp_path: Path) -> None:
    """One after another, on the state that the one before has left."""
    feed = Feed(kafka_settings, mark_of("step"))
    environment = rules_for(feed.mark, tmp_path)
    with Crew(kafka_settings, tmp_path, environment) as crew:
        for point in ALONE:
            die_at(crew, feed, Death(point))
        settle(crew, feed, kafka_settings)
    assert_exact(kafka_settings, feed, environment)
