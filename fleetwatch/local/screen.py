"""Where ``fleetwatch up`` writes: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.live import Live

from fleetwatch.local.live_table import as_line, as_table

if TYPE_CHECKING:
    from fleetwatch.local.live_table import View


class Screen(Protocol):
    """Called by the supervisor's main thread only."""

    def say(self, line: str) -> None:
        """Show a line that matters now."""

    def is_due(self) -> bool:
        """Whether ``show`` would show something new: a view costs a little to make."""

    def show(self, view: View) -> None:
        """Show how things are."""

    def show_last(self, view: View) -> None:
        """Show how things were left, where a picture stays."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class LiveScreen:
    """A table that is redrawn twice a second, with the last notices below."""

    def __init__(self, period_seconds: float = 0.5) -> None:
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._period = period_seconds
        self._shown_at = 0.0
        self._started = False

    def say(self, line: str) -> None:
        """Before the first table, print; the table shows notices itself."""
        if not self._started:
            self._console.print(line, highlight=False, markup=False)

    def is_due(self) -> bool:
        """Twice a second."""
        return time.monotonic() - self._shown_at >= self._period

    def show(self, view: View) -> None:
        """Redraw."""
        if not self._started:
            self._live.start()
            self._started = True
        self._live.update(as_table(view), refresh=True)
        self._shown_at = time.monotonic()

    def show_last(self, view: View) -> None:
        """Redraw, so that what stays on the screen is true."""
        self.show(view)

    def close(self) -> None:
        """Leave the last table standing and give the cursor back."""
        if self._started:
            self._live.stop()


class PlainScreen:
    """Lines on standard output: notices as they come, the whole at long intervals."""

    def __init__(self, period_seconds: float = 10.0) -> None:
        self._period = period_seconds
        self._shown_at = time.monotonic()

    def say(self, line: str) -> None:
        """Print it."""
        print(line, flush=True)  # noqa: T201  # standard output is what this class is for

    def is_due(self) -> bool:
        """Every ten seconds."""
        return time.monotonic() - self._shown_at >= self._period

    def show(self, view: View) -> None:
        """Print one line."""
        self.say(as_line(view))
        self._shown_at = time.monotonic()

    def show_last(self, view: View) -> None:
        """Leave it: the lines have said it."""

    def close(self) -> None:
        """Nothing to give back."""


def make_screen(*, plain: bool) -> Screen:
    """Return a live table if a person looks, else lines."""
    return PlainScreen() if plain or not sys.stdout.isatty() else LiveScreen()
