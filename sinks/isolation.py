"""One bad row never sinks its batch: halve what the store refuses until the row stands alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sinks.store import StoreRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sinks.batch import Item


def write_isolating(
    items: Sequence[Item],
    write: Callable[[Sequence[Item]], None],
    refuse: Callable[[Item, StoreRefusedError], None],
) -> None:
    """Write all items in their order, in as few stretches as the refusals allow.

    ``write`` gets stretches without gaps, so that each may carry the offsets after it. ``refuse`` gets each item
    that is refused alone; only when it returns is the item's place written without its record. One bad row among
    n costs about 2 * log2(n) further writes.
    """
    waiting = [items]
    while waiting:
        part = waiting.pop()
        try:
            write(part)
        except StoreRefusedError as error:
            if len(part) > 1:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
            elif part[0].record is None:
                raise  # not the fault of a row
            else:
                refuse(part[0], error)
                waiting.append([part[0].without_record()])
