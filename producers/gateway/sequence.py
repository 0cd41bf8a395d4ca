"""Sequence numbers for events that come without one."""

from __future__ import annotations


class Sequence:
    """Counts up by the clock: microseconds since 1970, at least one more than the number before.

    One counter for all devices: it needs no memory of them, and a restart goes on above what was given before, unless
    the clock was set back. Below 2**53 until the year 2255, so that no reader of JSON rounds it.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self, now_us: int) -> int:
        """Return the next number."""
        self._last = max(self._last + 1, now_us)
        return self._last
