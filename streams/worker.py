"""The streams worker: lanes fed by batches, outputs sent, checkpoints. Everything around Faust but Faust itself.

Order of a checkpoint, all for one cut of every lane:

1. deliver the outputs of everything folded in so far,
2. write the snapshots of the lanes that changed to the changelog, chunks first,
3. write their manifests,
4. deliver what the clock caused (windows and silences of idle partitions), which the snapshots hold too,
5. acknowledge the batches that the snapshots include; the transport commits them.

What records cause comes out the same when they are folded in again. What the clock causes does not: more records may
have come by then. So it is written down first and sent afterwards, and a restart sends it again as it was.

A failure at a step leaves every later step undone. A restart loads the newest manifest's snapshot and skips the
records that it includes; outputs between it and the failure are sent again, with the same identities.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetwatch import avro, topics
from fleetwatch.errors import TransientError
from fleetwatch.logs import get_logger
from streams import recovery, state
from streams.batch import RawBatch
from streams.lane import Lane, LaneSettings
from streams.outbox import Outbox
from streams.registry import ModelRegistry
from streams.rules import load_rules
from streams.training import TrainingSamples
from streams.tuning import load_tunings
from streams.windows import WindowRules

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwatch.service import Service
    from fleetwatch.settings import Settings
    from streams.batch import Outputs
    from streams.stall import StallGuard
    from streams.state import Manifest

log = get_logger(__name__)

LaneId = tuple[str, int]
Message = tuple[str, bytes | None, bytes]


def lane_settings(settings: Settings) -> LaneSettings:
    """Return what lanes need of the settings.

    Raises:
        EnvironmentProblemError: the rules file or the detection file is wrong.

    """
    return LaneSettings(
        windows=WindowRules(
            size_ms=int(settings.window_seconds * 1000),
            grace_ms=int(settings.grace_seconds * 1000),
            out_of_orderness_ms=int(settings.out_of_orderness_seconds * 1000),
        ),
        rules=load_rules(settings.rules_file),
        max_skew_ms=int(settings.max_skew_seconds * 1000),
        warm_up=settings.warm_up_readings,
        tunings=load_tunings(settings.detection_file),
    )


def to_batch(topic: str, partition: int, records: list[Any]) -> RawBatch:
    """Return the columns of aiokafka records."""
    count = len(records)
    return RawBatch(
        topic,
        partition,
        np.fromiter((record.offset for record in records), np.int64, count),
        np.fromiter((record.timestamp for record in records), np.int64, count),
        [record.key for record in records],
        [record.value for record in records],
    )


@dataclass
class _Held:
    """A lane that this worker holds, what of it is not yet checkpointed, and when it last got something."""

    lane: Lane
    manifest: Manifest | None
    events: list[Any] = field(default_factory=list)
    by_clock: list[Message] = field(default_factory=list)
    is_dirty: bool = False
    last_arrival: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Cut:
    """What one checkpoint writes of one lane, and the batches that it includes."""

    topic: str
    partition: int
    held: _Held
    events: list[Any]
    by_clock: list[Message]
    chunks: list[tuple[bytes, bytes]]
    manifest: Manifest
    manifest_message: tuple[bytes, bytes]


class Worker:
    """Lanes of the partitions that are assigned here."""

    is_caught_up: Callable[[LaneId, int], bool]
    """Whether the broker was heard just now and has nothing beyond an offset of a partition; set by the application."""

    def __init__(self, settings: Settings, service: Service, guard: StallGuard) -> None:
        self._settings = settings
        self._guard = guard
        self._service = service
        self._lane_settings = lane_settings(settings)
        self._registry = ModelRegistry(settings.models_dir)
        self._models = self._registry.load_active()
        self._samples = TrainingSamples(settings.training_sample)
        self._outbox = Outbox(settings)
        self._held: dict[LaneId, _Held] = {}
        self._loading: dict[LaneId, asyncio.Task[_Held]] = {}
        self._trainings: set[asyncio.Task[None]] = set()
        self._checkpointing = asyncio.Lock()
        self._failed: Exception | None = None
        self._rate_since = time.monotonic()
        self._rate_events = 0

    # --- assignment ---

    def assign(self, lanes: set[LaneId]) -> None:
        """Begin to load the lanes of newly assigned partitions."""
        for lane in lanes - self._held.keys() - self._loading.keys():
            self._loading[lane] = asyncio.create_task(self._load(*lane))

    def revoke(self, lanes: set[LaneId]) -> None:
        """Drop lanes: whoever gets them next goes on from their last checkpoint."""
        for lane in lanes:
            self._held.pop(lane, None)
            self._loading.pop(lane, None)

    async def _load(self, topic: str, partition: int) -> _Held:
        found = await asyncio.to_thread(recovery.load_snapshot, self._settings, topic, partition)
        lane, manifest = Lane(topic, partition, self._lane_settings), None
        by_clock: list[Message] = []
        if found is not None:
            manifest, blob = found
            try:
                snapshot = state.unpack(blob)
                by_clock = state.unpack_messages(snapshot["by_clock"])
                lane = Lane.restore(topic, partition, self._lane_settings, snapshot)
            except (ValueError, KeyError) as error:
                log.warning("state_ignored", lane=state.lane_key(topic, partition), reason=str(error))
                lane.next_offset = manifest.next_offset
            log.info("lane_restored", topic=topic, partition=partition, next_offset=lane.next_offset)
        held = _Held(lane, manifest)
        if self._loading.get((topic, partition)) is asyncio.current_task():  # not revoked in the meantime
            del self._loading[(topic, partition)]
            self._held[(topic, partition)] = held
            self._outbox.send(by_clock)
        return held

    # --- events ---

    async def take(self, topic: str, partition: int, records: list[Any], event: Any) -> None:
        """Fold one batch in and send what it gives; ``event`` is acknowledged by the checkpoint that includes it.

        A batch of a partition that was revoked while its lane was loading is left to the next owner.
        """
        try:
            await self._take(topic, partition, records, event)
        except Exception as error:
            # Faust would log this and go on with the next batch, on a lane that may hold half of this one. The next
            # checkpoint ends the process instead, and a restart goes on from the last one.
            log.exception("batch_failed", topic=topic, partition=partition, first_offset=records[0].offset)
            self._failed = error

    async def _take(self, topic: str, partition: int, records: list[Any], event: Any) -> None:
        lane_id = (topic, partition)
        held = self._held.get(lane_id)
        if held is None:
            self.assign({lane_id})
            held = await asyncio.shield(self._loading[lane_id])
            if self._held.get(lane_id) is not held:
                return
        held.last_arrival = time.monotonic()
        held.events.append(event)
        held.is_dirty = True
        self._send(held.lane.process(to_batch(topic, partition, records), self._models))
        self._rate_events += len(records)

    def _send(self, outputs: Outputs) -> None:
        self._outbox.send(outputs.messages)
        self._count(outputs)
        for sensor_type, rows in outputs.training.items():
            if sensor_type in self._models:
                continue
            sample = self._samples.add(sensor_type, rows)
            if sample is not None:
                task = asyncio.create_task(self._train(sensor_type, sample))
                self._trainings.add(task)
                task.add_done_callback(self._trainings.discard)

    def _count(self, outputs: Outputs) -> None:
        for name, count in outputs.counters.items():
            self._service.status.count(name, count)

    async def _train(self, sensor_type: str, sample: Any) -> None:
        try:
            record, active = await asyncio.to_thread(
                self._registry.train, sensor_type, sample, datetime.now(UTC).replace(microsecond=0)
            )
        except Exception:
            log.exception("training_failed", sensor_type=sensor_type)
            self._samples.forget(sensor_type)
            return
        self._models[sensor_type] = active
        self._service.status.count("models_trained")
        log.info("model_trained", sensor_type=sensor_type, version=record.version, rows=record.training_rows)
        self._outbox.send([(topics.MODELS, sensor_type.encode(), avro.encode(record))])

    # --- checkpoint ---

    async def checkpoint(self) -> None:
        """Do what the module says, in that order.

        Raises:
            TransientError: Kafka did not take the outputs or the state; nothing was acknowledged.

        """
        async with self._checkpointing:
            if self._failed is not None:
                raise TransientError(f"a batch failed: {self._failed!r}")
            self._advance_idle(time.monotonic(), int(time.time() * 1000))
            cuts = [self._cut(*lane, held) for lane, held in list(self._held.items()) if held.is_dirty]
            self._report()
            await self._outbox.flush()
            self._guard.check()
            cuts = [cut for cut in cuts if self._is_mine(cut)]
            for cut in cuts:
                self._outbox.send_to(topics.STATE, cut.partition, cut.chunks)
            await self._outbox.flush()
            self._guard.check()
            cuts = [cut for cut in cuts if self._is_mine(cut)]
            for cut in cuts:
                self._outbox.send_to(topics.STATE, cut.partition, [cut.manifest_message])
                cut.held.manifest = cut.manifest
            await self._outbox.flush()
            if any(cut.by_clock for cut in cuts):
                for cut in cuts:
                    self._outbox.send(cut.by_clock)
                await self._outbox.flush()
            for cut in cuts:
                for event in cut.events:
                    event.ack()

    def _cut(self, topic: str, partition: int, held: _Held) -> _Cut:
        """Take everything of a lane that belongs to this checkpoint, at one offset; nothing is awaited here."""
        self._send(held.lane.early())
        events, held.events = held.events, []
        by_clock, held.by_clock = held.by_clock, []
        held.is_dirty = False
        blob = state.pack(held.lane.snapshot() | {"by_clock": state.pack_messages(by_clock)})
        lane = state.lane_key(topic, partition)
        manifest, key, value = state.manifest_message(lane, held.manifest, blob, held.lane.next_offset)
        chunks = state.chunk_messages(lane, manifest.slot, blob)
        return _Cut(topic, partition, held, events, by_clock, chunks, manifest, (key, value))

    def _is_mine(self, cut: _Cut) -> bool:
        """Say whether the lane of a cut is still held: it may have been revoked while something was awaited."""
        return self._held.get((cut.topic, cut.partition)) is cut.held

    def _advance_idle(self, now: float, now_ms: int) -> None:
        """Let the clock close the windows of partitions that have been silent.

        Silent is a partition of a broker that answers and has nothing new. While it does not answer nothing is known
        of its devices, and after that they get the whole idle time again to speak.
        """
        idle = self._settings.idle_seconds
        for lane_id, held in self._held.items():
            if not self.is_caught_up(lane_id, held.lane.next_offset):
                held.last_arrival = now
            if now - held.last_arrival < idle:
                continue
            before = held.lane.windows.open_entries
            outputs = held.lane.advance(now_ms - int(idle * 1000), now_ms)
            if outputs.messages or before != held.lane.windows.open_entries:
                held.is_dirty = True
                held.by_clock += outputs.messages
                self._count(outputs)

    def _report(self) -> None:
        now = time.monotonic()
        status, lanes = self._service.status, len(self._held)
        rate = self._rate_events / max(now - self._rate_since, 1e-3)
        self._rate_since, self._rate_events = now, 0
        if lanes:
            status.doing = f"scoring {rate:,.0f} events/s on {lanes} partitions"
        status.counters["open_windows"] = sum(held.lane.windows.open_entries for held in self._held.values())
        status.counters["devices"] = sum(held.lane.names.devices.count for held in self._held.values())

    async def close(self) -> None:
        """Take a last checkpoint and let running trainings end."""
        if self._trainings:
            await asyncio.gather(*self._trainings)
        await self.checkpoint()
