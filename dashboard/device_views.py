"""The Device page: what is known of one sensor, live and stored. Pure; every text from outside is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from dashboard import look, markup
from dashboard.markup import Figure
from dashboard.views import kind_and_site, status_pill
from fleetwatch.records import to_millis

if TYPE_CHECKING:
    from dashboard.attention import Card
    from dashboard.reads import History
    from fleetwatch.i18n import Texts

ANOMALIES_SHOWN: Final = 10


def title_html(device_id: str, card: Card | None, history: History | None, say: Texts) -> str:
    """Name the device, with its status while it is live."""
    sensor_type, site = ("", "")
    if card is not None:
        sensor_type, site = card.device.sensor_type, card.device.site
    elif history is not None:
        sensor_type, site = history.sensor_type, history.site
    sub = escape(kind_and_site(sensor_type, site, say)) if site or sensor_type else ""
    state = status_pill(card.status, say) if card else look.pill("stale", "○", say("device.not-live"))
    return (
        f'<div class="fw-row fw-start"><span class="fw-heading" data-title="{escape(device_id)}">'
        f"{escape(say.isolate(device_id))} <small>{sub}</small></span>{state}</div>"
    )


def figures(card: Card | None, history: History, say: Texts, *, now_ms: int) -> list[Figure]:
    """Return the newest value and the scores: live when the device is, as stored otherwise."""
    stored = history.rows[-1] if history.rows else None
    live = card.device.last if card else None
    value = live.value if live else stored.value if stored else None
    heard = card.device.heard_ms if card else to_millis(history.end)
    combined = live.score if live else None
    return [
        Figure(
            say("device.value"),
            "—" if value is None else f"{look.number(value)} {look.unit(history.unit)}".strip(),
            look.ago(now_ms - heard, say),
        ),
        Figure(say("device.score"), _score(combined), say("device.score-note")),
        Figure(say("score.online"), _score(stored.online_score if stored else None), say("device.stored-note")),
        Figure(say("score.batch"), _score(stored.batch_score if stored else None), say("device.stored-note")),
    ]


def history_note_html(history: History, say: Texts, *, now_ms: int) -> str:
    """Say what the charts show."""
    parts = [
        say("device.readings", count=sum(row.readings for row in history.rows)),
        say("device.anomalies", count=len(history.anomalies)),
        say("device.newest", ago=look.ago(now_ms - to_millis(history.end), say)),
    ]
    if history.step is not None:
        parts.append(say("device.averaged", step=look.duration(history.step, say)))
    return (
        f'<div class="fw-sub" data-history="{escape(history.device_id)}" data-readings="'
        f'{sum(row.readings for row in history.rows)}">{escape(" · ".join(parts))}</div>'
    )


def anomalies_html(history: History, say: Texts) -> str:
    """Draw the newest anomalies of the range."""
    if not history.anomalies:
        return markup.empty(say("device.no-anomaly"))
    rows = [
        (
            markup.number(look.moment(row.time), say),
            markup.number(f"{look.number(row.value)} {look.unit(history.unit)}".strip(), say),
            markup.number(_score(row.score), say),
        )
        for row in history.anomalies[: -ANOMALIES_SHOWN - 1 : -1]
    ]
    return markup.table([say("column.time"), say("column.value"), say("column.score")], rows)


def nothing_stored_html(device_id: str, say: Texts) -> str:
    """Say that the database knows nothing of a device."""
    text = escape(say("device.nothing-stored", device=device_id))
    return f'<div class="fw-empty" data-history="{escape(device_id)}">{text}</div>'


def _score(score: float | None) -> str:
    return "—" if score is None else f"{score:.2f}"
