"""The Cameras page: cards, counts by label, the newest detections. Pure; every text from outside is escaped."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING, Final

from dashboard import look, markup
from dashboard.attention import natural
from dashboard.event_reads import SIGHTINGS_SHOWN, SightingRow
from dashboard.live import detections_per_minute
from dashboard.markup import word
from fleetwatch.records import from_millis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dashboard.event_reads import Sightings
    from dashboard.live import Board, CameraLive
    from fleetwatch.i18n import Texts

MAX_CAMERA_CARDS: Final = 24
MAX_LABELS: Final = 8


def cameras_by_need(board: Board) -> list[CameraLive]:
    """Return cameras with open alerts first, then by name."""
    alerted = {alert.device_id for alert in board.open_alerts.values()}
    return sorted(
        board.cameras.values(),
        key=lambda camera: (camera.camera_id not in alerted, natural(camera.camera_id)),
    )


def card_html(camera: CameraLive, alerts: int, say: Texts, *, now_ms: int, is_selected: bool) -> str:
    """Draw one camera."""
    state = (
        look.pill("warning", "■", say("count.alerts", count=alerts))
        if alerts
        else f'<span class="fw-sub">{escape(say("camera.no-alert"))}</span>'
    )
    selected = " fw-selected" if is_selected else ""
    trend = look.sparkline(_per_bucket(camera, now_ms=now_ms), label=say("camera.trend"))
    last = say("camera.last", label=word(say, "label", camera.last.label), confidence=f"{camera.last.confidence:.0%}")
    return (
        f'<div class="fw-card{selected}" data-camera="{escape(camera.camera_id)}">'
        f'<div class="fw-row">{markup.name(camera.camera_id, say)}{state}</div>'
        f'<div class="fw-sub">{escape(say.isolate(camera.site))}</div>'
        f'<div class="fw-row"><span class="fw-value">'
        f"{escape(say.isolate(look.whole(detections_per_minute(camera, now_ms=now_ms))))}"
        f'<span class="fw-unit">{escape(say("camera.per-minute"))}</span></span>{trend}</div>'
        f'<div class="fw-row fw-foot"><span>{escape(last)}</span>'
        f"<span>{escape(look.ago(now_ms - camera.heard_ms, say))}</span></div></div>"
    )


def alerts_by_device(board: Board) -> Counter[str]:
    """Count the open alerts of each device."""
    return Counter(alert.device_id for alert in board.open_alerts.values())


def all_labels_html(board: Board, say: Texts) -> str:
    """Draw how often all cameras saw each label in the windows that are remembered (15 minutes)."""
    totals: Counter[str] = Counter()
    for key, count in board.label_windows.items():
        totals[key.key] += count.count
    if not totals:
        return ""
    named = [(word(say, "label", label), count) for label, count in totals.most_common(MAX_LABELS)]
    return _bars_tile(say("camera.all"), named, say)


def labels_html(sightings: Sightings, say: Texts) -> str:
    """Draw how often one camera saw each label in the range."""
    totals: Counter[str] = Counter()
    for row in sightings.bins:
        totals[row.label] += row.count
    named = [(word(say, "label", label), count) for label, count in totals.most_common(MAX_LABELS)]
    return _bars_tile(say("camera.total", count=sum(totals.values())), named, say)


def newest_of(camera: CameraLive | None, sightings: Sightings | None) -> list[SightingRow]:
    """Join what is live with what is stored: the newest detections, each once, the newest first."""
    rows = {(row.time, row.seq): row for row in (sightings.newest if sightings else ())}
    for one in camera.sightings[-SIGHTINGS_SHOWN:] if camera else ():
        time = from_millis(one.event_ms)
        rows.setdefault((time, one.seq), SightingRow(time, one.seq, one.label, one.confidence, None))
    return [rows[key] for key in sorted(rows, reverse=True)[:SIGHTINGS_SHOWN]]


def events_html(rows: Sequence[SightingRow], say: Texts) -> str:
    """Draw the newest detections with their sequence ids and times."""
    if not rows:
        return markup.empty(say("camera.nothing"))
    cells = [
        (
            markup.number(str(row.seq), say),
            markup.number(f"{row.time:%Y-%m-%d} {look.clock(row.time)} UTC", say),
            escape(word(say, "label", row.label)),
            markup.number(f"{row.confidence:.0%}", say),
        )
        for row in rows
    ]
    titles = [say("column.sequence"), say("column.time"), say("column.label"), say("column.confidence")]
    return markup.table(titles, cells, attributes=[f'data-seq="{row.seq}"' for row in rows])


def _bars_tile(title: str, counts: Sequence[tuple[str, int]], say: Texts) -> str:
    return f'<div class="fw-tile"><div class="fw-label">{escape(title)}</div>{markup.bars(counts, say)}</div>'


def _per_bucket(camera: CameraLive, *, now_ms: int, buckets: int = 24, width_ms: int = 5_000) -> list[float]:
    newest = now_ms // width_ms
    counts = Counter(sighting.event_ms // width_ms for sighting in camera.sightings)
    return [float(counts[bucket]) for bucket in range(newest - buckets, newest)]
