"""The Fleet page from the board: figures and cards. Pure; every text from outside is escaped."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING, Final

from dashboard import look, markup
from dashboard.attention import Status
from dashboard.live import per_second
from dashboard.markup import Figure, word
from fleetwatch.records import Severity, from_millis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dashboard.attention import Card
    from dashboard.live import Board
    from fleetwatch.i18n import Texts

MAX_CARDS: Final = 60
SPARK_POINTS: Final = 40
TREND_SECONDS: Final = 60


def headlines(board: Board, cards: Sequence[Card], say: Texts, *, now_ms: int) -> list[Figure]:
    """Return the four figures on top."""
    statuses = Counter(card.status for card in cards)
    severities = Counter(alert.severity for alert in board.open_alerts.values())
    now = now_ms // 1000
    trend = [float(board.readings_per_second.get(second, 0)) for second in range(now - TREND_SECONDS, now)]
    dead_lately = sum(count for second, count in board.dead_letters_per_second.items() if second > now - TREND_SECONDS)
    fleet_note = [say("count.cameras", count=len(board.cameras))] + [
        say(f"fleet.{status.name}", count=statuses[status])
        for status in (Status.ANOMALY, Status.STALE, Status.WARMING_UP)
        if statuses[status]
    ]
    alert_note = [
        say(f"alerts.{severity.name}", count=severities[severity])
        for severity in reversed(Severity)
        if severities[severity]
    ]
    return [
        Figure(
            say("figure.devices"),
            look.whole(len(board.devices) + len(board.cameras)),
            " · ".join(fleet_note),
        ),
        Figure(
            say("figure.open-alerts"),
            look.whole(len(board.open_alerts)),
            ", ".join(alert_note) or say("figure.all-quiet"),
            tone="critical" if severities[Severity.CRITICAL] else "warning" if severities[Severity.WARNING] else "",
        ),
        Figure(
            say("figure.readings"),
            look.rate(per_second(board.readings_per_second, now_ms=now_ms)),
            say("figure.readings-note"),
            trend=look.sparkline(trend, label=say("figure.readings-trend")),
        ),
        Figure(
            say("figure.dead-letters"),
            look.whole(board.dead_letters),
            say("figure.dead-letters-note", count=dead_lately),
            tone="warning" if dead_lately else "",
        ),
    ]


def card_html(card: Card, say: Texts, *, now_ms: int) -> str:
    """Draw one device."""
    device = card.device
    device_id = escape(device.device_id)
    points = device.points[-SPARK_POINTS:]
    last = device.last
    score = say("card.no-score") if last.score is None else say("card.score", score=f"{last.score:.2f}")
    if card.status is Status.ANOMALY and not last.is_anomaly and device.anomaly_ms is not None:
        score = say("card.anomaly", ago=look.ago(now_ms - device.anomaly_ms, say))
    alerts = f" · {say('count.alerts', count=card.alerts)}" if card.alerts else ""
    tone = tone_of(card.status)
    spark = look.sparkline(
        [point.value for point in points],
        [point.is_anomaly for point in points],
        label=say("card.trend", count=len(points)),
    )
    return (
        f'<div class="fw-card fw-edge-{tone}" data-device="{device_id}">'
        f'<div class="fw-row">{markup.name(device.device_id, say)}{status_pill(card.status, say)}</div>'
        f'<div class="fw-sub">{escape(kind_and_site(device.sensor_type, device.site, say))}</div>'
        f'<div class="fw-row"><span class="fw-value" dir="ltr">{escape(look.number(last.value))}'
        f'<span class="fw-unit">{escape(look.unit(device.unit))}</span></span>{spark}</div>'
        f'<div class="fw-row fw-foot"><span>{escape(score + alerts)}</span>'
        f'<span title="{look.moment(from_millis(device.heard_ms))}">'
        f"{escape(look.ago(now_ms - device.heard_ms, say))}</span></div></div>"
    )


def tone_of(status: Status) -> str:
    """Return the part of a CSS class that colours a status."""
    return status.name.lower().replace("_", "-")


def status_pill(status: Status, say: Texts) -> str:
    """Draw a status: colour, mark and text together."""
    return look.pill(tone_of(status), look.MARK[status], say(f"status.{status.name}"))


def kind_and_site(sensor_type: str, site: str, say: Texts) -> str:
    """Name what a device is and where."""
    return f"{word(say, 'type', sensor_type)} · {say.isolate(site)}"


def empty_html(say: Texts) -> str:
    """Say what to do when nothing has reported yet."""
    how = escape(say("fleet.empty-how", simulate="fleetwatch simulate", up="fleetwatch up"))
    return f'<div class="fw-empty"><b>{escape(say("fleet.empty"))}</b><br>{how}</div>'
