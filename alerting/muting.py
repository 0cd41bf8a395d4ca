"""Who has acknowledged what, and what is muted: a fold over ``fleet.alert-actions``. Pure.

The newest action about a thing counts, by its own time: the order in which partitions are read changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeVar

from fleetwatch.records import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from fleetwatch.records import Alert, AlertAction

MOST_KEPT: Final = 10_000
"""Acknowledgements, and mutes, that are remembered; the oldest go first."""


class Scope(Enum):
    """What a mute is for, the widest first."""

    ALL = "ALL"
    RULE = "RULE"
    DEVICE = "DEVICE"
    ALERT = "ALERT"


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that can be muted; everything has no name."""

    scope: Scope
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mute:
    """The newest word on a target: muted ``until`` (None: for ever), or lifted."""

    target: Target
    who: str
    at: datetime
    until: datetime | None
    is_lifted: bool = False
    action_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Acknowledged:
    """Who has taken an alert on, and when."""

    who: str
    at: datetime
    action_id: str = ""


def target_of(action: AlertAction) -> Target:
    """Return what a mute or its end is for: the most exact of what it names."""
    if action.alert_id:
        return Target(Scope.ALERT, action.alert_id)
    if action.device_id:
        return Target(Scope.DEVICE, action.device_id)
    return Target(Scope.RULE, action.rule) if action.rule else Target(Scope.ALL)


K = TypeVar("K")
V = TypeVar("V", Mute, Acknowledged)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What holds after the actions so far. A value: ``after`` returns a new one, so that threads may share it."""

    mutes: Mapping[Target, Mute] = field(default_factory=dict)
    acknowledged: Mapping[str, Acknowledged] = field(default_factory=dict)

    def after(self, actions: Iterable[AlertAction]) -> Standing:
        """Return the standing after these as well."""
        mutes, acknowledged = dict(self.mutes), dict(self.acknowledged)
        for action in actions:
            if action.action is Action.ACKNOWLEDGE:
                known = acknowledged.get(action.alert_id)
                if known is None or (action.at, action.action_id) < (known.at, known.action_id):  # the first one counts
                    mark = Acknowledged(who=action.who, at=action.at, action_id=action.action_id)
                    acknowledged[action.alert_id] = mark
            elif action.action in (Action.MUTE, Action.UNMUTE):
                mute = _mute_of(action)
                newest = mutes.get(mute.target)
                if newest is None or _newness(newest) < _newness(mute):
                    mutes[mute.target] = mute
        return replace(self, mutes=_newest(mutes), acknowledged=_newest(acknowledged))

    def mute_of(self, alert: Alert, now: datetime) -> Mute | None:
        """Return the widest mute that holds an alert back at this time."""
        for target in (
            Target(Scope.ALL),
            Target(Scope.RULE, alert.rule),
            Target(Scope.DEVICE, alert.device_id),
            Target(Scope.ALERT, alert.alert_id),
        ):
            mute = self.mutes.get(target)
            if mute is not None and self._holds(mute, now):
                return mute
        return None

    def active(self, now: datetime) -> list[Mute]:
        """Return the mutes that hold something back, the widest first."""
        holding = [mute for mute in self.mutes.values() if self._holds(mute, now)]
        return sorted(holding, key=lambda mute: (list(Scope).index(mute.target.scope), mute.target.name))

    @staticmethod
    def _holds(mute: Mute, now: datetime) -> bool:
        return not mute.is_lifted and (mute.until is None or mute.until > now)


def _mute_of(action: AlertAction) -> Mute:
    return Mute(
        target=target_of(action),
        who=action.who,
        at=action.at,
        until=action.until,
        is_lifted=action.action is Action.UNMUTE,
        action_id=action.action_id,
    )


def _newness(mute: Mute) -> tuple[datetime, bool, str]:
    """Of a mute and its end in the same millisecond the end counts: rather told too much than too little."""
    return mute.at, mute.is_lifted, mute.action_id


def _newest(entries: dict[K, V]) -> dict[K, V]:
    if len(entries) <= MOST_KEPT:
        return entries
    kept = sorted(entries.items(), key=lambda item: item[1].at)[-MOST_KEPT:]
    return dict(kept)
