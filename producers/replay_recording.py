"""A recording into the topics of a broker: same keys, same partitions, same order; times as they were, or moved.

Every message says in a header which recording and offset it comes from. So a replay that was interrupted, however,
goes on behind the last message that arrived: the topic itself is its memory.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from fleetwatch import kafka, topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.logs import get_logger
from fleetwatch.recording import kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fleetwatch.recording.reader import Recording
    from fleetwatch.recording.rows import Header, Rows
    from fleetwatch.service import Service
    from fleetwatch.settings import Settings

log = get_logger(__name__)

HEADER: Final = "fleetwatch-replay"
DERIVED: Final = frozenset(
    {
        topics.SCORED,
        topics.COUNTS,
        topics.ALERTS,
        topics.MODELS,
        topics.MODEL_COMPARISONS,
        topics.DEAD_LETTERS,
        topics.STATE,
    }
)
"""What the pipeline makes itself: not replayed unless it is asked for."""
CHUNK: Final = 2000
"""Messages between two looks at delivery reports and the stop flag."""
FLUSH_SECONDS: Final = 70.0
LONGEST_WAIT: Final = 0.2

Place = tuple[str, int]
"""Recorded topic and partition."""


@dataclass(frozen=True)
class Options:
    """How to replay. ``speed`` None: as fast as it goes. ``again``: from the start, whatever is there."""

    prefix: str
    topics: tuple[str, ...] = ()
    speed: float | None = 1.0
    shift_to_now: bool = False
    again: bool = False


@dataclass(frozen=True)
class Totals:
    """What a run did: events that the broker has, that it had before, that failed, and that are left."""

    replayed: int
    before: int
    failed: int
    left: int
    seconds: float


@dataclass(frozen=True)
class Mark:
    """What the header of a replayed message says."""

    recording: str
    offset: int
    delta_ms: int

    @staticmethod
    def of(headers: Iterable[Header] | None) -> Mark | None:
        """Return the mark among a message's headers, if there is one."""
        for name, value in headers or ():
            parts = (value or b"").decode(errors="replace").split(":")
            if name == HEADER and len(parts) == 3 and parts[1].isdecimal() and parts[2].removeprefix("-").isdecimal():
                return Mark(parts[0], int(parts[1]), int(parts[2]))
        return None


def identity(recording: Recording) -> str:
    """Return what tells this recording from others; it stays the same while more is recorded."""
    digest = hashlib.sha256()
    for topic in recording.topics:
        rows = next(recording.rows(topic), None)
        digest.update(topic.encode())
        if rows is not None:
            digest.update(rows.columns[: kernels.EVENT_MS, 0].tobytes())
    return digest.hexdigest()[:16]


class Cursor:
    """How far one topic has been replayed; hands out its rows block by block."""

    def __init__(self, recording: Recording, topic: str, after: dict[int, int], delta_ms: int) -> None:
        self.topic = topic
        self._after, self._delta_ms = after, delta_ms
        self._blocks: Iterator[Rows] = recording.rows(topic)
        self.before = 0
        self._at = 0
        self._next_block()

    @property
    def head_ms(self) -> int | None:
        """The recorded broker time of what comes next; None at the end."""
        return None if self._rows is None else int(self._clock[self._at])

    def take(self, up_to_ms: float) -> tuple[Rows, int, int]:
        """Return the rows of the present block from the next one on up to a time, and move on."""
        assert self._rows is not None
        rows, first = self._rows, self._at
        stop = max(int(np.searchsorted(self._clock, up_to_ms, "right")), first + 1)
        stop = min(stop, first + CHUNK)
        if stop == len(rows):
            self._next_block()
        else:
            self._at = stop
        return rows, first, stop

    def _next_block(self) -> None:
        self._rows: Rows | None = None
        for rows in self._blocks:
            done = np.array([self._after.get(number, -1) for number in rows.partitions.tolist()], np.int64)
            fresh = rows.take(rows.offsets > done)
            self.before += len(rows) - len(fresh)
            if len(fresh):
                self._clock = np.maximum.accumulate(fresh.broker_ms)
                self._rows = fresh.shifted(self._delta_ms) if self._delta_ms else fresh
                self._at = 0
                return


class Sender:
    """Hands rows to the Kafka client, each into the partition that it came from."""

    def __init__(self, settings: Settings, prefix: str, mark: Mark) -> None:
        self._prefix, self._mark = prefix, mark
        self.sent = self.failed = 0
        self._cached: tuple[Any, list[bytes | None], list[bytes | None], Any] | None = None
        self._producer = Producer(
            kafka.producer_config(settings)
            | {
                "enable.gapless.guarantee": True,  # what follows a lost message must not arrive
                "delivery.report.only.error": True,
                "on_delivery": self._on_failure,
            }
        )

    def send(self, topic: str, rows: Rows, first: int, stop: int) -> None:
        """Hand over rows ``first`` (inclusive) to ``stop`` (exclusive).

        Raises:
            EnvironmentProblemError: the broker refuses, or did not take a message in time: nothing after it is sent.

        """
        if self._cached is None or self._cached[0] is not rows:
            self._cached = (rows, rows.keys().to_list(), rows.values().to_list(), rows.headers())
        _, keys, values, headers = self._cached
        target, produce = self._prefix + topic, self._producer.produce
        mark, delta = self._mark.recording, self._mark.delta_ms
        partitions = rows.partitions[first:stop].tolist()
        offsets = rows.offsets[first:stop].tolist()
        times = np.maximum(rows.broker_ms[first:stop], 0).tolist()
        for row, partition, offset, millis in zip(range(first, stop), partitions, offsets, times, strict=True):
            mine: list[Header] = [(HEADER, f"{mark}:{offset}:{delta}".encode())]
            if headers is not None:
                mine += [header for header in headers[row] or () if header[0] != HEADER]
            while True:
                try:
                    produce(target, values[row], keys[row], partition, timestamp=millis, headers=mine)
                except BufferError:
                    self._producer.poll(0.1)
                    self.check()
                    continue
                except KafkaException as error:
                    raise EnvironmentProblemError(f"cannot produce to {target}: {error.args[0].str()}") from None
                break
        self.sent += stop - first
        self._producer.poll(0)
        self.check()

    def check(self) -> None:
        """Raise what went wrong.

        Raises:
            EnvironmentProblemError: a message was lost; replaying again goes on where it was.

        """
        if self.failed:
            raise EnvironmentProblemError("Kafka did not take all events: replay again to go on where it ended")

    def finish(self) -> int:
        """Wait for the broker; return how many of the messages it has."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while len(self._producer) and time.monotonic() < deadline:
            self._producer.flush(0.5)
        self.failed += len(self._producer)
        return self.sent - self.failed

    def _on_failure(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self.failed += 1
            if self.failed == 1:
                log.error("delivery_failed", topic=message.topic(), error=error.str())


def chosen_topics(recording: Recording, wanted: tuple[str, ...]) -> list[str]:
    """Return the recorded topics to replay: those that are named, else all that the pipeline does not derive.

    Raises:
        EnvironmentProblemError: one is not in the recording, or none is left.

    """
    missing = [topic for topic in wanted if topic not in recording.topics]
    if missing:
        raise EnvironmentProblemError(f"{recording.folder} has no {missing[0]}; it has {', '.join(recording.topics)}")
    found = list(wanted) or [topic for topic in recording.topics if topic not in DERIVED]
    if not found:
        raise EnvironmentProblemError(f"{recording.folder} has only derived topics: name some with --topics")
    return found


def replay(
    settings: Settings,
    service: Service,
    recording: Recording,
    options: Options,
    advance: Callable[[int], None] = lambda _more: None,
) -> Totals:
    """Replay until the end or until told to stop.

    Raises:
        EnvironmentProblemError: no broker answers, a topic there does not fit, or an event was not taken.

    """
    names = chosen_topics(recording, options.topics)
    _prepare(settings, recording, names, options.prefix)
    mark = Mark(identity(recording), 0, 0)
    marks = {} if options.again else _marks(settings, recording, names, options.prefix, mark.recording)
    first_ms = min(
        (facts[0] for name in names if (facts := recording.manifest.topics[name].total.broker_ms)), default=0
    )
    delta_ms = 0
    if marks:
        delta_ms = next(iter(marks.values())).delta_ms
        log.info("replay_goes_on", partitions=len(marks))
    elif options.shift_to_now:
        window_ms = int((settings.window_hop_seconds or settings.window_seconds) * 1000)
        delta_ms = (int(time.time() * 1000) - first_ms) // window_ms * window_ms  # windows keep their events
    after: dict[str, dict[int, int]] = {name: {} for name in names}
    for (name, number), found in marks.items():
        after[name][number] = found.offset
    sender = Sender(settings, options.prefix, Mark(mark.recording, 0, delta_ms))
    cursors = [Cursor(recording, name, after[name], delta_ms) for name in names]
    service.ready("replaying")
    began = time.monotonic()
    advance(sum(cursor.before for cursor in cursors))
    try:
        _run(service, cursors, sender, options.speed, advance)
    finally:
        replayed = sender.finish()
    before = sum(cursor.before for cursor in cursors)
    total = recording.events(names)
    return Totals(
        replayed, before, sender.failed, max(0, total - replayed - before), round(time.monotonic() - began, 3)
    )


def _run(
    service: Service,
    cursors: list[Cursor],
    sender: Sender,
    speed: float | None,
    advance: Callable[[int], None],
) -> None:
    """Send what is due, always the oldest first."""
    heads = [head for cursor in cursors if (head := cursor.head_ms) is not None]
    first_ms, began = min(heads, default=0), time.monotonic()
    while not service.stopping.is_set():
        alive = sorted((head, cursor.topic, cursor) for cursor in cursors if (head := cursor.head_ms) is not None)
        if not alive:
            return
        limit = float("inf") if speed is None else first_ms + (time.monotonic() - began) * 1000 * speed
        head, _, cursor = alive[0]
        if head > limit:
            assert speed is not None
            service.stopping.wait(min((head - limit) / 1000 / speed, LONGEST_WAIT))
            continue
        other = alive[1][0] if len(alive) > 1 else float("inf")
        rows, first, stop = cursor.take(min(limit, other))
        sender.send(cursor.topic, rows, first, stop)
        service.status.count("replayed", stop - first)
        advance(stop - first)


def _prepare(settings: Settings, recording: Recording, names: list[str], prefix: str) -> None:
    """Make the topics that are missing, each with as many partitions as the recorded one."""
    for name in names:
        count = recording.manifest.topics[name].partitions
        kafka.ensure_topics(settings.model_copy(update={"partitions": max(1, count)}), [prefix + name])
        there = len(kafka.partitions_of(kafka.connect(settings), prefix + name))
        if there < count:
            raise EnvironmentProblemError(
                f"{prefix + name} has {there} partitions, the recorded topic had {count}: choose another --to"
            )


def _marks(settings: Settings, recording: Recording, names: list[str], prefix: str, mine: str) -> dict[Place, Mark]:
    """Return the marks of this recording on the last messages of the partitions."""
    consumer = Consumer(kafka.consumer_config(settings, "fleetwatch-replay"))
    found: dict[Place, Mark] = {}
    try:
        for name in names:
            for number in range(recording.manifest.topics[name].partitions):
                _, high = kafka.watermarks(consumer, prefix + name, number, patience=60)
                last = kafka.message_at(consumer, prefix + name, number, high - 1)
                mark = None if last is None else Mark.of(last.headers())
                if mark is not None and mark.recording == mine:
                    found[name, number] = mark
    finally:
        consumer.close()
    return found
