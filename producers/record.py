"""The recorder: topics into a folder. Joins no group and commits nothing; what is written decides where it goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from fleetwatch import kafka
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.logs import get_logger
from fleetwatch.recording.rows import Messages
from fleetwatch.recording.writer import PART_BYTES, RecordingWriter
from fleetwatch.records import to_millis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fleetwatch.recording.manifest import Manifest
    from fleetwatch.service import Service
    from fleetwatch.settings import Settings

log = get_logger(__name__)

BLOCK_EVENTS: Final = 4096
BLOCK_SECONDS: Final = 1.0
"""What came is written at the latest after so long."""
FETCH_EVENTS: Final = 10_000
LOOK_SECONDS: Final = 5.0
"""So often the recorder looks whether topics have new partitions."""
LOOK_PATIENCE: Final = 2.0
PATIENCE: Final = 60.0
"""Seconds without an answer of the broker after which a recording with an end gives up."""

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True)
class At:
    """Where a recording begins or ends: ``start``, ``now``, an offset of every partition, or a time."""

    word: str | None = None
    offset: int | None = None
    time_ms: int | None = None


def parse_at(text: str, option: str) -> At:
    """Read ``start``, ``now``, an offset or an ISO 8601 time (UTC where it names no zone).

    Raises:
        EnvironmentProblemError: it is none of these.

    """
    if text in ("start", "now"):
        return At(word=text)
    if text.isdecimal():
        return At(offset=int(text))
    try:
        time_ = datetime.fromisoformat(text)
    except ValueError:
        raise EnvironmentProblemError(
            f"{option} {text}: give start, now, an offset, or a time such as 2026-01-31T12:00:00Z"
        ) from None
    return At(time_ms=to_millis(time_ if time_.tzinfo else time_.replace(tzinfo=UTC)))


@dataclass(frozen=True)
class Plan:
    """What to record. Without an end: until stopped, or for so many seconds."""

    topics: tuple[str, ...]
    begin: At
    end: At | None = None
    for_seconds: float | None = None
    part_bytes: int = PART_BYTES


class _Buffer:
    """What came of one topic and is not yet written."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.since = time.monotonic()

    def is_due(self) -> bool:
        return len(self.messages) >= BLOCK_EVENTS or (
            bool(self.messages) and time.monotonic() - self.since >= BLOCK_SECONDS
        )

    def take(self) -> Messages:
        taken, self.messages = self.messages, []
        self.since = time.monotonic()
        return to_messages(taken)


def to_messages(taken: Sequence[Any]) -> Messages:
    """Return the columns of confluent-kafka messages of one topic."""
    count = len(taken)
    headers = [message.headers() for message in taken]
    return Messages(
        np.fromiter((message.partition() for message in taken), np.int64, count),
        np.fromiter((message.offset() for message in taken), np.int64, count),
        np.fromiter((message.timestamp()[1] for message in taken), np.int64, count),
        [message.key() for message in taken],
        [message.value() for message in taken],
        headers if any(headers) else None,
    )


class Recorder:
    """One run of a recorder."""

    def __init__(self, settings: Settings, service: Service, plan: Plan, writer: RecordingWriter) -> None:
        self._settings, self._service, self._plan, self._writer = settings, service, plan, writer
        self._consumer = Consumer(
            kafka.consumer_config(settings, "fleetwatch-recorder")
            | {"enable.partition.eof": True, "queued.min.messages": 50_000, "fetch.message.max.bytes": 4 * 1024 * 1024}
        )
        self._buffers = {topic: _Buffer() for topic in plan.topics}
        self._next: dict[Place, int] = {}
        self._at_end: set[Place] = set()
        self._heard = time.monotonic()
        self._look_at = time.monotonic() + LOOK_SECONDS

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def run(self) -> int | None:
        """Record until the end or until told to stop; return until when nothing else had come, if that is known."""
        begins = self._begins()
        end = self._plan.end
        ends = self._ends(end, begins) if end is not None and not _is_ahead(end) else None
        self._consumer.assign([TopicPartition(topic, number, offset) for (topic, number), offset in begins.items()])
        self._next = dict(begins)
        self._service.ready("recording")
        for_seconds = self._plan.for_seconds
        deadline = None if for_seconds is None else time.monotonic() + for_seconds
        while not self._service.stopping.is_set():
            if deadline is not None and time.monotonic() >= deadline:
                break
            if ends is None and end is not None and not _is_ahead(end):
                self._take_up_added(begins)
                ends = self._ends(end, begins)
            elif ends is None and time.monotonic() >= self._look_at:
                self._take_up_added(begins)
            asked_ms = int(time.time() * 1000)
            self._take(self._consumer.consume(FETCH_EVENTS, 0.1), ends)
            self._flush(only_due=True)
            if ends is not None and self._is_done(ends):
                self._flush(only_due=False)
                return end.time_ms if end is not None and end.time_ms is not None else asked_ms
        self._flush(only_due=False)
        return int(time.time() * 1000) if self._at_end >= begins.keys() else None

    def _take(self, messages: Sequence[Any], ends: Mapping[Place, int] | None) -> None:
        for message in messages:
            error = message.error()
            place = (message.topic(), message.partition())
            if error is not None:
                self._on_error(error, place)
                continue
            if ends is None or message.offset() < ends[place]:
                self._buffers[place[0]].messages.append(message)
            self._at_end.discard(place)
            self._next[place] = message.offset() + 1
        if messages:
            self._heard = time.monotonic()
        elif ends is not None and time.monotonic() - self._heard > PATIENCE:
            raise EnvironmentProblemError(f"the broker gave nothing for {PATIENCE:.0f} s: record again to go on")

    def _on_error(self, error: KafkaError, place: Place) -> None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
            self._at_end.add(place)
            return
        if error.fatal() or not error.retriable():
            log.warning("fetch_failed", topic=place[0], partition=place[1], error=error.str())
            self._service.status.problem = error.str()

    def _flush(self, *, only_due: bool) -> None:
        for topic, buffer in self._buffers.items():
            if not buffer.messages or (only_due and not buffer.is_due()):
                continue
            messages = buffer.take()
            self._note_gaps(topic, messages)
            self._writer.append(topic, messages)
            self._service.status.count("recorded", len(messages))
            self._service.status.problem = ""

    def _note_gaps(self, topic: str, messages: Messages) -> None:
        """Say when offsets are missing that had not been read: they were deleted before, or were no events."""
        kept = self._writer.next_offsets(topic)
        for number in np.unique(messages.partitions).tolist():
            first = int(messages.offsets[messages.partitions == number][0])
            missing = first - kept.get(number, first)
            if missing > 0:
                self._service.status.count("missing_offsets", missing)
                log.warning("offsets_missing", topic=topic, partition=number, before=first, missing=missing)

    def _is_done(self, ends: Mapping[Place, int]) -> bool:
        """Say whether every partition was read to its end (its last offsets may be no events)."""
        return all(place in self._at_end or self._next.get(place, 0) >= end for place, end in ends.items())

    def _begins(self) -> dict[Place, int]:
        begins: dict[Place, int] = {}
        fresh: list[Place] = []
        added: list[Place] = []
        for topic, numbers in kafka.partitions_by_topic(self._consumer, self._plan.topics).items():
            kept = self._writer.next_offsets(topic)
            for number in numbers:
                if number not in kept:
                    (added if kept else fresh).append((topic, number))
                    continue
                begins[topic, number] = kept[number]
                _, high = kafka.watermarks(self._consumer, topic, number, patience=PATIENCE)
                if kept[number] > high:
                    raise EnvironmentProblemError(
                        f"{topic} was made anew: its partition {number} ends at {high}, but the recording goes to "
                        f"{kept[number]}. Record into another folder."
                    )
        begins |= self._resolve(self._plan.begin, fresh) | self._resolve(self._begin_of_added, added)
        self._writer.begin(begins)
        return begins

    @property
    def _begin_of_added(self) -> At:
        """Where partitions begin that came after the recording: nothing of them is older than its ``now``."""
        return At(word="start") if self._plan.begin.word else self._plan.begin

    def _take_up_added(self, begins: dict[Place, int]) -> None:
        """Read partitions that were added to topics since, too; a broker that does not answer is asked again."""
        self._look_at = time.monotonic() + LOOK_SECONDS
        try:
            there = kafka.partitions_by_topic(self._consumer, self._plan.topics, timeout=LOOK_PATIENCE)
            added = [(topic, number) for topic in there for number in there[topic] if (topic, number) not in begins]
            if not added:
                return
            starts = self._resolve(self._begin_of_added, added, patience=LOOK_PATIENCE)
        except KafkaException as error:
            log.warning("partitions_not_known", error=str(error.args[0]))
            return
        self._writer.begin(starts)
        self._consumer.incremental_assign([TopicPartition(*place, offset) for place, offset in starts.items()])
        begins.update(starts)
        self._next.update(starts)
        log.info("partitions_added", partitions=[f"{topic}/{number}" for topic, number in added])

    def _ends(self, end: At, begins: Mapping[Place, int]) -> dict[Place, int]:
        return self._resolve(end, list(begins), is_end=True)

    def _resolve(
        self, at: At, places: list[Place], *, is_end: bool = False, patience: float = PATIENCE
    ) -> dict[Place, int]:
        """Return the offsets that are meant; beyond what is there, the end."""
        if at.time_ms is not None and self._settings.embedded_broker:
            raise EnvironmentProblemError("the embedded broker finds no offsets by time: give start, now or an offset")
        there = {place: kafka.watermarks(self._consumer, *place, patience=patience) for place in places}
        found: dict[Place, int] = {}
        if at.time_ms is not None and places:  # after the ends were asked: what comes in between lies behind them
            asked = [TopicPartition(topic, number, at.time_ms) for topic, number in places]
            answers = self._consumer.offsets_for_times(asked, timeout=patience)
            found = {(answer.topic, answer.partition): answer.offset for answer in answers}
        for place, (low, high) in there.items():
            offset = found.get(place, at.offset)
            if offset is None:
                offset = low if at.word == "start" and not is_end else high
            elif offset == OFFSET_END:
                offset = high
            is_too_far = at.offset is not None and not is_end and offset > high
            found[place] = high if is_too_far else max(offset, low)
        return found


def _is_ahead(at: At) -> bool:
    """Say whether an end is a time that has not come."""
    return at.time_ms is not None and at.time_ms > time.time() * 1000


def record(settings: Settings, service: Service, plan: Plan, folder: Path) -> Manifest:
    """Record into a folder, going on where an earlier recording there ended.

    Raises:
        EnvironmentProblemError: no broker answers, a topic does not exist, or the folder cannot be used.

    """
    admin = kafka.connect(settings)
    counts = {topic: len(numbers) for topic, numbers in kafka.partitions_by_topic(admin, plan.topics).items()}
    for topic, count in counts.items():
        if count == 0:
            raise EnvironmentProblemError(f"topic {topic} does not exist at {settings.bootstrap_servers}")
    with RecordingWriter(folder, counts, part_bytes=plan.part_bytes) as writer:
        recorder = Recorder(settings, service, plan, writer)
        try:
            clock_ends_ms = recorder.run()
        finally:
            recorder.close()
        return writer.close(clock_ends_ms)
