"""Alert changes as text, one function a channel. Pure; every text has the id of each alert that it tells of.

Telegram takes 4096 UTF-16 units counted after the markup is read, and 100 marked-up pieces. Here the raw text
stays within 4096, which is stricter.
"""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Final

from alerting import wording
from fleetwatch.records import AlertState, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from fleetwatch.records import Alert

TELEGRAM_LIMIT: Final = 4096
TELEGRAM_GROUP_LINES: Final = 90
_ID: Final = 100
_NAME: Final = 100
_SUMMARY: Final = 400
_LINE_SUMMARY: Final = 120
_ICONS: Final = {Severity.CRITICAL: "🔴", Severity.WARNING: "🟠", Severity.INFO: "🔵"}


def console_line(alert: Alert, now: datetime) -> str:
    """One line, printable as it is."""
    headline = _headline(alert, _SUMMARY)
    aside = ", ".join((*_site(alert), *wording.facts(alert, headline)))
    return (
        f"{alert.state.value} {alert.severity.value} {headline}{f' ({aside})' if aside else ''}, "
        f"{wording.span_text(alert, now, headline)} [alert {_id(alert)}]"
    )


def json_line(alert: Alert) -> str:
    """Return the fields of the alert as one line of JSON, times in ISO 8601."""
    return json.dumps(
        {
            "alert_id": alert.alert_id,
            "state": alert.state.value,
            "severity": alert.severity.value,
            "rule": alert.rule,
            "kind": alert.kind.value,
            "device_id": alert.device_id,
            "site": alert.site,
            "started_at": alert.started_at.isoformat(),
            "ended_at": alert.ended_at.isoformat() if alert.ended_at else None,
            "value": alert.value if abs(alert.value) < float("inf") else None,
            "threshold": alert.threshold if abs(alert.threshold) < float("inf") else None,
            "summary": alert.summary,
        }
    )


def telegram_html(alert: Alert, now: datetime) -> str:
    """Return the message of one change, in Telegram's HTML."""
    headline = _headline(alert, _SUMMARY)
    rule = _escape(wording.clean(alert.rule, _NAME))
    lines = (
        f"{_icon(alert)} <b>{_title(alert)}</b> {_escape(headline)}",
        _escape(" · ".join((*_site(alert), *wording.facts(alert, headline)))),
        _escape(wording.span_text(alert, now, headline)),
        f"rule {rule} · alert <code>{_escape(_id(alert))}</code>",
    )
    return "\n".join(line for line in lines if line)


def telegram_group_html(alerts: Sequence[Alert], now: datetime) -> tuple[str, int]:
    """Return one message that lists changes of one rule, one a line, and how many from the front it holds.

    The first one alone is worded as a message of its own.
    """
    lines: list[str] = []
    room = TELEGRAM_LIMIT - _units(_group_title(alerts))
    for alert in alerts[:TELEGRAM_GROUP_LINES]:
        line = _group_line(alert, now)
        room -= _units(line) + 1
        if room < 0:
            break
        lines.append(line)
    if len(lines) < 2:
        return telegram_html(alerts[0], now), 1
    return "\n".join((_group_title(alerts[: len(lines)]), *lines)), len(lines)


def _group_title(alerts: Sequence[Alert]) -> str:
    firing = sum(alert.state is AlertState.FIRING for alert in alerts)
    counts = {"firing": firing, "resolved": len(alerts) - firing}
    parts = [f"{count} {state}" for state, count in counts.items() if count]
    first = alerts[0]
    icon = _ICONS[first.severity] if firing else "✅"
    rule = _escape(wording.clean(first.rule, _NAME))
    return f"{icon} <b>{len(alerts)} {first.severity.value} alerts of rule {rule}</b> ({', '.join(parts)})"


def _group_line(alert: Alert, now: datetime) -> str:
    headline = _headline(alert, _LINE_SUMMARY)
    aside = ", ".join(wording.facts(alert, headline))
    text = f"{headline}{f' ({aside})' if aside else ''}, {wording.span_text(alert, now, headline)}"
    return f"{_icon(alert)} {_escape(text)} <code>{_escape(_id(alert))}</code>"


def _icon(alert: Alert) -> str:
    return "✅" if alert.state is AlertState.RESOLVED else _ICONS[alert.severity]


def _title(alert: Alert) -> str:
    return alert.severity.value if alert.state is AlertState.FIRING else f"RESOLVED ({alert.severity.value})"


def _site(alert: Alert) -> tuple[str, ...]:
    site = wording.clean(alert.site, _NAME)
    return (f"site {site}",) if site else ()


def _headline(alert: Alert, limit: int) -> str:
    """Return the rule's line for people, with the device in front if it does not stand there already."""
    device = wording.clean(alert.device_id, _NAME)
    text = wording.clean(alert.summary, limit) or wording.clean(alert.rule, limit)
    return text if device and text.startswith(device) else f"{device}: {text}"


def _id(alert: Alert) -> str:
    return wording.clean(alert.alert_id, _ID)


def _escape(text: str) -> str:
    return html.escape(text, quote=False)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
