"""Folding a batch in of which some record makes the fold raise: that record is found and refused, its neighbours count.

Not for every day: the state is copied before each try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetwatch.logs import get_logger
from fleetwatch.records import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.batch import ActiveModel, Outputs, RawBatch
    from streams.lane import Lane

log = get_logger(__name__)


def process_carefully(lane: Lane, raw: RawBatch, models: Mapping[str, ActiveModel]) -> tuple[Lane, Outputs]:
    """Return the lane after the batch, and what it gave. The lane that was passed in must not be used any more."""
    trial = lane.copy()
    try:
        return trial, trial.process(raw, models)
    except Exception as error:
        if len(raw) == 1:
            log.exception("scoring_failed", topic=raw.topic, partition=raw.partition, offset=int(raw.offsets[0]))
            return lane, lane.refuse(raw, Reason.SCORING_FAILED, f"{type(error).__name__}: {error}")
    middle = len(raw) // 2
    lane, outputs = process_carefully(lane, raw[:middle], models)
    lane, more = process_carefully(lane, raw[middle:], models)
    outputs.extend(more)
    return lane, outputs
