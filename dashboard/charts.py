"""Histories as charts, from left to right in every language: values with anomalies, scores, labels. Pure."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final

import altair as alt
import pandas as pd  # type: ignore[import-untyped]  # its stubs are no dependency of ours

from dashboard import look
from dashboard.reads import History

if TYPE_CHECKING:
    from datetime import datetime

    from dashboard.event_reads import Sightings
    from fleetwatch.i18n import Texts

VALUE_HEIGHT: Final = 220
SCORE_HEIGHT: Final = 180
LABEL_HEIGHT: Final = 200
LABELS_DRAWN: Final = 5
LABEL_COLOURS: Final = (look.LINE, look.ORANGE, look.GREEN, look.PURPLE, look.VERMILLION, look.SKY)
AXIS_WIDTH: Final = 52
"""Both charts keep the same room for their axis, so that their times stand below each other."""


def value_chart(history: History, say: Texts) -> Any:
    """Return the values over time: a line, where averaged a band from least to greatest, anomalies."""
    rows = pd.DataFrame(
        [(_utc(row.time), row.value, row.low, row.high) for row in history.rows],
        columns=["time", "value", "low", "high"],
    )
    anomalies = pd.DataFrame(
        [(_utc(row.time), row.value, row.score) for row in history.anomalies], columns=["time", "value", "score"]
    )
    unit = look.unit(history.unit) or say("column.value")
    x = _time_axis(history, labels=False)
    y = alt.Y("value:Q", title=unit, scale=alt.Scale(zero=False, nice=True), axis=_value_axis())
    layers: list[alt.Chart] = []
    if history.step is not None:
        layers.append(
            alt.Chart(rows)
            .mark_area(opacity=0.22, color=look.SKY)
            .encode(x=x, y=alt.Y("low:Q", title=unit, axis=_value_axis()), y2="high:Q")
        )
    layers.append(
        alt.Chart(rows)
        .mark_line(color=look.LINE, strokeWidth=1.6, interpolate="linear")
        .encode(x=x, y=y, tooltip=[_when(say), alt.Tooltip("value:Q", title=unit, format=".5~g")])
    )
    if history.anomalies:  # a layer without rows has no extent
        layers.append(
            alt.Chart(anomalies)
            .mark_point(shape="diamond", filled=True, size=70, color=look.VERMILLION, opacity=0.95)
            .encode(
                x=x,
                y=y,
                tooltip=[
                    _when(say),
                    alt.Tooltip("value:Q", title=say("chart.anomaly"), format=".5~g"),
                    alt.Tooltip("score:Q", title=say("column.score"), format=".2f"),
                ],
            )
        )
    return alt.layer(*layers).properties(height=VALUE_HEIGHT)


def score_chart(history: History, say: Texts) -> Any:
    """Return both scores over time, 0 to 1, higher is stranger."""
    names = [say("score.online"), say("score.batch")]
    rows = pd.DataFrame(
        [(_utc(row.time), names[0], row.online_score) for row in history.rows]
        + [(_utc(row.time), names[1], row.batch_score) for row in history.rows],
        columns=["time", "model", "score"],
    )
    return (
        alt.Chart(rows)
        .mark_line(strokeWidth=1.4)
        .encode(
            x=_time_axis(history, labels=True),
            y=alt.Y(
                "score:Q",
                title=say("column.score"),
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(values=[0, 0.5, 1], minExtent=AXIS_WIDTH, maxExtent=AXIS_WIDTH),
            ),
            color=alt.Color(
                "model:N",
                scale=alt.Scale(domain=names, range=[look.ORANGE, look.PURPLE]),
                legend=_legend(),
            ),
            strokeDash=alt.StrokeDash(
                "model:N", scale=alt.Scale(domain=names, range=[[1, 0], [5, 2]]), legend=_legend()
            ),
            tooltip=[
                _when(say),
                alt.Tooltip("model:N", title=say("chart.model")),
                alt.Tooltip("score:Q", title=say("column.score"), format=".3f"),
            ],
        )
        .properties(height=SCORE_HEIGHT)
    )


def label_chart(sightings: Sightings, say: Texts) -> Any:
    """Return how often a camera saw each label over time, stacked; rare labels together."""
    totals: Counter[str] = Counter()
    for row in sightings.bins:
        totals[row.label] += row.count
    common = [label for label, _ in totals.most_common(LABELS_DRAWN)]
    names = {label: say(f"label.{label}") if say.has(f"label.{label}") else label for label in common}
    rest = say("chart.others")
    domain = [*names.values(), *([rest] if len(totals) > LABELS_DRAWN else [])]
    counts: Counter[tuple[datetime, str]] = Counter()
    last = sightings.end - sightings.step
    for row in sightings.bins:  # the very newest stands alone at the end of the range
        counts[min(row.time, last), names.get(row.label, rest)] += row.count
    rows, heights = [], Counter[Any]()
    for time, name in sorted(counts, key=lambda key: (key[0], domain.index(key[1]))):
        low = heights[time]
        heights[time] = high = low + counts[time, name]
        rows.append((_utc(time), _utc(time + sightings.step * 0.9), name, low, high, high - low))
    drawn = pd.DataFrame(rows, columns=["time", "until", "label", "low", "high", "count"])
    edges = [_utc(edge).isoformat() for edge in (sightings.start, sightings.end)]
    return (
        alt.Chart(drawn)
        .mark_rect()
        .encode(
            x=_time_axis(sightings, labels=True).scale(domain=edges),
            x2="until:T",
            y=alt.Y("low:Q", title=say("chart.detections"), axis=_value_axis()),
            y2="high:Q",
            color=alt.Color(
                "label:N", scale=alt.Scale(domain=domain, range=list(LABEL_COLOURS[: len(domain)])), legend=_legend()
            ),
            tooltip=[
                _when(say),
                alt.Tooltip("label:N", title=say("column.label")),
                alt.Tooltip("count:Q", title=say("column.count")),
            ],
        )
        .properties(height=LABEL_HEIGHT)
    )


def _legend() -> alt.Legend:
    return alt.Legend(orient="bottom", title=None, offset=4)


def _time_axis(history: History | Sightings, *, labels: bool) -> alt.X:
    first = history.rows[0].time if isinstance(history, History) and history.rows else history.start
    span = history.end - first
    axis: Any = alt.Axis(
        labels=labels, ticks=labels, title=None, grid=True, labelOverlap=True, tickCount=8, format=_time_format(span)
    )
    return alt.X("time:T", axis=axis)


def _time_format(span: timedelta) -> str:
    if span < timedelta(minutes=8):
        return "%H:%M:%S"
    return "%H:%M" if span < timedelta(hours=30) else "%d %b" if span > timedelta(days=4) else "%d %b %H:%M"


def _utc(time: datetime) -> datetime:
    """Charts show the clock of their browser: without a zone its digits are those of the tables."""
    return time.astimezone(UTC).replace(tzinfo=None)


def _value_axis() -> alt.Axis:
    return alt.Axis(format="~f", minExtent=AXIS_WIDTH, maxExtent=AXIS_WIDTH, tickCount=5)


def _when(say: Texts) -> alt.Tooltip:
    return alt.Tooltip("time:T", title=say("column.time"), format="%d %b %H:%M:%S")
