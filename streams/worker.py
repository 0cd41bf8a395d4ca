"""The streams worker: lanes fed by batches, outputs sent, checkpoints. Everything around Faust but Faust itself.

Order of a checkpoint, all for one cut of every lane:

1. deliver the outputs of everything folded in so far,
2. write the blocks of the lanes' snapshots that changed to the changelog,
3. write their manifests,
4. deliver what the clock caused (windows and silences of idle partitions), which the snapshots hold too,
5. acknowledge the batches that the snapshots include; the transport commits them.

What records cause comes out the same when they are folded in again. What the clock causes does not: more records may
have come by then. So it is written down first and sent afterwards, and a restart sends it again as it was. Likewise a
new batch model: it is in force from a checkpoint on that names it, and nothing is folded in before that one stands.

A failure at a step leaves every later step undone. A restart loads the newest manifest's snapshot and goes on from its
offset; outputs between it and the failure are sent again, with the same identities.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from fleetwatch.errors import TransientError
from fleetwatch.logs import get_logger
from streams import recovery, state
from streams.batch import blocks_of
from streams.careful import process_carefully
from streams.lane import Lane, LaneSettings
from streams.rules import load_rules
from streams.state import Claim, SnapshotWriter
from streams.tuning import load_tunings
from streams.windows import WindowRules
from streams.worker_models import WorkerModels, versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwatch.service import Service
    from fleetwatch.settings import Settings
    from streams.batch import ActiveModel, Block, Message, Outputs, RawBatch
    from streams.outbox import Outbox
    from streams.stall import StallGuard
    from streams.state import Found

log = get_logger(__name__)

LaneId = tuple[str, int]
REVOKE_SECONDS: Final = 10.0
"""How long a rebalance waits for a checkpoint that is being written."""


def lane_settings(settings: Settings) -> LaneSettings:
    """Return what lanes need of the settings.

    Raises:
        EnvironmentProblemError: the rules file or the detection file is wrong.

    """
    return LaneSettings(
        windows=WindowRules(
            size_ms=int(settings.window_seconds * 1000),
            hop_ms=int((settings.window_hop_seconds or 0.0) * 1000),
            grace_ms=int(settings.grace_seconds * 1000),
            out_of_orderness_ms=int(settings.out_of_orderness_seconds * 1000),
        ),
        rules=load_rules(settings.rules_file),
        max_skew_ms=int(settings.max_skew_seconds * 1000),
        device_ttl_ms=int(settings.device_ttl_seconds * 1000),
        trees_by=settings.trees_by,
        warm_up=settings.warm_up_readings,
        tunings=load_tunings(settings.detection_file),
    )


@dataclass
class _Held:
    """A lane that this worker holds, what of it is not yet checkpointed, and when it last got something."""

    lane: Lane
    writer: SnapshotWriter
    models: dict[str, ActiveModel]
    stale_keys: frozenset[bytes] = frozenset()
    careful_until: int = 0
    models_until: int = 0
    """The offset up to which a former owner may have gone with these models: only then others may come in force."""
    done: int = 0
    """The offset after what the last manifest includes."""
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
    blocks: list[tuple[bytes, bytes]]
    manifest: tuple[bytes, bytes]
    next_offset: int

    def blocks_to_write(self) -> list[Block]:
        """Return what changed."""
        return state.blocks(self.blocks)

    def manifest_to_write(self) -> list[Block]:
        """Return what makes it count."""
        return state.blocks([self.manifest])


class Worker:
    """Lanes of the partitions that are assigned here."""

    is_caught_up: Callable[[LaneId, int], bool]
    """Whether the broker was heard just now and has nothing beyond an offset of a partition; set by the application."""
    generation: Callable[[], int]
    """The consumer group's generation in which the present partitions were assigned; set by the application."""

    def __init__(self, settings: Settings, service: Service, guard: StallGuard, outbox: Outbox) -> None:
        self._settings = settings
        self._guard = guard
        self._service = service
        self._lane_settings = lane_settings(settings)
        if by_river := list(self._lane_settings.tunings.river_detectors()):
            log.warning(
                "river_detector_is_slow", detectors=by_river, note="see docs/detection.md for the cost an event"
            )
        self._models = WorkerModels(settings, service)
        self._outbox = outbox
        self._held: dict[LaneId, _Held] = {}
        self._loading: dict[LaneId, asyncio.Task[None]] = {}
        self._checkpointing = asyncio.Lock()
        self._may_fold = asyncio.Event()
        self._may_fold.set()
        self._failed: Exception | None = None
        self._rate_since = time.monotonic()
        self._rate_events = 0

    async def __aenter__(self) -> Self:
        """Learn of the batch models."""
        await self._models.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hear of them no longer."""
        await self._models.__aexit__()

    # --- assignment ---

    def assign(self, lanes: set[LaneId]) -> None:
        """Begin to load the lanes of newly assigned partitions."""
        by_partition: dict[int, set[str]] = {}
        for topic, partition in lanes - self._held.keys() - self._loading.keys():
            by_partition.setdefault(partition, set()).add(topic)
        for partition, names in by_partition.items():
            task = asyncio.create_task(self._load(partition, names))
            self._loading |= dict.fromkeys(((topic, partition) for topic in names), task)

    async def offsets(self, lanes: set[LaneId]) -> dict[LaneId, int]:
        """Return the offsets after what lanes' written state includes; waits until they are loaded."""
        self.assign(lanes)
        while waiting := {self._loading[lane] for lane in lanes & self._loading.keys()}:
            await asyncio.wait(waiting)
            for task in waiting:
                task.result()
        return {lane: held.done for lane in lanes if (held := self._held.get(lane)) and held.done}

    async def revoke(self, lanes: set[LaneId]) -> None:
        """Drop lanes: whoever gets them next goes on from their last checkpoint.

        A checkpoint that is being written is waited for, but nothing else: what it says was sent must be found by the
        next owner.
        """
        for lane in lanes:
            self._loading.pop(lane, None)
            self._held.pop(lane, None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REVOKE_SECONDS), self._checkpointing:
                pass

    async def _load(self, partition: int, names: set[str]) -> None:
        task, generation = asyncio.current_task(), self.generation()
        try:
            found = await asyncio.to_thread(recovery.find_lanes, self._settings, partition, names)
            for topic in names:
                held = await asyncio.to_thread(self._restore, topic, partition, found[topic], generation)
                if self._loading.get((topic, partition)) is task:  # not revoked in the meantime
                    self._held[(topic, partition)] = held
                    self._outbox.send(blocks_of(held.by_clock), partition)
                    held.by_clock = []
        finally:
            for topic in names:
                if self._loading.get((topic, partition)) is task:
                    del self._loading[(topic, partition)]

    def _restore(self, topic: str, partition: int, found: Found, generation: int) -> _Held:
        name = state.lane_key(topic, partition)
        claim = Claim(found.claim.term + 1, generation)
        writer = SnapshotWriter(name, claim, keep_all=self._settings.embedded_broker)
        held = _Held(Lane(topic, partition, self._lane_settings), writer, {}, found.keys, found.careful_until)
        if found.keys:
            held.models_until = found.input_end
        if found.snapshot is not None:
            try:
                held.lane = Lane.restore(topic, partition, self._lane_settings, found.snapshot)
                held.by_clock = state.unpack_messages(found.snapshot["by_clock"])
                packed = state.unpack_messages(found.snapshot["models"])
                held.models = self._models.load({sensor_type: version.decode() for sensor_type, _, version in packed})
            except (ValueError, KeyError) as error:
                log.warning("state_ignored", lane=name, reason=str(error))
                held.lane.next_offset = found.next_offset
            held.done = held.lane.next_offset
            log.info("lane_restored", topic=topic, partition=partition, next_offset=held.lane.next_offset)
        return held

    def positions(self) -> dict[LaneId, int]:
        """Return the offset after what each lane has folded in."""
        return {lane_id: held.lane.next_offset for lane_id, held in self._held.items()}

    # --- events ---

    async def take(self, raw: RawBatch, event: Any) -> None:
        """Fold one batch in and send what it gives; ``event`` is acknowledged by the checkpoint that includes it.

        A batch of a partition that was revoked while its lane was loading is left to the next owner.
        """
        lane_id = (raw.topic, raw.partition)
        await self.offsets({lane_id})
        await self._may_fold.wait()
        held = self._held.get(lane_id)
        if held is None or self._failed is not None:
            return
        try:
            self._fold(held, raw)
        except Exception as error:
            # Faust would log this and go on with the next batch, on a lane that may hold half of this one. The next
            # checkpoint ends the process instead, and a restart goes carefully over the same records again.
            log.exception("batch_failed", topic=raw.topic, partition=raw.partition, first_offset=int(raw.offsets[0]))
            self._failed = error
            self._outbox.send(state.blocks([state.careful_message(*lane_id, int(raw.offsets[-1]) + 1)]), raw.partition)
            return
        held.last_arrival = time.monotonic()
        held.events.append(event)
        held.is_dirty = True
        self._rate_events += len(raw)
        await self._outbox.room()

    def _fold(self, held: _Held, raw: RawBatch) -> None:
        if held.lane.next_offset >= held.careful_until:
            self._send(held.lane.process(raw, held.models), raw.partition)
            return
        held.lane, outputs = process_carefully(held.lane, raw, held.models)
        self._send(outputs, raw.partition)

    def _send(self, outputs: Outputs, partition: int) -> None:
        self._outbox.send(outputs.blocks, partition)
        self._count(outputs)
        self._models.offer(outputs)

    def _count(self, outputs: Outputs) -> None:
        for name, count in outputs.counters.items():
            self._service.status.count(name, count)

    # --- checkpoint ---

    async def checkpoint(self) -> float:
        """Do what the module says, in that order; return the seconds for which nothing else could be done.

        Raises:
            TransientError: Kafka did not take the outputs or the state; nothing was acknowledged.

        """
        async with self._checkpointing:
            try:
                return await self._checkpoint()
            finally:
                self._may_fold.set()

    async def _checkpoint(self) -> float:
        if self._failed is not None:
            await self._outbox.flush()
            raise TransientError(f"a batch failed: {self._failed!r}")
        self._advance_idle(time.monotonic(), int(time.time() * 1000))
        self._put_models_in_force()
        began = time.monotonic()
        cuts = [self._cut(*lane, held) for lane, held in list(self._held.items()) if held.is_dirty]
        busy = time.monotonic() - began
        self._report()
        for message in self._models.messages(held.lane for held in self._held.values()):
            self._outbox.send_by_key(message)
        await self._outbox.flush()
        for part in (_Cut.blocks_to_write, _Cut.manifest_to_write):
            cuts, more = await self._write(cuts, part)
            busy += more
        for cut in cuts:
            cut.held.done = cut.next_offset
        if any(cut.by_clock for cut in cuts):
            for cut in cuts:
                self._outbox.send(blocks_of(cut.by_clock), cut.partition)
            await self._outbox.flush()
        for cut in cuts:
            for event in cut.events:
                event.ack()
        await self._remove_stale(cuts)
        return busy

    async def _write(self, cuts: list[_Cut], part: Callable[[_Cut], list[Block]]) -> tuple[list[_Cut], float]:
        """Write a part of each cut to the changelog and wait until it stands.

        Returns the cuts whose lanes are still held, and the seconds for which nothing else could be done.
        """
        self._guard.check()
        mine, busy = [cut for cut in cuts if self._is_mine(cut)], 0.0
        for cut in mine:
            began = time.monotonic()
            self._outbox.send(part(cut), cut.partition)
            busy += time.monotonic() - began
            await asyncio.sleep(0)  # a large state takes a while: let others have their turn between lanes
        await self._outbox.flush()
        return mine, busy

    async def _remove_stale(self, cuts: list[_Cut]) -> None:
        """Remove what former owners wrote, now that a snapshot of this one stands; not where nothing is compacted."""
        for cut in cuts:
            stale, cut.held.stale_keys = cut.held.stale_keys, frozenset()
            if stale and not self._settings.embedded_broker:
                self._outbox.send([state.tombstones(stale)], cut.partition)
        await self._outbox.flush()

    def _put_models_in_force(self) -> None:
        """Let lanes change to the newest models with this checkpoint; until it stands nothing is folded in."""
        for held in self._held.values():
            is_past = held.lane.next_offset >= held.models_until
            if is_past and (changed := self._models.change(held.lane, held.models)) is not None:
                held.models = changed
                held.is_dirty = True
                self._may_fold.clear()
            self._models.watch(held.lane, held.models)

    def _cut(self, topic: str, partition: int, held: _Held) -> _Cut:
        """Take everything of a lane that belongs to this checkpoint, at one offset; nothing is awaited here."""
        self._send(held.lane.early(), partition)
        events, held.events = held.events, []
        by_clock, held.by_clock = held.by_clock, []
        held.is_dirty = False
        models: list[Message] = [(name, None, version.encode()) for name, version in versions(held.models).items()]
        snapshot = held.lane.snapshot() | {
            "by_clock": state.pack_messages(by_clock),
            "models": state.pack_messages(models),
        }
        blocks = held.writer.write(snapshot)
        manifest = held.writer.manifest(held.lane.next_offset)
        return _Cut(topic, partition, held, events, by_clock, blocks, manifest, held.lane.next_offset)

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
            if outputs.blocks or before != held.lane.windows.open_entries:
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
        await self._models.settle()
        await self.checkpoint()
