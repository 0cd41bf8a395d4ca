"""Where to start reading a partition: what the store says, held against what the broker still keeps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Remark(Enum):
    """Why reading does not simply go on where the store says."""

    NONE = "none"
    NOTHING_STORED = "the store has nothing of this partition in this cluster: reading from the start of what is kept"
    BROKER_FORGOT = "stored offset is beyond the log's end: the broker is new; reading from the start of what is kept"
    RETENTION_OVERTOOK = "events were deleted by the broker before they were stored; reading from the oldest kept"


@dataclass(frozen=True, slots=True)
class Start:
    """The first offset to read, and what is remarkable about it."""

    offset: int
    remark: Remark = Remark.NONE


def start_of(stored: int | None, low: int, high: int) -> Start:
    """Decide where to start; ``low`` is the oldest kept offset, ``high`` one past the newest."""
    if stored is None:
        return Start(low, Remark.NOTHING_STORED)
    if stored > high:
        return Start(low, Remark.BROKER_FORGOT)
    if stored < low:
        return Start(low, Remark.RETENTION_OVERTOOK)
    return Start(stored)
