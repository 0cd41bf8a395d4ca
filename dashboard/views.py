"""From the board to what a page shows: rows and HTML. Pure; every text from outside is escaped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from dashboard import look
from dashboard.attention import Status, natural
from dashboard.live import detections_per_minute, per_second
from fleetwatch.records import Severity, from_millis, to_millis

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dashboard.attention import Card
    from dashboard.live import Board, CameraLive
    from dashboard.reads import History
    from fleetwatch.records import Alert

MAX_CARDS: Final = 24
MAX_ALERTS: Final = 8
MAX_CAMERA_CARDS: Final = 12
SPARK_POINTS: Final = 40
TREND_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Headline:
    """One big figure."""

    label: str
    value: str
    note: str
    tone: str = ""
    trend: str = ""


def headlines(board: Board, cards: Sequence[Card], *, now_ms: int) -> list[Headline]:
    """Return the four figures on top."""
    statuses = Counter(card.status for card in cards)
    severities = Counter(alert.severity for alert in board.open_alerts.values())
    now = now_ms // 1000
    trend = [float(board.readings_per_second.get(second, 0)) for second in range(now - TREND_SECONDS, now)]
    dead_lately = sum(count for second, count in board.dead_letters_per_second.items() if second > now - TREND_SECONDS)
    fleet_note = ", ".join(
        f"{count} {text}"
        for status, text in (
            (Status.ANOMALY, "strange"),
            (Status.STALE, "silent"),
            (Status.WARMING_UP, "learning"),
        )
        if (count := statuses[status])
    )
    alert_note = ", ".join(
        f"{count} {severity.value.lower()}" for severity in reversed(Severity) if (count := severities[severity])
    )
    return [
        Headline(
            "Devices",
            look.whole(len(board.devices) + len(board.cameras)),
            look.counted(len(board.cameras), "camera") + (f" · {fleet_note}" if fleet_note else ""),
        ),
        Headline(
            "Open alerts",
            look.whole(len(board.open_alerts)),
            alert_note or "all quiet",
            tone="critical" if severities[Severity.CRITICAL] else "warning" if severities[Severity.WARNING] else "",
        ),
        Headline(
            "Readings per second",
            look.rate(per_second(board.readings_per_second, now_ms=now_ms)),
            "mean of 10 s; the line shows a minute",
            trend=look.sparkline(trend, label="readings per second in the last minute"),
        ),
        Headline(
            "Dead letters",
            look.whole(board.dead_letters),
            f"{look.whole(dead_lately)} in the last minute",
            tone="warning" if dead_lately else "",
        ),
    ]


def headline_html(figures: Iterable[Headline]) -> str:
    """Draw the big figures."""
    return (
        '<div class="fw-headlines">'
        + "".join(
            f'<div class="fw-tile fw-tone-{figure.tone or "none"}">'
            f'<div class="fw-label">{escape(figure.label)}</div>'
            f'<div class="fw-figure"><span class="fw-big">{escape(figure.value)}</span>{figure.trend}</div>'
            f'<div class="fw-note">{escape(figure.note)}</div></div>'
            for figure in figures
        )
        + "</div>"
    )


def card_html(card: Card, *, now_ms: int, is_selected: bool) -> str:
    """Draw one device."""
    device = card.device
    name = escape(device.device_id)
    selected = " fw-selected" if is_selected else ""
    points = device.points[-SPARK_POINTS:]
    last = device.last
    score = "no score yet" if last.score is None else f"score {last.score:.2f}"
    alerts = f" · {look.counted(card.alerts, 'alert')}" if card.alerts else ""
    tone = card.status.name.lower().replace("_", "-")
    spark = look.sparkline(
        [point.value for point in points],
        [point.is_anomaly for point in points],
        label=f"last {len(points)} values",
    )
    return (
        f'<div class="fw-card fw-edge-{tone}{selected}" data-device="{name}">'
        f'<div class="fw-row"><span class="fw-id" title="{name}">{name}</span>'
        f"{look.pill(tone, look.MARK[card.status], card.status.value)}</div>"
        f'<div class="fw-sub">{escape(device.sensor_type)} · {escape(device.site)}</div>'
        f'<div class="fw-row"><span class="fw-value">{escape(look.number(last.value))}'
        f'<span class="fw-unit">{escape(device.unit)}</span></span>{spark}</div>'
        f'<div class="fw-row fw-foot"><span>{score}{alerts}</span>'
        f'<span title="{look.moment(from_millis(device.heard_ms))}">{look.ago(now_ms - device.heard_ms)}</span></div>'
        "</div>"
    )


def cameras_by_need(board: Board) -> list[CameraLive]:
    """Return cameras with open alerts first, then by name."""
    alerted = {alert.device_id for alert in board.open_alerts.values()}
    return sorted(
        board.cameras.values(),
        key=lambda camera: (camera.camera_id not in alerted, natural(camera.camera_id)),
    )


def cameras_html(board: Board, *, now_ms: int) -> str:
    """Draw the camera cards."""
    alerted = Counter(alert.device_id for alert in board.open_alerts.values())
    cameras = cameras_by_need(board)
    drawn = []
    for camera in cameras[:MAX_CAMERA_CARDS]:
        per_minute = detections_per_minute(camera, now_ms=now_ms)
        alerts = alerted[camera.camera_id]
        label = (
            look.pill("warning", "■", look.counted(alerts, "alert"))
            if alerts
            else '<span class="fw-sub">no alert</span>'
        )
        trend = _per_bucket(camera, now_ms=now_ms)
        drawn.append(
            f'<div class="fw-card" data-camera="{escape(camera.camera_id)}">'
            f'<div class="fw-row"><span class="fw-id">{escape(camera.camera_id)}</span>{label}</div>'
            f'<div class="fw-sub">{escape(camera.site)}</div>'
            f'<div class="fw-row"><span class="fw-value">{look.whole(per_minute)}'
            '<span class="fw-unit">per min</span></span>'
            f"{look.sparkline(trend, label='detections in the last two minutes')}</div>"
            f'<div class="fw-row fw-foot"><span>last: {escape(camera.last.label)} '
            f"{camera.last.confidence:.0%}</span>"
            f"<span>{look.ago(now_ms - camera.heard_ms)}</span></div></div>"
        )
    more = len(cameras) - MAX_CAMERA_CARDS
    rest = f'<div class="fw-more">and {look.counted(more, "more camera")}</div>' if more > 0 else ""
    return f'<div class="fw-grid">{"".join(drawn)}</div>{rest}'


def labels_html(board: Board) -> str:
    """Draw how often each label was seen in the windows that are remembered (15 minutes)."""
    totals: Counter[str] = Counter()
    for key, count in board.label_windows.items():
        totals[key.key] += count.count
    if not totals:
        return ""
    most = max(totals.values())
    bars = "".join(
        f'<div class="fw-bar"><span class="fw-bar-name">{escape(label)}</span><span class="fw-bar-track">'
        f'<span class="fw-bar-fill" style="width:{max(1, round(100 * count / max(most, 1)))}%"></span></span>'
        f'<span class="fw-bar-count">{look.whole(count)}</span></div>'
        for label, count in totals.most_common(8)
    )
    return f'<div class="fw-tile"><div class="fw-label">Seen in the last 15 minutes</div>{bars}</div>'


def alerts_html(alerts: Sequence[Alert], *, now_ms: int) -> str:
    """Draw the table of open alerts."""
    if not alerts:
        return '<div class="fw-empty">No open alert.</div>'
    rows = "".join(_alert_row(alert, now_ms=now_ms) for alert in alerts[:MAX_ALERTS])
    more = len(alerts) - MAX_ALERTS
    rest = f'<div class="fw-more">and {look.counted(more, "more open alert")}</div>' if more > 0 else ""
    return (
        '<div class="fw-tile fw-scroll"><table class="fw-table"><thead><tr><th>Severity</th>'
        f"<th>Device, rule</th><th>Since</th><th>Value</th><th>Summary</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{rest}"
    )


def history_title_html(history: History, *, now_ms: int) -> str:
    """Name the device whose history is shown, and what is seen of it."""
    readings = sum(row.readings for row in history.rows)
    last = history.rows[-1] if history.rows else None
    value = "" if last is None else f"{look.number(last.value)} {history.unit}"
    averaged = "" if history.step is None else f" · mean of {look.duration(history.step)}, band from least to greatest"
    anomalies = len(history.anomalies)
    return (
        f'<div class="fw-row" data-history="{escape(history.device_id)}"><span class="fw-heading">'
        f"{escape(history.device_id)} <small>{escape(history.sensor_type)} · {escape(history.site)}"
        "</small></span>"
        f'<span class="fw-num"><b>{escape(value)}</b></span></div>'
        f'<div class="fw-sub">{look.counted(readings, "reading")}, <span class="fw-lost">◆</span> '
        f"{look.counted(anomalies, 'anomaly', 'anomalies')} · "
        f"newest {look.ago(now_ms - to_millis(history.end))}{averaged}</div>"
    )


def nothing_stored_html(device_id: str) -> str:
    """Say that the database knows nothing of a device."""
    return (
        f'<div class="fw-empty" data-history="{escape(device_id)}">'
        f"No reading of <b>{escape(device_id)}</b> is stored. "
        "If it reports now, the database sink may be behind or not running.</div>"
    )


def notices_html(problems: Iterable[str]) -> str:
    """Draw one line for each part that cannot be reached."""
    return "".join(
        f'<div class="fw-notice" role="status"><span aria-hidden="true">■</span> {escape(problem)}</div>'
        for problem in problems
    )


def empty_html() -> str:
    """Say what to do when nothing has reported yet."""
    return (
        '<div class="fw-empty"><b>No device has reported yet.</b><br>Start some simulated ones with '
        "<code>fleetwatch simulate</code>, or the whole pipeline with <code>fleetwatch up</code>. "
        "Devices appear here as soon as their first reading is scored.</div>"
    )


def _per_bucket(camera: CameraLive, *, now_ms: int, buckets: int = 24, width_ms: int = 5_000) -> list[float]:
    newest = now_ms // width_ms
    counts = Counter(sighting.event_ms // width_ms for sighting in camera.sightings)
    return [float(counts[bucket]) for bucket in range(newest - buckets, newest)]


def _alert_row(alert: Alert, *, now_ms: int) -> str:
    severity = alert.severity.value
    label = look.pill(severity.lower(), look.SEVERITY_MARK[alert.severity], severity.capitalize())
    return (
        f'<tr data-alert="{escape(alert.alert_id)}"><td>{label}</td>'
        f'<td><span class="fw-id">{escape(alert.device_id)}</span>'
        f'<div class="fw-sub">{escape(alert.rule)}</div></td>'
        f'<td title="{look.moment(alert.started_at)}">{look.ago(now_ms - to_millis(alert.started_at))}</td>'
        f'<td class="fw-num">{look.limit(alert.value)}'
        f'<div class="fw-sub">limit {look.limit(alert.threshold)}</div></td>'
        f'<td class="fw-summary">{escape(alert.summary)}</td></tr>'
    )
