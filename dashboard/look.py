"""How things are written and drawn: numbers, times, colours, sparklines. Pure.

Colours are of the Okabe-Ito palette, which people with a colour vision deficiency can tell apart; each comes
with a text and a mark of its own shape.
"""

from __future__ import annotations

import math
from datetime import UTC
from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from dashboard.attention import Status
from fleetwatch.records import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from fleetwatch.i18n import Texts

BLUE: Final = "#0072B2"
SKY: Final = "#56B4E9"
VERMILLION: Final = "#D55E00"
ORANGE: Final = "#E69F00"
PURPLE: Final = "#CC79A7"
GREEN: Final = "#009E73"
LINE: Final = "#2B8CC4"
"""Between the palette's two blues: stands out on white and on black."""

MARK: Final = {
    Status.CRITICAL: "▲",
    Status.ANOMALY: "◆",
    Status.WARNING: "■",
    Status.STALE: "○",
    Status.WARMING_UP: "◔",
    Status.NORMAL: "●",
}
UNITS: Final = {"Cel": "°C", "[degF]": "°F", "K": "K", "By": "B", "By/s": "B/s", "kBy": "kB", "MBy": "MB", "1": ""}
SEVERITY_MARK: Final = {Severity.CRITICAL: "▲", Severity.WARNING: "■", Severity.INFO: "●"}


def number(value: float) -> str:
    """Write a measurement with four digits that matter, thousands apart by a thin space."""
    if not math.isfinite(value):
        return "—"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude >= 9 or magnitude < -4:
        return f"{value:.3g}"
    decimals = max(0, min(6, 3 - magnitude))
    text = f"{value:,.{decimals}f}".replace(",", "\u202f")
    return text if magnitude >= 0 or "." not in text else text.rstrip("0").rstrip(".")


def limit(value: float) -> str:
    """Write a number that does not change: as ``number``, without zeros at the end."""
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def whole(value: float) -> str:
    """Write a count, thousands apart by a thin space."""
    return f"{round(value):,}".replace(",", "\u202f")


def unit(code: str) -> str:
    """Write a unit as people do; devices send UCUM codes."""
    return UNITS.get(code, code)


def rate(value: float) -> str:
    """Write a rate: with one decimal while it is small."""
    return f"{value:.1f}" if 0 < value < 10 else whole(value)


def ago(milliseconds: int, say: Texts) -> str:
    """Write how long ago something was."""
    seconds = max(0, milliseconds) // 1000
    if seconds < 2:
        return say("ago.now")
    for limit, unit, name in ((60, 1, "seconds"), (3_600, 60, "minutes"), (86_400, 3_600, "hours")):
        if seconds < limit:
            return say(f"ago.{name}", n=seconds // unit)
    return say("ago.days", n=seconds // 86_400)


def moment(when: datetime) -> str:
    """Write a point in time in full."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def clock(when: datetime) -> str:
    """Write the time of day with tenths of a second: events of one second can be told apart."""
    utc = when.astimezone(UTC)
    return f"{utc:%H:%M:%S}.{utc.microsecond // 100_000}"


def duration(span: timedelta, say: Texts) -> str:
    """Write a length of time."""
    seconds = span.total_seconds()
    if seconds < 120:
        return say("duration.seconds", n=f"{seconds:.3g}")
    if seconds < 7_200:
        return say("duration.minutes", n=f"{seconds / 60:.3g}")
    if seconds < 172_800:
        return say("duration.hours", n=f"{seconds / 3600:.3g}")
    return say("duration.days", n=f"{seconds / 86_400:.3g}")


def pill(css_class: str, mark: str, text: str) -> str:
    """Return a status label: colour, mark and text together."""
    return f'<span class="fw-pill fw-{css_class}"><span aria-hidden="true">{mark}</span> {escape(text)}</span>'


def sparkline(
    values: Sequence[float],
    marked: Sequence[bool] = (),
    *,
    width: int = 100,
    height: int = 34,
    label: str = "",
) -> str:
    """Return a line without axes, evenly spaced; marked values get a dot. Empty below two values.

    It is an image with the drawing inside: Streamlit's sanitizer takes bare SVG away.
    """
    if len(values) < 2 or not all(math.isfinite(value) for value in values):
        return '<span class="fw-spark"></span>'
    low, high = min(values), max(values)
    span = high - low
    step = width / (len(values) - 1)
    pad = 3.0

    def place(index: int) -> tuple[float, float]:
        share = (values[index] - low) / span if span > 0 else 0.5
        return round(index * step, 1), round(height - pad - share * (height - 2 * pad), 1)

    line = " ".join(f"{x},{y}" for x, y in map(place, range(len(values))))
    dots = "".join(
        f"<circle cx='{x}' cy='{y}' r='3' fill='{VERMILLION}'/>"
        for x, y in (place(index) for index, is_marked in enumerate(marked) if is_marked)
    )
    drawing = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='-4 0 {width + 8} {height}'>"
        f"<polyline points='{line}' fill='none' stroke='{LINE}' stroke-width='1.6' stroke-linejoin='round'/>"
        f"{dots}</svg>"
    )
    return f'<img class="fw-spark" alt="{escape(label)}" src="data:image/svg+xml,{quote(drawing)}">'
