"""What happened: detections of a camera, alerts that are over, dead letters. Bounded questions, as in ``reads``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetwatch.records import AlertState, Reason, RuleKind, Severity, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from dashboard.database import Connection

SIGHTINGS_SHOWN: Final = 10
LABELS_SHOWN: Final = 20
BINS: Final = 30
PAST_SHOWN: Final = 50
REFUSALS_READ: Final = 20_000

LAST_SIGHTING: Final = "SELECT max(event_time) FROM detections WHERE camera_id = %(camera_id)s"
SEEN: Final = """
    SELECT event_time, seq, label, confidence, track_id FROM detections
    WHERE camera_id = %(camera_id)s AND event_time > %(start)s AND event_time <= %(end)s
    ORDER BY event_time DESC, seq DESC
    LIMIT %(limit)s
"""
SEEN_BY_LABEL: Final = """
    SELECT label, date_bin(%(step)s, event_time, %(start)s) AS bin, count(*) FROM detections
    WHERE camera_id = %(camera_id)s AND event_time > %(start)s AND event_time <= %(end)s
    GROUP BY label, bin
    ORDER BY bin DESC, label
    LIMIT %(limit)s
"""
PAST_ALERTS: Final = """
    SELECT a.alert_id, a.rule, a.kind, a.device_id, a.site, a.severity, a.state, a.started_at, a.ended_at,
           a.value, a.threshold, a.summary, first.who, first.at
    FROM alerts a
    LEFT JOIN LATERAL (
        SELECT who, at FROM alert_actions
        WHERE alert_id = a.alert_id AND action = 'ACKNOWLEDGE'
        ORDER BY at LIMIT 1
    ) first ON true
    WHERE a.state = 'RESOLVED' AND a.started_at > %(since)s AND a.severity = ANY(%(severities)s)
    ORDER BY a.started_at DESC
    LIMIT %(limit)s
"""
REFUSALS: Final = """
    SELECT stage, reason, count(*), max(broker_time) FROM (
        SELECT stage, reason, broker_time FROM dead_letters
        WHERE broker_time > %(since)s
        ORDER BY broker_time DESC
        LIMIT %(limit)s
    ) newest
    GROUP BY stage, reason
    ORDER BY count(*) DESC, reason, stage
"""


@dataclass(frozen=True, slots=True)
class SightingRow:
    """One detection."""

    time: datetime
    seq: int
    label: str
    confidence: float
    track_id: int | None


@dataclass(frozen=True, slots=True)
class LabelBin:
    """How often a camera saw a label in a stretch of time that starts then."""

    label: str
    time: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Sightings:
    """What a camera saw in a range that ends with its newest detection: counts by label, and the newest ones."""

    camera_id: str
    start: datetime
    end: datetime
    step: timedelta
    newest: tuple[SightingRow, ...]
    bins: tuple[LabelBin, ...]


@dataclass(frozen=True, slots=True)
class PastAlert:
    """An alert that is over, and who acknowledged it first."""

    alert_id: str
    rule: str
    kind: RuleKind
    device_id: str
    site: str
    severity: Severity
    state: AlertState
    started_at: datetime
    ended_at: datetime | None
    value: float
    threshold: float
    summary: str
    acknowledged_by: str | None
    acknowledged_at: datetime | None


@dataclass(frozen=True, slots=True)
class PastAlerts:
    """The newest of them; whether there are more than are shown."""

    alerts: tuple[PastAlert, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class RefusalCount:
    """Dead letters of one reason at one stage."""

    stage: Stage
    reason: Reason
    count: int
    newest: datetime


def sightings(connection: Connection, camera_id: str, span: timedelta) -> Sightings | None:
    """Return what a camera saw in this time up to its newest detection; None when it has seen nothing."""
    row = connection.execute(LAST_SIGHTING, {"camera_id": camera_id}).fetchone()
    end = None if row is None else row[0]
    if end is None:
        return None
    start, step = end - span, span / BINS
    asked = {"camera_id": camera_id, "start": start, "end": end}
    newest = connection.execute(SEEN, asked | {"limit": SIGHTINGS_SHOWN})
    bins = connection.execute(SEEN_BY_LABEL, asked | {"step": step, "limit": BINS * LABELS_SHOWN})
    return Sightings(
        camera_id,
        start,
        end,
        step,
        tuple(SightingRow(*found) for found in newest),
        tuple(LabelBin(*found) for found in bins),
    )


def past_alerts(connection: Connection, since: datetime, severities: Sequence[Severity]) -> PastAlerts:
    """Return the alerts that began since then and are over, the newest first."""
    asked = {"since": since, "severities": [severity.value for severity in severities], "limit": PAST_SHOWN + 1}
    rows = connection.execute(PAST_ALERTS, asked).fetchall()
    return PastAlerts(
        tuple(
            PastAlert(
                alert_id,
                rule,
                RuleKind(kind),
                device_id,
                site,
                Severity(severity),
                AlertState(state),
                *rest,
            )
            for alert_id, rule, kind, device_id, site, severity, state, *rest in rows[:PAST_SHOWN]
        ),
        has_more=len(rows) > PAST_SHOWN,
    )


def refusals(connection: Connection, since: datetime) -> list[RefusalCount]:
    """Return how many dead letters there were since then, of the newest ``REFUSALS_READ``, by stage and reason."""
    rows = connection.execute(REFUSALS, {"since": since, "limit": REFUSALS_READ})
    return [RefusalCount(Stage(stage), Reason(reason), count, newest) for stage, reason, count, newest in rows]
