"""A thread that asks every child's /status page once a second and follows what the alert process prints."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Self

from fleetwatch.local.processes import Phase
from fleetwatch.local.status_page import fetch
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    from fleetwatch.local.processes import Child

log = get_logger(__name__)

PERIOD_SECONDS: Final = 1.0
STALE_SECONDS: Final = 6.0
"""A page that was not answered for so long is no longer believed."""


class Watcher:
    """Keeps ``Child.seen`` up to date; hands new lines of one file to ``on_notice``."""

    def __init__(self, children: Iterable[Child], *, notices: Path | None, on_notice: Callable[[str], None]) -> None:
        self._children = list(children)
        self._notices = notices
        self._on_notice = on_notice
        self._read = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(15)

    def look(self) -> None:
        """Ask every running child once."""
        for child in self._children:
            if child.phase in {Phase.RUNNING, Phase.STOPPING}:
                port = child.port
                seen = fetch(port, now=time.monotonic())
                if seen is not None and child.port == port and child.phase in {Phase.RUNNING, Phase.STOPPING}:
                    child.seen = seen

    def _run(self) -> None:
        while not self._stopping.wait(PERIOD_SECONDS):
            try:
                self.look()
                self._follow()
            except Exception:  # the table may show old news, but the system goes on
                log.exception("watching_failed")

    def _follow(self) -> None:
        if self._notices is None:
            return
        with self._notices.open("rb") as file:
            file.seek(self._read)
            new = file.read(65_536)
        whole, newline, _ = new.rpartition(b"\n")
        self._read += len(whole) + len(newline)
        for line in whole.decode(errors="replace").splitlines():
            if line.strip():
                self._on_notice(line.rstrip())


def health_of(child: Child, now: float) -> str:
    """Say in a word or two how a child is."""
    if child.phase is Phase.BACKING_OFF:
        return f"starts again in {max(0.0, child.next_start_at - now):.0f} s"
    if child.phase is not Phase.RUNNING:
        return str(child.phase.value)
    seen = child.seen
    if seen is None:
        return "starting"
    if now - seen.at > STALE_SECONDS:
        return "no answer"
    if seen.problem:
        return "problem"
    return "ready" if seen.ready else "starting"


def doing_of(child: Child) -> str:
    """Say what a child is doing, or what troubles it."""
    seen = child.seen
    if seen is None:
        return "starting" if child.phase is Phase.RUNNING else ""
    return seen.problem or seen.doing
