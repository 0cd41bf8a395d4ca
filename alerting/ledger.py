"""Which offsets may be committed: those with nothing open before them. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alerting.ports import Position


@dataclass(slots=True)
class _Entry:
    open: set[str]
    is_delivered: bool = False


@dataclass(slots=True)
class _Partition:
    entries: OrderedDict[int, _Entry] = field(default_factory=OrderedDict)  # in the order of offsets
    next_offset: int | None = None
    requested: int | None = None


class Ledger:
    """For each assigned partition, what was read and which lanes still owe an answer for it.

    The committed offset is one past the longest prefix of messages that every lane has settled.
    """

    def __init__(self) -> None:
        self._partitions: dict[int, _Partition] = {}

    @property
    def open_count(self) -> int:
        """Messages that some lane has not settled, or that stand behind one."""
        return sum(len(partition.entries) for partition in self._partitions.values())

    def read(self, position: Position, lanes: Iterable[str]) -> None:
        """Take note of a message, offsets ascending; with no lanes it is settled at once."""
        partition = self._partitions.setdefault(position.partition, _Partition())
        partition.entries[position.offset] = _Entry(set(lanes))
        self._advance(partition)

    def settle(self, position: Position, lane: str, *, is_delivered: bool) -> bool:
        """Take note that a lane has delivered or been refused; True for the first delivery of this message.

        A position of a partition that was taken away is ignored.
        """
        partition = self._partitions.get(position.partition)
        entry = partition.entries.get(position.offset) if partition else None
        if partition is None or entry is None:
            return False
        entry.open.discard(lane)
        is_first = is_delivered and not entry.is_delivered
        entry.is_delivered |= is_delivered
        self._advance(partition)
        return is_first

    def is_open(self, position: Position) -> bool:
        """Whether some lane still owes an answer for this message."""
        partition = self._partitions.get(position.partition)
        entry = partition.entries.get(position.offset) if partition else None
        return entry is not None and bool(entry.open)

    def committable(self) -> dict[int, int]:
        """Return partition -> offset to commit, for those that moved since last asked."""
        moved: dict[int, int] = {}
        for number, partition in self._partitions.items():
            if partition.next_offset is not None and partition.next_offset != partition.requested:
                partition.requested = partition.next_offset
                moved[number] = partition.next_offset
        return moved

    def commit_failed(self, partitions: Iterable[int]) -> None:
        """Ask for these again."""
        for number in partitions:
            if number in self._partitions:
                self._partitions[number].requested = None

    def forget(self, partitions: Iterable[int]) -> None:
        """Drop partitions that now belong to another consumer."""
        for number in partitions:
            self._partitions.pop(number, None)

    @staticmethod
    def _advance(partition: _Partition) -> None:
        while partition.entries:
            offset, entry = next(iter(partition.entries.items()))
            if entry.open:
                return
            del partition.entries[offset]
            partition.next_offset = offset + 1
