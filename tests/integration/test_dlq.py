"""Dead letters on a real broker: found, shown, sent again, and not for ever."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from fleetwatch import avro, kafka, topics
from fleetwatch.cli.main import build_app
from fleetwatch.record_batch import Records
from fleetwatch.records import DeadLetter, Reason, from_millis
from producers.dead_letters import ATTEMPTS, ORIGIN, Filter, attempts_of, read_letters, redrive
from streams.batch import RawBatch
from streams.lane import Lane
from streams.worker import lane_settings
from tests.unit.recording.recordings import START_MS, reading

if TYPE_CHECKING:
    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration


def send(settings: Settings, key: bytes, value: bytes, headers: Any = None) -> Any:
    """Produce one event and return its message with its position."""
    done: list[Any] = []
    producer = Producer(kafka.producer_config(settings))
    producer.produce(topics.READINGS, value, key, headers=headers, on_delivery=lambda _, message: done.append(message))
    assert producer.flush(120) == 0
    return done[0]


def refuse(settings: Settings, message: Any) -> DeadLetter:
    """Let a lane refuse an event, and send the letter that it writes."""
    lane = Lane(topics.READINGS, message.partition(), lane_settings(settings))
    records = Records.of([message.offset()], [START_MS], [message.key()], [message.value()])
    raw = RawBatch(topics.READINGS, message.partition(), records)
    ((_, key, letter),) = lane.process(raw, {}).messages
    producer = Producer(kafka.producer_config(settings))
    producer.produce(topics.DEAD_LETTERS, letter, key)
    assert producer.flush(120) == 0
    return avro.decode(letter, DeadLetter)


def with_key(settings: Settings, key: bytes) -> list[Any]:
    found: list[Any] = []
    kafka.read_to_end(
        settings, topics.READINGS, lambda message: found.append(message) if message.key() == key else None
    )
    return sorted(found, key=lambda message: message.offset())


def test_an_event_is_sent_again_once_and_keeps_its_headers(any_settings: Settings):
    """The copy is refused again; its letter is not followed a second time, unless two attempts are allowed."""
    key = uuid.uuid4().hex.encode()
    chosen = Filter(key=key)
    first = send(any_settings, key, b"no avro", headers=[("trace", b"7")])
    refuse(any_settings, first)
    assert [letter.reason for letter in read_letters(any_settings, chosen)] == [Reason.NOT_FRAMED]
    assert len(redrive(any_settings, read_letters(any_settings, chosen), dry_run=True).sent) == 1
    assert len(with_key(any_settings, key)) == 1
    assert len(redrive(any_settings, read_letters(any_settings, chosen)).sent) == 1
    _, again = with_key(any_settings, key)
    assert again.value() == b"no avro"
    assert again.partition() == first.partition()
    origin = f"{topics.READINGS}/{first.partition()}/{first.offset()}".encode()
    assert again.headers() == [("trace", b"7"), (ATTEMPTS, b"1"), (ORIGIN, origin)]
    refuse(any_settings, again)
    letters = [one for one in read_letters(any_settings, chosen) if one.offset == again.offset()]
    done = redrive(any_settings, letters)
    assert (done.sent, list(done.skipped)) == ([], ["sent again 1 times already"])
    assert len(redrive(any_settings, letters, most_attempts=2).sent) == 1
    assert attempts_of(with_key(any_settings, key)[-1].headers()) == 2


def test_an_event_that_is_gone_is_sent_only_blindly_and_only_whole(kafka_settings: Settings):
    """Retention has removed it, or the topic was made anew: the letter has it, up to 64 KB."""
    key = uuid.uuid4().hex.encode()
    facts: dict[str, Any] = {
        "topic": topics.READINGS,
        "partition": 0,
        "broker_time": from_millis(START_MS),
        "stage": avro.records.Stage.DECODE,
        "reason": Reason.MALFORMED,
        "detail": "",
    }
    whole = DeadLetter.of(**facts, offset=10**12, key=key, value=b"whole")
    part = DeadLetter.of(**facts, offset=10**12 + 1, key=key, value=b"x" * 100_000)
    assert list(redrive(kafka_settings, [whole, part]).skipped) == [
        "gone from its topic (--blind sends what the letter keeps)"
    ]
    done = redrive(kafka_settings, [whole, part], blind=True)
    assert list(done.skipped) == ["too large for its letter, and gone from its topic"]
    assert [message.value() for message in with_key(kafka_settings, key)] == [b"whole"]


def test_another_event_in_its_place_is_not_sent(kafka_settings: Settings):
    """A topic that was made anew counts its offsets from zero again."""
    key = uuid.uuid4().hex.encode()
    message = send(kafka_settings, key, avro.encode(reading(1)))
    letter = DeadLetter.of(
        topic=topics.READINGS,
        partition=message.partition(),
        offset=message.offset(),
        broker_time=from_millis(START_MS),
        key=key,
        value=b"something else",
        stage=avro.records.Stage.DECODE,
        reason=Reason.MALFORMED,
        detail="",
    )
    assert list(redrive(kafka_settings, [letter]).skipped) == ["another event stands there now"]


def test_the_commands(kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLEETWATCH_BOOTSTRAP_SERVERS", kafka_settings.bootstrap_servers)
    key = uuid.uuid4().hex
    letter = refuse(kafka_settings, send(kafka_settings, key.encode(), b"no avro"))
    position = f"{letter.topic}/{letter.partition}/{letter.offset}"

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(build_app(), ["dlq", *arguments])

    listed = call("list", "--key", key, "--json", "--reason", "not_framed")
    assert json.loads(listed.stdout)["position"] == position
    assert "DECODE NOT_FRAMED: 1" in call("list", "--key", key).stdout
    assert call("list", "--key", key, "--stage", "store").stdout == ""
    shown = json.loads(call("show", position, "--json").stdout)
    assert (shown["key"], shown["value_hex"], shown["is_in_its_topic"]) == (key, b"no avro".hex(), True)
    sent = call("redrive", "--key", key, "--json")
    assert json.loads(sent.stdout) == {
        "command": "redrive",
        "dry_run": False,
        "sent": 1,
        "skipped": {},
        "failed": 0,
    }
    wrong = call("list", "--reason", "BAD_LUCK")
    assert "--reason BAD_LUCK: there are EMPTY_VALUE" in str(wrong.exception)
    assert "give the position of the event" in str(call("show", "somewhere").exception)
