"""Which alert means that a camera has passed so many detections, once for each crossing: a fold. Pure.

The count rule of the streams says when a window has so many; it fires again as soon as one window had fewer. A crossing
ends only after the camera has stayed below for ``REARM``: a camera on the edge gives one summary, not many.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from fleetwatch import topics
from fleetwatch.records import AlertState, RuleKind

if TYPE_CHECKING:
    from datetime import datetime

    from fleetwatch.records import Alert

REARM: Final = timedelta(minutes=5)
"""Event time below the limit after which passing it again is a crossing of its own."""
MOST_CAMERAS: Final = 10_000


class Crossings:
    """For each camera whether it is over the limit, or since when it is not; for one partition of the alert topic.

    ``limit`` in detections of one window; 0 never gives a summary.
    """

    def __init__(self, limit: int, rearm: timedelta = REARM) -> None:
        self._limit = limit
        self._rearm = rearm
        self._below_since: OrderedDict[str, datetime | None] = OrderedDict()

    def passes(self, alert: Alert) -> bool:
        """Take a change in, each once and in order, and say whether a summary is due."""
        if self._limit == 0 or alert.kind is not RuleKind.COUNT or alert.source_topic != topics.DETECTIONS:
            return False
        camera = alert.device_id
        if alert.state is AlertState.RESOLVED:
            if camera in self._below_since:
                self._below_since[camera] = alert.ended_at
            return False
        if alert.value < self._limit:
            return False
        is_new = camera not in self._below_since
        below_since = self._below_since.pop(camera, None)
        self._below_since[camera] = None
        if len(self._below_since) > MOST_CAMERAS:
            self._below_since.popitem(last=False)
        return is_new or (below_since is not None and alert.started_at - below_since >= self._rearm)
