"""Values, durations and times as people read them, and text from outside made safe for one line."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import timedelta
from typing import TYPE_CHECKING

from fleetwatch.records import RuleKind

if TYPE_CHECKING:
    from datetime import datetime

    from fleetwatch.records import Alert


def clean(text: str, limit: int) -> str:
    """Return the text on one line, without control, format or unpaired characters, at most ``limit`` long."""
    line = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in text[: 4 * limit])
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def value_text(value: float) -> str:
    """Four significant digits, large numbers in full: 93.2, 0.9731, 14250."""
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    if 1000 <= abs(value) < 1e12:
        return f"{value:.0f}"
    return f"{value:.4g}"


def duration_text(duration: timedelta) -> str:
    """Two units at most: 0.4 s, 12 s, 2 min 5 s, 3 h 12 min, 4 d 2 h."""
    seconds = max(0.0, duration.total_seconds())
    if seconds < 1:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, unit, smaller, smaller_unit in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{whole} s"


def time_text(time: datetime, now: datetime) -> str:
    """Time of day in UTC, with the date in front when it is not today's."""
    return time.strftime("%H:%M:%S UTC" if time.date() == now.date() else "%Y-%m-%d %H:%M:%S UTC")


_MEASURED = {RuleKind.LEVEL: "now", RuleKind.ANOMALY: "value", RuleKind.COUNT: "counted", RuleKind.SURGE: "counted"}


def facts(alert: Alert, said: str = "") -> list[str]:
    """Return what the rule compared with what, such as ["now 93.2", "limit 80"], less what was ``said`` before."""
    text_of = _seconds_text if alert.kind is RuleKind.SILENCE else value_text
    measured = _MEASURED.get(alert.kind, "silent for")
    numbers = [(measured, text_of(alert.value))]
    if alert.kind is not RuleKind.ANOMALY:  # there the value is the reading, and the limit is the score's
        numbers.append(("limit", text_of(alert.threshold)))
    return [f"{name} {number}" for name, number in numbers if not _says(said, number)]


def span_text(alert: Alert, now: datetime, said: str = "") -> str:
    """Say when it began and how long it lasted: "started 14:03:05 UTC, resolved after 12 s".

    Where the duration was ``said`` before, the time of the end stands instead.
    """
    started = f"started {time_text(alert.started_at, now)}"
    if alert.ended_at is None:
        return started
    duration = duration_text(alert.ended_at - alert.started_at)
    if _says(said, f"after {duration}"):
        return f"{started}, resolved {time_text(alert.ended_at, now)}"
    return f"{started}, resolved after {duration}"


def _says(text: str, words: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(words)}(?!\w|\.\d)", text) is not None


def _seconds_text(seconds: float) -> str:
    try:
        return duration_text(timedelta(seconds=seconds))
    except (OverflowError, ValueError):
        return value_text(seconds)
