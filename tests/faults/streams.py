"""Faults of streams workers and their broker, while readings flow: the outputs must be those of a fold without any."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.faults.dying_worker import IN_REBALANCE, Death
from tests.faults.workers import PATIENCE, Crew, ForkedWorker, lag, wait_for

if TYPE_CHECKING:
    from fleetwatch.settings import Settings
    from tests.faults.readings import Feed


def die_at(crew: Crew, feed: Feed, death: Death) -> None:
    """Have a worker die at a point while readings flow; where that is in a rebalance, another one joins and lives."""
    worker = crew.start(death)
    if death.point in IN_REBALANCE:
        feed.send_until(lambda: worker.counted("scored") > 0, PATIENCE, f"it works before {death}")
        crew.start()
    feed.send_until(lambda: not worker.is_alive(), PATIENCE, f"the worker comes to {death}")
    assert worker.wait() == -signal.SIGKILL, worker.log.read_text()[-3000:]


def settle(crew: Crew, feed: Feed, settings: Settings) -> None:
    """Let workers (one, if all are dead) catch up and close all windows, and end them."""
    workers = crew.alive or [crew.start()]
    feed.send_until(lambda: any(worker.counted("scored") for worker in workers), PATIENCE, "somebody works")
    wait_for(lambda: lag(settings) == 0, PATIENCE, "the workers catch up")
    wait_for(lambda: not any(map(_open_windows, workers)), PATIENCE, "all windows are closed")
    assert [worker.stop() for worker in workers] == [0] * len(workers)


def _open_windows(worker: ForkedWorker) -> int:
    return worker.counted("open_windows")
