"""What people do with models: train versions, promote one, go back. Over topic, disk and database.

The topic decides what is in force: a new version is on disk (and in the database) before it is announced, a change of
status is announced first and noted elsewhere afterwards.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, Producer

from fleetwatch import avro, kafka, topics
from fleetwatch.errors import EnvironmentProblemError, FleetwatchError, RefusedError
from fleetwatch.logs import get_logger
from fleetwatch.model_catalogue import FALLBACK, Catalogue
from fleetwatch.records import ModelComparison, ModelStatus, ModelVersion
from streams import model_training
from streams.model_archive import ModelArchive
from streams.promotion import Limits, objections
from streams.registry import ModelRegistry
from streams.training_sample import LEAST, fallback_sample

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from fleetwatch.settings import Settings
    from streams.training_sample import Sample

log = get_logger(__name__)


class StaysError(FleetwatchError):
    """A model stays what it is; the text says why."""


class ModelDesk:
    """The models of one installation, as they are when it is made.

    Raises:
        EnvironmentProblemError: the broker does not answer, or the models folder cannot be made.

    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._archive = ModelArchive.of(settings)
        self._registry = ModelRegistry(settings.models_dir, self._archive)
        self.catalogue = Catalogue(self._registry.active_records())
        kafka.ensure_topics(settings, (topics.MODELS, topics.MODEL_COMPARISONS))
        self._read(topics.MODELS)
        self._read(topics.MODEL_COMPARISONS)

    def train(
        self,
        samples: dict[str, Sample],
        wanted: Collection[str],
        now: datetime,
        *,
        note: str = "",
        promote: bool = False,
    ) -> Iterator[tuple[str, ModelVersion | str]]:
        """Train a version of each wanted sensor type, all and the fallback if none is named; yield each, or why not.

        The first version of a type is in force at once; a later one is a shadow, unless it is to be promoted.

        Raises:
            EnvironmentProblemError: a version could not be kept or announced.

        """
        for name in sorted(wanted or {*samples, FALLBACK}):
            sample = fallback_sample(samples) if name == FALLBACK and samples else samples.get(name)
            if sample is None or len(sample.split()[0]) < LEAST:
                rows = 0 if sample is None else len(sample.rows)
                yield name, f"{rows} settled readings are too few: at least {round(LEAST / 0.8)} are needed"
                continue
            yield name, self._train(name, sample, now, note, promote=promote)

    def promote(self, sensor_type: str, version: str, now: datetime, *, force: bool = False) -> ModelVersion:
        """Put a version in force.

        Raises:
            StaysError: it is in force already, or a shadow that does not do well enough; the text has the figures.
            EnvironmentProblemError: there is no such version, or it could not be announced.

        """
        record = self.catalogue.find(sensor_type, version)
        if record is None:
            known = ", ".join(one.version for one in self.catalogue.versions(sensor_type)) or "none"
            raise EnvironmentProblemError(f"there is no version {version} of {sensor_type}; there is {known}")
        active = self.catalogue.active(sensor_type)
        if active is not None and active.version == version:
            raise StaysError(f"{sensor_type} {version} is in force already")
        compared = self.catalogue.compared(sensor_type, version)
        against = active.version if active is not None else None
        found = objections(compared, against, Limits.of(self._settings))
        if found and not force:
            raise StaysError(f"{sensor_type} {version} stays {record.status.value.lower()}: {'; '.join(found)}")
        return self._change(self.catalogue.activation(record, now))

    def rollback(self, sensor_type: str, now: datetime) -> ModelVersion:
        """Put the version before in force again.

        Raises:
            StaysError: there is none before.
            EnvironmentProblemError: it could not be announced.

        """
        changes = self.catalogue.rollback(sensor_type, now)
        if not changes:
            raise StaysError(f"{sensor_type} has no version before to go back to")
        return self._change(changes)

    # --- steps

    def _train(self, name: str, sample: Sample, now: datetime, note: str, *, promote: bool) -> ModelVersion:
        rows, held_out = sample.split()
        active = self.catalogue.active(name)
        trained = model_training.train(name, rows, now, span=sample.span, note=note)
        beside = None if active is None else self._registry.load(name, active.version)
        metrics = model_training.held_out_metrics(trained.model, beside, rows, held_out)
        trained = model_training.with_metrics(trained, metrics)
        changes = [trained.record]
        if active is None or promote:
            changes = self.catalogue.activation(trained.record, now)
        self._registry.put(changes[0], trained.artefact)
        if self._archive is not None:
            try:
                self._archive.put(changes[0], trained.artefact)
            except FleetwatchError as error:
                raise EnvironmentProblemError(
                    f"{name} {changes[0].version} is on disk but not announced: {error}"
                ) from None
        return self._change(changes)

    def _change(self, changes: list[ModelVersion]) -> ModelVersion:
        """Announce records, note them on disk and in the database; return the first."""
        self._send(changes)
        for record in changes:
            self.catalogue.put(record)
            if record.status is ModelStatus.ACTIVE:
                self._registry.activate(record)
            if self._archive is not None:
                try:
                    self._archive.put(record, None)
                except FleetwatchError as error:
                    log.warning("model_status_not_archived", model=record.version, reason=str(error))
        return changes[0]

    def _send(self, records: list[ModelVersion]) -> None:
        failed: list[Any] = []
        producer = Producer(kafka.producer_config(self._settings))
        for record in records:
            producer.produce(
                topics.MODELS,
                avro.encode(record),
                record.key,
                on_delivery=lambda error, _: failed.append(error) if error is not None else None,
            )
        left = producer.flush(30)
        if left or failed:
            raise EnvironmentProblemError(f"the broker did not take the change of {records[0].sensor_type}: try again")

    def _read(self, topic: str) -> None:
        def take(message: Any) -> None:
            with contextlib.suppress(RefusedError):
                if topic == topics.MODELS:
                    self.catalogue.put(avro.decode(message.value(), ModelVersion))
                else:
                    self.catalogue.compare(avro.decode(message.value(), ModelComparison))

        try:
            kafka.read_to_end(self._settings, topic, take)
        except (TimeoutError, KafkaException) as error:
            raise EnvironmentProblemError(f"{topic} cannot be read: {error}") from None
