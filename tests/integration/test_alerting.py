"""The alerting process on a real broker, against a Bot API over HTTP."""

from __future__ import annotations

import json
import signal
import uuid
from collections import Counter

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from fleetwatch import avro, kafka, topics
from fleetwatch.local.broker import EmbeddedBroker
from fleetwatch.records import Alert, DeadLetter, Reason, Severity, Stage
from fleetwatch.settings import Settings
from tests.fakes.bot_api import BotApi, Fault
from tests.faults.alerting import CHAT, READY_SECONDS, Process, alert_of, alerting, produce
from tests.services import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def api():
    with BotApi(chats={CHAT}, chat_seconds=0.2) as server:
        yield server


@pytest.fixture
def device():
    return f"alerting-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def settings(tmp_path):
    """A broker of the test's own: the group starts with an empty topic."""
    with EmbeddedBroker() as broker:
        settings = Settings(
            bootstrap_servers=broker.bootstrap_servers, embedded_broker=True, state_dir=tmp_path / "state"
        )
        kafka.ensure_topics(settings)
        yield settings


@pytest.fixture
def kafka_settings(kafka_broker, tmp_path):
    """Real Apache Kafka; the group has read what other tests left in the topic."""
    settings = Settings(bootstrap_servers=kafka_broker, state_dir=tmp_path / "state")
    consumer = Consumer(kafka.consumer_config(settings, topics.GROUP_ALERTING))

    def has_committed_the_ends():
        try:
            ends = []
            for number in kafka.partitions_of(consumer, topics.ALERTS):
                end = TopicPartition(topics.ALERTS, number)
                _low, end.offset = consumer.get_watermark_offsets(end, timeout=10)
                ends.append(end)
            consumer.commit(offsets=ends, asynchronous=False)
        except KafkaException:  # a topic just made has no leader yet
            return False
        return True

    wait_until(has_committed_the_ends, what="the group at the end of the topic")
    consumer.close()
    return settings


@pytest.fixture(params=["settings", "kafka_settings"])
def each_settings(request):
    return request.getfixturevalue(request.param)


def in_flight(settings):
    return sum(kafka.lag_of(settings, topics.GROUP_ALERTING).values())


def wait_until_committed(settings):
    wait_until(lambda: in_flight(settings) == 0, what="all alerts committed")


def told(api, device):
    """How often the chat was told of each alert of a device: (number, is it over) -> times."""
    counts = Counter()
    for message in api.sent:
        for line in message.text.split("\n"):
            for word in line.split():
                if word.startswith(device + "-"):
                    is_over = message.text.startswith("✅") if "alert " in line else line.startswith("✅")
                    counts[(int(word.rpartition("-")[2]), is_over)] += 1
    return counts


def test_each_change_arrives_once_on_every_channel(each_settings, api, device):
    settings = each_settings
    with alerting(settings, api) as process:
        produce(
            settings,
            alert_of(device, 1),
            alert_of(device, 2, severity=Severity.CRITICAL),
            alert_of(device, 1),  # the streams repeat themselves
            alert_of(device, 1, after=12),
            alert_of(device, 1),
        )
        wait_until(lambda: len(api.sent) >= 3, what="three messages")
        wait_until_committed(settings)
        status = process.status()
        assert process.stop() == 0
    assert told(api, device) == {(1, False): 1, (2, False): 1, (1, True): 1}
    ours = [line for line in process.lines if device in line]
    assert [line.split()[0] for line in ours] == ["FIRING", "FIRING", "RESOLVED"]
    assert process.lines == ours
    assert "resolved after 12 s" in ours[2]
    counters = status["counters"]
    assert counters["notified"] == counters["notified_console"] == counters["notified_telegram"] == 3
    assert counters["duplicates"] == 2
    assert status["doing"].startswith("sent 3 notices; the database does not answer"), "there is none"


def test_an_outage_of_telegram_stops_neither_the_console_nor_loses_alerts(settings, api, device):
    with alerting(settings, api) as process:
        api.go_down()
        produce(settings, *(alert_of(device, number) for number in range(12)))
        wait_until(lambda: len([line for line in process.lines if device in line]) == 12, what="console lines")
        wait_until(lambda: process.counter("retries") >= 2, what="retries")
        assert in_flight(settings) == 12
        assert process.counter("notified") == 12
        assert process.status()["doing"].endswith("notices wait")
        api.come_up()
        wait_until(lambda: len(told(api, device)) == 12, what="all alerts in the chat", timeout=40)
        wait_until_committed(settings)
        assert told(api, device) == {(number, False): 1 for number in range(12)}
        assert len(api.sent) == 1, "a backlog of one rule is one message"
        assert process.counter("notified_telegram") == 12


def test_flood_control_is_obeyed(settings, api, device):
    with alerting(settings, api) as process:
        api.fail_next(1, Fault.FLOOD, retry_after=2)
        produce(settings, alert_of(device, 1))
        wait_until(lambda: len(api.sent) == 1, what="the message")
        retries = [json.loads(line) for line in process.logs if "channel_in_trouble" in line]
        assert retries[0]["reason"] == "RATE_LIMITED"
        assert 2 <= retries[0]["seconds"] <= 2.5
    assert [code for method, code in api.requests if method == "sendMessage"] == [429, 200]


def test_our_own_pace_never_meets_flood_control(settings, device):
    """One message a second: the server, as strict as the original, never has to say 429."""
    with BotApi(chats={CHAT}, chat_seconds=1.0) as api, alerting(settings, api):
        produce(settings, *(alert_of(device, number, rule=f"rule-{number}") for number in range(4)))
        wait_until(lambda: len(api.sent) == 4, what="four messages")
    assert {code for _, code in api.requests} == {200}


def test_killed_between_delivery_and_commit_it_repeats_itself_once_at_most(settings, api, device):
    process = Process(settings, api)
    try:
        process.wait_until_ready()
        api.on_sent = lambda _message: process.popen.send_signal(signal.SIGKILL)
        produce(settings, alert_of(device, 1))
        wait_until(lambda: process.popen.poll() is not None, what="the kill")
        api.on_sent = lambda _message: None
        assert told(api, device) == {(1, False): 1}
        assert in_flight(settings) == 1
    finally:
        process.kill()
    with alerting(settings, api):
        produce(settings, alert_of(device, 1), alert_of(device, 2))
        wait_until(lambda: (2, False) in told(api, device), what="the next alert", timeout=READY_SECONDS)
        wait_until_committed(settings)
    assert told(api, device) == {(1, False): 2, (2, False): 1}


def test_after_a_clean_stop_nothing_is_told_again(settings, api, device):
    """Also not when the streams repeat, after the restart, what was told before it."""
    with alerting(settings, api):
        produce(settings, alert_of(device, 1))
        wait_until_committed(settings)
    with alerting(settings, api):
        produce(settings, alert_of(device, 1), alert_of(device, 1, after=3))
        wait_until(lambda: (1, True) in told(api, device), what="the end of the alert")
        wait_until_committed(settings)
    assert told(api, device) == {(1, False): 1, (1, True): 1}


def test_what_cannot_be_told_becomes_a_dead_letter(settings, api, device):
    with alerting(settings, api, chats=(CHAT, 4711)) as process:
        produce(settings, b"\x00garbage-of-" + device.encode(), alert_of(device, 1))
        wait_until(lambda: process.counter("dead_lettered") == 2, what="two dead letters")
        wait_until_committed(settings)
        assert process.counter("refused") == 1
        assert process.counter("notified") == 1
    letters: list[DeadLetter] = []
    kafka.read_to_end(
        settings,
        topics.DEAD_LETTERS,
        lambda message: letters.append(avro.decode(message.value(), DeadLetter)),
    )
    ours = {letter.stage: letter for letter in letters if device.encode() in (letter.raw_value or b"")}
    assert ours[Stage.DECODE].reason is Reason.UNKNOWN_SCHEMA
    assert "telegram:4711: CHAT_NOT_FOUND" in ours[Stage.NOTIFY].detail
    assert avro.decode(ours[Stage.NOTIFY].raw_value, Alert).alert_id == f"{device}-1"


def test_the_token_is_in_no_output_even_at_debug_level(settings, api, device):
    with alerting(settings, api) as process:
        api.fail_next(1, Fault.ERROR)
        produce(settings, alert_of(device, 1))
        wait_until(lambda: told(api, device), what="the message")
        api.go_down()
        produce(settings, alert_of(device, 2))
        wait_until(lambda: process.counter("retries") >= 2, what="retries while the API is away")
        process.stop()
    secret = api.token.partition(":")[2]
    assert any("channel_in_trouble" in line for line in process.logs)
    assert not [line for line in (*process.logs, *process.lines) if secret in line]


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"FLEETWATCH_TELEGRAM_CHAT_IDS": "[]"}, "FLEETWATCH_TELEGRAM_CHAT_IDS"),
        ({"FLEETWATCH_TELEGRAM_TOKEN": "123456:not-the-one"}, "does not accept FLEETWATCH_TELEGRAM_TOKEN"),
        ({"FLEETWATCH_TELEGRAM_TOKEN": "nonsense"}, "FLEETWATCH_TELEGRAM_TOKEN"),
    ],
)
def test_a_wrong_environment_is_one_line_and_exit_code_2(settings, api, variables, says):
    process = Process(settings, api, FLEETWATCH_LOG_LEVEL="error", **variables)
    try:
        assert process.popen.wait(30) == 2
    finally:
        process.kill()
    assert len(process.logs) == 1
    assert process.logs[0].startswith("fleetwatch: ")
    assert says in process.logs[0]
    assert "not-the-one" not in process.logs[0]
