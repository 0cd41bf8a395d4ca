"""Topic names, the consumer groups that read them, and which topics are compacted.

The key of every event is its device id (UTF-8), so that one device's events keep their order: librdkafka's
``consistent_random`` partitioner (CRC32) is used by every producer of this project. What is derived from a
partition of an input goes to the partition of the same number.
"""

from __future__ import annotations

from typing import Final

READINGS: Final = "fleet.readings"
DETECTIONS: Final = "fleet.detections"
SCORED: Final = "fleet.scored"
COUNTS: Final = "fleet.counts"
ALERTS: Final = "fleet.alerts"
ALERT_ACTIONS: Final = "fleet.alert-actions"
MODELS: Final = "fleet.models"
MODEL_COMPARISONS: Final = "fleet.model-comparisons"
TRUTH: Final = "fleet.truth"
DEAD_LETTERS: Final = "fleet.dead-letters"
STATE: Final = "fleet.state"

ALL: Final = (
    READINGS,
    DETECTIONS,
    SCORED,
    COUNTS,
    ALERTS,
    ALERT_ACTIONS,
    MODELS,
    MODEL_COMPARISONS,
    TRUTH,
    DEAD_LETTERS,
    STATE,
)
OUTPUTS: Final = (SCORED, COUNTS, ALERTS, MODELS, MODEL_COMPARISONS, DEAD_LETTERS, STATE)
"""What the streams write."""
INPUTS: Final = (READINGS, DETECTIONS)
"""What devices send; everything else is derived from these."""
COMPACTED: Final = frozenset({MODELS, MODEL_COMPARISONS, STATE})

GROUP_STREAMS: Final = "fleetwatch-streams"
GROUP_TIMESCALE: Final = "fleetwatch-sink-timescale"
GROUP_REDIS: Final = "fleetwatch-sink-redis"
GROUP_ALERTING: Final = "fleetwatch-alerting"

READ_BY: Final[dict[str, tuple[str, ...]]] = {
    GROUP_STREAMS: (READINGS, DETECTIONS),
    GROUP_TIMESCALE: (SCORED, DETECTIONS, COUNTS, ALERTS, ALERT_ACTIONS, DEAD_LETTERS),
    GROUP_REDIS: (SCORED, DETECTIONS, COUNTS, ALERTS),
    GROUP_ALERTING: (ALERTS,),
}
"""Consumer group -> topics: what "in flight" is summed over."""
