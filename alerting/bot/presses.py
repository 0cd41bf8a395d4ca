"""What a button carries: at most 64 bytes that come back when it is pressed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from alerting.muting import Scope
from alerting.ports import Button
from fleetwatch.records import AlertState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerting.ports import Buttons
    from fleetwatch.i18n import Texts
    from fleetwatch.records import Alert

MOST_BYTES: Final = 64
BUTTON_MUTE: Final = timedelta(hours=1)
_ACKNOWLEDGE: Final = "ack"
_MUTES: Final = {"mute-device": Scope.DEVICE, "mute-rule": Scope.RULE}


@dataclass(frozen=True, slots=True)
class Press:
    """A pressed button: acknowledge an alert, or mute its device or rule for ``BUTTON_MUTE``."""

    alert_id: str
    mute: Scope | None = None
    """None acknowledges."""


def press_text(press: Press) -> str | None:
    """Return what the button carries; None when the id is too long for it: then there is no button."""
    kinds = {scope: kind for kind, scope in _MUTES.items()}
    text = f"{_ACKNOWLEDGE if press.mute is None else kinds[press.mute]}:{press.alert_id}"
    return text if len(text.encode()) <= MOST_BYTES else None


def press_of(text: str) -> Press | None:
    """Read what a button carried; None when no button of ours carries it."""
    kind, colon, alert_id = text.partition(":")
    if not colon or not alert_id:
        return None
    if kind == _ACKNOWLEDGE:
        return Press(alert_id)
    return Press(alert_id, _MUTES[kind]) if kind in _MUTES else None


def buttons_of(alert: Alert, say: Texts, *, is_acknowledged: bool = False) -> Buttons:
    """Return the buttons below the message of one alert; one that is over can only be muted."""
    mutes = _row((Press(alert.alert_id, Scope.DEVICE), Press(alert.alert_id, Scope.RULE)), _mute_labels(say))
    if alert.state is AlertState.RESOLVED or is_acknowledged:
        return mutes
    return _row((Press(alert.alert_id),), (say("button.acknowledge"),)) + mutes


def group_buttons(alert: Alert, say: Texts) -> Buttons:
    """Return the buttons below a message that lists many alerts of one rule, of which this is one."""
    return _row((Press(alert.alert_id, Scope.RULE),), _mute_labels(say)[1:])


def numbered_buttons(alerts: Sequence[tuple[int, Alert]], say: Texts) -> Buttons:
    """Return a button to acknowledge each of these alerts of a numbered list, two in a row."""
    labels = [say("button.acknowledge_number", number=str(number)) for number, _ in alerts]
    rows = [
        _row([Press(alert.alert_id) for _, alert in alerts[start : start + 2]], labels[start : start + 2])
        for start in range(0, len(alerts), 2)
    ]
    return tuple(row for rows_of_two in rows for row in rows_of_two)


def _mute_labels(say: Texts) -> tuple[str, str]:
    return say("button.mute_device"), say("button.mute_rule")


def _row(presses: Sequence[Press], labels: Sequence[str]) -> Buttons:
    texts = [(label, press_text(press)) for press, label in zip(presses, labels, strict=True)]
    row = tuple(Button(text=label, press=text) for label, text in texts if text is not None)
    return (row,) if row else ()
