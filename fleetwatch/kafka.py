"""Kafka client settings, made once from the settings for every process, and small helpers over confluent-kafka."""

from __future__ import annotations

import re
import ssl
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from fleetwatch import topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleetwatch.settings import Settings

log = get_logger(__name__)

ACTIONS_KEPT_MS = 31 * 86_400_000
"""What people did is read from its beginning at every start: longer than the longest mute."""

_PASSING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError._TIMED_OUT,  # noqa: SLF001  # its public name
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._WAIT_COORD,  # noqa: SLF001
    }
)
"""Errors that a broker or a topic gives for a moment after its start."""


def client_config(settings: Settings) -> dict[str, Any]:
    """Return what every librdkafka client needs: addresses, security, quiet logs."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "security.protocol": settings.security_protocol,
        "client.id": "fleetwatch",
        "log_level": 3,
        "reconnect.backoff.max.ms": 2000,
        "logger": _librdkafka_logger,
    }
    if settings.security_protocol.startswith("SASL"):
        config["sasl.mechanism"] = settings.sasl_mechanism
        config["sasl.username"] = settings.sasl_username or ""
        config["sasl.password"] = settings.sasl_password.get_secret_value() if settings.sasl_password else ""
    if settings.ssl_ca_file is not None:
        config["ssl.ca.location"] = str(settings.ssl_ca_file)
    return config


def aiokafka_config(settings: Settings) -> dict[str, Any]:
    """Return what every aiokafka client needs: addresses and security."""
    config: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "client_id": "fleetwatch",
        "security_protocol": settings.security_protocol,
        "ssl_context": ssl_context(settings),
    }
    if settings.security_protocol.startswith("SASL"):
        config["sasl_mechanism"] = settings.sasl_mechanism
        config["sasl_plain_username"] = settings.sasl_username or ""
        config["sasl_plain_password"] = settings.sasl_password.get_secret_value() if settings.sasl_password else ""
    return config


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """Return how Python's clients check the broker's certificate; None where there is none."""
    if not settings.security_protocol.endswith("SSL"):
        return None
    return ssl.create_default_context(cafile=settings.ssl_ca_file)


def producer_config(settings: Settings, *, linger_ms: int | None = None) -> dict[str, Any]:
    """Return settings of a producer that loses nothing: acks=all and idempotent (both off by default).

    The mock cluster answers a fetch with one produced batch a partition: there batches are gathered for longer, or
    consumers could not keep up with many small ones.
    """
    if linger_ms is None:
        linger_ms = 40 if settings.embedded_broker else 5
    return client_config(settings) | {
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": linger_ms,
        "compression.type": "lz4",
        "partitioner": "consistent_random",
        "queue.buffering.max.messages": 500_000,
        "delivery.timeout.ms": 60_000,
    }


def consumer_config(settings: Settings, group: str) -> dict[str, Any]:
    """Return settings of a consumer that commits by hand and reads from the start of what is kept."""
    config = client_config(settings) | {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": round(settings.session_seconds * 1000),
        "heartbeat.interval.ms": min(3000, round(settings.session_seconds * 300)),
        "fetch.queue.backoff.ms": 5,  # the default of 1000 costs a third of the read rate
        "partition.assignment.strategy": "range,roundrobin",
    }
    if settings.embedded_broker:
        config["fetch.wait.max.ms"] = 10  # the mock cluster does not wake a waiting fetch
    return config


def connect(settings: Settings, *, timeout: float = 10.0) -> AdminClient:
    """Return an admin client after the broker has answered.

    Raises:
        EnvironmentProblemError: no broker answered in time.

    """
    admin = AdminClient(client_config(settings))
    try:
        admin.list_topics(timeout=timeout)
    except KafkaException:
        raise EnvironmentProblemError(
            f"no Kafka broker answers at {settings.bootstrap_servers}: start it, or set FLEETWATCH_BOOTSTRAP_SERVERS"
        ) from None
    return admin


def ensure_topics(settings: Settings, names: Iterable[str] = topics.ALL) -> None:
    """Create the topics that are missing; existing ones are left as they are.

    The mock cluster has no CreateTopics: there a metadata request makes a topic (always with four partitions).

    Raises:
        EnvironmentProblemError: the broker is not reachable or refuses.

    """
    admin = connect(settings)
    if settings.embedded_broker:
        for name in names:
            admin.list_topics(name, timeout=10)
        return
    known = set(admin.list_topics(timeout=10).topics)
    wanted = [
        NewTopic(
            name,
            num_partitions=settings.partitions,
            replication_factor=settings.replication,
            config=_topic_config(name),
        )
        for name in names
        if name not in known
    ]
    if not wanted:
        return
    for name, future in admin.create_topics(wanted).items():
        try:
            future.result(30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise EnvironmentProblemError(f"cannot create topic {name}: {error.args[0].str()}") from None
    _wait_for_topics(admin, {topic.topic for topic in wanted})


def _topic_config(name: str) -> dict[str, str]:
    if name in topics.COMPACTED:
        # by default a segment is compacted when it is a gigabyte or a week old, and recovery reads all of it
        return {
            "cleanup.policy": "compact",
            "segment.bytes": str(16 * 1024 * 1024),
            "segment.ms": "60000",
            "min.cleanable.dirty.ratio": "0.1",
        }
    if name == topics.ALERT_ACTIONS:
        return {"retention.ms": str(ACTIONS_KEPT_MS)}
    if name in topics.INPUTS:
        # a device's event time is judged by the broker's clock; by default the timestamp is the sender's own
        return {"message.timestamp.type": "LogAppendTime"}
    return {}


def _wait_for_topics(admin: AdminClient, names: set[str], timeout: float = 60.0) -> None:
    """Wait until every partition of the new topics has a leader: for a moment after its creation it has none."""
    deadline = time.monotonic() + timeout
    while True:
        found = admin.list_topics(timeout=5).topics
        led = {
            name
            for name in names & set(found)
            if found[name].partitions and all(part.leader >= 0 for part in found[name].partitions.values())
        }
        if led == names:
            return
        if time.monotonic() > deadline:
            raise EnvironmentProblemError(f"topics have no leader on the broker: {', '.join(sorted(names - led))}")
        time.sleep(0.1)


def partitions_of(client: Consumer | Producer | AdminClient, topic: str) -> list[int]:
    """Return the partition numbers of a topic, none when it does not exist."""
    return partitions_by_topic(client, [topic])[topic]


def partitions_by_topic(
    client: Consumer | Producer | AdminClient, names: Iterable[str], *, timeout: float = 10.0
) -> dict[str, list[int]]:
    """Return the partition numbers of topics, none of one that does not exist.

    Asks for all topics: a question for one by its name makes it, on the mock cluster and where brokers make topics.

    Raises:
        KafkaException: the broker did not answer in time.

    """
    there = client.list_topics(timeout=timeout).topics
    return {
        name: sorted(there[name].partitions) if name in there and there[name].error is None else [] for name in names
    }


def watermarks(consumer: Consumer, topic: str, partition: int, *, patience: float = 10.0) -> tuple[int, int]:
    """Return the low and high watermark of a partition.

    For a moment after its making a partition has no leader, or one that does not know it yet: that is waited for.

    Raises:
        KafkaException: the broker did not answer within ``patience`` seconds.

    """
    deadline = time.monotonic() + patience
    while True:
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)
        except KafkaException as error:
            if error.args[0].code() not in _PASSING or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return low, high


def read_to_end(settings: Settings, topic: str, on_message: Callable[[Any], None], *, timeout: float = 30.0) -> int:
    """Hand every message of a topic, from the beginning to its end as of now, to a callback; return their number.

    Joins no group and commits nothing.

    Raises:
        TimeoutError: the end was not reached in time.

    """
    consumer = Consumer(consumer_config(settings, "fleetwatch-reader") | {"enable.partition.eof": True})
    try:
        ends: dict[int, int] = {}
        start = []
        for partition in partitions_of(consumer, topic):
            low, high = watermarks(consumer, topic, partition)
            if high > low:
                ends[partition] = high
                start.append(TopicPartition(topic, partition, low))
        consumer.assign(start)
        read = 0
        deadline = time.monotonic() + timeout
        while ends:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the end of {topic} was not reached in {timeout:.0f} s")
            for message in consumer.consume(1000, timeout=0.2):
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
                    continue
                partition = message.partition()
                if error is None and message.offset() < ends.get(partition, 0):
                    on_message(message)
                    read += 1
                position = message.offset() + (1 if error is None else 0)
                if partition in ends and position >= ends[partition]:
                    del ends[partition]
        return read
    finally:
        consumer.close()


def message_at(consumer: Consumer, topic: str, partition: int, offset: int, *, patience: float = 60.0) -> Any:
    """Return the message at a position, or None when it is gone (or never was one).

    Changes what the consumer is assigned to.

    Raises:
        EnvironmentProblemError: the broker did not answer in time.

    """
    low, high = watermarks(consumer, topic, partition, patience=patience)
    if not low <= offset < high:
        return None
    consumer.assign([TopicPartition(topic, partition, offset)])
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            return message if message.offset() == offset else None
    raise EnvironmentProblemError(f"{topic}, partition {partition}, offset {offset} cannot be read")


def lag_of(settings: Settings, group: str) -> dict[tuple[str, int], int]:
    """Return end offset minus committed offset for each partition of what a group reads.

    Where a group has committed nothing yet, all that is kept counts.
    """
    consumer = Consumer(consumer_config(settings, group))
    try:
        return group_lag(consumer, topics.READ_BY[group])
    finally:
        consumer.close()


def group_lag(consumer: Consumer, names: Iterable[str]) -> dict[tuple[str, int], int]:
    """As ``lag_of``, with a client whose ``group.id`` is the group (it need not have joined it)."""
    wanted = [TopicPartition(name, number) for name in names for number in partitions_of(consumer, name)]
    lag: dict[tuple[str, int], int] = {}
    for position in _committed(consumer, wanted):
        low, high = watermarks(consumer, position.topic, position.partition)
        committed = position.offset if position.offset >= 0 else low
        lag[(position.topic, position.partition)] = max(0, high - max(committed, low))
    return lag


def _committed(consumer: Consumer, wanted: list[TopicPartition], patience: float = 10.0) -> list[TopicPartition]:
    """Return committed offsets; a broker that has just started needs a moment to coordinate the group."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return list(consumer.committed(wanted, timeout=5))
        except KafkaException as error:
            if error.args[0].code() not in _PASSING or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class _LibrdkafkaLogger:
    """Takes librdkafka's own log lines (duck-typed as a ``logging.Logger``) into ours.

    A broker that is away gives a line for every attempt to reconnect: one in ten seconds is enough of a kind.
    """

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def log(self, level: int, template: str, *args: Any) -> None:
        text = template % args if args else template
        kind = re.sub(r"[0-9]+", "", text)[:120]
        now = time.monotonic()
        if now - self._said.get(kind, -60.0) >= 10:
            if len(self._said) > 100:
                self._said.clear()
            self._said[kind] = now
            log.log(min(level, 30), "librdkafka", text=text)


_librdkafka_logger = _LibrdkafkaLogger()
