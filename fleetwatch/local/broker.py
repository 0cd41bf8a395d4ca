"""The embedded broker: librdkafka's mock cluster, inside this process, with the real protocol on loopback.

It is memory only: about 5 MB a partition, nothing survives the process. Every topic has four partitions and
is made by the first metadata request for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from confluent_kafka import KafkaException, Producer

from fleetwatch.errors import EnvironmentProblemError

if TYPE_CHECKING:
    from types import TracebackType


class EmbeddedBroker:
    """One mock broker; a context manager. It lives as long as the block, in C threads of this process."""

    def __init__(self) -> None:
        self.bootstrap_servers = ""
        self._cluster: Producer | None = None

    def __enter__(self) -> Self:
        try:
            cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "unused", "log_level": 0})
            brokers = cluster.list_topics(timeout=10).brokers.values()
        except KafkaException as error:
            raise EnvironmentProblemError(
                f"the embedded broker does not start ({error.args[0].str()}): use --broker kafka or --broker HOST:PORT"
            ) from None
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        self._cluster = cluster
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster = None  # its destructor closes the cluster and its port
