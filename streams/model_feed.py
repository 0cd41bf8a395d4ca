"""Which models a worker should have in force: a thread follows ``fleet.models`` and loads what it names.

The topics are read from their beginnings by every worker, without a group. What is on disk counts until the end of the
topics was reached once, and where they say nothing (a broker that forgets): then it is announced again. The worker
takes ``current`` over with a checkpoint (``streams/worker.py``); nothing here is in a hurry.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from prometheus_client.core import GaugeMetricFamily

from fleetwatch import avro, kafka, topics
from fleetwatch.errors import FleetwatchError, RefusedError
from fleetwatch.logs import get_logger
from fleetwatch.model_catalogue import Catalogue
from fleetwatch.records import ModelComparison, ModelStatus, ModelVersion
from streams.model_names import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric

    from fleetwatch.settings import Settings
    from streams.batch import ActiveModel, Message
    from streams.model_archive import ModelArchive
    from streams.registry import ModelRegistry

log = get_logger(__name__)

FIRST_RETRY_SECONDS: Final = 1.0
LAST_RETRY_SECONDS: Final = 60.0
_TOPICS: Final = (topics.MODELS, topics.MODEL_COMPARISONS)


@dataclass(frozen=True)
class Current:
    """The models that should be in force, and those that should score beside them, by sensor type."""

    models: Mapping[str, ActiveModel] = field(default_factory=dict)
    shadows: Mapping[str, ActiveModel] = field(default_factory=dict)


class ModelFeed:
    """Follows the models; every method may be called from any thread. ``count`` is told of what happened."""

    def __init__(
        self,
        settings: Settings,
        registry: ModelRegistry,
        archive: ModelArchive | None,
        count: Callable[[str], None] = lambda _what: None,
    ) -> None:
        self._settings, self._registry, self._archive, self._count = settings, registry, archive, count
        self._catalogue = Catalogue(registry.active_records())
        self._current = Current(models=registry.load_active())
        self._heard: set[tuple[str, str]] = set()
        self._to_send: list[ModelVersion] = []
        self._to_archive: list[ModelVersion] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="models", daemon=True)
        self._retry_at, self._pause = math.inf, FIRST_RETRY_SECONDS
        self.is_caught_up = threading.Event()
        """Set when the topics were read to their ends once."""

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def current(self) -> Current:
        """What should be in force now."""
        return self._current

    def comparison(self, sensor_type: str, version: str, partition: int) -> ModelComparison | None:
        """Return how a shadow has compared on a partition so far, whoever had it."""
        with self._lock:
            return self._catalogue.comparison(sensor_type, version, partition)

    def trained(self, record: ModelVersion, model: ActiveModel) -> None:
        """Take over a first model that this worker trained; it is announced, and archived when the archive can be had.

        If another one came in force meanwhile, this one becomes a shadow.
        """
        with self._lock:
            active = self._catalogue.active(record.sensor_type)
            if active is not None and active.version != record.version:
                record = replace(record, status=ModelStatus.SHADOW)
            self._catalogue.put(record)
            self._to_send.append(record)
            if self._archive is not None:
                self._to_archive.append(record)
                self._retry_at = 0.0
            if record.status is ModelStatus.ACTIVE:
                models = {**self._current.models, record.sensor_type: model}
                self._current = replace(self._current, models=models)

    def messages(self) -> list[Message]:
        """Return what is to be announced, once."""
        with self._lock:
            records, self._to_send = self._to_send, []
        return [(topics.MODELS, record.key, avro.encode(record)) for record in records]

    # --- the thread

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read()
            except (KafkaException, FleetwatchError) as error:
                log.warning("models_not_followed", reason=str(error))
                self._stopping.wait(self._pause)

    def _read(self) -> None:
        config = kafka.consumer_config(self._settings, "fleetwatch-models") | {"enable.partition.eof": True}
        consumer = Consumer(config)
        try:
            places = {(topic, number) for topic in _TOPICS for number in kafka.partitions_of(consumer, topic)}
            consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in places])
            unread = set(places)
            while not self._stopping.is_set():
                is_changed = False
                for message in consumer.consume(500, timeout=0.3):
                    error = message.error()
                    if error is None:
                        is_changed |= self._take(message.topic(), message.value())
                    elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
                        unread.discard((message.topic(), message.partition()))
                if unread:
                    continue
                if not self.is_caught_up.is_set():
                    self._announce_unheard()
                    self.is_caught_up.set()
                    is_changed = True
                if is_changed or time.monotonic() >= self._retry_at:
                    self._load_what_is_missing()
        finally:
            consumer.close()

    def _take(self, topic: str | None, value: bytes | None) -> bool:
        """Take a message; say whether versions changed. What cannot be read is passed over, and said."""
        try:
            if topic == topics.MODELS:
                record = avro.decode(value, ModelVersion)
                with self._lock:
                    self._heard.add((record.sensor_type, record.version))
                    return self._catalogue.put(record)
            comparison = avro.decode(value, ModelComparison)
        except RefusedError as error:
            if value:
                log.warning("model_record_ignored", topic=topic, reason=str(error))
            return False
        with self._lock:
            self._catalogue.compare(comparison)
        return False

    def _announce_unheard(self) -> None:
        """Announce what the disk has in force and the topic has not heard of: a broker that forgot, or is new."""
        with self._lock:
            for sensor_type in self._catalogue.sensor_types:
                active = self._catalogue.active(sensor_type)
                if active is not None and (sensor_type, active.version) not in self._heard:
                    self._to_send.append(active)

    def _load_what_is_missing(self) -> None:
        """Load the models that should be in force or score beside them; where one cannot be had, keep the one before.

        What is missing is looked for again, less and less often.
        """
        with self._lock:
            kinds = self._catalogue.sensor_types
            active = {kind: record for kind in kinds if (record := self._catalogue.active(kind)) is not None}
            shadows = {kind: record for kind in kinds if (record := self._catalogue.shadow(kind)) is not None}
            to_archive, self._to_archive = self._to_archive, []
        before, missing = self._current, []
        models: dict[str, ActiveModel] = dict(before.models)
        beside: dict[str, ActiveModel] = {}
        for known, records, found in ((before.models, active, models), (before.shadows, shadows, beside)):
            for kind, record in records.items():
                model = known.get(kind)
                if model is None or version_of(model.version) != record.version:
                    model = self._registry.load(kind, record.version)
                if model is None:
                    missing.append(record)
                    continue
                found[kind] = model
                if records is active and model is not known.get(kind):
                    self._registry.activate(record)
                    self._count("models_changed")
                    log.info("model_active", sensor_type=kind, model=record.version)
        with self._lock:
            now = self._current.models  # a first model may have been trained meanwhile
            trained = {kind: model for kind, model in now.items() if model is not before.models.get(kind)}
            self._current = Current({**models, **trained}, beside)
        left = self._archived(to_archive)
        with self._lock:
            self._to_archive += left
            is_done = not missing and not self._to_archive
        self._pause = FIRST_RETRY_SECONDS if is_done else min(2 * self._pause, LAST_RETRY_SECONDS)
        self._retry_at = math.inf if is_done else time.monotonic() + self._pause
        for record in missing:
            log.warning("model_missing", sensor_type=record.sensor_type, model=record.version)
            self._count("models_missing")

    def _archived(self, records: list[ModelVersion]) -> list[ModelVersion]:
        """Put versions into the archive; return those for which it could not be had."""
        for place, record in enumerate(records):
            try:
                self._archive_one(record)
            except FleetwatchError as error:
                log.warning("model_not_archived", sensor_type=record.sensor_type, reason=str(error))
                # the driver's error refers to itself: the artefact in its frames would stay until the garbage collector
                # comes by, which it seldom does here
                traceback.clear_frames(error.__traceback__)
                if error.__context__ is not None:
                    traceback.clear_frames(error.__context__.__traceback__)
                return records[place:]
        return []

    def _archive_one(self, record: ModelVersion) -> None:
        artefact = self._registry.artefact(record)
        if self._archive is not None and artefact is not None:
            self._archive.put(record, artefact)

    # --- metrics

    def collect(self) -> Iterator[Metric]:
        """Yield how the shadows compare, over all partitions and workers."""
        readings = GaugeMetricFamily(
            "fleetwatch_shadow_readings",
            "Readings that a shadow model and the active one have both scored.",
            labels=["sensor_type", "version"],
        )
        agreement = GaugeMetricFamily(
            "fleetwatch_shadow_agreement",
            "Of the readings that are strange to either of the two, the share that is to both.",
            labels=["sensor_type", "version"],
        )
        difference = GaugeMetricFamily(
            "fleetwatch_shadow_difference",
            "Mean absolute difference of the two calibrated scores, 0 to 1.",
            labels=["sensor_type", "version"],
        )
        rates = GaugeMetricFamily(
            "fleetwatch_shadow_alarm_rate",
            "Share of these readings above the alarm level of the 'shadow', and of the 'active' one.",
            labels=["sensor_type", "version", "model"],
        )
        with self._lock:
            shadows = [self._catalogue.shadow(kind) for kind in self._catalogue.sensor_types]
            found = [
                (record, compared)
                for record in shadows
                if record is not None
                and (compared := self._catalogue.compared(record.sensor_type, record.version)) is not None
            ]
        for record, compared in found:
            names = [record.sensor_type, record.version]
            readings.add_metric(names, compared.readings)
            agreement.add_metric(names, compared.agreement)
            difference.add_metric(names, compared.difference)
            rates.add_metric([*names, "shadow"], compared.alarm_rate)
            rates.add_metric([*names, "active"], compared.alarm_rate_against)
        yield from (readings, agreement, difference, rates)
