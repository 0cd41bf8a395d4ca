"""One replay straight through the engine, from a recording to a folder of results."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streams.registry import ModelRegistry
from streams.replay.engine import ReplaySettings, replay
from streams.replay.results import ResultsWriter
from streams.worker import lane_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fleetwatch.recording.reader import Recording
    from fleetwatch.settings import Settings
    from streams.batch import ActiveModel

ACTIVE = "active"


@dataclass(frozen=True)
class Done:
    """How many events took how long, and what is in ``results.json``."""

    events: int
    seconds: float
    facts: dict[str, Any]


def run(  # noqa: PLR0913  # one command's options, all named
    recording: Recording,
    settings: Settings,
    out: Path,
    *,
    models: Sequence[str] = (),
    batch_size: int = 20_000,
    with_scores: bool = False,
    advance: Callable[[int], None] = lambda _more: None,
) -> Done:
    """Replay a recording; ``advance`` hears of progress.

    Raises:
        EnvironmentProblemError: rules, models or the recording are wrong, or ``out`` is there already.

    """
    chosen = ReplaySettings(lane_settings(settings), int(settings.idle_seconds * 1000), batch_size)
    in_force = load_models(settings, models)
    writer = ResultsWriter(out, with_scores=with_scores)
    began, events = time.perf_counter(), 0
    for more in replay(recording, chosen, in_force, writer.take):
        events += more
        advance(more)
    facts = writer.close(recording, chosen, {kind: model.version for kind, model in in_force.items()})
    return Done(events, time.perf_counter() - began, facts)


def load_models(settings: Settings, names: Sequence[str]) -> dict[str, ActiveModel]:
    """Return the batch models that are named, by sensor type; ``active`` stands for all that are in force."""
    found: dict[str, ActiveModel] = {}
    if not names:
        return found
    registry = ModelRegistry(settings.models_dir)
    for name in names:
        found |= registry.load_active() if name == ACTIVE else registry.find(name)
    return found
