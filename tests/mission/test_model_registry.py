"""The mission's row "model registry": one a sensor type, swapped in a running worker by commands."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.faults.models import Commands, Newest, history, shadow_readings
from tests.faults.readings import Feed
from tests.faults.workers import PATIENCE, ForkedWorker, rules_for

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration

DEVICES = 40
LEAST = 50


def test_a_model_is_trained_promoted_and_rolled_back_by_command(settings: Settings, tmp_path: Path) -> None:
    """What scores the readings is what the commands say, and a shadow that does badly is refused.

    Both versions learn from the same history, so that the second one has nothing against it but what ``strict`` asks.
    """
    kind = f"registry-{uuid.uuid4().hex[:6]}"
    environment = rules_for(kind, tmp_path) | {
        "FLEETWATCH_TRAINING_FIRST": "false",
        "FLEETWATCH_WARM_UP_READINGS": "5",
    }
    limits = {"FLEETWATCH_WARM_UP_READINGS": "5", "FLEETWATCH_PROMOTE_MIN_READINGS": str(LEAST)}
    lenient = {"FLEETWATCH_PROMOTE_MIN_AGREEMENT": "0", "FLEETWATCH_PROMOTE_MAX_DIFFERENCE": "1"}
    commands = Commands(settings, **limits, **lenient)
    strict = Commands(settings, **limits, FLEETWATCH_PROMOTE_MAX_DIFFERENCE="0")
    feed = Feed(settings, kind, busy=DEVICES)
    worker = ForkedWorker(settings, tmp_path, environment, None, "")
    try:
        with Newest(settings, kind) as newest:

            def wait_for_score_by(version: str) -> None:
                feed.send_until(partial(newest.are, version, of=DEVICES), PATIENCE, f"{version!r} scores")

            wait_for_score_by("")
            past = history(tmp_path / "past", kind)
            first = train(commands, past, kind, "the first")
            wait_for_score_by(first)
            second = train(commands, past, kind, "the second")
            assert status(commands, kind) == {first: "ACTIVE", second: "SHADOW"}
            assert "scored 0 readings" in commands("models", "promote", kind, second).facts["reason"]
            feed.send_until(lambda: shadow_readings(worker.port, second) >= LEAST, PATIENCE, "the shadow is compared")
            refusal = strict("models", "promote", kind, second)
            assert refusal.code == 1
            assert "their scores differ by" in refusal.facts["reason"]
            assert commands.models(kind)[second]["compared"]["readings"] >= LEAST
            wait_for_score_by(first)

            assert commands("models", "promote", kind, second).code == 0
            wait_for_score_by(second)
            assert status(commands, kind) == {first: "RETIRED", second: "ACTIVE"}
            assert commands("models", "rollback", kind).code == 0
            wait_for_score_by(first)
            assert status(commands, kind) == {first: "ACTIVE", second: "RETIRED"}
            assert commands("models", "rollback", kind).code == 1
        assert worker.stop() == 0
    finally:
        worker.kill()


def train(commands: Commands, past: Path, kind: str, note: str) -> str:
    said = commands("train", "--from-recording", str(past), "--sensor-type", kind, "--version-note", note)
    assert said.code == 0
    return str(said.facts["trained"][0]["version"])


def status(commands: Commands, kind: str) -> dict[str, str]:
    return {version: facts["status"] for version, facts in commands.models(kind).items()}
