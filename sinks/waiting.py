"""Says that a process waits, for what and for how long, as soon as it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from fleetwatch.service import Service

log = get_logger(__name__)


def say_waiting(service: Service, state: RetryCallState, at_most_seconds: float | None = None) -> None:
    """Put the error of an attempt into /readyz, and into the log when it is the first one."""
    error = state.outcome.exception() if state.outcome else None
    if not service.status.problem:
        more = {} if at_most_seconds is None else {"at_most_seconds": at_most_seconds}
        log.warning("waiting", problem=str(error), **more)
    service.status.problem = str(error)
