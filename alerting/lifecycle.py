"""Which changes of alerts people are told of: a fold over one partition of the alert topic. Pure."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Final

from fleetwatch.records import AlertState

if TYPE_CHECKING:
    from fleetwatch.records import Alert

HORIZON: Final = 10_000
"""So many alerts of a partition are remembered; an older one that is repeated would be told again."""


class Decision(Enum):
    """Why a notice goes out, or not."""

    FIRES = "FIRES"
    RESOLVES = "RESOLVES"
    DUPLICATE = "DUPLICATE"
    ALREADY_RESOLVED = "ALREADY_RESOLVED"

    @property
    def is_told(self) -> bool:
        """Whether a notice goes out."""
        return self in (Decision.FIRES, Decision.RESOLVES)


class History:
    """The newest state of each of the last ``horizon`` alerts of one partition.

    Outputs of the streams may repeat after a crash, never differ: the same (alert_id, state) again says
    nothing new, and neither does a FIRING that comes again after its RESOLVED.
    """

    def __init__(self, horizon: int = HORIZON) -> None:
        self._horizon = horizon
        self._states: OrderedDict[str, AlertState] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def take(self, alert: Alert) -> Decision:
        """Decide on one change and remember it."""
        known = self._states.get(alert.alert_id)
        if known is alert.state:
            return Decision.DUPLICATE
        if known is AlertState.RESOLVED:
            return Decision.ALREADY_RESOLVED
        self._states.pop(alert.alert_id, None)
        self._states[alert.alert_id] = alert.state
        if len(self._states) > self._horizon:
            self._states.popitem(last=False)
        return Decision.FIRES if alert.state is AlertState.FIRING else Decision.RESOLVES
