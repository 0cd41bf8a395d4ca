"""One device's history as charts: the values with their anomalies, and both scores below. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import altair as alt
import pandas as pd  # type: ignore[import-untyped]  # its stubs are no dependency of ours

from dashboard import look

if TYPE_CHECKING:
    from dashboard.reads import History

ONLINE: Final = "Online (half-space trees)"
BATCH: Final = "Batch (isolation forest)"
VALUE_HEIGHT: Final = 220
SCORE_HEIGHT: Final = 150
AXIS_WIDTH: Final = 52
"""Both charts keep the same room for their axis, so that their times stand below each other."""


def value_chart(history: History) -> Any:
    """Return the values over time: a line, where averaged a band from least to greatest, anomalies."""
    rows = pd.DataFrame(
        [(row.time, row.value, row.low, row.high) for row in history.rows],
        columns=["time", "value", "low", "high"],
    )
    anomalies = pd.DataFrame(
        [(row.time, row.value, row.score) for row in history.anomalies], columns=["time", "value", "score"]
    )
    unit = history.unit or "value"
    x = _time_axis(labels=False)
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
        .encode(x=x, y=y, tooltip=[_when(), alt.Tooltip("value:Q", title=unit, format=".5~g")])
    )
    if history.anomalies:  # a layer without rows has no extent
        layers.append(
            alt.Chart(anomalies)
            .mark_point(shape="diamond", filled=True, size=70, color=look.VERMILLION, opacity=0.95)
            .encode(
                x=x,
                y=y,
                tooltip=[
                    _when(),
                    alt.Tooltip("value:Q", title="anomaly", format=".5~g"),
                    alt.Tooltip("score:Q", title="score", format=".2f"),
                ],
            )
        )
    return alt.layer(*layers).properties(height=VALUE_HEIGHT)


def score_chart(history: History) -> Any:
    """Return both scores over time, 0 to 1, higher is stranger."""
    rows = pd.DataFrame(
        [(row.time, ONLINE, row.online_score) for row in history.rows]
        + [(row.time, BATCH, row.batch_score) for row in history.rows],
        columns=["time", "model", "score"],
    )
    return (
        alt.Chart(rows)
        .mark_line(strokeWidth=1.4)
        .encode(
            x=_time_axis(labels=True),
            y=alt.Y(
                "score:Q",
                title="score",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(values=[0, 0.5, 1], minExtent=AXIS_WIDTH, maxExtent=AXIS_WIDTH),
            ),
            color=alt.Color(
                "model:N",
                scale=alt.Scale(domain=[ONLINE, BATCH], range=[look.ORANGE, look.PURPLE]),
                legend=_legend(),
            ),
            strokeDash=alt.StrokeDash(
                "model:N", scale=alt.Scale(domain=[ONLINE, BATCH], range=[[1, 0], [5, 2]]), legend=_legend()
            ),
            tooltip=[_when(), alt.Tooltip("model:N"), alt.Tooltip("score:Q", format=".3f")],
        )
        .properties(height=SCORE_HEIGHT)
    )


def _legend() -> alt.Legend:
    return alt.Legend(orient="bottom", title=None, offset=4)


def _time_axis(*, labels: bool) -> alt.X:
    axis: Any = alt.Axis(labels=labels, ticks=labels, title=None, grid=True, labelOverlap=True)
    return alt.X("time:T", axis=axis)


def _value_axis() -> alt.Axis:
    return alt.Axis(format="~g", minExtent=AXIS_WIDTH, maxExtent=AXIS_WIDTH, tickCount=5)


def _when() -> alt.Tooltip:
    return alt.Tooltip("time:T", title="time", format="%d %b %H:%M:%S")
