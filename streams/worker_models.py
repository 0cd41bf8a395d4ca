"""The batch models of a worker: which should be in force, first trainings, and what is told of models and shadows.

The worker decides when one comes in force (with a checkpoint); here it is known which.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from fleetwatch import avro, topics
from fleetwatch.logs import get_logger
from streams.model_archive import ModelArchive
from streams.model_feed import ModelFeed
from streams.registry import ModelRegistry
from streams.training import TrainingSamples

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleetwatch.service import Service
    from fleetwatch.settings import Settings
    from streams.batch import ActiveModel, Message, Outputs
    from streams.lane import Lane

log = get_logger(__name__)

FEED_SECONDS: Final = 10.0
"""How long a start waits for what the topic says of models; then what is on disk counts until it is known."""
ARCHIVE_SECONDS: Final = 20.0
"""How long a lane waits for a model of its snapshot that only the database has."""
COMPARE_SECONDS: Final = 2.0
"""How often shadow models are reported on."""


class WorkerModels:
    """Used by one worker, in its event loop; ``load`` may be called from any thread."""

    def __init__(self, settings: Settings, service: Service) -> None:
        archive = ModelArchive.of(settings)
        self._settings, self._status = settings, service.status
        self._registry = ModelRegistry(settings.models_dir, archive)
        self._feed = ModelFeed(settings, self._registry, archive, service.status.count)
        service.registry.register(self._feed)
        self._samples = TrainingSamples(settings.training_sample)
        self._trainings: set[asyncio.Task[None]] = set()
        self._compared_at = 0.0

    async def __aenter__(self) -> Self:
        """Follow the models until they are known, or some seconds have passed."""
        self._feed.start()
        await asyncio.to_thread(self._feed.is_caught_up.wait, FEED_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Follow them no longer."""
        await asyncio.to_thread(self._feed.close)

    def load(self, versions: Mapping[str, str]) -> dict[str, ActiveModel]:
        """Return the models that were in force when a snapshot was taken, by sensor type; may block for a while."""
        found = {}
        deadline = time.monotonic() + ARCHIVE_SECONDS
        for sensor_type, version in versions.items():
            active = self._feed.current.models.get(sensor_type)
            same = active if active is not None and active.version == version else None
            model = same or self._registry.load(sensor_type, version, patience=deadline - time.monotonic())
            if model is None:
                self._status.count("models_missing")
            else:
                found[sensor_type] = model
        return found

    def change(self, lane: Lane, in_force: Mapping[str, ActiveModel]) -> dict[str, ActiveModel] | None:
        """Prepare a lane for the models that should be in force; None when they are."""
        current = self._feed.current.models
        if versions(in_force) == versions(current):
            return None
        lane.change_models(in_force, current)
        return dict(current)

    def watch(self, lane: Lane, in_force: Mapping[str, ActiveModel]) -> None:
        """Have the shadow models of the moment score on a lane."""
        lane.watch(self._feed.current.shadows, in_force, self._feed.comparison)

    def messages(self, lanes: Iterable[Lane]) -> list[Message]:
        """Return what is to be told: new versions, and now and then how shadows compare."""
        messages = self._feed.messages()
        now = time.monotonic()
        if now >= self._compared_at + COMPARE_SECONDS:
            self._compared_at = now
            messages += [
                (topics.MODEL_COMPARISONS, comparison.key, avro.encode(comparison))
                for lane in lanes
                for comparison in lane.compared()
            ]
        return messages

    # --- first trainings

    def offer(self, outputs: Outputs) -> None:
        """Take settled readings of types without a model of their own; train one when there are enough."""
        if not self._settings.training_first:
            return
        for sensor_type, rows in outputs.training.items():
            if sensor_type in self._feed.current.models:
                continue
            sample = self._samples.add(sensor_type, rows)
            if sample is not None:
                task = asyncio.create_task(self._train(sensor_type, sample))
                self._trainings.add(task)
                task.add_done_callback(self._trainings.discard)

    async def _train(self, sensor_type: str, sample: Any) -> None:
        try:
            record, active = await asyncio.to_thread(
                self._registry.train_first, sensor_type, sample, datetime.now(UTC).replace(microsecond=0)
            )
        except Exception:
            log.exception("training_failed", sensor_type=sensor_type)
            self._samples.forget(sensor_type)
            return
        self._feed.trained(record, active)
        self._status.count("models_trained")
        log.info("model_trained", sensor_type=sensor_type, version=record.version, rows=record.training_rows)

    async def settle(self) -> None:
        """Let running trainings end."""
        if self._trainings:
            await asyncio.gather(*self._trainings)


def versions(models: Mapping[str, ActiveModel]) -> dict[str, str]:
    """Return what scored readings call each model."""
    return {sensor_type: model.version for sensor_type, model in models.items()}
