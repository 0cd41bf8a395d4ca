"""Dead letters: what was refused, and sending it again once the cause is gone.

A letter names the position of the event that was refused. What is sent again is that event, with its own headers and
two more: where it comes from, and how often it was sent again. An event that was refused again carries them, so that
nothing goes round for ever.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaException, Producer

from fleetwatch import avro, kafka, topics
from fleetwatch.errors import EnvironmentProblemError, RefusedError
from fleetwatch.records import DeadLetter, Reason, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from fleetwatch.settings import Settings

ATTEMPTS: Final = "fleetwatch-redriven"
ORIGIN: Final = "fleetwatch-redriven-from"

Position = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True)
class Filter:
    """Which letters: every condition that is given must hold."""

    reasons: frozenset[Reason] = frozenset()
    stages: frozenset[Stage] = frozenset()
    topic: str | None = None
    key: bytes | None = None
    since: datetime | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Say whether a letter is meant."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.stages or letter.stage in self.stages)
            and (self.topic is None or letter.topic == self.topic)
            and (self.key is None or letter.raw_key == self.key)
            and (self.since is None or letter.broker_time >= self.since)
        )


@dataclass
class Redriven:
    """What became of the letters that were chosen: positions of the events, by what was done."""

    sent: list[Position] = field(default_factory=list)
    skipped: dict[str, list[Position]] = field(default_factory=dict)
    failed: list[Position] = field(default_factory=list)

    def skip(self, why: str, position: Position) -> None:
        """Note one that is not sent again."""
        self.skipped.setdefault(why, []).append(position)


def position_of(letter: DeadLetter) -> Position:
    """Return where the refused event stood."""
    return letter.topic, letter.partition, letter.offset


def parse_position(text: str) -> Position:
    """Read ``topic/partition/offset``.

    Raises:
        EnvironmentProblemError: it is none.

    """
    match text.split("/"):
        case [topic, partition, offset] if topic and partition.isdecimal() and offset.isdecimal():
            return topic, int(partition), int(offset)
    raise EnvironmentProblemError(f"{text}: give the position of the event, such as fleet.readings/0/1234")


def read_letters(settings: Settings, chosen: Filter) -> list[DeadLetter]:
    """Return the letters that are kept now and meant, oldest event first.

    Raises:
        EnvironmentProblemError: no broker answers.

    """
    kafka.connect(settings)
    found: list[DeadLetter] = []

    def take(message: Any) -> None:
        try:
            letter = avro.decode(message.value(), DeadLetter)
        except RefusedError:
            return  # not ours: nothing else writes there
        if chosen.fits(letter):
            found.append(letter)

    try:
        kafka.read_to_end(settings, topics.DEAD_LETTERS, take, timeout=300)
    except TimeoutError as error:
        raise EnvironmentProblemError(str(error)) from None
    return sorted(found, key=lambda letter: (letter.broker_time, position_of(letter), letter.stage.value))


def original(settings: Settings, position: Position) -> Any:
    """Return the event that was refused as it stands in its topic, or None when it is gone."""
    consumer = Consumer(kafka.consumer_config(settings, "fleetwatch-dlq"))
    try:
        return _original(consumer, position)
    finally:
        consumer.close()


def _original(consumer: Consumer, position: Position) -> Any:
    topic, partition, offset = position
    if partition not in kafka.partitions_of(consumer, topic):
        return None
    return kafka.message_at(consumer, topic, partition, offset)


def attempts_of(headers: Iterable[tuple[str, bytes | None]] | None) -> int:
    """Return how often an event was sent again before; what is no number counts as never."""
    said = [value for name, value in headers or () if name == ATTEMPTS and value is not None and value.isdigit()]
    return int(said[-1]) if said else 0


def redrive(
    settings: Settings,
    letters: Iterable[DeadLetter],
    *,
    most_attempts: int = 1,
    blind: bool = False,
    dry_run: bool = False,
) -> Redriven:
    """Send the events of letters to their topics again, each once.

    An event that is gone from its topic is sent only if ``blind``: how often that was done before is then unknown. One
    that is kept in the letter only in part is never sent.

    Raises:
        EnvironmentProblemError: no broker answers, or it refuses.

    """
    done = Redriven()
    unique = {position_of(letter): letter for letter in letters}
    consumer = Consumer(kafka.consumer_config(settings, "fleetwatch-dlq"))
    producer = Producer(kafka.producer_config(settings))
    try:
        for position, letter in unique.items():
            event = _event_of(_original(consumer, position), letter, blind=blind)
            if isinstance(event, str):
                done.skip(event, position)
            elif event.attempts >= most_attempts:
                done.skip(f"sent again {event.attempts} times already", position)
            elif dry_run:
                done.sent.append(position)
            else:
                _send(producer, position, event, done)
        if producer.flush(70):
            raise EnvironmentProblemError("Kafka did not take all events in 70 s")
    finally:
        consumer.close()
    return done


@dataclass(frozen=True)
class _Event:
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    attempts: int


def _event_of(message: Any, letter: DeadLetter, *, blind: bool) -> _Event | str:
    """Return what to send, or why nothing is."""
    if message is not None:
        value: bytes | None = message.value()
        if hashlib.sha256(value or b"").hexdigest() != letter.value_sha256:
            return "another event stands there now"
        headers = [header for header in message.headers() or [] if header[0] not in (ATTEMPTS, ORIGIN)]
        return _Event(message.key(), value, headers, attempts_of(message.headers()))
    if not blind:
        return "gone from its topic (--blind sends what the letter keeps)"
    if len(letter.raw_value or b"") != letter.value_length:
        return "too large for its letter, and gone from its topic"
    return _Event(letter.raw_key, letter.raw_value, [], 0)


def _send(producer: Producer, position: Position, event: _Event, done: Redriven) -> None:
    def on_delivery(error: Any, _message: Any) -> None:
        (done.sent if error is None else done.failed).append(position)

    marks = [(ATTEMPTS, str(event.attempts + 1).encode()), (ORIGIN, "/".join(map(str, position)).encode())]
    while True:
        try:
            producer.produce(
                position[0], event.value, event.key, headers=[*event.headers, *marks], on_delivery=on_delivery
            )
        except BufferError:
            producer.poll(0.1)
            continue
        except KafkaException as error:
            raise EnvironmentProblemError(f"cannot produce to {position[0]}: {error.args[0].str()}") from None
        break
    producer.poll(0)
