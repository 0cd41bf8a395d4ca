"""The Alerts page: what is open and what is over. Pure; every text from outside is escaped."""

from __future__ import annotations

from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Final

from dashboard import look, markup
from dashboard.attention import natural
from dashboard.live import severity_rank
from fleetwatch.records import RuleKind, to_millis

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from dashboard.event_reads import PastAlert, PastAlerts
    from dashboard.live import Board
    from fleetwatch.i18n import Texts
    from fleetwatch.records import Alert, AlertAction, Severity

MAX_OPEN: Final = 20
WITHOUT_LIMIT: Final = frozenset({RuleKind.ANOMALY, RuleKind.SURGE, RuleKind.DRIFT})
"""Their limit is one of scores, or a fraction: what is unusual is said by the summary."""


def acknowledged(board: Board, here: Mapping[str, AlertAction]) -> dict[str, AlertAction]:
    """Return who acknowledged what: as heard, and what was just delivered from this page and is not heard back yet."""
    return {**here, **board.notes.acknowledged}


def open_alerts(
    board: Board, taken: Collection[str], severities: Collection[Severity], search: str = ""
) -> list[Alert]:
    """Return the open alerts that match: those that nobody acknowledged first, the gravest, the newest."""
    needle = search.strip().casefold()
    return sorted(
        (
            alert
            for alert in board.open_alerts.values()
            if (not severities or alert.severity in severities) and needle in alert.device_id.casefold()
        ),
        key=lambda alert: (
            alert.alert_id in taken,
            -severity_rank(alert.severity),
            -alert.started_at.timestamp(),
            natural(alert.device_id),
            alert.alert_id,
        ),
    )


def open_html(alert: Alert, action: AlertAction | None, say: Texts, *, now_ms: int) -> str:
    """Draw one open alert."""
    tone = alert.severity.name.lower()
    done = ""
    if action is not None:
        text = say("alerts.acknowledged", who=action.who, ago=look.ago(now_ms - to_millis(action.at), say))
        done = f'<div class="fw-taken">✓ {escape(text)}</div>'
    return (
        f'<div class="fw-card fw-alert fw-edge-{tone}{" fw-calm" if action else ""}" '
        f'data-alert="{escape(alert.alert_id)}" data-acknowledged="{"yes" if action else "no"}">'
        f'<div class="fw-row fw-start"><span class="fw-nowrap">{severity_pill(alert.severity, say)}</span>'
        f'{markup.name(alert.device_id, say)}<span class="fw-sub">{escape(say.isolate(alert.rule))}</span>'
        f'<span class="fw-sub fw-far" title="{look.moment(alert.started_at)}">'
        f"{escape(look.ago(now_ms - to_millis(alert.started_at), say))}</span></div>"
        f'<div class="fw-facts">{escape(facts(alert.kind, alert.value, alert.threshold, say))}</div>'
        f'<div class="fw-sub fw-wrap">{escape(say.isolate(alert.summary))}</div>{done}</div>'
    )


def severity_pill(severity: Severity, say: Texts) -> str:
    """Draw a severity: colour, mark and text together."""
    return look.pill(severity.name.lower(), look.SEVERITY_MARK[severity], say(f"severity.{severity.name}"))


def facts(kind: RuleKind, value: float, threshold: float, say: Texts) -> str:
    """Say what the rule compared with what."""
    if kind in WITHOUT_LIMIT:
        return say(f"alert.{kind.name}", value=look.limit(value))
    return say(f"alert.{kind.name}", value=look.limit(value), limit=look.limit(threshold))


def past_html(past: PastAlerts, say: Texts) -> str:
    """Draw the alerts that are over."""
    if not past.alerts:
        return markup.empty(say("alerts.none-past"))
    titles = [say(f"column.{name}") for name in ("severity", "device", "what", "began", "lasted", "acknowledged-by")]
    rows = [_past_row(alert, say) for alert in past.alerts]
    attributes = [f'data-past="{escape(alert.alert_id)}"' for alert in past.alerts]
    more = (
        f'<div class="fw-more">{escape(say("alerts.more-past", count=len(past.alerts)))}</div>' if past.has_more else ""
    )
    return markup.table(titles, rows, attributes=attributes) + more


def _past_row(alert: PastAlert, say: Texts) -> tuple[str, ...]:
    compared = escape(facts(alert.kind, alert.value, alert.threshold, say))
    what = (
        f'<span title="{escape(alert.summary)}">{escape(say.isolate(alert.rule))}</span>'
        f'<div class="fw-sub">{compared}</div>'
    )
    return (
        severity_pill(alert.severity, say),
        f'{markup.name(alert.device_id, say)}<div class="fw-sub">{escape(say.isolate(alert.site))}</div>',
        what,
        markup.number(look.moment(alert.started_at), say),
        _lasted(alert, say),
        "—" if alert.acknowledged_by is None else markup.name(alert.acknowledged_by, say),
    )


def _lasted(alert: PastAlert, say: Texts) -> str:
    return (
        "—"
        if alert.ended_at is None
        else escape(look.duration(max(alert.ended_at - alert.started_at, timedelta()), say))
    )
