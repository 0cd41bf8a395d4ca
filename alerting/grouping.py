"""What waits in one lane and what of it is told next: critical first, many of one rule together. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final

from fleetwatch.records import Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from alerting.ports import Position, Told, Waiting

    Key = tuple[Position, Told]

MOST_IN_GROUP: Final = 100
"""No channel puts more into one message."""


class Backlog:
    """The waiting changes of one lane, in the order in which they came.

    One alert's changes keep their order: they share rule and severity.
    """

    def __init__(self, group_above: int | None) -> None:
        self._group_above = group_above
        self._critical: OrderedDict[Key, Waiting] = OrderedDict()
        self._others: OrderedDict[Key, Waiting] = OrderedDict()
        self._per_rule: Counter[tuple[str, Severity, bool]] = Counter()
        self._alone: set[Key] = set()

    def __len__(self) -> int:
        return len(self._critical) + len(self._others)

    @property
    def has_critical(self) -> bool:
        """Whether something waits that goes before everything else."""
        return bool(self._critical)

    def add(self, change: Waiting) -> None:
        """Put a change at the end; one that waits already is not put twice."""
        queue = self._queue_of(change)
        if change.key not in queue:
            queue[change.key] = change
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
            or first.key in self._alone
            or self._per_rule[_kind(first)] <= self._group_above
            or first.status is not None
        ):
            return (first,)
        group: list[Waiting] = []
        for change in queue.values():
            if _kind(change) == _kind(first):
                if change.key in self._alone or len(group) == MOST_IN_GROUP:
                    break  # what is left comes later, in order
                group.append(change)
        return tuple(group)

    def remove(self, changes: Iterable[Waiting]) -> None:
        """Take settled changes out; those that have gone already are skipped."""
        for change in changes:
            if self._queue_of(change).pop(change.key, None) is not None:
                self._per_rule[_kind(change)] -= 1
                self._alone.discard(change.key)

    def keep_apart(self, changes: Iterable[Waiting]) -> None:
        """Let these go one at a time from now on: their group was refused for its text."""
        self._alone.update(change.key for change in changes)

    def drop(self, partitions: Collection[int]) -> None:
        """Take out what was read from partitions that another consumer owns now."""
        for queue in (self._critical, self._others):
            self.remove([change for change in queue.values() if change.position.partition in partitions])

    def _queue_of(self, change: Waiting) -> OrderedDict[Key, Waiting]:
        is_critical = change.alert.severity is Severity.CRITICAL and change.status is None
        return self._critical if is_critical else self._others


def _kind(change: Waiting) -> tuple[str, Severity, bool]:
    return change.alert.rule, change.alert.severity, change.status is None
