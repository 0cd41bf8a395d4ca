"""A thread that looks at the broker's offsets and asks the stores whether they are there, while somebody looks.

The Pipeline page says at each refresh that it is being looked at; without visitors nothing is asked.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import redis
from confluent_kafka import KafkaException

from fleetwatch.local.lag import LagReader, Look
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwatch.settings import Settings

log = get_logger(__name__)

LOOK_SECONDS: Final = 2.0
LOOKS_KEPT: Final = 12
WANTED_SECONDS: Final = 10.0
NEW_READER_SECONDS: Final = 60.0
"""Partitions that were added are found when the reader is made anew."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the last looks gave: None while it is not known."""

    looks: tuple[Look, ...] = ()
    kafka: bool | None = None
    database: bool | None = None
    redis: bool | None = None


class Watch:
    """``seen()`` may be called from any thread; it wakes the watch up."""

    def __init__(self, settings: Settings, database_is_there: Callable[[], bool]) -> None:
        self._settings = settings
        self._database_is_there = database_is_there
        self._stopping = threading.Event()
        self._wanted = threading.Event()
        self._wanted_at = float("-inf")
        self._reader: LagReader | None = None
        self._reader_made = 0.0
        self._looks: deque[Look] = deque(maxlen=LOOKS_KEPT)
        self._thread = threading.Thread(target=self._run, name="dashboard-watch", daemon=True)
        self._seen = Seen()

    def start(self) -> None:
        """Begin to wait for somebody who looks."""
        self._thread.start()

    def seen(self) -> Seen:
        """Return what is known now, and go on looking for a while."""
        self._wanted_at = time.monotonic()
        self._wanted.set()
        return self._seen

    def stop(self, timeout: float = 3.0) -> None:
        """Ask the thread to end and wait for it, for a while: it may be waiting for a broker that is away."""
        self._stopping.set()
        self._wanted.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if time.monotonic() - self._wanted_at > WANTED_SECONDS:
                self._looks.clear()  # nobody looks: old looks would be taken for a standstill
                self._seen = Seen()
                self._wanted.clear()
                self._wanted.wait()
                continue
            self._look()
            self._stopping.wait(LOOK_SECONDS)
        self._drop_reader()

    def _look(self) -> None:
        stores = self._database_is_there(), self._redis_is_there()
        try:
            if self._reader is None or time.monotonic() - self._reader_made > NEW_READER_SECONDS:
                self._drop_reader()
                self._reader = LagReader(self._settings)
                self._reader_made = time.monotonic()
            self._looks.append(self._reader.look())
            kafka = True
        except Exception as error:  # noqa: BLE001  # KafkaException, TimeoutError, a topic that is not there yet
            log.debug("pipeline_unknown", error=str(error), kind=type(error).__name__)
            self._looks.clear()
            self._drop_reader()
            kafka = False
        self._seen = Seen(tuple(self._looks), kafka, *stores)

    def _redis_is_there(self) -> bool:
        try:
            with redis.Redis.from_url(
                self._settings.redis_url.get_secret_value(), socket_timeout=2, socket_connect_timeout=2
            ) as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False

    def _drop_reader(self) -> None:
        if self._reader is not None:
            try:
                self._reader.close()
            except KafkaException as error:
                log.debug("lag_reader_close", error=str(error))
            self._reader = None
