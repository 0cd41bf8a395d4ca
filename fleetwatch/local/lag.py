"""How far every consumer group is behind: one cheap look over all groups, and a thread that keeps looking."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from fleetwatch import kafka, topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetwatch.settings import Settings

log = get_logger(__name__)

Place = tuple[str, int]
"""Topic and partition."""
SLOWLY: Final = 2.0
QUICKLY: Final = 0.3


@dataclass(frozen=True)
class Look:
    """The lag of every group at one moment (monotonic seconds), and the end of every topic."""

    at: float
    lags: dict[str, int]
    ends: dict[Place, int]
    waiting: dict[str, dict[Place, int]]
    """Group -> partition -> how many messages it has not committed yet."""
    committed: dict[str, dict[Place, int]]
    """Group -> partition -> where it goes on; a partition without a commit is missing."""

    @property
    def total(self) -> int:
        """Sum over all groups: what is in flight."""
        return sum(self.lags.values())


class LagReader:
    """Asks the broker for the ends of all partitions at once, and for the commits with one idle consumer per group.

    Not with the admin client's ``list_consumer_group_offsets``: it ends the process with a segmentation fault when
    the coordinator is still loading (librdkafka as of confluent-kafka 2.16, seen on a Kafka that has just started).
    """

    def __init__(self, settings: Settings) -> None:
        self._admin = AdminClient(kafka.client_config(settings))
        self._consumers = {group: Consumer(kafka.consumer_config(settings, group)) for group in topics.READ_BY}
        names = sorted({name for group in topics.READ_BY.values() for name in group} | set(topics.ALL))
        self._places = [(name, number) for name in names for number in kafka.partitions_of(self._admin, name)]

    def ends(self, spec: Any = None) -> dict[Place, int]:
        """Return the offset after the last message of every partition.

        Raises:
            KafkaException: the broker does not answer.

        """
        wanted = {TopicPartition(*place): spec or OffsetSpec.latest() for place in self._places}
        answers = self._admin.list_offsets(wanted, request_timeout=5)
        return {(place.topic, place.partition): future.result(6).offset for place, future in answers.items()}

    def ends_when_ready(self, timeout: float = 20.0) -> dict[Place, int]:
        """As ``ends``, with patience: new topics have no leader for a moment.

        Raises:
            EnvironmentProblemError: the broker gave no answer in time.

        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.ends()
            except (KafkaException, TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise EnvironmentProblemError(f"the broker does not serve its topics: {error}") from None
                time.sleep(0.2)

    def look(self) -> Look:
        """Return the lag of every group; where a group has committed nothing, all that is kept counts.

        Raises:
            KafkaException: the broker does not answer.

        """
        committed = {group: self._committed(group) for group in topics.READ_BY}  # before the ends: never too small
        starts, ends = self.ends(OffsetSpec.earliest()), self.ends()
        waiting = {
            group: {
                place: max(0, ends[place] - max(committed[group].get(place, 0), starts[place]))
                for place in self._places
                if place[0] in names
            }
            for group, names in topics.READ_BY.items()
        }
        lags = {group: sum(places.values()) for group, places in waiting.items()}
        return Look(time.monotonic(), lags, ends, waiting, committed)

    def close(self) -> None:
        """Close the clients."""
        for consumer in self._consumers.values():
            consumer.close()

    def _committed(self, group: str) -> dict[Place, int]:
        places = [TopicPartition(*place) for place in self._places if place[0] in topics.READ_BY[group]]
        answer = self._consumers[group].committed(places, timeout=5)
        return {(place.topic, place.partition): place.offset for place in answer if place.offset >= 0}


class LagWatch:
    """Keeps ``last`` up to date in a thread; None until the first answer and while the broker is silent."""

    def __init__(self, reader: LagReader) -> None:
        self._reader = reader
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)
        self.last: Look | None = None

    def start(self) -> None:
        """Begin looking."""
        self._thread.start()

    def hurry(self) -> None:
        """Look more often from now on: somebody waits for zero."""
        self._hurry.set()

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._hurry.set()
        if self._thread.ident is not None:
            self._thread.join(15)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.last = self._reader.look()
            except Exception as error:  # noqa: BLE001  # KafkaException, TimeoutError: shown as "unknown", tried again
                self.last = None
                log.warning("lag_unknown", error=str(error))
            if self._hurry.is_set():
                self._stopping.wait(QUICKLY)
            else:
                self._hurry.wait(SLOWLY)


def lag_over(groups: Iterable[str], settings: Settings) -> int:
    """Return the lag by the groups' own consumers' view: what the summary reports."""
    return sum(sum(kafka.lag_of(settings, group).values()) for group in groups)
