"""Notices that the whole process stood still (SIGSTOP, a paused machine) for longer than its group membership lasts.

Such a worker may have lost its partitions without knowing: what it writes to the changelog then would replace what
the new owner wrote. A thread leaves a time stamp twice a second; a gap between two stamps, or since the last one, is
a stall.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Self

from fleetwatch.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

STAMP_SECONDS: Final = 0.5


class StallGuard:
    """Use as a context manager; ``check`` before every write that only an owner may do."""

    def __init__(self, limit_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit_seconds
        self._clock = clock
        self._last = clock()
        self._longest = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stall-guard", daemon=True)

    def __enter__(self) -> Self:
        self._last = self._clock()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def stamp(self) -> None:
        """Note that the process runs."""
        now = self._clock()
        self._longest = max(self._longest, now - self._last)
        self._last = now

    def check(self) -> None:
        """Refuse to go on after a stall.

        Raises:
            TransientError: the process stood still for longer than the limit; it must start anew.

        """
        longest = max(self._longest, self._clock() - self._last)
        if longest > self._limit:
            raise TransientError(f"stood still for {longest:.1f} s: another worker may own the partitions by now")

    def _run(self) -> None:
        while not self._stopping.wait(STAMP_SECONDS):
            self.stamp()
