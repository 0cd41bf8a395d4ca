"""A thread that reads the output topics as they grow and counts them (``tally``).

Read along, not at the end: the embedded broker keeps only some 5 MB of a partition.
"""

from __future__ import annotations

import io
import struct
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from fleetwatch import avro, kafka
from fleetwatch.errors import RefusedError
from fleetwatch.local.tally import TAILED
from fleetwatch.logs import get_logger
from fleetwatch.records import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetwatch.local.tally import Tally
    from fleetwatch.settings import Settings

log = get_logger(__name__)

BATCH: Final = 2000
WAIT_SECONDS: Final = 0.5


class Tail:
    """Reads every output topic from its present end on into a tally, in a thread of its own."""

    def __init__(self, settings: Settings, tally: Tally) -> None:
        self._tally = tally
        config = kafka.consumer_config(settings, "fleetwatch-up")
        # What is counted may come late; a fetch that waits costs less than fifty that do not.
        self._consumer = Consumer(config | {"fetch.wait.max.ms": 500, "fetch.min.bytes": 1})
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
        self._positions: dict[tuple[str, int], int] = {}
        self.failure = ""

    def start(self, ends: Mapping[tuple[str, int], int]) -> None:
        """Begin at these offsets."""
        self._positions = dict(ends)
        self._consumer.assign([TopicPartition(*place, offset or OFFSET_BEGINNING) for place, offset in ends.items()])
        self._thread.start()

    def has_reached(self, ends: Mapping[tuple[str, int], int]) -> bool:
        """Whether everything before these offsets is counted."""
        return all(self._positions.get(place, 0) >= end for place, end in ends.items())

    def close(self) -> None:
        """End the thread and the consumer."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(10)
        self._consumer.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                for message in self._consumer.consume(BATCH, timeout=WAIT_SECONDS):
                    if message.error() is None:
                        self._count(message)
        except Exception as error:  # a thread's death must be seen in the summary, whatever it was
            self.failure = f"counting the output topics ended: {type(error).__name__}: {error}"
            log.exception("tail_failed")

    def _count(self, message: Any) -> None:
        topic = message.topic()
        try:
            self._tally.add(topic, fields_of(message.value()), message.timestamp()[1])
        except RefusedError as refusal:
            self._tally.undecodable += 1
            log.warning("output_not_readable", topic=topic, reason=refusal.reason.value)
        self._positions[(topic, message.partition())] = message.offset() + 1


def tailed_partitions(ends: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    """Return those places of ``ends`` that the tail reads."""
    return {place: end for place, end in ends.items() if place[0] in TAILED}


def fields_of(value: bytes | None) -> dict[str, Any]:
    """Decode one record of our own into its fields: a fifth of the cost of making the record.

    Raises:
        RefusedError: it is none.

    """
    try:
        (schema_id,) = struct.unpack_from(">xI", value or b"")
        schema = _schema(schema_id)
        fields: dict[str, Any] = fastavro.schemaless_reader(
            io.BytesIO((value or b"")[avro.FRAME_BYTES :]), schema, schema
        )
    except Exception as error:  # noqa: BLE001  # fastavro raises whatever the bytes provoke
        raise RefusedError(Reason.MALFORMED, f"{type(error).__name__}: {error}") from None
    return fields


@cache
def _schema(schema_id: int) -> Any:
    name = avro.schema_by_id(schema_id)
    if name is None:
        raise KeyError(schema_id)
    return fastavro.parse_schema(dict(avro.load_schema(name)))
