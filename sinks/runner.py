"""The loop that both sinks share: read, decode, write, then commit.

The order of one batch, never another:

1. what cannot be decoded goes to the dead-letter topic, and the broker has it;
2. the records are written; a row that the store refuses stands alone by then, and is dead-lettered first;
3. the offsets are committed to Kafka.

Whatever fails at a step, the later ones are not done, and after a restart the batch is read again. Writes are
idempotent, so that repeating is harmless. While a store is away the partitions are paused and the process stays a
member of its group, says so in /readyz, and goes on by itself.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
    wait_exponential_jitter,
)

from fleetwatch import topics
from fleetwatch.errors import EnvironmentProblemError, FleetwatchError, TransientError
from fleetwatch.logs import get_logger
from fleetwatch.records import Reason, Stage
from sinks.batch import Collector, Limits
from sinks.decoding import dead_letter_of, decode_all, is_dead_lettered_elsewhere
from sinks.isolation import write_isolating
from sinks.metrics import SinkMetrics
from sinks.placing import Remark, start_of
from sinks.store import MUCH, StoreEmptiedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fleetwatch.records import DeadLetter
    from fleetwatch.service import Service
    from sinks.batch import Event, Partition
    from sinks.dead_letters import DeadLetterTopic
    from sinks.decoding import Refusal
    from sinks.source import KafkaSource
    from sinks.store import Store, StoreRefusedError

log = get_logger(__name__)

T = TypeVar("T")

BROKER_AWAY = "no Kafka broker answers; goes on by itself"
READ_AT_ONCE = 500
"""Events asked of the client at once: between two such reads the batch's bytes and age are looked at."""


class RebalancedError(FleetwatchError):
    """The partitions of the batch at hand belong to somebody else now; it is dropped and read by its owner."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunnerOptions:
    """How a runner behaves. ``answers_for_input``: undecodable events of derived topics are dead-lettered here."""

    limits: Limits = field(default_factory=Limits)
    max_skew_ms: int = 300_000
    answers_for_input: bool = True
    first_wait_seconds: float = 0.1
    longest_wait_seconds: float = 5.0
    tidy_every_seconds: float = 60.0
    clock: Callable[[], datetime] = _utc_now
    patience_at_start_seconds: float = 20.0


class Runner:
    """One sink. ``run`` returns when the service is asked to stop, with everything that was read written."""

    def __init__(
        self,
        *,
        store: Store,
        source: KafkaSource,
        dead_letters: DeadLetterTopic,
        service: Service,
        options: RunnerOptions,
    ) -> None:
        self._store = store
        self._source = source
        self._dead_letters = dead_letters
        self._service = service
        self._options = options
        self._metrics = SinkMetrics(service.registry)
        self._rate = RateMeter(time.monotonic())
        self._next_tidying = options.clock()
        self._cluster_id = ""
        self._generation = 0
        self._positions: dict[Partition, int] = {}
        self._is_store_open = False

    def run(self) -> None:
        """Work until asked to stop.

        Raises:
            EnvironmentProblemError: the store is not there at the start, or something needs a person.

        """
        try:
            self._open_at_start()
            self._source.subscribe()
            self._service.ready("joining its consumer group")
            while not self._service.stopping.is_set():
                try:
                    self._turn()
                except RebalancedError:
                    continue
                except StoreEmptiedError as error:
                    log.warning("placed_anew", store=self._store.name, why=str(error))
                    self._is_store_open = False
                    self._source.place_again()
            self._source.commit({})
        except TransientError as error:  # stopped while waiting: nothing of the batch at hand was committed
            if not self._service.stopping.is_set():
                raise
            log.warning("stopped_while_waiting", problem=str(error))
        finally:
            self._source.close()
            self._store.close()

    def _turn(self) -> None:
        """Do one round: place new partitions, gather a batch, write it."""
        if self._source.to_place:
            self._place()
        events = self._collect()
        if events:
            self._handle(events)
        else:
            self._source.commit({})  # what failed before
        self._tidy_if_due()
        self._report()

    # --- Where to start

    def _place(self) -> None:
        self._generation = self._source.generation
        self._cluster_id = self._persist(self._source.cluster_id)
        partitions = self._source.to_place
        stored = self._persist(lambda: self._store.stored_offsets(partitions, self._cluster_id))
        if stored is None:
            self._positions = {}
            self._source.place(None)
        else:
            starts = {partition: self._start(partition, stored.get(partition)) for partition in partitions}
            self._positions = dict(starts)
            self._source.place(starts)
            self._source.commit(starts)  # what a crash kept from being committed
        self._service.status.doing = "waiting for events"

    def _start(self, partition: Partition, stored: int | None) -> int:
        low, high = self._persist(lambda: self._source.kept(partition))
        start = start_of(stored, low, high)
        if start.remark is Remark.BROKER_FORGOT:
            self._persist(lambda: self._store.forget_offset(partition))
        if start.remark is Remark.RETENTION_OVERTOOK and stored is not None:
            self._say_lost(partition, start.offset - stored)
        elif start.remark is not Remark.NONE and high > low:
            log.info("starting_anew", topic=partition[0], partition=partition[1], why=start.remark.value)
        return start.offset

    # --- One batch

    def _collect(self) -> list[Event]:
        self._generation = self._source.generation
        batch = Collector.started_at(time.monotonic(), self._options.limits)
        while not batch.is_due(now := time.monotonic()) and not self._service.stopping.is_set():
            batch.extend(self._source.read(min(READ_AT_ONCE, batch.room), batch.deadline - now))
            if self._source.generation != self._generation:
                return []  # a rebalance took place while reading
        return batch.events

    def _handle(self, events: Sequence[Event]) -> None:
        started = time.monotonic()
        stretch, refusals = decode_all(events, self._options.max_skew_ms)
        refused = Counter("input" if refusal.event.topic == topics.DETECTIONS else "decode" for refusal in refusals)
        refused_rows: Counter[str] = Counter()
        letters = self._letters_of(refusals)
        self._persist(lambda: self._dead_letters.send(letters))

        def refuse(event: Event, error: StoreRefusedError) -> None:
            self._refuse(event, error)
            refused["store"] += 1
            refused_rows[event.topic] += 1

        write_isolating(stretch, lambda part: self._persist(lambda: self._store.write(part, self._cluster_id)), refuse)
        offsets = stretch.next_offsets()
        self._look_for_gaps(events, offsets)
        self._positions |= offsets
        self._source.commit(offsets)
        self._count(len(stretch), Counter(stretch.rows_by_topic()) - refused_rows, refused)
        self._metrics.write_seconds.observe(time.monotonic() - started)

    def _look_for_gaps(self, events: Sequence[Event], offsets: Mapping[Partition, int]) -> None:
        """Say what the broker deleted before it was read: the client goes on at the oldest kept event by itself.

        Offsets that are no events (of a producer with transactions) leave gaps too; those are still kept.
        """
        at = {partition: self._positions[partition] for partition in offsets if partition in self._positions}
        if len(at) == len(offsets) and sum(offsets.values()) - sum(at.values()) == len(events):
            return
        oldest: dict[Partition, int] = {}
        for event in events:
            partition = (event.topic, event.partition)
            position = at.get(partition, event.offset)
            at[partition] = event.offset + 1
            if event.offset <= position:
                continue
            if partition not in oldest:
                oldest[partition], _ = self._persist(partial(self._source.kept, partition))
            if oldest[partition] > position:
                self._say_lost(partition, min(oldest[partition], event.offset) - position)

    def _say_lost(self, partition: Partition, count: int) -> None:
        why = Remark.RETENTION_OVERTOOK.value
        log.error("events_lost", topic=partition[0], partition=partition[1], events=count, why=why)
        self._service.status.count("events_lost", count)

    def _letters_of(self, refusals: Sequence[Refusal]) -> list[DeadLetter]:
        """Return a dead letter of each broken event that we answer for."""
        return [
            dead_letter_of(refusal.event, Stage.DECODE, refusal.reason, refusal.detail)
            for refusal in refusals
            if self._options.answers_for_input and not is_dead_lettered_elsewhere(refusal.event.topic)
        ]

    def _refuse(self, event: Event, error: StoreRefusedError) -> None:
        log.warning("row_refused", topic=event.topic, partition=event.partition, offset=event.offset, why=str(error))
        if event.topic == topics.DEAD_LETTERS:
            return  # it stays in its topic; a letter about a letter would be refused again
        letter = dead_letter_of(
            event, Stage.STORE, Reason.STORE_REFUSED, f"{self._store.name}: {error}".replace("\x00", "\ufffd")
        )
        self._persist(lambda: self._dead_letters.send([letter]))

    # --- Housekeeping

    def _tidy_if_due(self) -> None:
        """Tidy the store. A failure holds nothing up: what is wrong with the store shows at the next write."""
        now = self._options.clock()
        if now < self._next_tidying or not self._is_store_open:
            return
        self._next_tidying = now + timedelta(seconds=self._options.tidy_every_seconds)
        try:
            done = self._store.tidy(now)
        except StoreEmptiedError:
            raise
        except FleetwatchError as error:
            self._is_store_open = False
            self._metrics.tidying_failed.inc()
            log.warning("tidying_failed", why=str(error))
            return
        for what, count in done.items():
            self._metrics.tidied.labels(what).inc(count)
            self._service.status.count(f"tidied_{what}", count)
        if any(done.values()):
            log.info("tidied", **done)
        if done.get("rows", 0) >= MUCH:
            self._next_tidying = now + timedelta(seconds=1)

    # --- Waiting for a store

    def _open_at_start(self) -> None:
        """Open the store, waiting a moment for one that is just starting."""
        self._service.status.doing = f"connecting to {self._store.name}"
        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=self._backoff(),
            stop=stop_any(
                stop_after_delay(self._options.patience_at_start_seconds),
                stop_when_event_set(self._service.stopping),
            ),
            sleep=self._wait_for_stop,
            before_sleep=self._note_trouble,
            reraise=True,
        )
        try:
            retrying(self._store.open)
        except TransientError as error:
            if self._service.stopping.is_set():
                raise
            raise EnvironmentProblemError(str(error)) from None
        self._is_store_open = True
        self._service.status.problem = ""
        self._metrics.is_paused.set(0)

    def _persist(self, call: Callable[[], T]) -> T:
        """Repeat a call until it succeeds; between the attempts stay in the group with partitions paused.

        Raises:
            RebalancedError: the partitions went away meanwhile.
            TransientError: asked to stop meanwhile.

        """

        def attempt() -> T:
            if not self._is_store_open:
                self._store.open()
                self._is_store_open = True
            return call()

        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=self._backoff(),
            stop=stop_when_event_set(self._service.stopping),
            sleep=self._stay_member,
            before_sleep=self._note_trouble,
            reraise=True,
        )
        result = retrying(attempt)
        if self._service.status.problem:
            self._service.status.problem = ""
            self._metrics.is_paused.set(0)
            self._source.resume()
            log.info("goes_on", store=self._store.name)
        return result

    def _wait_for_stop(self, seconds: float) -> None:
        self._service.stopping.wait(seconds)

    def _backoff(self) -> wait_exponential_jitter:
        first = self._options.first_wait_seconds
        return wait_exponential_jitter(multiplier=first, max=self._options.longest_wait_seconds, jitter=first)

    def _note_trouble(self, state: RetryCallState) -> None:
        self._is_store_open = False
        error = state.outcome.exception() if state.outcome else None
        if not self._service.status.problem:
            at_most = {} if self._service.status.ready else {"at_most_seconds": self._options.patience_at_start_seconds}
            log.warning("waiting", problem=str(error), **at_most)
        self._service.status.problem = str(error)
        self._service.status.doing = f"waiting for {self._store.name}"
        self._service.status.count("retries")
        self._metrics.retries.inc()
        self._metrics.is_paused.set(1)

    def _stay_member(self, seconds: float) -> None:
        self._source.pause()
        deadline = time.monotonic() + seconds
        while not self._service.stopping.is_set() and (left := deadline - time.monotonic()) > 0:
            self._source.stay_member(min(left, 0.2))
            if self._source.generation != self._generation:
                raise RebalancedError("the partitions were revoked while the store was away")

    # --- Telling

    def _count(self, events: int, written: Counter[str], refused: Counter[str]) -> None:
        status = self._service.status
        for topic, rows in written.items():
            self._metrics.rows_written.labels(topic).inc(rows)
        for by, rows in refused.items():
            self._metrics.rows_refused.labels(by).inc(rows)
            status.count(f"refused_{by}", rows)
        status.count("rows_written", written.total())
        status.count("batches")
        self._metrics.batch_rows.observe(events)
        self._rate.add(written.total())

    def _report(self) -> None:
        """Once a second: what is being done, and the lag."""
        rate = self._rate.per_second(time.monotonic())
        if rate is None or self._service.stopping.is_set():
            return
        self._service.status.problem = BROKER_AWAY if self._source.is_away() else ""
        if self._source.assigned:
            self._service.status.doing = f"writing {rate:.0f} rows/s" if rate else "waiting for events"
        for (topic, number), position in self._positions.items():
            end = self._source.known_end((topic, number))
            if end is not None:
                self._metrics.lag.labels(topic, number).set(max(0, end - position))


@dataclass
class RateMeter:
    """Rows per second over the last second or more."""

    since: float
    rows: int = 0

    def add(self, rows: int) -> None:
        """Count rows."""
        self.rows += rows

    def per_second(self, now: float) -> float | None:
        """Return the rate and begin anew, once a second; None in between."""
        if now - self.since < 1:
            return None
        rate = self.rows / (now - self.since)
        self.since, self.rows = now, 0
        return rate
