"""The port between the runner and a store, and how a store says what went wrong.

An error has one of three natures, decided by the store that knows its driver: it passes by itself
(``TransientError``), the rows are to blame (``StoreRefusedError``), or a person must act (``EnvironmentProblemError``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from fleetwatch.errors import FleetwatchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sinks.batch import Partition
    from sinks.stretch import Stretch


MUCH: Final = 10_000
"""A store that let so many rows go at once has more to do."""


class StoreRefusedError(FleetwatchError):
    """The store will never take at least one row of what it was given; the text is the store's own."""


class StoreEmptiedError(FleetwatchError):
    """The store lost what it held; reading must start anew where it says then."""


class Store(Protocol):
    """A place where rows are kept. Called by the runner from one thread only.

    Every method may raise ``TransientError`` (the runner waits, calls ``open`` again and repeats the call) and
    ``EnvironmentProblemError`` (the process ends).
    """

    name: str

    def open(self) -> None:
        """Connect and check that the store can be written to. Called before anything else and after each failure."""

    def stored_offsets(self, partitions: Iterable[Partition], cluster_id: str) -> Mapping[Partition, int] | None:
        """Return where reading must go on, for those partitions the store knows about in this Kafka cluster.

        None means that the store keeps no offsets: Kafka's own committed offsets count. Called after each
        assignment.
        """

    def forget_offset(self, partition: Partition) -> None:
        """Drop the stored offset of a partition whose log was made anew."""

    def write(self, stretch: Stretch, cluster_id: str) -> None:
        """Store the records of a stretch of events; idempotent by natural identity.

        Returns when they are as durable as this store makes them, and the offsets after them with them; events
        without a record only move the offsets.

        Raises:
            StoreRefusedError: nothing that matters was stored; smaller stretches may be.
            StoreEmptiedError: earlier writes are gone. ``open`` and ``stored_offsets`` come next.

        """

    def tidy(self, now: datetime) -> Mapping[str, int]:
        """Do what is due from time to time, in less than about a second; return what was done, and how often.

        Called between batches, every minute, and sooner when it did as much as it does at once.

        Raises:
            StoreEmptiedError: as of ``write``.
        """

    def close(self) -> None:
        """Give back what ``open`` took; never raises."""
