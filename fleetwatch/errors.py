"""The error tree. The docstring of a class is what it means; its text says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetwatch.records import Reason


class FleetwatchError(Exception):
    """Anything that this project raises on purpose."""


class EnvironmentProblemError(FleetwatchError):
    """Something around the process is wrong and a person must change it: exit code 2, one line, no stack trace.

    The text says what is wrong and what to do about it.
    """


class RefusedError(FleetwatchError):
    """An event that cannot be used, ever: it becomes a dead letter with this reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class TransientError(FleetwatchError):
    """Something that passes by itself (a store restarting, a time-out): try again later."""
