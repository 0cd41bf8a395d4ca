"""One bad row never sinks its batch: halve what the store refuses until the row stands alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sinks.store import StoreRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sinks.batch import Event
    from sinks.stretch import Stretch


def write_isolating(
    stretch: Stretch,
    write: Callable[[Stretch], None],
    refuse: Callable[[Event, StoreRefusedError], None],
) -> None:
    """Write all events in their order, in as few stretches as the refusals allow.

    ``write`` gets stretches without gaps, so that each may carry the offsets after it. ``refuse`` gets each event
    that is refused alone; only when it returns is the event's place written without its record. One bad row among
    n costs about 2 * log2(n) further writes.
    """
    waiting = [stretch]
    while waiting:
        part = waiting.pop()
        try:
            write(part)
        except StoreRefusedError as error:
            if len(part) > 1:
                first, second = part.halves()
                waiting += [second, first]
            elif not part.stored_positions():
                raise  # not the fault of a row
            else:
                refuse(part.events[part.start], error)
                waiting.append(part.emptied())
