"""What a command or a press leads to. Blocking: it asks the stores and the broker; the poller calls it in a thread."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from alerting import wording
from alerting.bot import answers
from alerting.bot.commands import AskHistory, DoMute, DoUnmute, Misunderstood, Question
from alerting.bot.presses import BUTTON_MUTE, Press
from alerting.muting import Mute, Scope, Standing, Target
from fleetwatch.errors import TransientError
from fleetwatch.records import Action, Alert, AlertAction, from_millis, to_millis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alerting.bot.commands import Command
    from alerting.fleet import FleetStatus, Sighting
    from alerting.ports import Reply
    from fleetwatch.i18n import Texts


class Reads(Protocol):
    """The questions that the stores answer; ``alerting.fleet_reads.FleetReads`` says how. May raise TransientError."""

    def status(self, *, with_lag: bool) -> FleetStatus: ...  # noqa: D102
    def open_alerts(self) -> list[Alert]: ...  # noqa: D102
    def history(self, camera: str) -> list[Sighting]: ...  # noqa: D102
    def cameras(self) -> list[str]: ...  # noqa: D102
    def knows_device(self, name: str) -> bool: ...  # noqa: D102
    def knows_rule(self, name: str) -> bool: ...  # noqa: D102
    def alert(self, alert_id: str) -> Alert | None: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Who did something in Telegram, when, and in which update: that makes a repeated update the same action."""

    name: str
    user_id: int
    at: datetime
    update_id: int


@dataclass(frozen=True, slots=True)
class Pressed:
    """What to say to who pressed (a plain line or nothing), to the chat, and who has the alert now (empty: nobody)."""

    note: str
    reply: Reply | None = None
    acknowledged_by: str = ""


class Handler:
    """Answers allowed people. Nothing is called done before the broker has it."""

    def __init__(
        self,
        reads: Reads,
        publish: Callable[[Sequence[AlertAction]], None],
        standing: Callable[[], Standing],
        recent: Callable[[str], Alert | None],
        say: Texts,
    ) -> None:
        """``recent`` finds an alert that this process has read, by its id; older ones are asked of the stores."""
        self._reads = reads
        self._publish = publish
        self._standing = standing
        self._recent = recent
        self._say = say

    def answer(self, command: Command, person: Person) -> Reply:
        """Return the answer to a command, also when a store or the broker is away."""
        match command:
            case DoMute():
                return self._mute(command.target, person.at + command.duration, person)
            case DoUnmute():
                return self._unmute(command.target, person)
            case Misunderstood():
                return answers.misunderstood_reply(command, self._say)
            case Question.START | Question.HELP:
                return answers.help_reply(self._say, welcome=command is Question.START)
        try:
            return self._look_up(command)
        except TransientError:
            return answers.plain_reply("say.not_readable", self._say)

    def press(self, press: Press, person: Person) -> Pressed:
        """Do what a button says."""
        try:
            alert = self._recent(press.alert_id) or self._reads.alert(press.alert_id)
        except TransientError:
            return Pressed(self._say("say.not_readable"))
        if alert is None:
            return Pressed(self._say("say.unknown_alert"))
        if press.mute is None:
            return self._acknowledge(alert, person)
        name = alert.device_id if press.mute is Scope.DEVICE else alert.rule
        reply = self._mute(Target(press.mute, name), person.at + BUTTON_MUTE, person, is_seen=True)
        return Pressed("", reply)

    def _look_up(self, command: Question | AskHistory) -> Reply:
        now = datetime.now(UTC)
        if command is Question.STATUS:
            status = self._reads.status(with_lag=True)
            return answers.status_reply(status, self._standing().active(status.at), self._say)
        if command is Question.ALERTS:
            return answers.alerts_reply(self._reads.open_alerts(), self._standing(), now, self._say)
        assert isinstance(command, AskHistory)
        if not command.camera:
            return answers.cameras_reply(self._reads.cameras(), self._say)
        return answers.history_reply(command.camera, self._reads.history(command.camera), now, self._say)

    def _mute(self, target: Target, until: datetime, person: Person, *, is_seen: bool = False) -> Reply:
        now = datetime.now(UTC)
        if until <= now:
            return answers.mute_over_reply(until, now, self._say)
        if not is_seen:
            is_seen = self._knows(target)
        mute = Mute(target=target, who=person.name, at=person.at, until=until)
        try:
            self._publish([_action(Action.MUTE, target, person, until=until)])
        except TransientError:
            return answers.plain_reply("say.not_recorded", self._say)
        return answers.muted_reply(mute, now, self._say, is_seen=is_seen)

    def _unmute(self, target: Target | None, person: Person) -> Reply:
        active = {mute.target for mute in self._standing().active(datetime.now(UTC))}
        lifted = sorted(active, key=lambda one: (one.scope.value, one.name)) if target is None else [target]
        if not lifted or not active.issuperset(lifted):
            return answers.not_muted_reply(target, self._say)
        try:
            self._publish([_action(Action.UNMUTE, one, person) for one in lifted])
        except TransientError:
            return answers.plain_reply("say.not_recorded", self._say)
        try:
            open_count: int | None = len(self._reads.open_alerts())
        except TransientError:
            open_count = None
        return answers.unmuted_reply(lifted, person.name, open_count, self._say)

    def _acknowledge(self, alert: Alert, person: Person) -> Pressed:
        known = self._standing().acknowledged.get(alert.alert_id)
        if known is not None:
            who = wording.clean(known.who, 60)
            return Pressed(self._say("say.already", who=who), acknowledged_by=who)
        action = _action(Action.ACKNOWLEDGE, Target(Scope.ALERT, alert.alert_id), person, device_id=alert.device_id)
        try:
            self._publish([action])
        except TransientError:
            return Pressed(self._say("say.not_recorded"))
        return Pressed(self._say("say.acknowledged", who=person.name), acknowledged_by=person.name)

    def _knows(self, target: Target) -> bool:
        if target.scope is Scope.DEVICE:
            return self._reads.knows_device(target.name)
        return target.scope is not Scope.RULE or self._reads.knows_rule(target.name)


def _action(
    action: Action, target: Target, person: Person, *, until: datetime | None = None, device_id: str = ""
) -> AlertAction:
    """Return the record; its id is made of the update and the target, so that an update told twice is one action."""
    parts = ("telegram", str(person.update_id), action.value, target.scope.value, target.name)
    return AlertAction(
        action_id=hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24],
        alert_id=target.name if target.scope is Scope.ALERT else "",
        device_id=target.name if target.scope is Scope.DEVICE else device_id,
        rule=target.name if target.scope is Scope.RULE else "",
        action=action,
        who=person.name,
        at=from_millis(to_millis(person.at)),
        until=until,
        note=f"Telegram user {person.user_id}",
    )
