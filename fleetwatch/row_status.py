"""Status codes of the rows of a batch: 0 is a usable row, every other code stands for a reason."""

from __future__ import annotations

from typing import Final

from fleetwatch.records import Reason

OK: Final = 0
_REASONS: Final = (
    None,
    Reason.EMPTY_VALUE,
    Reason.TOO_LARGE,
    Reason.EMPTY_KEY,
    Reason.NOT_FRAMED,
    Reason.UNKNOWN_SCHEMA,
    Reason.WRONG_SCHEMA,
    Reason.TRUNCATED,
    Reason.TRAILING_BYTES,
    Reason.MALFORMED,
    Reason.KEY_MISMATCH,
    Reason.NOT_A_NUMBER,
    Reason.INFINITE,
    Reason.TOO_FAR_AHEAD,
    Reason.SCORING_FAILED,
)
STATUS: Final = {reason: number for number, reason in enumerate(_REASONS) if reason is not None}
"""Reason -> status code of a row."""


def reason_of(status: int) -> Reason:
    """Return the reason that a non-zero status stands for."""
    reason = _REASONS[status]
    assert reason is not None
    return reason
