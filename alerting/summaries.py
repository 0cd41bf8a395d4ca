"""Status summaries, gathered in a thread of their own: a slow store holds up neither the alerts nor the commands."""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from alerting.fleet_reads import FleetReads
from fleetwatch.errors import TransientError
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from alerting.ports import Waiting
    from fleetwatch.settings import Settings

log = get_logger(__name__)


class Summaries:
    """Takes alerts that want a summary, gives them back with one. ``ask`` and ``ready`` are the main loop's."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ready: queue.SimpleQueue[Waiting] = queue.SimpleQueue()
        self._workers = ThreadPoolExecutor(1, thread_name_prefix="summaries")
        self._reads: FleetReads | None = None

    def ask(self, change: Waiting) -> None:
        """Gather a status for a change; returns at once."""
        self._workers.submit(self._gather, change)

    def ready(self) -> list[Waiting]:
        """Return what has been gathered since last asked; without a status where it could not be had."""
        found: list[Waiting] = []
        while True:
            try:
                found.append(self._ready.get_nowait())
            except queue.Empty:
                return found

    def close(self) -> None:
        """Give up what is not gathered yet."""
        self._workers.shutdown(wait=True, cancel_futures=True)
        if self._reads is not None:
            self._reads.close()

    def _gather(self, change: Waiting) -> None:
        try:
            if self._reads is None:
                self._reads = FleetReads(self._settings)
            self._ready.put(replace(change, status=self._reads.status(with_lag=False, also=change.alert)))
        except TransientError as problem:
            log.warning("summary_not_possible", why=str(problem))
            self._ready.put(change)
        except Exception as error:  # noqa: BLE001  # whatever it is, the offset must not wait for it
            log.error("summary_failed", kind=type(error).__name__)  # noqa: TRY400  # no trace in a log of people
            self._ready.put(change)
