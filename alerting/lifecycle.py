"""Which changes of alerts people are told of: a fold over one partition of the alert topic. Pure."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Final

from fleetwatch.records import AlertState

if TYPE_CHECKING:
    from alerting.muting import Scope
    from fleetwatch.records import Alert

HORIZON: Final = 10_000
"""So many alerts of a partition are remembered; an older one that is repeated would be told again."""


class Decision(Enum):
    """Why a notice goes out, or not."""

    FIRES = "FIRES"
    RESOLVES = "RESOLVES"
    DUPLICATE = "DUPLICATE"
    ALREADY_RESOLVED = "ALREADY_RESOLVED"
    MUTED_ALL = "MUTED_ALL"
    MUTED_RULE = "MUTED_RULE"
    MUTED_DEVICE = "MUTED_DEVICE"
    MUTED_ALERT = "MUTED_ALERT"
    NEVER_TOLD = "NEVER_TOLD"

    @property
    def is_told(self) -> bool:
        """Whether a notice goes out."""
        return self in (Decision.FIRES, Decision.RESOLVES)

    @property
    def is_new(self) -> bool:
        """Whether the change is one that was not read before."""
        return self not in (Decision.DUPLICATE, Decision.ALREADY_RESOLVED)

    @property
    def is_muted(self) -> bool:
        """Whether it does not because people wanted quiet."""
        return self.name.startswith("MUTED_") or self is Decision.NEVER_TOLD

    @classmethod
    def muted(cls, scope: Scope) -> Decision:
        """Return the decision of a mute."""
        return cls[f"MUTED_{scope.value}"]


class History:
    """The newest state of each of the last ``horizon`` alerts of one partition, and whether people know of it.

    Outputs of the streams may repeat after a crash, never differ: the same (alert_id, state) again says
    nothing new, and neither does a FIRING that comes again after its RESOLVED. The end of an alert whose beginning
    was muted is not told either: nobody knows of it.
    """

    def __init__(self, horizon: int = HORIZON) -> None:
        self._horizon = horizon
        self._states: OrderedDict[str, tuple[Alert, bool]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def find(self, alert_id: str) -> Alert | None:
        """Return the newest change of an alert that is remembered."""
        return self._states.get(alert_id, (None, True))[0]

    def take(self, alert: Alert, muted_by: Scope | None = None) -> Decision:
        """Decide on one change and remember it. ``muted_by`` is the mute that holds it back now, if one does."""
        before, was_told = self._states.get(alert.alert_id, (None, True))
        known = None if before is None else before.state
        if known is alert.state:
            return Decision.DUPLICATE
        if known is AlertState.RESOLVED:
            return Decision.ALREADY_RESOLVED
        self._states.pop(alert.alert_id, None)
        self._states[alert.alert_id] = (alert, muted_by is None)
        if len(self._states) > self._horizon:
            self._states.popitem(last=False)
        if not was_told:
            return Decision.NEVER_TOLD
        if muted_by is not None:
            return Decision.muted(muted_by)
        return Decision.FIRES if alert.state is AlertState.FIRING else Decision.RESOLVES
