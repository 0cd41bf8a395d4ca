"""Ctrl-C and SIGTERM as a number: once asks for a clean end, twice for a quick one."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Counts stop signals while its block runs; for the main thread."""

    def __init__(self) -> None:
        self.count = 0
        self._event = threading.Event()
        self._before: dict[signal.Signals, Any] = {}

    @property
    def wanted(self) -> bool:
        """Whether somebody wants this to end."""
        return self.count > 0

    @property
    def urgent(self) -> bool:
        """Whether somebody has asked twice."""
        return self.count > 1

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the next signal."""
        self._event.wait(seconds)
        self._event.clear()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self.count += 1
        self._event.set()
