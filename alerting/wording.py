"""Values, durations and times as people read them, and text from outside made safe for one line.

The words come from the catalog of a language (``say``); numbers and names in them keep their own direction.
"""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from fleetwatch.i18n import texts
from fleetwatch.records import AlertState, RuleKind

if TYPE_CHECKING:
    from datetime import datetime

    from fleetwatch.i18n import Texts
    from fleetwatch.records import Alert

SUMMARIES_IN: Final = "en"
"""The streams write an alert's summary in this language; in any other the headline is made from the alert's fields."""
RIGHT_TO_LEFT_MARK: Final = "\u200f"
_NAME: Final = 100


def catalog(language: str) -> Texts:
    """Return the texts of alerting."""
    return texts("alerting", language)


def clean(text: str, limit: int) -> str:
    """Return the text on one line, without control, format or unpaired characters, at most ``limit`` long."""
    line = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in text[: 4 * limit])
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def line_of(text: str, say: Texts) -> str:
    """Return a line that begins at the side where its language does, whatever its first sign is."""
    return f"{RIGHT_TO_LEFT_MARK}{text}" if say.direction == "rtl" else text


def value_text(value: float, say: Texts) -> str:
    """Four significant digits, large numbers in full: 93.2, 0.9731, 14250."""
    if math.isnan(value):
        return say("value.not_a_number")
    if math.isinf(value):
        return say("value.infinite" if value > 0 else "value.minus_infinite")
    if 1000 <= abs(value) < 1e12:
        return f"{value:.0f}"
    return f"{value:.4g}"


def duration_text(duration: timedelta, say: Texts) -> str:
    """Two units at most: 0.4 s, 12 s, 2 min 5 s, 3 h 12 min, 4 d 2 h."""
    seconds = max(0.0, duration.total_seconds())
    if seconds < 1:
        return say("duration.seconds", n=f"{seconds:.1f}")
    whole = int(seconds)
    for size, unit, smaller, smaller_unit in (
        (86_400, "days", 3600, "hours"),
        (3600, "hours", 60, "minutes"),
        (60, "minutes", 1, "seconds"),
    ):
        if whole >= size:
            parts = [(whole // size, unit), (whole % size // smaller, smaller_unit)]
            return " ".join(say(f"duration.{name}", n=str(number)) for number, name in parts if number)
    return say("duration.seconds", n=str(whole))


def time_text(time: datetime, now: datetime) -> str:
    """Time of day in UTC, with the date in front when it is not today's."""
    return time.strftime("%H:%M:%S UTC" if time.date() == now.date() else "%Y-%m-%d %H:%M:%S UTC")


_MEASURED = {
    RuleKind.LEVEL: "now",
    RuleKind.ANOMALY: "value",
    RuleKind.DRIFT: "value",
    RuleKind.COUNT: "counted",
    RuleKind.SURGE: "counted",
}


def headline(alert: Alert, say: Texts, limit: int) -> str:
    """Return the one line that says what happened, with the device in front if it does not stand there already."""
    device = clean(alert.device_id, _NAME)
    text = clean(alert.summary, limit)
    if say.language != SUMMARIES_IN or not text:
        return _headline_of_fields(alert, device or clean(alert.rule, _NAME), say)
    return text if device and text.startswith(device) else f"{device}: {text}"


def evidence(alert: Alert, say: Texts, limit: int) -> str:
    """Return what the detectors say of an anomaly where the headline does not, in the language of the summaries."""
    is_anomaly = alert.kind is RuleKind.ANOMALY and alert.state is AlertState.FIRING
    if say.language == SUMMARIES_IN or not is_anomaly:
        return ""
    _before, bracket, why = clean(alert.summary, limit).partition(" (")
    return say.isolate(why.removesuffix(")")) if bracket else ""


def _headline_of_fields(alert: Alert, device: str, say: Texts) -> str:
    text_of = _seconds_text if alert.kind is RuleKind.SILENCE else value_text
    values = {
        "device": device,
        "value": text_of(alert.value, say),
        "limit": text_of(alert.threshold, say),
    }
    needed = {
        (RuleKind.ANOMALY, AlertState.FIRING): ("device", "value"),
        (RuleKind.LEVEL, AlertState.FIRING): ("device", "value", "limit"),
        (RuleKind.COUNT, AlertState.FIRING): ("device", "value", "limit"),
        (RuleKind.SILENCE, AlertState.FIRING): ("device", "value"),
        (RuleKind.SURGE, AlertState.FIRING): ("device", "value"),
        (RuleKind.LEVEL, AlertState.RESOLVED): ("device", "value"),
        (RuleKind.COUNT, AlertState.RESOLVED): ("device", "limit"),
    }.get((alert.kind, alert.state), ("device",))
    key = f"headline.{alert.state.value}.{alert.kind.value}"
    return say(key, **{name: values[name] for name in needed})


def facts(alert: Alert, say: Texts, said: str = "") -> list[str]:
    """Return what the rule compared with what, such as ["now 93.2", "limit 80"], less what was ``said`` before."""
    text_of = _seconds_text if alert.kind is RuleKind.SILENCE else value_text
    measured = _MEASURED.get(alert.kind, "silent")
    numbers = [(measured, text_of(alert.value, say))]
    if alert.kind not in (RuleKind.ANOMALY, RuleKind.DRIFT):  # the value is the reading there, the limit the score's
        numbers.append(("limit", text_of(alert.threshold, say)))
    return [say(f"fact.{name}", value=number) for name, number in numbers if not _says(said, number)]


def span_text(alert: Alert, now: datetime, say: Texts, said: str = "") -> str:
    """Say when it began and how long it lasted: "started 14:03:05 UTC, resolved after 12 s".

    Where the duration was ``said`` before, the time of the end stands instead.
    """
    started = say("span.started", time=time_text(alert.started_at, now))
    if alert.ended_at is None:
        return started
    duration = duration_text(alert.ended_at - alert.started_at, say)
    if _says(said, f"after {duration}"):
        return say("span.resolved_at", started=started, time=time_text(alert.ended_at, now))
    return say("span.resolved_after", started=started, duration=duration)


def _says(text: str, words: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(words)}(?!\w|\.\d)", text) is not None


def _seconds_text(seconds: float, say: Texts) -> str:
    try:
        return duration_text(timedelta(seconds=seconds), say)
    except (OverflowError, ValueError):
        return value_text(seconds, say)
