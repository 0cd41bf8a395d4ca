"""Alert changes as text, one function a channel. Pure; every text has the id of each alert that it tells of.

The words are a catalog's (``say``); the console is for logs and tools and speaks English. Telegram takes 4096 UTF-16
units counted after the markup is read, and 100 marked-up pieces. Here the raw text stays within 4096: that is stricter.
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

    from alerting.ports import Waiting
    from fleetwatch.i18n import Texts
    from fleetwatch.records import Alert

TELEGRAM_LIMIT: Final = 4096
TELEGRAM_GROUP_LINES: Final = 90
CONSOLE_LANGUAGE: Final = "en"
ID_LENGTH: Final = 100
NAME_LENGTH: Final = 100
_SUMMARY: Final = 400
_LINE_SUMMARY: Final = 120
ICONS: Final = {Severity.CRITICAL: "🔴", Severity.WARNING: "🟠", Severity.INFO: "🔵"}
REPEAT_ICON: Final = "🔁"


def console_line(alert: Alert, now: datetime) -> str:
    """One line, printable as it is."""
    say = wording.catalog(CONSOLE_LANGUAGE)
    headline = wording.headline(alert, say, _SUMMARY)
    aside = ", ".join((*_site(alert, say), *wording.facts(alert, say, headline)))
    return (
        f"{alert.state.value} {alert.severity.value} {headline}{f' ({aside})' if aside else ''}, "
        f"{wording.span_text(alert, now, say, headline)} [{say('alert.id_of', alert=alert_id_text(alert))}]"
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


def telegram_html(alert: Alert, now: datetime, say: Texts, *, is_repeat: bool = False) -> str:
    """Return the message of one change, in Telegram's HTML."""
    headline = wording.headline(alert, say, _SUMMARY)
    rule = say("alert.rule", rule=wording.clean(alert.rule, NAME_LENGTH))
    lines = (
        f"{icon(alert)} <b>{escape(_title(alert, say))}</b> {escape(headline)}",
        escape(wording.evidence(alert, say, _SUMMARY)),
        escape(" · ".join((*_site(alert, say), *wording.facts(alert, say, headline)))),
        escape(wording.span_text(alert, now, say, headline)),
        f"{escape(rule)} · {escape(say('alert.id'))} <code>{escape(alert_id_text(alert))}</code>",
        f"{REPEAT_ICON} {escape(say('alert.repeat'))}" if is_repeat else "",
    )
    return "\n".join(wording.line_of(line, say) for line in lines if line)


def telegram_group_html(changes: Sequence[Waiting], now: datetime, say: Texts) -> tuple[str, int]:
    """Return one message that lists changes of one rule, one a line, and how many from the front it holds.

    The first one alone is worded as a message of its own.
    """
    lines: list[str] = []
    room = TELEGRAM_LIMIT - units(_group_title(changes, say))
    for change in changes[:TELEGRAM_GROUP_LINES]:
        line = _group_line(change, now, say)
        room -= units(line) + 1
        if room < 0:
            break
        lines.append(line)
    if len(lines) < 2:
        return telegram_html(changes[0].alert, now, say, is_repeat=changes[0].is_repeat), 1
    return "\n".join((_group_title(changes[: len(lines)], say), *lines)), len(lines)


def icon(alert: Alert) -> str:
    """Return the sign that shows how grave an alert is, or that it is over."""
    return "✅" if alert.state is AlertState.RESOLVED else ICONS[alert.severity]


def alert_id_text(alert: Alert) -> str:
    """Return the id on one line."""
    return wording.clean(alert.alert_id, ID_LENGTH)


def escape(text: str) -> str:
    """Make plain text safe between Telegram's tags."""
    return html.escape(text, quote=False)


def units(text: str) -> int:
    """Return the length as Telegram counts it."""
    return len(text.encode("utf-16-le")) // 2


def _group_title(changes: Sequence[Waiting], say: Texts) -> str:
    firing = sum(change.alert.state is AlertState.FIRING for change in changes)
    counts = {"alert.group_firing": firing, "alert.group_resolved": len(changes) - firing}
    parts = [say(key, count=count) for key, count in counts.items() if count]
    first = changes[0].alert
    title = say(
        "alert.group",
        count=len(changes),
        severity=say(f"severity.{first.severity.value}").upper(),
        rule=wording.clean(first.rule, NAME_LENGTH),
    )
    sign = ICONS[first.severity] if firing else "✅"
    return wording.line_of(f"{sign} <b>{escape(title)}</b> ({', '.join(parts)})", say)


def _group_line(change: Waiting, now: datetime, say: Texts) -> str:
    alert = change.alert
    headline = wording.headline(alert, say, _LINE_SUMMARY)
    aside = ", ".join(wording.facts(alert, say, headline))
    text = f"{headline}{f' ({aside})' if aside else ''}, {wording.span_text(alert, now, say, headline)}"
    repeat = f" {REPEAT_ICON} {escape(say('alert.repeat'))}" if change.is_repeat else ""
    code = f"<code>{escape(alert_id_text(alert))}</code>"
    return wording.line_of(f"{icon(alert)} {escape(text)} {code}{repeat}", say)


def _title(alert: Alert, say: Texts) -> str:
    severity = say(f"severity.{alert.severity.value}").upper()
    return severity if alert.state is AlertState.FIRING else say("alert.resolved", severity=severity)


def _site(alert: Alert, say: Texts) -> tuple[str, ...]:
    site = wording.clean(alert.site, NAME_LENGTH)
    return (say("fact.site", site=site),) if site else ()
