"""The one thread of the server that follows the output topics and keeps the board up to date.

It reads by assignment, commits nothing, and starts a little before the end of each topic; what it cannot keep
up with it skips (the page shows now; the database has the history). It survives outages of Kafka and Redis and
says so in ``problems``.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, TopicPartition

from dashboard.live import Arrival, Board, count_dead_letters, fold, prune
from dashboard.problems import Problem
from dashboard.snapshot import merge_snapshot, read_snapshot
from fleetwatch import avro, kafka, topics, validate
from fleetwatch.errors import RefusedError, TransientError
from fleetwatch.logs import get_logger
from fleetwatch.records import Alert, AlertAction, DeadLetter, ModelComparison, ModelVersion, ScoredReading, WindowCount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dashboard.live import Record
    from fleetwatch.settings import Settings

log = get_logger(__name__)

START_BACK: Final = {
    topics.SCORED: 2_000,
    topics.DETECTIONS: 1_000,
    topics.COUNTS: 1_000,
    topics.ALERTS: 2_000,
    topics.ALERT_ACTIONS: 5_000,
    topics.MODELS: 1_000_000_000,
    topics.MODEL_COMPARISONS: 1_000_000_000,
    topics.DEAD_LETTERS: 200,
}
"""Topics that are followed, and how many events of each partition are read again at start."""
MAY_SKIP: Final = frozenset({topics.SCORED, topics.DETECTIONS})
MAX_LAG: Final = 20_000
"""Events of one partition: further behind, the tail jumps to the end."""
_Record = ScoredReading | WindowCount | Alert | AlertAction | ModelVersion | ModelComparison | DeadLetter
RECORD_OF: Final[dict[str, type[_Record]]] = {
    topics.SCORED: ScoredReading,
    topics.COUNTS: WindowCount,
    topics.ALERTS: Alert,
    topics.ALERT_ACTIONS: AlertAction,
    topics.MODELS: ModelVersion,
    topics.MODEL_COMPARISONS: ModelComparison,
    topics.DEAD_LETTERS: DeadLetter,
}
CHECK_SECONDS: Final = 5.0
PRUNE_SECONDS: Final = 2.0
SNAPSHOT_RETRY_SECONDS: Final = 10.0

Position = tuple[str, int]


class Tail:
    """Follows the topics in a thread of its own; ``board`` and ``problems`` may be read from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard-tail", daemon=True)
        self._kafka_problem: Problem | None = None
        self._redis_problem: Problem | None = None
        self._has_snapshot = False
        self._next_snapshot = 0.0
        self._positions: dict[Position, int] = {}
        self.board = Board()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """One line for each part that cannot be reached now."""
        stopped = () if self.is_running or self._stopping.is_set() else (Problem("problem.stopped"),)
        return stopped + tuple(one for one in (self._kafka_problem, self._redis_problem) if one is not None)

    @property
    def is_running(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self, timeout: float = 3.0) -> None:
        """Ask the thread to end and wait for it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except KafkaException as error:
                self._lost_kafka(error)
            except Exception:  # the view must come back from whatever it was
                log.exception("tail_failed")
                self._kafka_problem = Problem("problem.live")
            self._stopping.wait(2.0)

    def _follow(self) -> None:
        consumer = Consumer(
            kafka.consumer_config(self._settings, "fleetwatch-dashboard")
            | {"auto.offset.reset": "latest", "error_cb": lambda _: None}
        )
        try:
            next_check = next_prune = 0.0
            while not self._stopping.is_set():
                now = time.monotonic()
                if now >= next_check:
                    self._check(consumer)
                    next_check = now + CHECK_SECONDS
                self._take_snapshot()
                messages = consumer.consume(2_000, timeout=0.25)
                if messages:
                    self._take(messages)
                if now >= next_prune:
                    self.board = prune(
                        self.board,
                        now_ms=int(time.time() * 1000),
                        device_ttl_ms=int(self._settings.device_ttl_seconds * 1000),
                    )
                    next_prune = now + PRUNE_SECONDS
        finally:
            consumer.close()

    def _take(self, messages: Iterable[Any]) -> None:
        """Decode what came and move the board on."""
        arrivals: list[Arrival] = []
        unusable = 0
        dead: Counter[int] = Counter()
        for message in messages:
            if message.error() is not None:
                continue
            topic = message.topic()
            self._positions[(topic, message.partition())] = message.offset() + 1
            _, broker_ms = message.timestamp()
            if topic == topics.DEAD_LETTERS:
                dead[broker_ms // 1000] += 1
            try:
                record = self._read(message, topic, broker_ms)
            except RefusedError:
                unusable += 1
                continue
            arrivals.append(Arrival(record, broker_ms, message.offset()))
        board = fold(self.board, arrivals)
        if unusable:
            board = replace(board, unusable=board.unusable + unusable)
        if dead:
            board = count_dead_letters(board, self._dead_letters(), dead)
        self.board = board

    def _read(self, message: Any, topic: str, broker_ms: int) -> Record:
        """Decode an event; detections come straight from devices and are checked as the streams part does.

        Raises:
            RefusedError: it cannot be used.

        """
        if topic == topics.DETECTIONS:
            max_skew_ms = int(self._settings.max_skew_seconds * 1000)
            return validate.check_detection(message.key(), message.value(), broker_ms, max_skew_ms)
        return avro.decode(message.value(), RECORD_OF[topic])

    def _check(self, consumer: Consumer) -> None:
        """Ask the broker whether it is there, find new partitions, and jump ahead where too far behind.

        Raises:
            KafkaException: the broker does not answer.

        """
        jumps = 0
        changed = False
        for topic, back in START_BACK.items():
            for number in self._partitions(consumer, topic):
                place = (topic, number)
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=3)
                if high < 0:
                    continue
                position = self._positions.get(place, OFFSET_INVALID)
                is_new = position < 0
                is_behind = topic in MAY_SKIP and high - position > MAX_LAG
                if is_new or is_behind or position > high:
                    start = max(low, high - back)
                    jumps += 0 if is_new else max(0, start - position)
                    self._positions[place] = start
                    changed = True
        if changed or (self._positions and not consumer.assignment()):
            consumer.assign([TopicPartition(*place, offset) for place, offset in self._positions.items()])
        board = count_dead_letters(self.board, self._dead_letters(), {})
        self.board = replace(board, skipped=board.skipped + jumps)
        if self._kafka_problem:
            log.info("tail_recovered")
        self._kafka_problem = None

    def _partitions(self, consumer: Consumer, topic: str) -> list[int]:
        metadata = consumer.list_topics(topic, timeout=3).topics.get(topic)
        return [] if metadata is None or metadata.error is not None else sorted(metadata.partitions)

    def _dead_letters(self) -> int:
        return sum(
            offset for (topic, _), offset in self._positions.items() if topic == topics.DEAD_LETTERS and offset > 0
        )

    def _take_snapshot(self) -> None:
        """Once, as soon as Redis answers."""
        if self._has_snapshot or time.monotonic() < self._next_snapshot:
            return
        try:
            self.board = merge_snapshot(self.board, read_snapshot(self._settings))
        except TransientError:
            self._redis_problem = Problem("problem.redis")
            self._next_snapshot = time.monotonic() + SNAPSHOT_RETRY_SECONDS
            return
        self._has_snapshot = True
        self._redis_problem = None

    def _lost_kafka(self, error: KafkaException) -> None:
        if not self._kafka_problem:
            log.warning("tail_lost_kafka", error=str(error.args[0]))
        self._kafka_problem = Problem("problem.kafka", (("servers", self._settings.bootstrap_servers),))
