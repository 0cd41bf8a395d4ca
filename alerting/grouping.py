"""What waits in one lane and what of it is told next: critical first, many of one rule together. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final

from fleetwatch.records import Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from alerting.ports import Position, Waiting

MOST_IN_GROUP: Final = 100
"""No channel puts more into one message."""


class Backlog:
    """The waiting changes of one lane, in the order in which they came.

    One alert's changes keep their order: they share rule and severity.
    """

    def __init__(self, group_above: int | None) -> None:
        self._group_above = group_above
        self._critical: OrderedDict[Position, Waiting] = OrderedDict()
        self._others: OrderedDict[Position, Waiting] = OrderedDict()
        self._per_rule: Counter[tuple[str, Severity]] = Counter()
        self._alone: set[Position] = set()

    def __len__(self) -> int:
        return len(self._critical) + len(self._others)

    def add(self, change: Waiting) -> None:
        """Put a change at the end; one that waits already is not put twice."""
        queue = self._queue_of(change)
        if change.position not in queue:
            queue[change.position] = change
            self._per_rule[_kind(change)] += 1

    def next_changes(self) -> tuple[Waiting, ...]:
        """Return the changes of the next notice, none when nothing waits; they stay until removed.

        The oldest critical change goes first, then the oldest of the others. When more than ``group_above``
        changes of its rule wait, they go with it.
        """
        queue = self._critical or self._others
        if not queue:
            return ()
        first = next(iter(queue.values()))
        if (
            self._group_above is None
            or first.position in self._alone
            or self._per_rule[_kind(first)] <= self._group_above
        ):
            return (first,)
        group: list[Waiting] = []
        for change in queue.values():
            if _kind(change) == _kind(first):
                if change.position in self._alone or len(group) == MOST_IN_GROUP:
                    break  # what is left comes later, in order
                group.append(change)
        return tuple(group)

    def remove(self, changes: Iterable[Waiting]) -> None:
        """Take settled changes out; those that have gone already are skipped."""
        for change in changes:
            if self._queue_of(change).pop(change.position, None) is not None:
                self._per_rule[_kind(change)] -= 1
                self._alone.discard(change.position)

    def keep_apart(self, changes: Iterable[Waiting]) -> None:
        """Let these go one at a time from now on: their group was refused for its text."""
        self._alone.update(change.position for change in changes)

    def drop(self, partitions: Collection[int]) -> None:
        """Take out what was read from partitions that another consumer owns now."""
        for queue in (self._critical, self._others):
            self.remove([change for change in queue.values() if change.position.partition in partitions])

    def _queue_of(self, change: Waiting) -> OrderedDict[Position, Waiting]:
        return self._critical if change.alert.severity is Severity.CRITICAL else self._others


def _kind(change: Waiting) -> tuple[str, Severity]:
    return change.alert.rule, change.alert.severity
